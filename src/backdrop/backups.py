"""BACKUPS: a store's snapshot as one file, which tells what it must hold, and is compared."""

from __future__ import annotations

import glob
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

import msgspec

from backdrop.copying import Contents, Progress, contents
from backdrop.errors import BackdropError, InvalidRequest
from backdrop.storage.open import opened_backup
from backdrop.storage.port import HasSnapshots, Snapshot

_CHUNK = 2**20


def _silent(_name: str, _records: int) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Backup:
    """What a backup holds. `digests`: of all that is no record, as the engine tells it."""

    made_at: datetime
    buckets: Mapping[str, Contents]
    digests: Mapping[str, str]

    def difference(self, other: Backup) -> str | None:
        """What is not the same, in words."""
        found = [
            f"the bucket {name}"
            for name in sorted({*self.buckets, *other.buckets})
            if self.buckets.get(name) != other.buckets.get(name)
        ]
        found += [
            f"the table {name}"
            for name in sorted({*self.digests, *other.digests})
            if self.digests.get(name) != other.digests.get(name)
        ]
        return ", ".join(found) or None


class BadBackup(InvalidRequest):
    """The file is no backup, or is not what it was when it was made."""


def backup_file(storage: HasSnapshots, progress: Progress = _silent) -> tuple[IO[bytes], int]:
    """A file without a name that holds all of the store at one moment, and its size.

    What it must hold is read from the store itself. Nobody has compared the file with it yet.
    Raises Conflict where another is being made.
    """
    with storage.snapshot() as snapshot:
        beside, name = storage.path.parent, f".{storage.path.name}.backup-"
        for left_over in beside.glob(f"{glob.escape(name)}*"):  # by a process that was killed
            shutil.rmtree(left_over)
        with TemporaryDirectory(prefix=name, dir=beside) as folder:
            path = Path(folder, "backup.duckdb")
            found = _held(snapshot, datetime.now(UTC), progress)
            snapshot.write(path, msgspec.json.encode(found))
            return path.open("rb"), path.stat().st_size


def chunks(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK):
        yield chunk


def verify_backup(path: Path, progress: Progress) -> Backup:
    """Read the whole file, and return what it holds. Raises BadBackup where that differs."""
    with _opened(path) as snapshot:
        told = msgspec.json.decode(snapshot.note(), type=Backup)
        found = _held(snapshot, told.made_at, progress)
    difference = told.difference(found)
    if difference is not None:
        raise BadBackup(f"{path} is not what it was when it was made: {difference} differs")
    return found


def records_in(path: Path) -> int:
    """How many records the file says that it holds. Raises BadBackup where it says nothing."""
    with _opened(path) as snapshot:
        return sum(snapshot.state(bucket.name).records for bucket in snapshot.buckets())


@contextmanager
def _opened(path: Path) -> Iterator[Snapshot]:
    try:
        with opened_backup(path) as snapshot:
            yield snapshot
    except InvalidRequest as error:
        raise BadBackup(f"{path} is no backup: {error}") from error
    except (BackdropError, msgspec.DecodeError) as error:
        raise BadBackup(f"{path} can't be read as a backup: {error}") from error


def _held(snapshot: Snapshot, made_at: datetime, progress: Progress) -> Backup:
    names = [bucket.name for bucket in snapshot.buckets()]
    buckets = {name: contents(snapshot, name, progress) for name in names}
    listed = {name: replace(one, tokens=list(one.tokens)) for name, one in buckets.items()}
    return Backup(made_at, listed, snapshot.digests())
