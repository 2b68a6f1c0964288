"""The header `Idempotency-Key`: it names a write, which is made once however often it is sent.

It is that of draft-ietf-httpapi-idempotency-key-header: a string of structured fields (RFC 9651),
in quotes. As many clients send it without them, that is understood too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime

from starlette.requests import Request

from backdrop.domain.once import KEPT_FOR, Once, fingerprint
from backdrop.errors import InvalidRequest

KEY = "Idempotency-Key"
REPLAYED: Mapping[str, str] = {"Idempotency-Replayed": "true"}
"""What stands in an answer that was given before."""

MOST_CHARACTERS = 255
_QUOTED = rf'"((?:[ !#-\[\]-~]|\\["\\]){{1,{MOST_CHARACTERS}}})"'
_BARE = rf"([!#-+\--:<-\[\]-~]{{1,{MOST_CHARACTERS}}})"
PATTERN = f"^(?:{_QUOTED}|{_BARE})$"
EXPECTED = (
    f"1 to {MOST_CHARACTERS} printable ASCII characters in quotes (or without, where none is a "
    "blank, a quote, a backslash, a comma or a semicolon)"
)

_key = re.compile(f"{_QUOTED}|{_BARE}").fullmatch


def idempotency_key(request: Request) -> str | None:
    """The request's key, if it has one. Raises InvalidRequest."""
    sent = request.headers.getlist(KEY)
    if not sent:
        return None
    found = _key(sent[0])
    if found is None or len(sent) > 1:
        many = "more than one is given" if len(sent) > 1 else "this is something else"
        raise InvalidRequest(
            f"the {KEY} must be {EXPECTED}, and {many}", code="invalid_idempotency_key"
        )
    return re.sub(r"\\(.)", r"\1", found[1]) if found[1] else found[2]


def once(request: Request, key: str | None, body: bytes, *, now: datetime) -> Once | None:
    """What makes the write that the request asks for be made once, if it has a key."""
    if key is None:
        return None
    asked = fingerprint(request.method, request.path_params.get("id"), body)
    return Once(key, asked, 0, now + KEPT_FOR)
