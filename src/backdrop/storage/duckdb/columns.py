"""Records -> typed columns, and back. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import methodcaller
from types import NoneType
from typing import Any

import pyarrow as pa

from backdrop.domain.table import ABSENT, Absent, Records
from backdrop.domain.times import Instants
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


@dataclass(frozen=True, slots=True)
class Batch:
    """Records as the file takes them."""

    ids: Sequence[str]
    ids_are_new: bool
    columns: Mapping[tuple[str, Kind], pa.Array]

    @classmethod
    def of(cls, records: Records) -> Batch:
        return cls(records.ids, records.ids_are_new, to_columns(records))

    def __len__(self) -> int:
        return len(self.ids)


def to_columns(records: Records) -> dict[tuple[str, Kind], pa.Array]:
    """One Arrow array for each (field, kind) that occurs, as long as `records`.

    Absence is null; a given null is true in the array of kind `null`; times are naive UTC.
    """
    columns: dict[tuple[str, Kind], pa.Array] = {}
    for field, values in records.columns.items():
        texts = _texts_alone(values)
        if texts is not None:
            columns[field, "string"] = texts
            continue
        types = set(map(type, values))
        for kind_type in sorted(types - {Absent}, key=lambda one: one.__name__):
            kind = _kind_of[kind_type]
            columns[field, kind] = _array(values, kind_type, kind, only=len(types) == 1)
    return columns


def _texts_alone(values: Sequence[Any]) -> pa.Array | None:
    """The array of a column of nothing but texts, if it is one: Arrow looks at each anyway."""
    if not values or type(values[0]) is not str:
        return None
    try:
        texts = pa.array(values, pa.string())
    except pa.ArrowTypeError:
        return None
    return None if texts.null_count else texts


def _array(values: Sequence[Any], kind_type: type, kind: Kind, *, only: bool) -> pa.Array:
    if isinstance(values, Instants):
        read = _read_texts(values.texts)
        if read is not None:
            return read
    if kind == "null":
        values = [True if value is None else None for value in values]
    elif not only:
        values = [value if type(value) is kind_type else None for value in values]
    array = pa.array(values, type=_ARROW_TYPES[kind])
    return array.cast(_NAIVE) if kind == "time" else array


def _read_texts(texts: Sequence[str]) -> pa.Array | None:
    """Instants from their texts, in a sixth of the time of taking them from Python's.

    None for forms that Arrow refuses, as those with more than six decimals.
    """
    given = pa.array(texts, pa.string())
    for kind in (_ARROW_TYPES["time"], _NAIVE):  # with an offset, or without
        with suppress(pa.ArrowInvalid):
            return given.cast(kind).cast(_NAIVE)
    return None


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
