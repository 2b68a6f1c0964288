"""Inserts of Arrow columns, each planned once: to plan one takes longer than to run it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress

import duckdb
import pyarrow as pa

from backdrop.storage.duckdb.catalogue import quoted

_MOST_PLANNED = 64


class Inserts:
    """The statements of one connection, the last used kept.

    Each reads from a source of its own, which DuckDB asks anew for its rows whenever it runs.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._planned: OrderedDict[tuple[str, pa.Schema], _Source] = OrderedDict()
        self._number = 0

    def run(self, table: str, columns: Mapping[str, pa.Array]) -> None:
        """Put rows with these columns, which the table has, at its end."""
        rows = pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
        key = table, rows.schema
        source = self._planned.get(key)
        if source is None:
            source = self._planned[key] = self._plan(table, rows)
        self._planned.move_to_end(key)
        source.rows = rows
        try:
            self._connection.execute(f"EXECUTE {source.name}")
        finally:
            source.rows = rows.schema.empty_table()  # nobody needs them any more

    def forget(self) -> None:
        """After a rollback, which may have taken sources back: plan anew."""
        while self._planned:
            self._drop_oldest()

    def _plan(self, table: str, rows: pa.RecordBatch) -> _Source:
        while len(self._planned) >= _MOST_PLANNED:
            self._drop_oldest()
        self._number += 1
        source = _Source(f"rows_{self._number}", rows)
        self._connection.register(source.name, source)
        names = ", ".join(map(quoted, rows.schema.names))
        self._connection.execute(
            f"PREPARE {source.name} AS "
            f"INSERT INTO {quoted(table)} ({names}) SELECT {names} FROM {source.name}"
        )
        return source

    def _drop_oldest(self) -> None:
        _, source = self._planned.popitem(last=False)
        with suppress(duckdb.Error):
            self._connection.execute(f"DEALLOCATE {source.name}")
        with suppress(duckdb.Error):
            self._connection.unregister(source.name)


class _Source:
    """What a statement reads from, by Arrow's PyCapsule interface."""

    def __init__(self, name: str, rows: pa.RecordBatch | pa.Table) -> None:
        self.name, self.rows = name, rows

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.rows.__arrow_c_stream__(requested_schema)
