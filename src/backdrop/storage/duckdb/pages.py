"""Running a statement: its records in pages, or its rows as they are, in batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import duckdb
import pyarrow as pa

from backdrop.domain.values import Record
from backdrop.storage.duckdb.catalogue import Table, quoted
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


def batches(connection: duckdb.DuckDBPyConnection, select: str) -> Iterator[pa.RecordBatch]:
    """The rows of the statement, a hundred thousand at a time. Raises duckdb.Error.

    Of what DuckDB meets once they are being read, Arrow has the words, in an error of its own.
    """
    try:
        reader: pa.RecordBatchReader = connection.sql(select).to_arrow_reader(100_000)
        yield from reader
    except (OSError, pa.ArrowException) as error:
        raise duckdb.Error(str(error)) from error


def copy_rows(rows: Iterable[pa.RecordBatch], to: duckdb.DuckDBPyConnection, table: str) -> None:
    """Put the rows into a table of another database."""
    for batch in rows:
        to.register("batch", pa.Table.from_batches([batch]))
        to.execute(f"INSERT INTO {quoted(table)} SELECT * FROM batch")
