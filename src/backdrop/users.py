"""The users of a store: entries of the kind `user`, by e-mail as it is compared (`folded`)."""

from __future__ import annotations

import dataclasses

import msgspec

from backdrop.domain.audit import Act
from backdrop.domain.entry import Entry
from backdrop.domain.user import User, folded
from backdrop.storage.port import Storage

KIND = "user"


def list_users(storage: Storage) -> list[User]:
    """Every user, by e-mail."""
    return [_user(entry) for entry in storage.entries(KIND)]


def find_user(storage: Storage, email: str) -> User:
    """The user of that e-mail; one who may do nothing where none was granted anything."""
    entry = storage.entry(KIND, folded(email))
    return User(folded(email)) if entry is None else _user(entry)


def put_user(storage: Storage, user: User, *, by: str | None = None) -> bool:
    """Keep the user in place of what was known of that e-mail. Returns whether nothing was.

    The audit log says `by` whom, if that is given.
    """
    key = folded(user.email)
    is_new = storage.entry(KIND, key) is None
    act = Act(by=by, action="user_granted", details=user.as_json()) if by else None
    storage.put_entry(Entry(KIND, key, msgspec.json.encode(user)), act=act)
    return is_new


def drop_user(storage: Storage, email: str, *, by: str | None = None) -> bool:
    """Whether there was such a user, of whom nothing is known from now on."""
    key = folded(email)
    act = Act(by=by, action="user_revoked", details={"email": key}) if by else None
    return storage.take_entry(KIND, key, act=act) is not None


def forget_bucket(storage: Storage, bucket: str, *, by: str | None = None) -> None:
    """Take a bucket out of every user's list: a later one of its name must not be theirs."""

    def without(value: bytes) -> bytes:
        user = msgspec.json.decode(value, type=User)
        rest = tuple(name for name in user.buckets if name != bucket)
        return msgspec.json.encode(dataclasses.replace(user, buckets=rest))

    for user in list_users(storage):
        if bucket in user.buckets:
            details = {"email": user.email, "taken": [bucket]}
            act = Act(by=by, action="user_granted", details=details) if by else None
            storage.change_entry(KIND, user.email, without, act=act)


def _user(entry: Entry) -> User:
    return msgspec.json.decode(entry.value, type=User)
