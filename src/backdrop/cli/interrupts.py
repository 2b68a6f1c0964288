"""Ctrl-C while something is under way that had better come to its end."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Interrupt:
    """Whether Ctrl-C was typed while it had to wait."""

    is_asked: bool = False

    def check(self) -> None:
        """Raise the KeyboardInterrupt that had to wait, if there is one."""
        if self.is_asked:
            raise KeyboardInterrupt


@contextmanager
def patient_interrupt(
    is_busy: Callable[[], bool], on_wait: Callable[[], object]
) -> Iterator[Interrupt]:
    """Within, a first Ctrl-C while `is_busy()` calls `on_wait` and waits for a `check`.

    At any other time, and the second time, it is a KeyboardInterrupt at once, as ever.
    """
    interrupt = Interrupt()

    def handle(_number: int, _frame: object) -> None:
        if interrupt.is_asked or not is_busy():
            raise KeyboardInterrupt
        interrupt.is_asked = True
        on_wait()

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)
