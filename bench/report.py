"""What was measured, as rows beside their limits: to Markdown and to JSON."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement. `ours` and `limit` are texts with their units; `met` says of the target."""

    what: str
    ours: str
    limit: str
    ratio: float
    target: str
    met: bool


@dataclass(frozen=True, slots=True)
class Times:
    """The seconds that rounds took."""

    seconds: Sequence[float]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def __str__(self) -> str:
        quarters = statistics.quantiles(self.seconds, n=4)
        spread = (quarters[2] - quarters[0]) / 2
        return f"{self.median * 1e3:,.1f} ± {spread * 1e3:,.1f} ms"


def interleaved(rounds: int, *measures: Callable[[], float]) -> list[Times]:
    """The seconds of each, taken in turns, so that what else the machine does meets them alike.

    A first round warms up, and does not count.
    """
    taken = [[measure() for measure in measures] for _ in range(rounds + 1)][1:]
    return [Times(seconds) for seconds in zip(*taken, strict=True)]


def markdown(title: str, rows: Sequence[Row]) -> str:
    lines = [f"## {title}", "", "| what | Backdrop | limit | ratio | target | met |"]
    lines += ["|---|---|---|---|---|---|"]
    lines += [
        f"| {row.what} | {row.ours} | {row.limit} | {row.ratio:.2f} | {row.target} | "
        f"{'yes' if row.met else 'no'} |"
        for row in rows
    ]
    return "\n".join([*lines, ""])


def as_json(rows: Sequence[Row]) -> list[dict[str, object]]:
    return [dataclasses.asdict(row) for row in rows]
