"""A batch of records as a table: a column for each field, as long as the batch.

Ten thousand records of ten fields are a hundred thousand values. To look at them one by one costs
more than to store them; by columns, a check or a conversion is one step for ten thousand.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import itemgetter
from typing import Any, Final, TypeAlias, final

from backdrop.domain.values import ID, Record


@final
class Absent:
    """The type of `ABSENT`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = Absent()
"""Stands in a column where a record lacks the field."""

Column: TypeAlias = Sequence[Any]
"""Values, or `ABSENT`."""


@dataclass(frozen=True, slots=True)
class RawTable:
    """Raw rows, of which nothing is checked yet, by columns. One by one, they are objects.

    `kinds`: the type of all the values of a column, of those of which it is known.
    """

    columns: Mapping[str, Column]
    length: int
    kinds: Mapping[str, type] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return rows_of(self.columns)


RawRows: TypeAlias = Sequence[Any] | RawTable


@dataclass(frozen=True, slots=True)
class Records:
    """A batch of records that passed every check, each id once (the last one given).

    `received`: how many there were, with those that a later one of their id replaced.
    `ids_are_new`: every id was made here for this batch, so that no stored record can have it.
    """

    columns: Mapping[str, Column]
    received: int
    ids_are_new: bool = False

    @classmethod
    def of(cls, rows: Sequence[Record], *, ids_are_new: bool = False) -> Records:
        """The batch of these records; of those with one id, the last."""
        names = dict.fromkeys(chain.from_iterable(rows))
        return cls(last_of_each_id(pivoted(rows, names)), len(rows), ids_are_new)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def ids(self) -> Sequence[str]:
        return self.columns.get(ID, ())

    @property
    def rows(self) -> list[Record]:
        """The records one by one, in order."""
        return list(rows_of(self.columns))


def rows_of(columns: Mapping[str, Column]) -> Iterator[dict[str, Any]]:
    """The rows one by one, without the fields that they lack."""
    names = tuple(columns)
    for row in zip(*columns.values(), strict=True):
        yield {name: value for name, value in zip(names, row, strict=True) if value is not ABSENT}


def pivoted(rows: Sequence[Mapping[str, Any]], names: Iterable[str]) -> dict[str, list[Any]]:
    """The rows by columns, one for each of `names`, which are all that they have."""
    names = tuple(names)
    if set(map(len, rows)) == {len(names)}:  # no row lacks a field
        return {name: list(map(itemgetter(name), rows)) for name in names}
    return {name: [row.get(name, ABSENT) for row in rows] for name in names}


def last_of_each_id(columns: Mapping[str, Column]) -> Mapping[str, Column]:
    """The table without the rows whose id comes again further down."""
    ids = columns.get(ID, ())
    if len(set(ids)) == len(ids):
        return columns
    kept = sorted(dict(zip(ids, range(len(ids)), strict=True)).values())
    return {name: [column[row] for row in kept] for name, column in columns.items()}


def joined(batches: Sequence[Records]) -> Records:
    """The batches as one, in their order."""
    if len(batches) == 1:
        return batches[0]
    names = dict.fromkeys(chain.from_iterable(batch.columns for batch in batches))
    columns = {
        name: list(
            chain.from_iterable(
                batch.columns.get(name) or [ABSENT] * len(batch) for batch in batches
            )
        )
        for name in names
    }
    return Records(
        last_of_each_id(columns),
        received=sum(batch.received for batch in batches),
        ids_are_new=all(batch.ids_are_new for batch in batches),
    )
