"""Values made comparable to the last bit, and short ways to write and read in tests of engines."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import chain
from typing import Any

from backdrop.answer import answer
from backdrop.domain.bucket import Bucket
from backdrop.domain.query import Query
from backdrop.domain.reduce import distinct
from backdrop.domain.shape import Groups
from backdrop.domain.table import Records
from backdrop.domain.times import parse_instant
from backdrop.domain.values import TIME_FIELDS, Record
from backdrop.errors import BackdropError, InvalidQuery
from backdrop.storage.port import Storage

MANY = 1_000_000
"""More rows than any test asks for."""


def exact(value: Any, *, zeros: bool = True) -> Any:
    """A value, or lists and objects of them, with each one's type: 1, 1.0 and true differ.

    Where `zeros`, 0.0 and -0.0 differ too.
    """
    if isinstance(value, dict):
        return {key: exact(one, zeros=zeros) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [exact(one, zeros=zeros) for one in value]
    if isinstance(value, float):
        return ("float", repr(value if zeros else value + 0.0))
    if isinstance(value, datetime):
        return ("datetime", value.isoformat())
    return (type(value).__name__, value)


def batch(*rows: Mapping[str, Any], new: bool = False) -> Records:
    """A batch of validated records; texts of time fields stand for their instants."""
    return Records.of([record(**row) for row in rows], ids_are_new=new)


def record(**fields: Any) -> Record:
    return {
        name: parse_instant(value) if name in TIME_FIELDS and isinstance(value, str) else value
        for name, value in fields.items()
    }


def read(storage: Storage, bucket: str = "things", query: Query | None = None) -> list[Record]:
    """All the records of a raw query."""
    with storage.records(bucket, query or Query()) as pages:
        return list(chain.from_iterable(pages))


def stored(storage: Storage, bucket: str = "things") -> list[Record]:
    """All the records in the order of storing."""
    with storage.stored(bucket) as pages:
        return list(chain.from_iterable(pages))


def ids(storage: Storage, query: Query | None = None, bucket: str = "things") -> list[Any]:
    return [row["_id"] for row in read(storage, bucket, query)]


def numbered(values: Iterable[Any], field: str = "aa") -> Iterator[dict[str, Any]]:
    """One record for each value, with the ids `0`, `1`, …"""
    return ({"_id": str(n), field: value} for n, value in enumerate(values))


def by_key(groups: Groups) -> dict[Any, dict[Any, Any]]:
    """The rows of groups by (start, *keys), each value exact; sets as `distinct` shows them."""
    found: dict[Any, dict[Any, Any]] = {}
    for row, count in enumerate(groups.counts):
        start = groups.starts[row] if groups.starts is not None else None
        key = (start, *(exact(column[row]) for column in groups.keys))
        assert key not in found, f"two rows of one group: {key}"
        cells: dict[Any, Any] = {"_count": count}
        for pair, column in groups.reduced.items():
            cell = column[row]
            if pair[1] == "set":
                assert len({str(exact(one)) for one in cell}) == len(cell), "a value twice in a set"
                cell = distinct(cell)  # which makes 1 and 1.0 one
            cells[pair] = exact(cell, zeros=False)
        found[key] = cells
    return found


def outcome(storage: Storage, bucket: Bucket, query: Query) -> Any:
    """What the answer to a query comes to: its rows, each exact, or the error by its problems."""
    try:
        rows = answered(storage, bucket, query)
    except InvalidQuery as error:
        return ("refused", [problem.as_json() for problem in error.problems])
    except BackdropError as error:
        return (type(error).__name__, error.message)
    return [exact(row, zeros=query.is_raw) for row in rows]


def close_to(one: Any, other: Any, *, scale: float = 0.0) -> bool:
    """Whether two answers are the same but for the last digits of floats.

    They may differ by 1e-12 of themselves or of `scale`, the size of what was added.
    """
    if isinstance(one, dict) and isinstance(other, dict):
        same_keys = one.keys() == other.keys()
        return same_keys and all(close_to(one[key], other[key], scale=scale) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        pairs = zip(one, other, strict=False)
        return len(one) == len(other) and all(close_to(*pair, scale=scale) for pair in pairs)
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-12, abs_tol=1e-12 * scale)
    return type(one) is type(other) and bool(one == other)


def answered(storage: Storage, bucket: Bucket, query: Query) -> list[dict[str, Any]]:
    """The rows of the answer to a query."""
    with answer(storage, bucket, query) as pages:
        return list(chain.from_iterable(pages))
