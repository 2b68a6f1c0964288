"""Several processes that answer on one port, and the first one, which watches over them.

Each is forked before anything is opened, and opens its own: neither a driver's connections nor a
server's threads outlive a fork. The first process serves nothing. It says when all are ready,
hands on what it is told to stop, and puts another in the place of a worker that dies. Each has a
socket of its own: of one that all shared, the quickest would take nearly every connection.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TypeAlias

from backdrop.observe import Observe, WorkerDied
from backdrop.server import CUT_OFF_SECONDS, CannotStart, beside

STOP = signal.SIGUSR1
"""What tells a worker to stop. SIGTERM and SIGINT are for the first process alone: they may reach
every process of a group, and with the first one's word a worker would take it for a second stop.
"""

Work: TypeAlias = Callable[[int, socket.socket, Callable[[], None]], bool]
"""Serves, as the worker of that number, on the socket, until STOP; calls the function once it is
ready. Returns whether the stop was clean. Raises CannotStart."""

_processes = multiprocessing.get_context("fork")

_GOOD_WHILE = 60.0
_LONGEST_PAUSE = 10.0
_FORCED = 3


@dataclass(eq=False)
class _Worker:
    number: int
    process: BaseProcess
    reports: Connection
    """Holds an empty text once it is ready, or the reason why it can't start."""
    begun: float = field(default_factory=time.monotonic)


def run_workers(
    work: Work,
    bound: socket.socket,
    number: int,
    *,
    stop_seconds: float,
    on_ready: Callable[[], None],
    on_stopping: Callable[[], None],
    observe: Observe,
) -> bool:
    """Run as many workers until SIGTERM or SIGINT; return whether the stop was clean.

    They listen on the address of the socket, which keeps it for them. A second signal cuts off what
    is in flight. If this process dies, so do they. One that dies is begun again. Raises CannotStart
    where one can't start in the first place.
    """
    workers = _Workers(work, bound, observe)
    try:
        workers.start(number)
        with _stops() as stops:
            on_ready()
            workers.watch(stops)
            on_stopping()
            return workers.stop(stops, stop_seconds + 2 * CUT_OFF_SECONDS)
    finally:
        workers.end()


class _Workers:
    """The processes that run, by number."""

    def __init__(self, work: Work, bound: socket.socket, observe: Observe) -> None:
        self._work, self._bound, self._observe = work, bound, observe
        self._lives, self._held = os.pipe()  # its end is that of the first process
        self._running: dict[int, _Worker] = {}
        self._deaths: dict[int, int] = {}
        self._due: dict[int, float] = {}

    def start(self, number: int) -> None:
        """Begin them; return once all are ready."""
        for one in range(number):
            self._begin(one)
        waiting = dict(self._running)
        while waiting:
            wait([worker.reports for worker in waiting.values()])
            for worker in list(waiting.values()):
                if worker.reports.poll():
                    reason = _heard(worker)
                    if reason is None:
                        worker.process.join()
                        reason = f"a worker ended with exit code {worker.process.exitcode}"
                    if reason:
                        raise CannotStart(reason)
                    del waiting[worker.number]

    def watch(self, stops: int) -> None:
        """Begin each again that dies, until there is something to read from `stops`."""
        while True:
            pause = min(self._due.values(), default=None)
            seconds = None if pause is None else max(pause - time.monotonic(), 0)
            found = wait([stops, *self._sentinels()], seconds)
            if stops in found:
                return
            for worker in self._dead():
                self._replace_later(worker)
            for number, moment in list(self._due.items()):
                if moment <= time.monotonic():
                    del self._due[number]
                    self._begin(number)

    def stop(self, stops: int, seconds: float) -> bool:
        """Tell all to stop, again for each word from `stops`; return whether all ended cleanly."""
        until = time.monotonic() + seconds
        is_clean = True
        while self._running and time.monotonic() < until:
            if stops in wait([stops, *self._sentinels()], until - time.monotonic()):
                os.read(stops, 1)
                self._order(STOP)
            for worker in self._dead():
                is_clean = is_clean and worker.process.exitcode in (0, -STOP)
        return is_clean and not self._running

    def end(self) -> None:
        """Leave none running."""
        self._order(signal.SIGKILL)
        for worker in self._running.values():
            worker.process.join()
        os.close(self._held)
        os.close(self._lives)

    def _sentinels(self) -> list[int]:
        return [worker.process.sentinel for worker in self._running.values()]

    def _dead(self) -> list[_Worker]:
        """Those that have ended, which are taken off the list."""
        found = [one for one in self._running.values() if one.process.exitcode is not None]
        for worker in found:
            del self._running[worker.number]
        return found

    def _begin(self, number: int) -> None:
        reports, send = _processes.Pipe(duplex=False)
        process = _processes.Process(target=self._run, args=(number, send))
        process.start()
        send.close()
        self._running[number] = _Worker(number, process, reports)

    def _replace_later(self, worker: _Worker) -> None:
        """The longer after its death, the more of them died without a good while between."""
        if time.monotonic() - worker.begun > _GOOD_WHILE:
            self._deaths[worker.number] = 0
        deaths = self._deaths.get(worker.number, 0)
        self._deaths[worker.number] = deaths + 1
        pause = min(0.5 * (2**deaths - 1), _LONGEST_PAUSE)
        self._due[worker.number] = time.monotonic() + pause
        self._observe(
            WorkerDied(
                worker=worker.number,
                pid=worker.process.pid or 0,
                exit_code=worker.process.exitcode or 0,
                reason="".join(iter(lambda: _heard(worker), None)) or None,
                replaced_in=pause,
            )
        )

    def _order(self, number: int) -> None:
        for worker in self._running.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.process.pid or 0, number)

    # -- in the worker ----------------------------------------------------------------------

    def _run(self, number: int, reports: Connection) -> None:
        for ignored in (signal.SIGTERM, signal.SIGINT):
            signal.signal(ignored, signal.SIG_IGN)
        os.close(self._held)
        threading.Thread(target=self._end_with_the_first, daemon=True).start()
        try:
            is_clean = self._work(number, beside(self._bound), lambda: reports.send(""))
        except CannotStart as error:
            reports.send(str(error))
            raise SystemExit(1) from None
        if not is_clean:
            raise SystemExit(_FORCED)

    def _end_with_the_first(self) -> None:
        os.read(self._lives, 1)
        os._exit(1)


def _heard(worker: _Worker) -> str | None:
    """The next thing that the worker says; None where it has ended."""
    try:
        said: str = worker.reports.recv()
    except EOFError:
        return None
    return said


@contextlib.contextmanager
def _stops() -> Iterator[int]:
    """What can be read from once SIGTERM or SIGINT has come: a byte for each."""
    stops, told = os.pipe()
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(one, lambda *_: os.write(told, b".")) for one in numbers]
    try:
        yield stops
    finally:
        for one, handler in zip(numbers, before, strict=True):
            signal.signal(one, handler)
        os.close(told)
        os.close(stops)
