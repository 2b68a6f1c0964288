"""The audit log: who did what, kept together with what it tells of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal, TypeAlias, get_args

from backdrop.domain.times import format_instant

Action: TypeAlias = Literal[
    "records_stored",
    "records_replaced",
    "record_changed",
    "record_removed",
    "bucket_created",
    "settings_changed",
    "bucket_dropped",
    "token_made",
    "token_revoked",
    "user_granted",
    "user_revoked",
    "signed_in",
    "signed_out",
    "store_restored",
]
ACTIONS: tuple[Action, ...] = get_args(Action)

ADMIN = "admin"
"""Who has the admin token."""
HOST = "host"
"""Who runs a command on the store itself, beside no server."""


def by_token(token_id: str) -> str:
    """Who has that token of a bucket: its id, not the token."""
    return f"token:{token_id}"


def by_user(email: str) -> str:
    return f"user:{email}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What somebody does: given to a store with the operation, and kept if that is done.

    `by` is `ADMIN`, `HOST`, or what `by_token` or `by_user` make. `details` are JSON, never a
    record's fields or a token: a record's `_id`, a token's id, the names of the settings that were
    given.
    """

    by: str
    action: Action
    bucket: str | None = None
    records: int | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def instead(self, action: Action) -> Act:
        """The act as what it turned out to be."""
        return replace(self, action=action)


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """An act that was done at that time. Entries of a store have ids of their own."""

    id: str
    at: datetime
    act: Act

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "at": format_instant(self.at),
            "by": self.act.by,
            "action": self.act.action,
            "bucket": self.act.bucket,
            "records": self.act.records,
            "details": dict(self.act.details),
        }
