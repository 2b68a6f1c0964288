"""Laws that answers keep, whatever the records: what is right without an oracle."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import count
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backdrop.domain.bucket import Bucket
from backdrop.domain.period import PERIOD_NAMES, Period
from backdrop.domain.query import Collect, Equals, Query
from backdrop.domain.table import Records
from backdrop.storage.duckdb.engine import DuckDBStorage
from backdrop.storage.mongodb.engine import MongoDBStorage
from backdrop.storage.port import Storage
from tests.storage import mongodb as server
from tests.storage.exact import answered
from tests.strategies import FIELDS, instants, one_filter, workloads, zones

WRITES = workloads(0).map(lambda workload: workload[0])
NUMBERS = count()


@pytest.fixture(scope="module", params=["duckdb", "mongodb"])
def storage(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Storage]:
    if request.param == "duckdb":
        storage: Storage = DuckDBStorage(tmp_path_factory.mktemp("laws") / "laws.duckdb")
        yield storage
        storage.close()
        return
    url = server.database(request.getfixturevalue("mongodb"))
    storage = MongoDBStorage(url)
    yield storage
    storage.close()
    server.drop(url)


def filled(storage: Storage, writes: list[Records]) -> Bucket:
    bucket = Bucket(name=f"laws-{next(NUMBERS)}")
    storage.put_bucket(bucket)
    for records in writes:
        storage.save(bucket.name, records)
    return bucket


def total(rows: list[dict[str, Any]]) -> int:
    return sum(row["_count"] for row in rows)


@given(writes=WRITES, field=st.sampled_from(FIELDS))
def test_groups_sum_to_the_records_that_have_the_field(
    storage: Storage, writes: list[Records], field: str
) -> None:
    """Each record is in one group, or lacks the field or holds null in it."""
    bucket = filled(storage, writes)
    records = answered(storage, bucket, Query())
    groups = answered(storage, bucket, Query(group_by=(field,)))
    assert total(groups) == sum(record.get(field) is not None for record in records)
    storage.drop_bucket(bucket.name)


@given(writes=WRITES, field=st.sampled_from(FIELDS), one=one_filter)
def test_filters_by_each_value_part_the_groups(
    storage: Storage, writes: list[Records], field: str, one: Any
) -> None:
    """What a filter by a group's key lets pass is that group; all of them are all the groups."""
    bucket = filled(storage, writes)
    base = Query(group_by=(field,), filters=(one,))
    groups = answered(storage, bucket, base)
    for group in groups:
        only = dataclasses.replace(base, filters=(one, Equals(field, (group[field],))))
        assert answered(storage, bucket, only) == [group]
    keys = tuple(group[field] for group in groups)
    if keys:
        every = dataclasses.replace(base, filters=(one, Equals(field, keys)))
        assert answered(storage, bucket, every) == groups
    storage.drop_bucket(bucket.name)


@given(writes=WRITES, zone=zones())
def test_short_periods_sum_to_long_ones(
    storage: Storage, writes: list[Records], zone: ZoneInfo
) -> None:
    """Hours sum to days, days to weeks and months, months to quarters and years."""
    bucket = filled(storage, writes)
    counts = {
        name: answered(storage, bucket, Query(period=Period(name, zone))) for name in PERIOD_NAMES
    }
    parts = (
        ("hour", "day"),
        ("day", "week"),
        ("day", "month"),
        ("month", "quarter"),
        ("month", "year"),
    )
    for short, long in parts:
        summed: dict[str, int] = {}
        for row in counts[short]:
            start = Period(long, zone).start(datetime.fromisoformat(row["_start_at"]))
            summed[start.isoformat()] = summed.get(start.isoformat(), 0) + row["_count"]
        assert summed == {row["_start_at"]: row["_count"] for row in counts[long]}, (short, long)
    storage.drop_bucket(bucket.name)


@given(writes=WRITES, middle=instants())
def test_two_halves_of_a_range_are_the_whole(
    storage: Storage, writes: list[Records], middle: datetime
) -> None:
    """Half-open ranges that meet hold each record once."""
    bucket = filled(storage, writes)
    whole = Query()
    early = dataclasses.replace(whole, end=middle)
    late = dataclasses.replace(whole, start=middle)
    both = answered(storage, bucket, early) + answered(storage, bucket, late)
    timed = [row for row in answered(storage, bucket, whole) if "_timestamp" in row]
    assert both == timed
    storage.drop_bucket(bucket.name)


@given(writes=WRITES, field=st.sampled_from(FIELDS), zone=zones())
def test_nested_and_flat_say_the_same(
    storage: Storage, writes: list[Records], field: str, zone: ZoneInfo
) -> None:
    """Flattened, an answer has the same cells as nested, and its counts are the groups'."""
    bucket = filled(storage, writes)
    other = "fee" if field != "fee" else "kind"
    query = Query(
        period=Period("month", zone), group_by=(field,), collect=(Collect(other, "count"),)
    )
    nested = answered(storage, bucket, query)
    flat = answered(storage, bucket, dataclasses.replace(query, flatten=True))
    cells = [{field: group[field], **row} for group in nested for row in group["values"]]
    assert sorted(map(repr, cells)) == sorted(map(repr, flat))
    for group in nested:
        assert group["_count"] == total(group["values"])
        assert group["_group_count"] == len(group["values"])
        assert group[f"{other}:count"] == sum(row[f"{other}:count"] for row in group["values"])
    storage.drop_bucket(bucket.name)


@given(
    writes=WRITES,
    day=st.dates(date(2009, 1, 1), date(2014, 1, 1)),
    zone=zones(),
)
def test_filled_periods_are_those_of_the_range(
    storage: Storage, writes: list[Records], day: date, zone: ZoneInfo
) -> None:
    """With a range each period stands there once, in order, each ending where the next begins."""
    bucket = filled(storage, writes)
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    query = Query(period=Period("day", zone), start=start, end=start + timedelta(days=40))
    rows = answered(storage, bucket, query)
    assert [row["_start_at"] for row in rows[1:]] == [row["_end_at"] for row in rows[:-1]]
    assert 39 <= len(rows) <= 41
    unfilled = answered(storage, bucket, dataclasses.replace(query, end=None))
    known = {row["_start_at"]: row["_count"] for row in unfilled}
    inner = [row for row in rows[:-1] if row["_count"]]
    assert {row["_start_at"]: row["_count"] for row in inner}.items() <= known.items()
    storage.drop_bucket(bucket.name)
