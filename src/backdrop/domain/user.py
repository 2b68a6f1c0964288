"""Users: people who sign in to the pages, by e-mail, and the buckets that are theirs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backdrop.errors import InvalidSettings, Problem, did_you_mean

MOST_EMAIL_CHARACTERS = 254

# No blanks, no control characters, and nothing that stands for what could not be decoded.
_PART = r"[^@\s\x00-\x1f\x7f\ud800-\udfff\ufffd]+"
_matches_email = re.compile(f"{_PART}@{_PART}").fullmatch
_KEYS = ("buckets", "admin")


@dataclass(frozen=True, slots=True)
class User:
    """What one person may do on the pages: use these buckets or, as an admin, all of them."""

    email: str
    buckets: tuple[str, ...] = ()
    admin: bool = False

    def may_use(self, bucket: str) -> bool:
        return self.admin or bucket in self.buckets

    def as_json(self) -> dict[str, Any]:
        """The user as they stand in answers."""
        return {"email": self.email, "buckets": list(self.buckets), "admin": self.admin}


def is_email(text: str) -> bool:
    """Whether the text has the form of an e-mail address: `someone@somewhere`."""
    return len(text) <= MOST_EMAIL_CHARACTERS and _matches_email(text) is not None


def folded(email: str) -> str:
    """The e-mail as it is compared: without the case of its ASCII letters.

    Of no others: some of them become ASCII letters in lower case, and so another's address.
    """
    return email.encode().lower().decode()


def parse_user(email: str, body: Mapping[str, Any]) -> User:
    """The user of that e-mail with what the body gives: `buckets` ([]) and `admin` (false).

    Raises InvalidSettings with a problem for each thing that is unknown or not as expected.
    """
    problems = []

    def refuse(code: str, message: str, setting: str) -> None:
        problems.append(Problem(code, message, {"setting": setting}))

    if not is_email(email):
        message = f"expected an e-mail address such as someone@example.org, not {email!r}"
        refuse("invalid_email", message, "email")
    for key, value in body.items():
        if key == "email":
            if not (isinstance(value, str) and is_email(value) and folded(value) == folded(email)):
                refuse("invalid_setting", f"email must be the path's, {email!r}", key)
        elif key not in _KEYS:
            message = f"there is no setting {key!r}; {did_you_mean(key, _KEYS)}"
            refuse("unknown_setting", message, key)
    buckets, admin = body.get("buckets", []), body.get("admin", False)
    if not isinstance(buckets, list) or not all(isinstance(name, str) for name in buckets):
        refuse("invalid_setting", "buckets must be a list of names of buckets", "buckets")
    if not isinstance(admin, bool):
        refuse("invalid_setting", "admin must be true or false", "admin")
    if problems:
        raise InvalidSettings(problems[0].message, problems=problems)
    return User(folded(email), tuple(sorted(set(buckets))), admin)
