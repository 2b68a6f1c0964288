"""How far an import or a copy is: a bar for people, a line now and then where nobody watches."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from backdrop.cli.output import note
from backdrop.domain.words import counted

Report: TypeAlias = Callable[[str, int, int], None]
"""Called after each batch with the name of what is read, how far it is, and how many records."""

_SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def reporting(total: int | None) -> Iterator[Report]:
    """What shows the progress up to `total`, which is None where no one knows the end."""
    started = time.monotonic()
    if not note.is_terminal:
        yield _lines(total, started)
        return
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[records]:,} records"),
        TextColumn("{task.fields[rate]:,.0f}/s"),
        TimeRemainingColumn(),
        console=note,
        transient=True,
    ) as bar:
        task = bar.add_task("", total=total, records=0, rate=0.0)

        def report(name: str, done: int, records: int) -> None:
            rate = records / max(time.monotonic() - started, 0.001)
            bar.update(task, description=name, completed=done, records=records, rate=rate)

        yield report


def _lines(total: int | None, started: float) -> Report:
    last = started

    def report(name: str, done: int, records: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _SECONDS_BETWEEN_LINES:
            last = now
            share = f" ({done / total:.0%})" if total else ""
            rate = records / (now - started)
            note.print(f"{name}: {counted(records, 'record')}{share}, {rate:,.0f}/s", markup=False)

    return report
