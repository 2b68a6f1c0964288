"""A copy is an equal store: the same records in the same order, and all that lasts beside them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backdrop.copying import Clashes, Outcome, copy_store, missing_entries
from backdrop.domain.bucket import Bucket
from backdrop.domain.entry import Entry
from backdrop.domain.query import Query
from backdrop.domain.table import Records
from backdrop.domain.token import Token, hash_token
from backdrop.errors import Conflict
from backdrop.storage.duckdb.engine import DuckDBStorage
from backdrop.storage.memory import MemoryStorage
from backdrop.storage.mongodb.engine import MongoDBStorage
from backdrop.storage.port import Storage
from tests.storage import mongodb as server
from tests.storage.contract import AWKWARD_NAMES, SCALARS, token
from tests.storage.exact import batch, exact, read, stored
from tests.strategies import LONG, batches

THINGS = Bucket(name="things")


def copied(source: Storage, destination: Storage, *, replacing: bool = False) -> dict[str, Outcome]:
    found = copy_store(source, destination, replacing=replacing, progress=lambda *_: None)
    return {outcome.name: outcome for outcome in found}


def everything(storage: Storage) -> Any:
    """All that a copy has to keep, each value with its type, as the port gives it."""
    return {
        "entries": exact([dataclasses.asdict(entry) for entry in storage.lasting_entries()]),
        **{
            bucket.name: [
                exact(bucket.as_json()),
                [exact(dataclasses.asdict(one)) for one in storage.tokens(bucket.name)],
                exact(stored(storage, bucket.name)),
                exact(read(storage, bucket.name, Query())),
                storage.state(bucket.name).records,
                storage.state(bucket.name).last_written,
            ]
            for bucket in storage.buckets()
        },
    }


@pytest.fixture
def stores(tmp_path: Path, mongodb: str) -> Iterator[tuple[Storage, Storage, Storage]]:
    """DuckDB, MongoDB and DuckDB again, empty."""
    url = server.database(mongodb)
    with ExitStack() as stack:
        stack.callback(server.drop, url)
        one = stack.enter_context(closing(DuckDBStorage(tmp_path / "one.duckdb")))
        two = stack.enter_context(closing(MongoDBStorage(url)))
        three = stack.enter_context(closing(DuckDBStorage(tmp_path / "three.duckdb")))
        yield one, two, three


def test_a_copy_and_the_copy_of_the_copy_are_equal_stores(
    stores: tuple[Storage, Storage, Storage],
) -> None:
    """Every type of value, odd names, several kinds in a field, replaced and deleted records."""
    first, second, third = stores
    now = datetime(2013, 5, 1, 12, 30, 15, 123456, tzinfo=UTC)
    secret = Token(
        id="id-a",
        bucket="things",
        hash=hash_token("aaaaaaaa"),
        scope="read",
        label="é😀",
        created_at=now,
        expires_at=now + timedelta(microseconds=1),
        last_used_at=now,
    )
    bucket = Bucket(
        name="things",
        description="é\0'",
        data_group="aa",
        data_type="bb",
        raw_queries_allowed=True,
        auto_ids=("aa", "_timestamp"),
        schema={"properties": {"aa": {"maximum": 1.0, "enum": [None, 1, True]}}},
        max_age_expected=7,
        timezone="Europe/London",
        csv_types="text",
    )
    first.put_bucket(bucket, first_token=secret)
    first.add_token(token("second"))
    rows = [{"_id": f"{n}", name: value} for n, (name, value) in enumerate(_pairs())]
    first.save("things", Records.of(rows))
    times = [now + timedelta(microseconds=n) for n in range(3)]
    timed = [{"_id": f"t{n}", "_timestamp": now, "_end_at": t} for n, t in enumerate(times)]
    first.save("things", Records.of(timed))
    first.save("things", batch({"_id": "3", "_timestamp": "0001-01-01", "aa": -0.0}))
    first.delete("things", "4")
    first.put_bucket(Bucket(name="empty"))
    first.put_entry(Entry("user", "a@b.example", b'{"admin":true}'))
    first.put_entry(Entry("session", "x", b"gone", datetime.now(UTC) + timedelta(days=1)))
    before = everything(first)
    for source, destination in ((first, second), (second, third)):
        outcomes = copied(source, destination)
        assert [one.difference for one in outcomes.values()] == [None, None]
        assert outcomes["things"].contents.records == len(rows) + len(timed) - 1
        assert everything(destination) == before
        assert missing_entries(source, destination) == []
        assert destination.entry("session", "x") is None
    assert everything(first) == before


def _pairs() -> Iterator[tuple[str, Any]]:
    """Fields and their values: all scalars under one name, and one under each odd name."""
    yield from (("aa", value) for value in SCALARS)
    yield from ((name, n) for n, name in enumerate(AWKWARD_NAMES))


_numbers = count()


@settings(max_examples=200 if LONG else 15)
@given(writes=st.lists(batches(), max_size=4))
def test_whatever_was_written_comes_out_equal(
    writes: list[Records], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """From the oracle into a file, and back."""
    source, back = MemoryStorage(), MemoryStorage()
    source.put_bucket(THINGS)
    for records in writes:
        source.save("things", records)
    path = tmp_path_factory.mktemp("copies") / f"{next(_numbers)}.duckdb"
    with closing(DuckDBStorage(path)) as file:
        assert copied(source, file)["things"].difference is None
        assert copied(file, back)["things"].difference is None
    assert everything(back) == everything(source)


def test_no_two_values_have_one_checksum() -> None:
    """Nor have null and absence, nor two orders of the same records."""
    records = [{"aa": value} for value in SCALARS]
    stores_of = [[{"_id": "x", **record}] for record in (*records, {})]
    stores_of += [[{"_id": "x"}, {"_id": "y"}], [{"_id": "y"}, {"_id": "x"}], []]
    checksums = set()
    for rows in stores_of:
        source = MemoryStorage()
        source.put_bucket(THINGS)
        source.save("things", Records.of(rows))
        checksums.add(copied(source, MemoryStorage())["things"].contents.checksum)
    assert len(checksums) == len(stores_of)


def filled(*rows: dict[str, Any]) -> MemoryStorage:
    storage = MemoryStorage(clock=lambda: datetime(2013, 1, 1, tzinfo=UTC))
    storage.put_bucket(THINGS, first_token=token("one"))
    storage.save("things", batch(*rows))
    return storage


def test_what_is_there_and_the_same_is_left() -> None:
    source, destination = filled({"_id": "x", "aa": 1}), MemoryStorage()
    copied(source, destination)
    destination.token_used(hash_token("one"), datetime.now(UTC))  # is no difference
    version = destination.state("things").version
    source.put_bucket(Bucket(name="more"))
    again = copied(source, destination)
    assert {name: one.was_there for name, one in again.items()} == {"things": True, "more": False}
    assert destination.state("things").version == version


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda store: store.put_bucket(Bucket(name="things", realtime=True)), "its settings"),
        (lambda store: store.drop_token("things", "id-one"), "its tokens"),
        (lambda store: store.delete("things", "x"), "2 and 1 records"),
        (lambda store: store.replace("things", batch({"_id": "x"}, {"_id": "z"})), "its records"),
        (lambda store: store.replace("things", batch({"_id": "y"}, {"_id": "x"})), "its records"),
        (lambda store: store.put_entry(Entry("user", "a@b.example", b"2")), "user 'a@b.example'"),
    ],
)
def test_what_is_there_and_not_the_same_stops_the_copy_before_it_begins(
    change: Any, words: str
) -> None:
    """Or is replaced, where that is asked for."""
    source = filled({"_id": "x"}, {"_id": "y"})
    source.put_entry(Entry("user", "a@b.example", b"1"))
    source.put_bucket(Bucket(name="another"))
    destination = filled({"_id": "x"}, {"_id": "y"})
    destination.put_entry(Entry("user", "c@d.example", b"stays"))
    change(destination)
    before = everything(destination)
    with pytest.raises(Clashes, match=words):
        copied(source, destination)
    assert everything(destination) == before
    assert {one.difference for one in copied(source, destination, replacing=True).values()} == {
        None
    }
    assert stored(destination) == [{"_id": "x"}, {"_id": "y"}]
    assert {entry.value for entry in destination.lasting_entries()} == {b"1", b"stays"}


def test_when_a_bucket_was_last_written_is_kept_and_compared() -> None:
    source, destination = filled({"_id": "x"}), MemoryStorage()
    copied(source, destination)
    assert destination.state("things").last_written == source.state("things").last_written
    destination.replace("things", batch({"_id": "x"}))
    with pytest.raises(Clashes, match="when it was last written"):
        copied(source, destination)


def test_buckets_of_other_names_stay_and_keep_what_is_theirs() -> None:
    source, destination = filled({"_id": "x"}), MemoryStorage()
    destination.put_bucket(Bucket(name="others"), first_token=token("one", "others"))
    with pytest.raises(Conflict):
        copied(source, destination)
    assert [bucket.name for bucket in destination.buckets()] == ["others"]


def test_a_source_that_is_written_meanwhile_is_told_from_its_copy() -> None:
    source, destination = MemoryStorage(), MemoryStorage()
    late = iter([batch({"_id": "late"})])

    def progress(*_: object) -> None:
        for records in late:
            source.save("more", records)

    for name in ("more", "things"):
        source.put_bucket(Bucket(name=name))
        source.save(name, batch({"_id": "x"}))
    [more, things] = copy_store(source, destination, replacing=False, progress=progress)
    assert more.difference == "when it was last written"
    assert things.difference is None
