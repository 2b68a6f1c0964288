"""The one thread that writes. Operations that wait at the same time share one commit."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeVar

from backdrop.errors import BackdropError, StorageUnavailable

_MOST_TOGETHER = 1_000
"""How many operations share one commit at most."""

T = TypeVar("T")


class Unit(Protocol):
    """One transaction, as the writer sees it."""

    def commit(self) -> None: ...

    def rollback(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _Job:
    operation: Callable[[Any], Any]
    result: Future[Any] = field(default_factory=Future)


class Writer:
    """Runs operations in the order in which they come; each is answered after its commit.

    An operation gets the open transaction. It either raises a BackdropError before it changes
    anything, and then fails alone, or does all that it is for. Where anything else goes wrong, the
    transaction is rolled back, and the operations that shared it are tried again, each by itself,
    unless it may have been committed all the same.
    """

    def __init__(
        self,
        begin: Callable[[], Unit],
        *,
        recover: Callable[[BaseException], bool],
        rest: Callable[[], None],
    ) -> None:
        """Both are called in the writer's thread, and should raise nothing: if one does, it is
        printed, and the thread goes on, since nobody would be answered without it.

        `recover`, after a transaction failed: whether it has surely changed nothing. `rest`, when
        all those that waited have their answers.
        """
        self._begin, self._recover, self._rest = begin, recover, rest
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False
        self.commits = 0
        self.committed = 0
        """How many operations the commits were of."""
        self._thread = threading.Thread(target=self._run, name="backdrop-writer", daemon=True)
        self._thread.start()

    def do(self, operation: Callable[[Any], T]) -> T:
        """Run the operation; return what it returned once that is durable, or raise."""
        result: T = self.submit(operation).result()
        return result

    def submit(self, operation: Callable[[Any], T]) -> Future[T]:
        """Like `do`, without waiting for the end."""
        job = _Job(operation)
        with self._lock:
            if self._closed:
                raise StorageUnavailable("the store is closed")
            self._jobs.put(job)
        return job.result

    @property
    def waiting(self) -> int:
        """How many operations wait for a commit to begin."""
        return self._jobs.qsize()

    def close(self) -> None:
        """Finish all that was submitted, and stop."""
        with self._lock:
            self._closed = True
            self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        open_ = True
        while open_:
            waiting = [self._jobs.get()]
            try:
                while len(waiting) < _MOST_TOGETHER:
                    waiting.append(self._jobs.get_nowait())
            except Empty:
                pass
            jobs = [job for job in waiting if job is not None]
            open_ = len(jobs) == len(waiting)
            if jobs:
                self._finish(jobs)
                _survived(self._rest)

    def _finish(self, jobs: Sequence[_Job]) -> None:
        try:
            outcomes = self._attempt(jobs)
        except BaseException as error:  # noqa: BLE001  whatever it is, the one who waits is told
            changed_nothing = _survived(self._recover, error) or False
            for job in jobs:
                if len(jobs) > 1 and changed_nothing:
                    self._finish([job])
                else:
                    job.result.set_exception(error)
            return
        for job, outcome in zip(jobs, outcomes, strict=True):
            if isinstance(outcome, BackdropError):
                job.result.set_exception(outcome)
            else:
                job.result.set_result(outcome)

    def _attempt(self, jobs: Sequence[_Job]) -> list[Any]:
        """What each operation returned, or the BackdropError that it raised; all is committed."""
        transaction = self._begin()
        outcomes: list[Any] = []
        try:
            for job in jobs:
                try:
                    outcomes.append(job.operation(transaction))
                except StorageUnavailable:
                    raise
                except BackdropError as error:
                    outcomes.append(error)
            transaction.commit()
            self.commits += 1
            self.committed += sum(not isinstance(one, BackdropError) for one in outcomes)
        except BaseException:
            transaction.rollback()
            raise
        return outcomes


def _survived(call: Callable[..., T], *args: object) -> T | None:
    """What it returned; None where it raised, which is printed like the end of a thread."""
    try:
        return call(*args)
    except Exception as error:  # noqa: BLE001  whatever it is
        told = (type(error), error, error.__traceback__, threading.current_thread())
        with suppress(Exception):
            threading.excepthook(threading.ExceptHookArgs(told))
        return None
