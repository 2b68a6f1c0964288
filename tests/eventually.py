"""To wait for what comes when it comes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(
    look: Callable[[], T | None],
    *,
    seconds: float = 30,
    every: float = 0.01,
    said: Callable[[], str] = lambda: "it never comes",
) -> T:
    """What `look` gives, which is asked every so many seconds, once that is true or is something.

    The test fails after `seconds`, with what is `said` then.
    """
    until = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < until, said()
        time.sleep(every)
    return found
