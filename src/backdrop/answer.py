"""THE READ PATH, from a query to the rows of its answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from typing import Any

from backdrop.domain.bucket import Bucket
from backdrop.domain.query import Query
from backdrop.domain.shape import Groups, Row, shape
from backdrop.domain.window import slid
from backdrop.storage.port import Reading, Storage, too_many_rows

MOST_ROWS = 1_000_000
"""How many rows an answer of groups may have, where nothing else is said."""

_COLUMNS_OF_A_ROW = 10
"""Rows may have so many columns, on the average, before fewer of them are allowed."""

Rows = Sequence[dict[str, Any]]


@contextmanager
def answer(
    storage: Storage,
    bucket: Bucket,
    query: Query,
    *,
    with_fields: bool = False,
    most_rows: int = MOST_ROWS,
    most_seconds: float | None = None,
) -> Iterator[Reading]:
    """The rows of the answer, in pages: records may be many, and come as they are read.

    The rows of groups come as one page, if they are not many. `with_fields` asks for the fields
    that records have; those of a flat answer of groups are known. Whatever can go wrong with the
    query itself is raised on entering: InvalidQuery, also for an answer of groups past `most_rows`,
    gaps included, and QueryTooSlow past `most_seconds` of the engine's work. Leaving the context
    frees what the reading holds.
    """
    if query.is_raw:
        with storage.records(
            bucket.name, query, with_fields=with_fields, most_seconds=most_seconds
        ) as reading:
            yield reading
    else:
        rows, version = _grouped(storage, bucket, query, most_rows, most_seconds)
        yield Reading(rows, query.columns, version)


def _grouped(
    storage: Storage, bucket: Bucket, query: Query, most_rows: int, most_seconds: float | None
) -> tuple[Iterator[list[Row]], int | None]:
    """The pages of rows, and the version of the bucket that they are of, if the engine says."""
    # A row has as many cells as the query has columns: many columns leave room for fewer rows.
    most_rows = max(1, min(most_rows, most_rows * _COLUMNS_OF_A_ROW // len(query.columns)))
    axis = _axis(query, most_rows)
    groups = storage.groups(bucket.name, query, most_rows=most_rows, most_seconds=most_seconds)
    moved = slid(query, set(groups.starts or ()))
    if moved != query:
        query, axis = moved, _axis(moved, most_rows)
        groups = storage.groups(bucket.name, query, most_rows=most_rows, most_seconds=most_seconds)
    if axis is not None and len(axis) * _combinations(groups) > most_rows:
        raise too_many_rows(most_rows)
    return shape(query, groups, axis), groups.version


def _axis(query: Query, most_rows: int) -> list[datetime] | None:
    """The periods to fill: those of a range with both ends; None where nothing is filled."""
    if query.period is None or query.start is None or query.end is None:
        return None
    if (query.end - query.start) // query.period.longest > most_rows:
        raise too_many_rows(most_rows)
    axis = list(islice(query.period.axis(query.start, query.end), most_rows + 1))
    if len(axis) > most_rows:
        raise too_many_rows(most_rows)
    return axis


def _combinations(groups: Groups) -> int:
    return len(set(zip(*groups.keys, strict=True))) if groups.keys else 1
