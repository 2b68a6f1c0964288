"""What the repair of a damaged store came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from backdrop.errors import StorageUnavailable


@dataclass(frozen=True, slots=True)
class Saved:
    """One bucket: how many records were acknowledged, and how many there are now.

    None where nobody knows how many there were, and where the bucket itself is lost.
    """

    name: str
    acknowledged: int | None
    records: int | None

    @property
    def lost(self) -> int | None:
        """How many of those that were acknowledged are not there, at least."""
        if self.acknowledged is None:
            return None
        return max(0, self.acknowledged - (self.records or 0))


@dataclass(slots=True)
class Repair:
    """What was found and done."""

    done: list[str] = field(default_factory=list)
    """In words, with the names of the files in which is kept what was cut off or replaced."""
    buckets: list[Saved] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    """What else can't be read any more, in words."""
    is_counted: bool = True
    """Whether it is known how many records were acknowledged."""

    @property
    def lost_records(self) -> int:
        return sum(one.lost or 0 for one in self.buckets)


class BeyondRepair(StorageUnavailable):
    """Nothing of the file can be read. `acknowledged`: how many records each bucket had. `done`: as
    of a Repair.
    """

    def __init__(self, message: str, acknowledged: Mapping[str, int]) -> None:
        super().__init__(message)
        self.acknowledged = acknowledged
        self.done: Sequence[str] = ()
