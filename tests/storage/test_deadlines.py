"""Queries of the engine that are ended: each at its time, and all of them at a stop."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import duckdb
import pytest

from backdrop.errors import QueryTooSlow, StorageUnavailable
from backdrop.storage.duckdb.deadlines import Deadlines

ENDLESS = "SELECT count(*) FROM range(1_000_000_000) a, range(1_000_000) b WHERE a.range % 7 = 3"


@pytest.fixture
def deadlines() -> Iterator[Deadlines]:
    made = Deadlines()
    yield made
    made.close()


def _ask(deadlines: Deadlines, seconds: float | None) -> None:
    with duckdb.connect() as cursor, deadlines.within(seconds, cursor):
        cursor.execute("SET threads = 1")
        cursor.execute(ENDLESS).fetchall()


def test_a_query_is_ended_at_its_time(deadlines: Deadlines) -> None:
    with pytest.raises(QueryTooSlow):
        _ask(deadlines, 0.2)


def test_all_queries_can_be_ended_at_once(deadlines: Deadlines) -> None:
    """Those without a bound too; and none begins from then on."""
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(_ask, deadlines, seconds) for seconds in (None, 60)]
        time.sleep(0.3)
        deadlines.end_all()
        for one in asked:
            with pytest.raises(StorageUnavailable, match="stopping"):
                one.result(timeout=30)
    with pytest.raises(StorageUnavailable, match="stopping"):
        _ask(deadlines, None)
