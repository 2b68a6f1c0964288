"""The rows of a grouping -> Groups. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from bson.decimal128 import Decimal128

from backdrop.domain.period import Period, Segment
from backdrop.domain.period_key import period_start
from backdrop.domain.query import Query, Reduction
from backdrop.domain.reduce import add, finite, greatest, least
from backdrop.domain.shape import Groups
from backdrop.domain.values import Value, order_key, shown
from backdrop.storage.mongodb.documents import Document, read_value
from backdrop.storage.mongodb.pipeline import SCALE, cell, period_key
from backdrop.storage.port import not_a_number

Identity = tuple[Any, ...]


def to_groups(
    query: Query,
    rows: Sequence[Document],
    sets: Mapping[str, Iterable[Document]],
    zone_segments: Sequence[Segment],
) -> Groups:
    """What the rows say, and those of the sets by field."""
    values = {field: _by_group(query, field, found) for field, found in sets.items()}
    return Groups(
        keys=tuple(
            [shown(read_value(field, row["_id"][f"k{place}"])) for row in rows]
            for place, field in enumerate(query.group_by)
        ),
        starts=_starts(query.period, rows, zone_segments) if query.period else None,
        counts=[int(row["count"]) for row in rows],
        reduced={
            (field, reduction): (
                [values[field].get(_identity(query, row), []) for row in rows]
                if reduction == "set"
                else [_readers[reduction](field, _parts(row, place)) for row in rows]
            )
            for place, (field, reduction) in enumerate(query.reductions)
        },
    )


def _starts(
    period: Period, rows: Sequence[Document], zone_segments: Sequence[Segment]
) -> list[datetime]:
    keys = [row["_id"]["p"] for row in rows]
    start = {key: period_start(period, period_key(period, key), zone_segments) for key in set(keys)}
    return [start[key] for key in keys]


def overflowed(query: Query, rows: Iterable[Document]) -> bool:
    """Whether a sum of floats is past the largest float, or was on its way."""
    sums = [
        cell(place, "floats")
        for place, (_, reduction) in enumerate(query.reductions)
        if reduction == "sum"
    ]
    return any(not math.isfinite(row[name]) for row in rows for name in sums)


def _identity(query: Query, row: Document) -> Identity:
    key = row["_id"]
    return (
        key.get("p"),
        *(order_key(key[f"k{place}"]) for place in range(len(query.group_by))),
    )


def _by_group(query: Query, field: str, rows: Iterable[Document]) -> dict[Identity, list[Value]]:
    found: dict[Identity, list[Value]] = {}
    for row in rows:
        value = read_value(field, row["_id"]["v"])
        found.setdefault(_identity(query, row), []).append(value)
    return found


def _parts(row: Document, place: int) -> dict[str, Any]:
    prefix = cell(place, "")
    return {name.removeprefix(prefix): row[name] for name in row if name.startswith(prefix)}


def _count(_field: str, parts: Mapping[str, Any]) -> int:
    return int(parts["all"])


def _sum(field: str, parts: Mapping[str, Any]) -> int | float | None:
    """A sum of no value at all is the integer 0, and no Decimal128 and no float."""
    if parts["others"] is not None:
        raise not_a_number(field)
    integers, floats = parts["integers"], parts["floats"]
    numbers: list[int | float] = []
    if isinstance(integers, Decimal128):
        numbers.append(int(integers.to_decimal()))
    if isinstance(floats, float):
        if not math.isfinite(floats) and "scaled" in parts:
            floats = parts["scaled"] / SCALE
        numbers.append(finite(floats))
    return add(numbers)


def _extreme(pick: Callable[[Iterable[Value]], Value]) -> Callable[..., Value]:
    def read(field: str, parts: Mapping[str, Any]) -> Value:
        found = (read_value(field, value) for value in parts.values() if value is not None)
        return pick([value + 0.0 if type(value) is float else value for value in found])

    return read


_readers: Mapping[Reduction, Callable[[str, Mapping[str, Any]], Any]] = {
    "count": _count,
    "sum": _sum,
    "min": _extreme(least),
    "max": _extreme(greatest),
}
"""Of each reduction but the set: its field and its parts in a row -> its cell."""
