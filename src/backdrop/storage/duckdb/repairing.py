"""What a repair has found that is not done yet, kept beside the store: it may be cut off."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from backdrop.storage.duckdb.commit_log import sync_folder
from backdrop.storage.duckdb.disk import keep
from backdrop.storage.repaired import Repair


def repairing_of(store: Path) -> Path:
    """What a repair keeps until it is done: where it is there, one was cut off."""
    return store.with_name(f"{store.name}.repairing")


class Begun(msgspec.Struct):
    """What a repair knew that may have been cut off, kept beside the store until it is done.

    `had` is how many records of each bucket were acknowledged, None where nobody knows; `kept` the
    name that the damaged file has once another is in its place.
    """

    had: dict[str, int] | None
    done: Sequence[str] = ()
    lost: Sequence[str] = ()
    is_counted: bool = True
    kept: str | None = None

    @classmethod
    def of(cls, path: Path, found: Repair) -> Begun | None:
        """That of a repair that was cut off: its losses are found already."""
        try:
            begun = msgspec.json.decode(repairing_of(path).read_bytes(), type=cls)
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        found.done += ["a repair was cut off before: this one goes on with it", *begun.done]
        found.lost += begun.lost
        found.is_counted = begun.is_counted
        return begun

    def is_in_place(self, path: Path) -> bool:
        """Whether the new file is the store's by now."""
        kept = path.with_name(self.kept) if self.kept else path
        return kept.exists() and not kept.samefile(path)

    def keep(self, path: Path, found: Repair) -> None:
        """Have it on the disk, with what was found so far."""
        self.done, self.lost, self.is_counted = found.done, found.lost, found.is_counted
        place = repairing_of(path)
        new = place.with_name(f"{place.name}.new")
        new.unlink(missing_ok=True)
        keep(msgspec.json.encode(self), new).replace(place)
        sync_folder(place)


def lose(what: str, found: Repair) -> None:
    if what not in found.lost:
        found.lost.append(what)
