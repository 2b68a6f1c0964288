"""Running a statement, and its records in pages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import duckdb

from backdrop.domain.values import Record
from backdrop.storage.duckdb.catalogue import Table
from backdrop.storage.duckdb.columns import to_records
from backdrop.storage.duckdb.sql import Statement
from backdrop.storage.port import RECORDS_A_PAGE


def run(cursor: duckdb.DuckDBPyConnection, statement: Statement) -> duckdb.DuckDBPyConnection:
    return cursor.execute(statement.text, statement.parameters)


def pages(
    cursor: duckdb.DuckDBPyConnection, table: Table, more: Iterator[Statement], left: int
) -> Iterator[Sequence[Record]]:
    """The records of the statement that runs, then those of `more`, `left` at most."""
    columns = list(table.columns)
    while left > 0:
        rows = cursor.fetchmany(min(RECORDS_A_PAGE, left))
        if rows:
            left -= len(rows)
            yield to_records(rows, columns)
            continue
        statement = next(more, None)
        if statement is None:
            return
        run(cursor, statement)
