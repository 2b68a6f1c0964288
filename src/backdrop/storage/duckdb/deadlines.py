"""Queries that take too long are interrupted, by one thread that watches over all of them."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import duckdb

from backdrop.storage.port import query_too_slow, stopping

_AGAIN_AFTER = 0.05
"""Seconds after which one is interrupted again that goes on: it was between two statements."""


@dataclass(eq=False, slots=True)
class _Watched:
    cursor: duckdb.DuckDBPyConnection
    until: float
    is_over: bool = False


class Deadlines:
    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._watched: set[_Watched] = set()
        self._wakes = 0.0
        self._closed = self._stopping = False
        self._thread = threading.Thread(target=self._run, name="backdrop-deadlines", daemon=True)
        self._thread.start()

    @contextmanager
    def within(self, seconds: float | None, cursor: duckdb.DuckDBPyConnection) -> Iterator[None]:
        """What the cursor does in the context is interrupted after so many seconds.

        Raises QueryTooSlow then, or StorageUnavailable where all are ended. None is for no bound.
        """
        bound = math.inf if seconds is None else time.monotonic() + seconds
        watched = _Watched(cursor, bound)
        with self._changed:
            if self._stopping:
                raise stopping()
            self._watched.add(watched)
            if watched.until < self._wakes:
                self._changed.notify()
        try:
            yield
        except duckdb.InterruptException:
            if self._stopping:
                raise stopping() from None
            if seconds is None or not watched.is_over:
                raise
            raise query_too_slow(seconds) from None
        finally:
            with self._changed:  # from here on the cursor is not interrupted any more
                self._watched.discard(watched)

    def end_all(self) -> None:
        """Interrupt all that run now, and let none begin."""
        with self._changed:
            self._stopping = True
            for one in self._watched:
                one.until = 0.0
            self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                self._interrupt_late(now)
                self._wakes = min((one.until for one in self._watched), default=math.inf)
                self._changed.wait(min(self._wakes - now, threading.TIMEOUT_MAX))

    def _interrupt_late(self, now: float) -> None:
        for one in self._watched:
            if one.until <= now:
                one.is_over = True
                one.cursor.interrupt()
                one.until = now + _AGAIN_AFTER
