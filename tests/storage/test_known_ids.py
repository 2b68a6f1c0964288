"""Which ids are certainly new, of tables that this process filled and that another did."""

from __future__ import annotations

import time
from collections.abc import Iterator

import duckdb
import pytest

from backdrop.domain.bucket import Bucket
from backdrop.storage.duckdb.catalogue import Table, create_table
from backdrop.storage.duckdb.known_ids import IdsByTable

FILLED = Table(Bucket(name="filled"), "records_1", 1, 20_000, None)
EMPTY = Table(Bucket(name="empty"), "records_2", 1, 0, None)
TABLES = [FILLED.name, EMPTY.name]


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    """A database in which one of the tables holds the ids `held-0` to `held-19999`."""
    with duckdb.connect() as made:
        for table in (FILLED, EMPTY):
            made.execute(create_table(table))
        made.execute("INSERT INTO records_1 SELECT n, 'held-' || n, NULL FROM range(20_000) r(n)")
        yield made


@pytest.fixture
def ids(connection: duckdb.DuckDBPyConnection) -> Iterator[IdsByTable]:
    known = IdsByTable(connection, [FILLED, EMPTY])
    yield known
    known.close()


def _is_known(ids: IdsByTable) -> bool:
    """Whether the ids of the filled table are, within some seconds."""
    until = time.monotonic() + 20
    while ids.maybe_held(FILLED.name, ["nobody-has-this"]):
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def test_an_empty_tables_ids_are_known_from_the_start(ids: IdsByTable) -> None:
    assert list(ids.maybe_held(EMPTY.name, ["aa", "bb"])) == []
    ids.add(EMPTY.name, ["aa"])
    assert list(ids.maybe_held(EMPTY.name, ["aa", "bb"])) == ["aa"]


def test_nothing_is_known_of_a_filled_table_until_a_look_was_in_vain(ids: IdsByTable) -> None:
    """Records that are sent again, and are all there, cost no reading of all ids."""
    asked = ["held-1", "new"]
    ids.committed(TABLES)
    assert list(ids.maybe_held(FILLED.name, asked)) == asked
    ids.looked_in_vain(FILLED.name, 20_000)
    assert list(ids.maybe_held(FILLED.name, asked)) == asked, "the commit is not made yet"
    ids.committed(TABLES)
    assert _is_known(ids)
    assert list(ids.maybe_held(FILLED.name, asked)) == ["held-1"]


def test_ids_that_come_while_the_others_are_read_are_held(ids: IdsByTable) -> None:
    ids.looked_in_vain(FILLED.name, 20_000)
    ids.committed(TABLES)
    ids.add(FILLED.name, ["new"])
    assert _is_known(ids)
    assert list(ids.maybe_held(FILLED.name, ["new", "other"])) == ["new"]


def test_a_table_that_is_gone_is_forgotten(
    ids: IdsByTable, connection: duckdb.DuckDBPyConnection
) -> None:
    ids.looked_in_vain(FILLED.name, 20_000)
    ids.committed(TABLES)
    assert _is_known(ids)
    connection.execute("DROP TABLE records_1")
    ids.committed([EMPTY.name])
    asked = ["held-1", "new"]
    assert list(ids.maybe_held(FILLED.name, asked)) == asked
