"""Inserts of Arrow columns. Those that come often are planned once, which takes the longest."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import duckdb
import pyarrow as pa

from backdrop.storage.duckdb.catalogue import quoted

_MOST_PLANNED = 256
_MOST_SEEN = 1_000
_OFTEN_PASSED = 1_000

_Key = tuple[str, pa.Schema]


class Inserts:
    """The statements of one connection.

    One that is planned reads from a source of its own, which DuckDB asks anew for its rows whenever
    it runs. What comes for the first time, or when there are many, is planned for that once.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._planned: dict[_Key, _Source] = {}
        self._seen: set[_Key] = set()
        self._passed = 0
        self._number = 0

    def run(self, table: str, columns: Mapping[str, pa.Array]) -> None:
        """Put rows with these columns, which the table has, at its end."""
        names = sorted(columns)
        rows = pa.RecordBatch.from_arrays([columns[name] for name in names], names=names)
        key = table, rows.schema
        source = self._planned.get(key)
        if source is None and self._is_worth_it(key):
            source = self._planned[key] = self._plan(table, rows)
        if source is None:
            self._run_once(table, rows)
            return
        source.rows = rows
        try:
            self._connection.execute(f"EXECUTE {source.name}")
        finally:
            source.rows = rows.schema.empty_table()  # nobody needs them any more

    def make_room(self) -> None:
        """Between two transactions: a rollback would bring back what is dropped in one."""
        if self._passed >= _OFTEN_PASSED:
            self.forget()

    def forget(self) -> None:
        """Plan anew, as after a rollback, which may have taken sources back."""
        while self._planned:
            _, source = self._planned.popitem()
            with suppress(duckdb.Error):
                self._connection.execute(f"DEALLOCATE {source.name}")
            self._drop(source.name)
        self._passed = 0

    def _is_worth_it(self, key: _Key) -> bool:
        if key not in self._seen:
            if len(self._seen) >= _MOST_SEEN:
                self._seen.clear()
            self._seen.add(key)
            return False
        if len(self._planned) < _MOST_PLANNED:
            return True
        self._passed += 1
        return False

    def _plan(self, table: str, rows: pa.RecordBatch) -> _Source:
        self._number += 1
        source = _Source(f"rows_{self._number}", rows)
        self._connection.register(source.name, source)
        self._connection.execute(f"PREPARE {source.name} AS {_insert(table, rows, source.name)}")
        return source

    def _run_once(self, table: str, rows: pa.RecordBatch) -> None:
        self._connection.register("rows", pa.Table.from_batches([rows]))
        self._connection.execute(_insert(table, rows, "rows"))
        self._drop("rows")

    def _drop(self, name: str) -> None:
        with suppress(duckdb.Error):
            self._connection.unregister(name)


def _insert(table: str, rows: pa.RecordBatch, source: str) -> str:
    names = ", ".join(map(quoted, rows.schema.names))
    return f"INSERT INTO {quoted(table)} ({names}) SELECT {names} FROM {source}"


class _Source:
    """What a statement reads from, by Arrow's PyCapsule interface."""

    def __init__(self, name: str, rows: pa.RecordBatch | pa.Table) -> None:
        self.name, self.rows = name, rows

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.rows.__arrow_c_stream__(requested_schema)
