"""What DuckDB says when the disk refuses, and what follows from it.

A write that fails is whole or gone: DuckDB takes its part of the WAL back. A checkpoint that fails
leaves a database that must be opened again, and loses nothing. After an fsync that fails nobody
knows what is on the disk, and to ask again would be told a lie: the process has to end.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NoReturn

import duckdb

from backdrop.errors import StorageFull, StorageUnavailable
from backdrop.storage.duckdb.commit_log import wal_of
from backdrop.storage.duckdb.opening import not_answering, wording

Say = Callable[[str], None]
"""Tells the people who look after the server."""

_FULL = re.compile(
    "|".join(os.strerror(one) for one in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)), re.IGNORECASE
)
_WRITE_FAILED = re.compile(r"Could not (write|truncate) ")
_NOT_SYNCED = re.compile("Could not fsync file|fsync failed!")
_OF_DISK = (duckdb.IOException, duckdb.FatalException, duckdb.TransactionException)


class NotSynced(StorageUnavailable):
    """An fsync of ours has failed."""


def sync(descriptor: int, path: Path) -> None:
    """Have what was written to the file on the disk. Raises NotSynced."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise NotSynced(f"the disk did not confirm what was written to {path}") from error


def keep(content: bytes, path: Path) -> Path:
    """A new file of that name, synced, for its owner alone. Raises OSError, and leaves none."""
    try:
        with open(path, "xb", opener=partial(os.open, mode=0o600)) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return path


def says_not_synced(error: duckdb.Error) -> bool:
    """Whether it is that of an fsync."""
    return isinstance(error, _OF_DISK) and _NOT_SYNCED.search(wording(error)) is not None


def unavailable(error: duckdb.Error) -> StorageUnavailable:
    """The error as the engine raises it."""
    if _FULL.search(wording(error)):
        return StorageFull("the store's disk is full: nothing was stored, and reading goes on")
    if _WRITE_FAILED.search(wording(error)):
        return StorageFull(
            "the store's disk refuses to write: nothing was stored", code="storage_write_failed"
        )
    return not_answering(error)


@contextmanager
def unknown_if_fatal() -> Iterator[None]:
    """A commit that ends so may have been made all the same: opening the file again will tell."""
    try:
        yield
    except duckdb.FatalException as error:
        raise StorageUnavailable(
            "the store did not say whether the write was stored: it is whole, or not there at all",
            code="outcome_unknown",
        ) from error


def driver_error(error: BaseException) -> duckdb.Error | None:
    """The driver's error that this is, or that it was raised for."""
    return next((e for e in (error, error.__cause__) if isinstance(e, duckdb.Error)), None)


def end_if_not_synced(error: BaseException, path: Path, say: Say) -> None:
    """End the process where the error is that of an fsync, or was raised for one."""
    cause = driver_error(error)
    if isinstance(error, NotSynced) or (cause is not None and says_not_synced(cause)):
        _end(path, say)


def _end(path: Path, say: Say) -> NoReturn:
    with suppress(OSError):
        say(
            f"Error: the disk did not confirm what was written to {path} (fsync failed). Backdrop "
            "ends here, since what it would read back may not be what the disk holds. What was "
            "acknowledged before is on the disk: see what is wrong with it, and start again"
        )
    os._exit(os.EX_IOERR)  # nothing is closed: that would write


def wal_size(path: Path) -> int:
    """How many bytes the file's write-ahead log has."""
    try:
        return wal_of(path).stat().st_size
    except FileNotFoundError:
        return 0
