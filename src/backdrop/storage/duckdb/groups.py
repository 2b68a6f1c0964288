"""The rows of a grouping statement -> Groups. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import Any

from backdrop.domain.query import Query, Reduction
from backdrop.domain.reduce import add, finite, greatest, least
from backdrop.domain.shape import Groups
from backdrop.domain.values import Value, shown
from backdrop.storage.duckdb.catalogue import Kind
from backdrop.storage.duckdb.sql import GroupColumns
from backdrop.storage.port import not_a_number

Column = Sequence[Any]


def no_groups(query: Query) -> Groups:
    return Groups(
        keys=tuple(() for _ in query.group_by),
        starts=None if query.period is None else (),
        reduced=dict.fromkeys(query.reductions, ()),
    )


def to_groups(
    query: Query,
    rows: Sequence[Sequence[Any]],
    layout: GroupColumns,
    start_of: Callable[[int], datetime],
) -> Groups:
    """What the rows say; `start_of` turns a period's key into its start."""
    if not rows:
        return no_groups(query)
    columns: Iterator[Column] = iter(tuple(zip(*rows, strict=True)))
    starts = None
    if query.period is not None:
        keys = next(columns)
        start = {key: start_of(key) for key in set(keys)}
        starts = [start[key] for key in keys]
    return Groups(
        starts=starts,
        keys=tuple(_keys(kinds, [next(columns) for _ in kinds]) for kinds in layout.keys),
        counts=next(columns),
        reduced={
            (field, reduction): _readers[reduction](field, kinds, columns, len(rows))
            for (field, reduction), kinds in zip(query.reductions, layout.reductions, strict=True)
        },
    )


def _keys(kinds: Sequence[Kind], columns: Sequence[Column]) -> Column:
    if len(columns) == 1:
        return [shown(value) for value in columns[0]] if kinds[0] == "float" else columns[0]
    rows = zip(*columns, strict=True)
    return [shown(next(value for value in row if value is not None)) for row in rows]


def _counts(_field: str, _kinds: Sequence[Kind], columns: Iterator[Column], _size: int) -> Column:
    return next(columns)


def _sums(field: str, kinds: Sequence[Kind], columns: Iterator[Column], size: int) -> Column:
    sums = [next(columns) for _ in kinds]
    if any(next(columns)):
        raise not_a_number(field)
    if len(kinds) == 1 and kinds[0] == "integer":
        return sums[0]
    return [
        add(finite(one) if type(one) is float else one for one in row if one is not None)
        for row in _rows(sums, size)
    ]


def _sets(_field: str, kinds: Sequence[Kind], columns: Iterator[Column], size: int) -> Column:
    lists = [next(columns) for _ in kinds]
    return [list(chain.from_iterable(filter(None, row))) for row in _rows(lists, size)]


def _extremes(pick: Callable[[list[Value]], Value]) -> Callable[..., Column]:
    def read(_field: str, kinds: Sequence[Kind], columns: Iterator[Column], size: int) -> Column:
        ends = [next(columns) for _ in kinds]
        if len(ends) == 1 and kinds[0] != "float":
            return ends[0]
        return [
            pick([one + 0.0 if type(one) is float else one for one in row if one is not None])
            for row in _rows(ends, size)
        ]

    return read


def _rows(columns: Sequence[Column], size: int) -> Iterator[tuple[Any, ...]]:
    """The columns' rows; empty ones where there is no column, as of a field never given."""
    return zip(*columns, strict=True) if columns else iter([()] * size)


_readers: Mapping[Reduction, Callable[..., Column]] = {
    "count": _counts,
    "sum": _sums,
    "set": _sets,
    "min": _extremes(least),
    "max": _extremes(greatest),
}
"""Of each reduction: (field, kinds, the columns still to read, rows) -> its column of `Groups`."""
