"""Entries: small things that a store keeps beside its buckets, each under a kind and a key."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

MOST_ENTRY_BYTES = 8 * 2**20
"""Of one entry's value: what every engine holds in one piece."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A value under a key. From `expires_at` on it is as if it were not there."""

    kind: str
    key: str
    value: bytes
    expires_at: datetime | None = None

    def expired(self, now: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= now
