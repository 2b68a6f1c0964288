"""What the commands print: answers on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from backdrop.refusals import Refused

note = Console(stderr=True, highlight=False, soft_wrap=True)
"""For people: progress, hints, complaints."""


class Stop(Exception):
    """The command ends here with exit code 1; the message says why, and what to do."""


def complain(error: Exception) -> None:
    """The error as text: the message, and each problem that the server lists, a line."""
    print(f"Error: {error}", file=sys.stderr)  # noqa: T201  no markup, no wrapping: it may hold anything
    if isinstance(error, Refused) and (len(error.errors) > 1 or error.count > 1):
        for line in problem_lines(error):
            print(f"  {line}", file=sys.stderr)  # noqa: T201


def problem_lines(error: Refused) -> list[str]:
    """A line for each problem that the server listed."""
    lines = [str(one.get("message", one.get("code", ""))) for one in error.errors]
    more = error.count - len(lines)
    return [*lines, f"… and {more:,} more"] if more > 0 else lines


def as_json(value: object) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))  # noqa: T201


def alone(text: str) -> None:
    """One value on stdout, for `$(…)`."""
    print(text)  # noqa: T201


def as_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table for people; as wide as it needs to be where nobody looks at it."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 10_000
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(_shown(cell) for cell in row))
    console.print(table)


def _shown(cell: object) -> str:
    if cell is None:
        return "-"
    text = cell if isinstance(cell, str) else json.dumps(cell, ensure_ascii=False)
    return text.replace("[", r"\[")
