"""Users: people who sign in to the pages, by e-mail, and the buckets that are theirs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class User:
    """What one person may do on the pages: use these buckets or, as an admin, all of them."""

    email: str
    buckets: tuple[str, ...] = ()
    admin: bool = False

    def may_use(self, bucket: str) -> bool:
        return self.admin or bucket in self.buckets
