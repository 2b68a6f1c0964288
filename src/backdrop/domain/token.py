"""Tokens: what opens a bucket for writing or reading. Only a hash is ever kept."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias, get_args

Scope: TypeAlias = Literal["write", "read"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

MOST_LABEL_CHARACTERS = 200

is_token = re.compile(r"[\x21-\x7e]{8,200}").fullmatch
"""Whether a text has the form of a token: 8 to 200 printable ASCII characters without blanks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One token of a bucket. `hash` is what `hash_token` made of it; the text is not kept."""

    id: str
    bucket: str
    hash: str
    scope: Scope
    label: str
    created_at: datetime
    expires_at: datetime | None = None
    last_used_at: datetime | None = None

    def expired(self, now: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= now


def hash_token(text: str) -> str:
    """SHA-256 in hexadecimal.

    No salt and no stretching: tokens that Backdrop makes hold 256 random bits, which no dictionary
    covers, and a look-up by hash must be one step.
    """
    return hashlib.sha256(text.encode()).hexdigest()
