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
from backdrop.storage.mongodb.pipeline import SCALE, cell, key_names, period_key
from backdrop.storage.port import not_a_number

Identity = tuple[Any, ...]


def to_groups(
    query: Query,
    rows: Sequence[Document],
    zone_segments: Sequence[Segment],
    sets: Mapping[str, Iterable[Document]],
) -> Groups:
    """What the rows say, and those of the `sets` by field, where the rows have none."""
    names = key_names(query)
    if len(names) == 1:
        rows = [{**row, "_id": {names[0]: row["_id"]}} for row in rows]
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
                if field in values and reduction == "set"
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


def short_sums(query: Query, rows: Sequence[Document]) -> list[str]:
    """The fields of which these rows show that a dearer way to sum is needed."""
    return [
        field
        for place, (field, reduction) in enumerate(query.reductions)
        if reduction == "sum" and any(_is_short(row, place) for row in rows)
    ]


def _is_short(row: Document, place: int) -> bool:
    """Whether integers became a float, or floats more than the largest, if only on the way."""
    floats = row.get(cell(place, "floats"), 0)
    return isinstance(row[cell(place, "integers")], float) or not math.isfinite(floats)


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
    """A sum of no float is the integer 0, and so is one of no integer."""
    most, integers, floats = parts["most"], parts["integers"], parts.get("floats")
    if isinstance(most, (str, bool)):
        raise not_a_number(field)
    if most is None:
        return None
    if isinstance(integers, Decimal128):
        integers = int(integers.to_decimal())
    if not isinstance(floats, float):
        return add([int(integers)])
    if not math.isfinite(floats) and "scaled" in parts:
        floats = parts["scaled"] / SCALE
    return add([finite(floats), *([int(integers)] if integers else [])])


def _extreme(pick: Callable[[Iterable[Value]], Value]) -> Callable[..., Value]:
    def read(field: str, parts: Mapping[str, Any]) -> Value:
        found = (read_value(field, value) for value in parts.values() if value is not None)
        return pick([value + 0.0 if type(value) is float else value for value in found])

    return read


def _set(field: str, parts: Mapping[str, Any]) -> list[Value]:
    return [read_value(field, value) for value in parts["values"] if value is not None]


_readers: Mapping[Reduction, Callable[[str, Mapping[str, Any]], Any]] = {
    "count": _count,
    "sum": _sum,
    "set": _set,
    "min": _extreme(least),
    "max": _extreme(greatest),
}
"""Of each reduction: its field and its parts in a row -> its cell."""
