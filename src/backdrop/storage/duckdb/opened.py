"""A file that was opened once. Where its database breaks, it is opened again: that is another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb

from backdrop.errors import StorageUnavailable
from backdrop.storage.duckdb.disk import says_not_synced
from backdrop.storage.duckdb.done import DoneWrites
from backdrop.storage.duckdb.guard import Guard
from backdrop.storage.duckdb.inserts import Inserts
from backdrop.storage.duckdb.known_ids import IdsByTable
from backdrop.storage.duckdb.opening import refusal
from backdrop.storage.duckdb.state import State, read_state


class OpenFile:
    """The writer's connection, a cursor for whoever reads, and what the file held when opened.

    `guarded` gives a guard of it, which is asked for again where the disk refuses to write.
    Raises StorageUnavailable where it can't be opened, with the reason in its message.
    """

    def __init__(self, path: Path, guarded: Callable[[], Guard]) -> None:
        try:
            try:
                self._open(guarded(), is_writing=True)
            except duckdb.Error as error:
                if says_not_synced(error):
                    raise
                # A disk that refuses keeps nobody from reading.
                self._open(guarded(), is_writing=False)
        except duckdb.Error as error:
            raise refusal(path, error) from error
        except OSError as error:
            at = error.filename or path
            raise StorageUnavailable(f"can't open {at}: {error.strerror or error}") from error
        self.is_closed = False
        self._changed = threading.Condition()
        self._idle: list[duckdb.DuckDBPyConnection] = []
        self._in_use = 0

    def _open(self, guard: Guard, *, is_writing: bool) -> None:
        self.guard = guard
        self.connection = guard.open()
        try:
            self.state = read_state(self.connection)
            self.done = DoneWrites(self.connection)
            guard.begin(self.connection, self.state, is_writing=is_writing)
            self.ids = IdsByTable(self.connection, self.state.tables.values())
            self.inserts = Inserts(self.connection)
        except BaseException:
            with suppress(duckdb.Error):
                self.connection.close()
            self.guard.release()
            raise

    @contextmanager
    def cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection of one's own to the same database."""
        with self._changed:
            if self.is_closed:
                raise StorageUnavailable("the store does not answer")
            cursor = self._idle.pop() if self._idle else self.connection.cursor()
            self._in_use += 1
        try:
            yield cursor
        finally:
            with self._changed:
                self._in_use -= 1
                if self.is_closed:
                    cursor.close()
                else:
                    self._idle.append(cursor)
                self._changed.notify_all()

    def close(self, *, patience: float = 0, state: State | None = None) -> bool:
        """Let no one in any more; whether all have left within so many seconds.

        While one is in, the database stays in this process as it is. `state` is what the file holds
        where it is closed for good. Raises duckdb.Error where the disk did not confirm that.
        """
        with self._changed:
            self.is_closed = True
            while self._idle:
                self._idle.pop().close()
            have_left = self._changed.wait_for(lambda: not self._in_use, patience)
        self.ids.close()
        if state is None:
            self.connection.close()
            self.guard.release()
            return have_left
        try:
            self.guard.unmark(self.connection)
            self.connection.execute("CHECKPOINT")
        except duckdb.Error as error:
            if says_not_synced(error):
                raise
            # Else it is no worse than after a crash.
        finally:
            self.connection.close()
            self.guard.end(state)
        return have_left
