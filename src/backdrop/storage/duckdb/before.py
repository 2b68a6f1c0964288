"""What is asked of the file before the question itself: which fields occur, and which offsets, and
where to cut what is sorted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import duckdb

from backdrop.domain.period import Segment
from backdrop.domain.period_key import NO_OFFSET, offsets
from backdrop.domain.query import Query
from backdrop.domain.values import TIMESTAMP
from backdrop.storage.duckdb.catalogue import Table, quoted
from backdrop.storage.duckdb.pages import run
from backdrop.storage.duckdb.slices import cuts, select_sample, select_slices, tiers
from backdrop.storage.duckdb.sql import Statement, select_presence, select_records


def fields_of(cursor: duckdb.DuckDBPyConnection, table: Table, query: Query) -> list[str]:
    """The fields that the matching records have."""
    (found,) = run(cursor, select_presence(query, table)).fetchall()
    names = (field for (field, _), some in zip(table.columns, found, strict=True) if some)
    return sorted(set(names))


def zone_segments_of(
    cursor: duckdb.DuckDBPyConnection, table: Table, query: Query
) -> Sequence[Segment]:
    """The offsets of the query's zone over the times that occur in the table and the range."""
    if query.period is None or query.period.zone.key == "UTC":
        return NO_OFFSET

    def times() -> tuple[datetime, datetime] | None:
        select = f"SELECT min({TIMESTAMP}), max({TIMESTAMP}) FROM {quoted(table.name)}"
        first, last = cursor.execute(select).fetchall()[0]  # in the table's statistics: no scan
        return None if first is None else (first.replace(tzinfo=UTC), last.replace(tzinfo=UTC))

    def years() -> list[int]:
        select = f"SELECT DISTINCT year({TIMESTAMP}) AS y FROM {quoted(table.name)} ORDER BY y"
        return [year for (year,) in cursor.execute(select).fetchall() if year is not None]

    return offsets(query.period, query, times, years)


def record_statements(
    cursor: duckdb.DuckDBPyConnection, table: Table, query: Query, sorted_at_once: int
) -> Iterator[Statement]:
    """The statements that, one after the other, read the records in order."""
    cut_short = query.limit is not None and query.limit <= sorted_at_once
    if cut_short or table.records <= sorted_at_once:
        yield select_records(query, table)
        return
    for tier in tiers(query, table):
        where: Sequence[tuple[Any, bool]] = ()
        if tier.value is not None:
            sample = run(cursor, select_sample(query, table, tier)).fetchall()
            pieces = -(-table.records // sorted_at_once)
            where = cuts([value for (value,) in sample], pieces)
        yield from select_slices(query, table, tier, where)
