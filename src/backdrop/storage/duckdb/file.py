"""The store's file while the engine has it: opened again where a disk has broken the database."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import duckdb

from backdrop.errors import StorageUnavailable
from backdrop.storage.duckdb.disk import Say, driver_error, end_if_not_synced, wal_size
from backdrop.storage.duckdb.guard import Guard, WalEnd
from backdrop.storage.duckdb.opened import OpenFile
from backdrop.storage.duckdb.opening import Room
from backdrop.storage.duckdb.state import State
from backdrop.storage.port import Report

LONGEST_WAIT = 10.0
"""Seconds for what takes far less."""
_LONGEST_READING = 120.0
"""Seconds; a reader that has what it reads from a broken database leaves with its next page."""
_MOST_IN_WAL = 16 * 2**20
"""Bytes; DuckDB's own measure."""
_UNTIL_NEXT_CHECKPOINT = 30.0
"""Seconds after one that failed."""


class StoreFile:
    """All but `cursor` is for the writer's thread.

    `on_open` is told what the file held whenever it was opened; `say`, what the people who look
    after the server should know. A disk that fails to sync ends the process.
    Raises StorageUnavailable where the file can't be opened, with the reason in its message.
    """

    def __init__(
        self,
        path: Path,
        room: Room,
        *,
        say: Say,
        report: Report,
        on_open: Callable[[State], None],
    ) -> None:
        self._path, self._room, self._say, self._report = path, room, say, report
        self._on_open = on_open
        self.open = OpenFile(path, partial(Guard, path, room, report))
        on_open(self.open.state)
        self._is_settled = threading.Event()
        self._is_settled.set()
        self._before: WalEnd | None = None
        """Where the WAL ended before the transaction that is open; None where none began."""
        self._left_over: WalEnd | None = None
        """Where it ended before one that was refused, and has left something in it."""
        # What another process left is taken in soon, by new writes:
        self._most_in_wal = 0 if wal_size(path) else _MOST_IN_WAL
        self._next_checkpoint = 0.0

    @contextmanager
    def cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection of one's own; where the file is being opened again, to what comes then."""
        if self.open.is_closed:
            self._is_settled.wait(LONGEST_WAIT)
        with self.open.cursor() as cursor:
            yield cursor

    def prepare(self) -> OpenFile:
        """What a transaction that begins now works on. Raises where there is none."""
        self._before = None
        if self.open.is_closed:
            self._open_again()
        self._before = self.open.guard.wal_end()
        return self.open

    def recover(self, error: BaseException) -> bool:
        """After a failed transaction: whether it has surely changed nothing.

        The file is opened again where the database is unusable, or has not taken back what it wrote
        of the transaction: what came after that in the log would be lost with it.
        """
        cause = driver_error(error)
        if cause is None:
            return True
        end_if_not_synced(cause, self._path, self._say)
        is_unusable = isinstance(cause, duckdb.FatalException)
        before = self._before
        if not is_unusable and before is not None and wal_size(self._path) != before.size:
            is_unusable, self._left_over = True, before
        if is_unusable:
            self._recover_from(cause)
        return not isinstance(error, StorageUnavailable)

    def checkpoint(self) -> bool:
        """Take what the log holds into the file, now and then; whether that was done.

        DuckDB would do so within a commit, which then could fail after the change was made.
        """
        is_due = self._next_checkpoint <= time.monotonic() and not self.open.is_closed
        if not is_due:
            return False
        guard, before = self.open.guard, self.open.guard.wal_end()
        is_marking = guard.lacks_mark
        if not is_marking and before.size <= self._most_in_wal:
            return False
        try:
            if is_marking:
                guard.mark(self.open.connection)
            self.open.connection.execute("CHECKPOINT")
            self._most_in_wal = _MOST_IN_WAL
            return True
        except duckdb.Error as error:
            end_if_not_synced(error, self._path, self._say)
            self._next_checkpoint = time.monotonic() + _UNTIL_NEXT_CHECKPOINT
            if guard.lacks_mark and wal_size(self._path) != before.size:  # as in `recover`
                self._left_over = before
                self._recover_from(error)
            elif isinstance(error, duckdb.FatalException):
                self._recover_from(error)
            return False

    def close(self, state: State) -> None:
        """Close it for good, with all that the state says in it."""
        try:
            self.open.close(state=state)
        except duckdb.Error as error:
            end_if_not_synced(error, self._path, self._say)
            raise

    def _recover_from(self, error: duckdb.Error) -> None:
        """Open the file again; where that can't be now, the next who writes tries again."""
        with suppress(OSError):  # nobody can be told
            self._say(f"Opening {self._path} again: {str(error).splitlines()[0]}")
        with suppress(StorageUnavailable, duckdb.Error):
            self._open_again()

    def _open_again(self) -> None:
        self._is_settled.clear()
        try:
            if not self.open.close(patience=_LONGEST_READING):
                raise StorageUnavailable("the store does not answer")
            guarded = partial(Guard, self._path, self._room, self._report, self._left_over)
            self.open = OpenFile(self._path, guarded)
            self._left_over = None
            self._on_open(self.open.state)
        except StorageUnavailable as error:
            end_if_not_synced(error, self._path, self._say)
            raise
        finally:
            self._is_settled.set()
