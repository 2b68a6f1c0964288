"""Writes that are made once, however often they are sent: their keys, and what is kept of them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime, timedelta

from backdrop.errors import Conflict

KEPT_FOR = timedelta(hours=24)
"""How long a write's key is known."""


@dataclass(frozen=True, slots=True)
class Once:
    """What a store keeps with a write, of its bucket. From `expires_at` on it is not there.

    `fingerprint`: of all that was asked for. `records`: how many were received, once that is known.
    """

    key: str
    fingerprint: str
    records: int
    expires_at: datetime

    def expired(self, now: datetime) -> bool:
        return self.expires_at <= now


class AlreadyDone(Conflict):
    """A write that was made before, under the same key: `once` is what was kept with it."""

    def __init__(self, once: Once) -> None:
        super().__init__(f"a write with the key {once.key!r} has been made")
        self.once = once


def fingerprint(method: str, record_id: str | None, body: bytes) -> str:
    """SHA-256, in hexadecimal, of what a request asks of its bucket; `body` as it is unpacked."""
    asked = hashlib.sha256(json.dumps([method, record_id]).encode())
    asked.update(body)
    return asked.hexdigest()
