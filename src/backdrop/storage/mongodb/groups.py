"""The rows of a grouping -> Groups. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any, TypeAlias

from bson import Int64
from bson.decimal128 import Decimal128

from backdrop.domain.period import Period, Segment
from backdrop.domain.period_key import period_start
from backdrop.domain.query import Query, Reduction
from backdrop.domain.reduce import add, finite, greatest, least
from backdrop.domain.shape import Groups
from backdrop.domain.values import Value, order_key, shown
from backdrop.storage.mongodb.documents import Document, read_value
from backdrop.storage.mongodb.periods import period_key
from backdrop.storage.mongodb.pipeline import SCALE, cell, key_names
from backdrop.storage.port import not_a_number

Identity: TypeAlias = tuple[Any, ...]
Column: TypeAlias = Sequence[Any]
Parts: TypeAlias = Mapping[str, Column]


def to_groups(
    query: Query,
    rows: Sequence[Document],
    zone_segments: Sequence[Segment],
    sets: Mapping[str, Iterable[Document]],
) -> Groups:
    """What the rows say, and those of the `sets` by field, where the rows have none."""
    keys = _keys(query, rows)
    names = () if not rows else [name for name in rows[0] if name != "_id"]
    columns = {name: _whole(list(map(itemgetter(name), rows))) for name in names}
    reduced = {
        pair: _readers[pair[1]](pair[0], _parts(columns, place), len(rows))
        for place, pair in enumerate(query.reductions)
        if pair[1] != "set" or pair[0] not in sets
    }
    if sets:
        identities = list(_identities(query, keys))
        for field, found in sets.items():
            values = _by_group(query, field, found)
            reduced[field, "set"] = [values.get(identity, []) for identity in identities]
    starts = None
    if query.period is not None:
        starts = _starts(query.period, keys["p"], zone_segments)
    return Groups(
        keys=tuple(_shown(field, keys[f"k{place}"]) for place, field in enumerate(query.group_by)),
        starts=starts,
        counts=columns.get("count", ()),
        reduced={pair: reduced[pair] for pair in query.reductions},
    )


def short_sums(query: Query, rows: Sequence[Document]) -> bool:
    """Whether these rows show that a dearer way to sum is needed.

    Integers became a float, or floats passed the largest, if only on the way.
    """
    sums = [
        cell(at, "") for at, (_, reduction) in enumerate(query.reductions) if reduction == "sum"
    ]
    return any(
        float in set(map(type, _column(rows, f"{sum_}integers")))
        or not all(map(math.isfinite, _column(rows, f"{sum_}floats")))
        for sum_ in sums
    )


def _column(rows: Sequence[Document], name: str) -> Column:
    """The column of that name, where the rows have it."""
    return list(map(itemgetter(name), rows)) if rows and name in rows[0] else ()


def _whole(column: list[Any]) -> Column:
    """The column without BSON's own class of integers."""
    if Int64 not in set(map(type, column)):
        return column
    return [int(value) if type(value) is Int64 else value for value in column]


def _keys(query: Query, rows: Sequence[Document]) -> dict[str, Column]:
    names = key_names(query)
    ids = list(map(itemgetter("_id"), rows))
    return {names[0]: ids} if len(names) == 1 else {n: list(map(itemgetter(n), ids)) for n in names}


def _shown(field: str, column: Column) -> Column:
    if set(map(type, column)) == {str}:
        return column
    return [shown(read_value(field, value)) for value in column]


def _starts(period: Period, keys: Column, zone_segments: Sequence[Segment]) -> list[datetime]:
    start = {key: period_start(period, period_key(period, key), zone_segments) for key in set(keys)}
    return [start[key] for key in keys]


def _identities(query: Query, keys: Mapping[str, Column]) -> Iterator[Identity]:
    """What tells the rows' groups apart."""
    columns = [list(map(order_key, keys[f"k{place}"])) for place in range(len(query.group_by))]
    periods = [keys["p"]] if query.period else []
    return zip(*periods, *columns, strict=True)


def _by_group(query: Query, field: str, rows: Iterable[Document]) -> dict[Identity, list[Value]]:
    ids = [row["_id"] for row in rows]
    keys = {name: [one[name] for one in ids] for name in key_names(query)}
    found: dict[Identity, list[Value]] = {}
    for identity, one in zip(_identities(query, keys), ids, strict=True):
        found.setdefault(identity, []).append(read_value(field, one["v"]))
    return found


def _parts(columns: Mapping[str, Column], place: int) -> Parts:
    prefix = cell(place, "")
    parts = {
        name.removeprefix(prefix): columns[name] for name in columns if name.startswith(prefix)
    }
    return parts or {"count": columns.get("count", ())}


def _counts(_field: str, parts: Parts, _size: int) -> Column:
    """Where each record has a value, their number is that of the records."""
    return parts.get("all", parts.get("count", ()))


def _sums(field: str, parts: Parts, size: int) -> Column:
    integers, floats = parts.get("integers", [0] * size), parts.get("floats", [0] * size)
    scaled = parts.get("scaled", [None] * size)
    most = parts.get("most", [0] * size)  # where each record has a number, nobody asked
    if not {str, bool}.isdisjoint(map(type, most)):
        raise not_a_number(field)
    if "floats" not in parts and None not in most:
        return integers
    return [
        None if known is None else _sum(*numbers)
        for known, *numbers in zip(most, integers, floats, scaled, strict=True)
    ]


def _sum(integers: int | Decimal128, floats: float, scaled: float | None) -> int | float | None:
    """A sum of no float is the integer 0, and so is one of no integer."""
    if isinstance(integers, Decimal128):
        integers = int(integers.to_decimal())
    if not isinstance(floats, float):
        return integers
    if not math.isfinite(floats) and scaled is not None:
        floats = scaled / SCALE
    return add([finite(floats), *([integers] if integers else [])])


def _extremes(pick: Callable[[Iterable[Value]], Value]) -> Callable[..., Column]:
    def read(field: str, parts: Parts, _size: int) -> Column:
        return [pick(_present(field, row)) for row in zip(*parts.values(), strict=True)]

    return read


def _present(field: str, values: Iterable[Any]) -> list[Value]:
    found = (read_value(field, value) for value in values if value is not None)
    return [value + 0.0 if type(value) is float else value for value in found]


def _sets(field: str, parts: Parts, _size: int) -> Column:
    return [
        [read_value(field, value) for value in values if value is not None]
        for values in parts.get("values", ())
    ]


_readers: Mapping[Reduction, Callable[[str, Parts, int], Column]] = {
    "count": _counts,
    "sum": _sums,
    "set": _sets,
    "min": _extremes(least),
    "max": _extremes(greatest),
}
"""Of each reduction: its field, its parts of the rows, how many rows -> its column."""
