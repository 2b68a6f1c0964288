"""The users of a store: entries of the kind `user`, by e-mail in lower case."""

from __future__ import annotations

import msgspec

from backdrop.domain.entry import Entry
from backdrop.domain.user import User
from backdrop.storage.port import Storage

KIND = "user"


def list_users(storage: Storage) -> list[User]:
    """Every user, by e-mail."""
    return [_user(entry) for entry in storage.entries(KIND)]


def find_user(storage: Storage, email: str) -> User:
    """The user of that e-mail; one who may do nothing where none was granted anything."""
    entry = storage.entry(KIND, email.lower())
    return User(email.lower()) if entry is None else _user(entry)


def put_user(storage: Storage, user: User) -> None:
    """Keep the user in place of what was known of that e-mail."""
    storage.put_entry(Entry(KIND, user.email.lower(), msgspec.json.encode(user)))


def drop_user(storage: Storage, email: str) -> bool:
    """Whether there was such a user, of whom nothing is known from now on."""
    return storage.take_entry(KIND, email.lower()) is not None


def _user(entry: Entry) -> User:
    return msgspec.json.decode(entry.value, type=User)
