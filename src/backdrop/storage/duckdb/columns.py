"""Records -> typed columns, and back. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from operator import methodcaller
from types import NoneType
from typing import Any

import pyarrow as pa

from backdrop.domain.table import ABSENT, Absent, Records
from backdrop.domain.values import Record, Value
from backdrop.storage.duckdb.catalogue import Kind

_kind_of: Mapping[type, Kind] = {
    bool: "boolean",
    int: "integer",
    float: "float",
    str: "string",
    NoneType: "null",
    datetime: "time",
}

_NAIVE = pa.timestamp("us")
_ARROW_TYPES: Mapping[Kind, pa.DataType] = {
    "boolean": pa.bool_(),
    "integer": pa.int64(),
    "float": pa.float64(),
    "string": pa.string(),
    "null": pa.bool_(),
    "time": pa.timestamp("us", tz="UTC"),
}


def to_columns(records: Records) -> dict[tuple[str, Kind], pa.Array]:
    """One Arrow array for each (field, kind) that occurs, as long as `records`.

    Absence is null; a given null is true in the array of kind `null`; times are naive UTC.
    """
    columns: dict[tuple[str, Kind], pa.Array] = {}
    for field, values in records.columns.items():
        types = set(map(type, values))
        for kind_type in sorted(types - {Absent}, key=lambda one: one.__name__):
            kind = _kind_of[kind_type]
            columns[field, kind] = _array(values, kind_type, kind, only=len(types) == 1)
    return columns


def _array(values: Sequence[Any], kind_type: type, kind: Kind, *, only: bool) -> pa.Array:
    if kind == "null":
        values = [True if value is None else None for value in values]
    elif not only:
        values = [value if type(value) is kind_type else None for value in values]
    array = pa.array(values, type=_ARROW_TYPES[kind])
    return array.cast(_NAIVE) if kind == "time" else array


def to_records(rows: Sequence[Sequence[Any]], columns: Sequence[tuple[str, Kind]]) -> list[Record]:
    """The records that rows of the columns (a (field, kind) each) stand for."""
    names: list[str] = []
    cells: list[Sequence[Any]] = []
    complete = True
    for (field, kind), column in zip(columns, zip(*rows, strict=True), strict=False):
        lacking = column.count(None)
        if lacking == len(rows):
            continue
        complete = complete and not lacking
        convert = _READ.get(kind)
        names.append(field)
        if convert is None:
            cells.append([ABSENT if one is None else one for one in column] if lacking else column)
        elif lacking:
            cells.append([ABSENT if one is None else convert(one) for one in column])
        else:
            cells.append(list(map(convert, column)))
    table = zip(*cells, strict=True)
    if complete:  # the usual case: each field is of one kind, and every record has them all
        return [dict(zip(names, row, strict=True)) for row in table]
    return [
        {name: value for name, value in zip(names, row, strict=True) if value is not ABSENT}
        for row in table
    ]


_READ: Mapping[Kind, Callable[[Any], Value]] = {
    "time": methodcaller("replace", tzinfo=UTC),  # a time in the file is naive
    "null": lambda _: None,
}
"""How a cell becomes a value, for the kinds whose cells are not the values themselves."""
