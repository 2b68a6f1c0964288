"""The contract of a store as one suite: each engine's tests subclass `StorageContract`.

An engine's class gives the fixture `storage` and, where what it keeps outlives it, `reopen`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain, permutations
from typing import Any

import pytest

from backdrop.domain.audit import Act, Action
from backdrop.domain.bucket import Bucket
from backdrop.domain.entry import MOST_ENTRY_BYTES, Entry
from backdrop.domain.once import AlreadyDone, Once
from backdrop.domain.period import FIRST_INSTANT, LAST_INSTANT, PERIOD_NAMES, Period
from backdrop.domain.query import (
    METHODS,
    Collect,
    Equals,
    Filter,
    Method,
    Query,
    Sort,
    StartsWith,
)
from backdrop.domain.table import Records
from backdrop.domain.times import parse_instant
from backdrop.domain.token import Token, hash_token
from backdrop.domain.values import INT64_MAX, INT64_MIN, Record, order_key, shown
from backdrop.errors import Conflict, InvalidQuery, InvalidRecords, InvalidSettings, NotFound
from backdrop.storage.memory import MemoryStorage
from backdrop.storage.port import (
    KNOWN_HASH,
    RECORDS_A_PAGE,
    Storage,
    address_taken,
    no_record,
    no_token,
    not_found,
)
from tests.eventually import eventually
from tests.storage.exact import MANY, batch, by_key, exact, ids, numbered, read, stored
from tests.strategies import TURNS, ZONES, zone

THINGS = Bucket(name="things")
NOW = datetime(2013, 5, 1, 12, 30, 15, 123456, tzinfo=UTC)


def token(name: str, bucket: str = "things", **fields: Any) -> Token:
    settings: dict[str, Any] = {"scope": "write", "label": "", "created_at": NOW, **fields}
    return Token(id=f"id-{name}", bucket=bucket, hash=hash_token(name), **settings)


def kept(key: str, *, lasts: timedelta = timedelta(hours=1)) -> Once:
    """What is kept of a write with that key: different things each time."""
    place = time.time_ns()
    return Once(key, f"print-{place}", place, datetime.now(UTC) + lasts)


WRITES: tuple[Callable[[Storage, Once], None], ...] = (
    lambda s, once: s.save("things", batch({"_id": f"new-{once.records}"}, new=True), once=once),
    lambda s, once: s.save("things", batch({"_id": "x", "aa": once.records}), once=once),
    lambda s, once: s.save("things", batch(), once=once),
    lambda s, once: s.replace(
        "things", batch({"_id": "x"}, {"_id": f"new-{once.records}"}), once=once
    ),
    lambda s, once: s.update("things", "x", lambda was: was | {"aa": once.records}, once=once),
)
"""Every way to write once, in a bucket with the record `x`; each leaves something else."""


def restore(
    storage: Storage,
    bucket: Bucket,
    *batches: Records,
    tokens: Sequence[Token] = (),
    then: Callable[[], object] = lambda: None,
) -> None:
    with storage.restoring(bucket, tokens=tokens, last_written=NOW) as put:
        for one in batches:
            put(one)
        then()


def in_threads(runs: Sequence[Callable[[], None]]) -> None:
    """Run all at once; raise what the first failing one raised."""
    failures: list[BaseException] = []
    barrier = threading.Barrier(len(runs))

    def run(one: Callable[[], None]) -> None:
        try:
            barrier.wait(30)
            one()
        except BaseException as error:  # noqa: BLE001  raised below, in the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=run, args=[one]) for one in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive(), "a thread hangs"
    if failures:
        raise failures[0]


SCALARS: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 5, 5.0, 0.0, -0.0, 0.1, 1 / 3, 1.0, 1e15, 1e16, 1e22, 1e300,
    -1e300, 5e-324, 2.0**53, 2**53 - 1, 2**53, 2**53 + 1, -(2**53) - 1, INT64_MAX, INT64_MIN,
    2.0**63, 1.7976931348623157e308, "", "0", "5", "5.0", "007", "true", "null", "None",
    "NaN", "Infinity", "a", "A", " a ", "\t\n\r", "\0", "a\0b", "\0a", "%", "_", "\\", "\\n", "'",
    "''", '"', "`", ";",
    "--", "$1", "?", "{}", "[1]", "2013-01-01", "2013-01-01T00:00:00+00:00", "é", "e\u0301", "ß",
    "İ", "\u202e", "\ufeff", "\ufffe", "\uffff", "\U00010000", "😀", "👩\u200d👩\u200d👧",
    "\U0010ffff", "x" * 1_000, "😀" * 5_000,
)  # fmt: skip
"""Scalars that engines are likely to confuse."""

AWKWARD_NAMES = (
    "id", "ID", "Id", "timestamp", "rowid", "oid", "ctid", "select", "SELECT", "order", "group",
    "from", "table", "null", "true", "count", "sum", "seq", "value", "values", "kind", "c1", "C1",
    "c2", "main", "records", "x" * 64, "X" * 64, "a1", "a_", "A__", "excluded", "filename",
)  # fmt: skip
"""Names of fields that mean something to engines."""


class StorageContract:
    """Every sentence of `storage/port.py`, and what 3, 5.2 and 5.3 of `api.md` ask of a store."""

    @pytest.fixture
    def storage(self) -> Iterator[Storage]:
        """An empty store."""
        raise NotImplementedError

    def reopen(self, storage: Storage) -> Storage:
        """The store as another process would find it later; itself where it keeps nothing."""
        return storage

    def and_reopened(self, storage: Storage) -> Iterator[Storage]:
        """The store as it is, then as it is found later."""
        yield storage
        yield self.reopen(storage)

    @pytest.fixture(autouse=True)
    def _things(self, storage: Storage) -> None:
        storage.put_bucket(THINGS)

    def groups(self, storage: Storage, query: Query, bucket: str = "things") -> dict[Any, Any]:
        return by_key(storage.groups(bucket, query, most_rows=MANY))

    # -- buckets ----------------------------------------------------------------------------

    def test_a_bucket_is_made_once_and_then_its_settings_are_replaced(
        self, storage: Storage
    ) -> None:
        assert storage.put_bucket(Bucket(name="others")) is True
        assert storage.put_bucket(Bucket(name="others", realtime=True)) is False
        assert storage.bucket("others") == Bucket(name="others", realtime=True)

    @pytest.mark.parametrize(
        "settings",
        [
            {},
            {"description": "é😀\0'\"", "published": False, "queryable": False},
            {"data_group": "aa", "data_type": "bb", "raw_queries_allowed": True, "realtime": True},
            {"read_token_required": True, "auto_ids": ("aa", "AA", "_timestamp")},
            {"max_age_expected": 2**53 - 1, "timezone": "Europe/London", "csv_types": "text"},
            {"schema": True},
            {"schema": False},
            {"schema": {}},
            {
                "schema": {
                    "properties": {"é": {"maximum": 1.0, "minimum": -(2**63), "enum": [None]}}
                }
            },
        ],
    )
    def test_every_setting_comes_back_as_it_was(
        self, storage: Storage, settings: dict[str, Any]
    ) -> None:
        bucket = Bucket(name="others", **settings)
        storage.put_bucket(bucket)
        for store in self.and_reopened(storage):
            assert store.bucket("others") == bucket
            assert exact(store.bucket("others").as_json()) == exact(bucket.as_json())
            assert isinstance(store.bucket("others").auto_ids, tuple)

    def test_buckets_are_listed_by_name(self, storage: Storage) -> None:
        for name in ("zz", "aa", "a-b", "a_b", "a9"):
            storage.put_bucket(Bucket(name=name))
        names = ["a-b", "a9", "a_b", "aa", "things", "zz"]
        for store in self.and_reopened(storage):
            assert [bucket.name for bucket in store.buckets()] == names

    def test_new_settings_leave_records_and_tokens(self, storage: Storage) -> None:
        storage.save("things", batch({"_id": "x", "aa": 1}))
        storage.add_token(token("one"))
        written = storage.state("things").last_written
        storage.put_bucket(dataclasses.replace(THINGS, description="new"))
        assert read(storage) == [{"_id": "x", "aa": 1}]
        assert storage.tokens("things") == [token("one")]
        assert storage.state("things").last_written == written

    def test_a_second_address_finds_its_bucket(self, storage: Storage) -> None:
        bucket = Bucket(name="others", data_group="aa", data_type="bb")
        storage.put_bucket(bucket)
        for store in self.and_reopened(storage):
            assert store.bucket_at("aa", "bb") == bucket
            for pair in (("bb", "aa"), ("aa", "b"), ("AA", "bb"), ("aa", ""), ("", "")):
                with pytest.raises(NotFound) as caught:
                    store.bucket_at(*pair)
                assert caught.value.message == not_found("/".join(pair))

    def test_an_address_is_one_buckets(self, storage: Storage) -> None:
        first = Bucket(name="first", data_group="aa", data_type="bb")
        storage.put_bucket(first)
        second = Bucket(name="second", data_group="aa", data_type="bb")
        for _ in range(2):  # of a new bucket, then of one that exists
            with pytest.raises(Conflict) as caught:
                storage.put_bucket(second)
            assert caught.value.message == address_taken(second, first)
            storage.put_bucket(Bucket(name="second", data_group="aa", data_type="cc"))
        assert storage.bucket("second").address == ("aa", "cc")
        assert storage.bucket_at("aa", "bb") == first

    def test_a_conflict_makes_no_bucket(self, storage: Storage) -> None:
        storage.put_bucket(Bucket(name="first", data_group="aa", data_type="bb"))
        taken = Bucket(name="second", data_group="aa", data_type="bb")
        with pytest.raises(Conflict):
            storage.put_bucket(taken, first_token=token("one", "second"))
        with pytest.raises(NotFound):
            storage.bucket("second")
        assert storage.token(hash_token("one")) is None

    def test_an_address_is_free_again_once_it_is_left(self, storage: Storage) -> None:
        storage.put_bucket(Bucket(name="first", data_group="aa", data_type="bb"))
        storage.put_bucket(Bucket(name="first", data_group="aa", data_type="bb", realtime=True))
        storage.put_bucket(Bucket(name="first"))
        second = Bucket(name="second", data_group="aa", data_type="bb")
        storage.put_bucket(second)
        assert storage.bucket_at("aa", "bb") == second
        storage.drop_bucket("second")
        storage.put_bucket(Bucket(name="first", data_group="aa", data_type="bb"))
        assert storage.bucket_at("aa", "bb").name == "first"

    def test_buckets_without_an_address_do_not_conflict(self, storage: Storage) -> None:
        for name in ("first", "second"):
            storage.put_bucket(Bucket(name=name))
        assert len(storage.buckets()) == 3

    def test_a_dropped_bucket_is_gone_with_all_that_was_in_it(self, storage: Storage) -> None:
        storage.save("things", batch({"_id": "x", "aa": 1, "AA": "text"}))
        storage.add_token(token("one"))
        storage.drop_bucket("things")
        for store in self.and_reopened(storage):
            storage = store
            assert store.buckets() == []
            assert store.token(hash_token("one")) is None
            with pytest.raises(NotFound):
                store.bucket("things")
        assert storage.put_bucket(THINGS, first_token=token("one")) is True
        assert read(storage) == []
        assert storage.state("things").records == 0
        assert storage.state("things").last_written is None
        assert storage.tokens("things") == [token("one")]
        storage.save("things", batch({"_id": "x", "aa": "text"}))
        assert read(storage) == [{"_id": "x", "aa": "text"}]

    def test_buckets_do_not_see_each_others_records(self, storage: Storage) -> None:
        storage.put_bucket(Bucket(name="others"))
        storage.save("things", batch({"_id": "x", "aa": 1}))
        storage.save("others", batch({"_id": "x", "aa": "text", "bb": None}))
        storage.delete("things", "x")
        assert read(storage) == []
        assert read(storage, "others") == [{"_id": "x", "aa": "text", "bb": None}]
        storage.drop_bucket("things")
        assert read(storage, "others") == [{"_id": "x", "aa": "text", "bb": None}]

    def test_changes_of_settings_do_not_lose_each_other(self, storage: Storage) -> None:
        """Two at once are one after the other."""
        storage.put_bucket(Bucket(name="changed", max_age_expected=1))

        def grow(bucket: Bucket) -> Bucket:
            return dataclasses.replace(bucket, max_age_expected=(bucket.max_age_expected or 0) + 1)

        with ThreadPoolExecutor(8) as pool:
            for done in [pool.submit(storage.change_bucket, "changed", grow) for _ in range(40)]:
                done.result()
        assert storage.bucket("changed").max_age_expected == 41

    def test_a_change_of_settings_makes_no_bucket(self, storage: Storage) -> None:
        """One that is gone stays gone; what the change raises is raised, and changes nothing."""
        with pytest.raises(NotFound):
            storage.change_bucket("nowhere", lambda bucket: bucket)
        storage.put_bucket(Bucket(name="changed"))

        def refuse(bucket: Bucket) -> Bucket:
            raise InvalidSettings(bucket.name, code="invalid_setting")

        with pytest.raises(InvalidSettings):
            storage.change_bucket("changed", refuse)
        assert storage.bucket("changed") == Bucket(name="changed")

    def test_a_bucket_may_have_so_many_fields_and_no_more(self, storage: Storage) -> None:
        """Over all writes; what is refused changes nothing, and a replacement begins anew."""
        storage.put_bucket(Bucket(name="wide"))

        def row(first: int, last: int) -> Records:
            return batch({"_id": f"{first}", **{f"field_{n}": n for n in range(first, last)}})

        storage.save("wide", row(0, 990))
        storage.save("wide", row(980, 1_000))
        for write in (
            lambda: storage.save("wide", row(1_000, 1_001)),
            lambda: storage.replace("wide", row(0, 1_001)),
            lambda: storage.update("wide", "0", lambda stored: {**stored, "more": 1}),
        ):
            with pytest.raises(InvalidRecords) as error:
                write()
            assert error.value.problems[0].code == "too_many_fields"
        assert [record["_id"] for record in read(storage, "wide")] == ["0", "980"]
        storage.replace("wide", row(5_000, 6_000))
        assert len(read(storage, "wide")) == 1

    def test_many_buckets(self, storage: Storage) -> None:
        names = [f"bucket-{n:03}" for n in range(100)]
        for n, name in enumerate(names):
            storage.put_bucket(Bucket(name=name), first_token=token(name, name))
            storage.save(name, batch({"_id": "x", "aa": n}, {"_id": "y", f"f{n}": str(n)}))
        storage = self.reopen(storage)
        for n, name in enumerate(names):
            assert read(storage, name) == [{"_id": "x", "aa": n}, {"_id": "y", f"f{n}": str(n)}]
            assert [one.bucket for one in storage.tokens(name)] == [name]
        for name in names[::2]:
            storage.drop_bucket(name)
        assert [bucket.name for bucket in storage.buckets()] == [*names[1::2], "things"]

    @pytest.mark.parametrize(
        "use",
        [
            lambda s: s.bucket("gone"),
            lambda s: s.drop_bucket("gone"),
            lambda s: s.state("gone"),
            lambda s: s.tokens("gone"),
            lambda s: s.add_token(token("one", "gone")),
            lambda s: s.drop_token("gone", "id-one"),
            lambda s: s.save("gone", batch({"_id": "x"})),
            lambda s: s.save("gone", batch()),
            lambda s: s.replace("gone", batch({"_id": "x"})),
            lambda s: s.replace("gone", batch()),
            lambda s: s.update("gone", "x", lambda record: record),
            lambda s: s.save("gone", batch({"_id": "x"}), once=kept("key")),
            lambda s: s.delete("gone", "x"),
            lambda s: s.done("gone", "key"),
            lambda s: read(s, "gone"),
            lambda s: s.groups("gone", Query(group_by=("aa",)), most_rows=MANY),
            lambda s: s.groups("gone", Query(period=Period("day")), most_rows=MANY),
        ],
    )
    def test_where_there_is_no_such_bucket_everything_is_not_found(
        self, storage: Storage, use: Callable[[Storage], Any]
    ) -> None:
        for _ in range(2):  # never made, then dropped
            with pytest.raises(NotFound) as caught:
                use(storage)
            assert caught.value.message == not_found("gone")
            assert [bucket.name for bucket in storage.buckets()] == ["things"]
            storage.put_bucket(Bucket(name="gone"), first_token=token("one", "gone"))
            storage.save("gone", batch({"_id": "x", "aa": 1}))
            storage.drop_bucket("gone")

    # -- versions ---------------------------------------------------------------------------

    def test_a_version_grows_with_every_write_and_every_change_of_settings(
        self, storage: Storage
    ) -> None:
        versions = [storage.state("things").version]
        writes: list[Callable[[], Any]] = [
            lambda: storage.save("things", batch({"_id": "x"})),
            lambda: storage.save("things", batch({"_id": "x"})),
            lambda: storage.save("things", batch({"_id": "n", "aa": 1}, new=True)),
            lambda: storage.update("things", "x", lambda record: record),
            lambda: storage.delete("things", "x"),
            lambda: storage.replace("things", batch({"_id": "y"})),
            lambda: storage.replace("things", batch()),
            lambda: storage.replace("things", batch()),
            lambda: storage.put_bucket(dataclasses.replace(THINGS, realtime=True)),
            lambda: storage.put_bucket(THINGS),
        ]
        for write in writes:
            write()
            versions.append(storage.state("things").version)
        assert versions == sorted(set(versions))

    def test_a_version_is_never_used_twice_in_a_store(self, storage: Storage) -> None:
        seen: list[int] = []
        for _ in range(3):
            for name in ("one", "two"):
                storage.put_bucket(Bucket(name=name))
                seen.append(storage.state(name).version)
                storage.save(name, batch({"_id": "x"}))
                seen.append(storage.state(name).version)
                storage.replace(name, batch({"_id": "y"}))
                seen.append(storage.state(name).version)
            storage.drop_bucket("one")
            storage = self.reopen(storage)
            storage.drop_bucket("two")
            storage = self.reopen(storage)
        assert len(set(seen)) == len(seen)

    def test_a_version_outlives_the_process(self, storage: Storage) -> None:
        for _ in range(3):
            storage.save("things", batch({"_id": "x"}))
            before = storage.state("things")
            storage = self.reopen(storage)
            assert storage.state("things") == before
            storage.save("things", batch({"_id": "x"}))
            assert storage.state("things").version > before.version

    def test_reading_changes_no_version(self, storage: Storage) -> None:
        storage.save("things", batch({"_id": "x", "aa": 1}))
        before = storage.state("things")
        read(storage)
        self.groups(storage, Query(group_by=("aa",)))
        storage.tokens("things")
        storage.check()
        assert storage.state("things") == before

    def test_what_fails_changes_nothing(self, storage: Storage) -> None:
        storage.put_bucket(
            Bucket(name="others", data_group="aa", data_type="bb"),
            first_token=token("one", "others"),
        )
        storage.save("things", batch({"_id": "x", "aa": 1}))
        before = storage.state("things"), storage.state("others"), read(storage)

        def fail(_: Record) -> Record:
            raise ZeroDivisionError

        failing: list[tuple[type[Exception], Callable[[], Any]]] = [
            (NotFound, lambda: storage.delete("things", "y")),
            (NotFound, lambda: storage.update("things", "y", lambda record: record)),
            (ZeroDivisionError, lambda: storage.update("things", "x", fail)),
            (Conflict, lambda: storage.add_token(token("one"))),
            (NotFound, lambda: storage.drop_token("things", "id-one")),
            (
                Conflict,
                lambda: storage.put_bucket(Bucket(name="things", data_group="aa", data_type="bb")),
            ),
            (
                Conflict,
                lambda: storage.put_bucket(Bucket(name="new-one"), first_token=token("one")),
            ),
        ]
        for error, use in failing:
            with pytest.raises(error):
                use()
            assert (storage.state("things"), storage.state("others"), read(storage)) == before
        assert [bucket.name for bucket in storage.buckets()] == ["others", "things"]
        assert storage.tokens("things") == []
        storage = self.reopen(storage)
        assert (storage.state("things"), storage.state("others"), read(storage)) == before

    def test_the_state_tells_the_number_of_records_and_the_last_write(
        self, storage: Storage
    ) -> None:
        state = storage.state("things")
        assert (state.records, state.last_written) == (0, None)
        expected = 0
        writes: list[tuple[int, Callable[[], Any]]] = [
            (3, lambda: storage.save("things", batch({"_id": "x"}, {"_id": "y"}, {"_id": "z"}))),
            (3, lambda: storage.save("things", batch({"_id": "y"}))),
            (4, lambda: storage.save("things", batch({"_id": "x"}, {"_id": "w"}))),
            (6, lambda: storage.save("things", batch({"_id": "n1"}, {"_id": "n2"}, new=True))),
            (6, lambda: storage.update("things", "x", lambda record: {**record, "aa": 1})),
            (5, lambda: storage.delete("things", "n1")),
            (2, lambda: storage.replace("things", batch({"_id": "x"}, {"_id": "q"}))),
            (0, lambda: storage.replace("things", batch())),
        ]
        for expected, write in writes:
            before = datetime.now(UTC)
            write()
            state = storage.state("things")
            assert state.records == expected == len(read(storage))
            assert state.last_written is not None
            assert state.last_written.utcoffset() == timedelta(0)
            slack = timedelta(milliseconds=5)
            assert before - slack <= state.last_written <= datetime.now(UTC) + slack
        assert self.reopen(storage).state("things") == state

    # -- tokens -----------------------------------------------------------------------------

    def test_a_token_comes_back_as_it_was(self, storage: Storage) -> None:
        kept = [
            token("one"),
            token("two", scope="read", label="é😀'\0", created_at=NOW + timedelta(seconds=1)),
            token(
                "three",
                created_at=NOW + timedelta(microseconds=1),
                expires_at=NOW + timedelta(days=1),
                last_used_at=NOW + timedelta(hours=1),
            ),
        ]
        for one in kept:
            storage.add_token(one)
        for store in self.and_reopened(storage):
            assert store.tokens("things") == [kept[0], kept[2], kept[1]], "the oldest first"
            for one in kept:
                assert store.token(one.hash) == one
            assert store.token(hash_token("four")) is None
            assert store.token("") is None

    def test_a_first_token_is_kept_where_the_bucket_is_made(self, storage: Storage) -> None:
        first = token("one", "others")
        assert storage.put_bucket(Bucket(name="others"), first_token=first) is True
        assert storage.tokens("others") == [first]
        assert storage.token(first.hash) == first

    def test_a_first_token_is_not_kept_where_the_bucket_is_there(self, storage: Storage) -> None:
        assert storage.put_bucket(THINGS, first_token=token("one")) is False
        assert storage.tokens("things") == []
        assert storage.token(hash_token("one")) is None

    def test_a_hash_is_one_tokens_over_all_buckets(self, storage: Storage) -> None:
        storage.put_bucket(Bucket(name="others"), first_token=token("one", "others"))
        again = dataclasses.replace(token("one"), id="another-id")
        with pytest.raises(Conflict) as caught:
            storage.add_token(again)
        assert caught.value.message == KNOWN_HASH
        with pytest.raises(Conflict):
            storage.put_bucket(
                Bucket(name="third"), first_token=dataclasses.replace(again, bucket="third")
            )
        assert storage.token(again.hash) == token("one", "others")
        storage.drop_token("others", "id-one")
        storage.add_token(again)
        assert storage.token(again.hash) == again

    def test_a_known_hash_for_a_bucket_that_is_not_there_is_not_found(
        self, storage: Storage
    ) -> None:
        storage.add_token(token("one"))
        with pytest.raises(NotFound):
            storage.add_token(token("one", "gone"))

    def test_a_dropped_token_is_gone(self, storage: Storage) -> None:
        storage.put_bucket(Bucket(name="others"))
        storage.add_token(token("one"))
        storage.add_token(token("two", "others"))
        for name in ("id-two", "id-three", ""):
            with pytest.raises(NotFound) as caught:
                storage.drop_token("things", name)
            assert caught.value.message == no_token("things", name)
        storage.drop_token("things", "id-one")
        for store in self.and_reopened(storage):
            storage = store
            assert store.tokens("things") == []
            assert store.token(hash_token("one")) is None
            assert store.tokens("others") == [token("two", "others")]
        with pytest.raises(NotFound):
            storage.drop_token("things", "id-one")

    def test_the_last_use_of_a_token_is_noted_soon(self, storage: Storage) -> None:
        storage.add_token(token("one"))
        storage.add_token(token("two"))
        storage.token_used(hash_token("one"), NOW + timedelta(seconds=5))
        storage.token_used(hash_token("nobody"), NOW)
        used = token("one", last_used_at=NOW + timedelta(seconds=5))
        eventually(lambda: storage.token(hash_token("one")) == used, seconds=10)
        assert storage.tokens("things") == [used, token("two")]
        storage.token_used(hash_token("two"), NOW + timedelta(seconds=6))
        storage = self.reopen(storage)  # closing finishes what was accepted
        late = token("two", last_used_at=NOW + timedelta(seconds=6))
        assert storage.tokens("things") == [used, late]

    # -- values -----------------------------------------------------------------------------

    def test_every_scalar_comes_back_as_it_went_in(self, storage: Storage) -> None:
        """`5` is not `5.0`, `"007"` not `7`, null not absence; one field holds all of them."""
        rows: list[dict[str, Any]] = [*numbered(SCALARS), {"_id": "absent"}]
        storage.save("things", batch(*rows))
        for store in self.and_reopened(storage):
            assert [exact(row) for row in read(store)] == [exact(row) for row in rows]

    def test_a_scalar_alone_in_its_field_comes_back_too(self, storage: Storage) -> None:
        for alone in SCALARS:
            storage.replace("things", batch({"_id": "x", "aa": alone}))
            assert [exact(row) for row in read(storage)] == [exact({"_id": "x", "aa": alone})]
        wide: Record = {"_id": "x"} | {f"f{n}": alone for n, alone in enumerate(SCALARS)}
        storage.save("things", batch(wide))
        assert [exact(row) for row in read(storage)] == [exact(wide)]

    def test_a_type_may_come_to_a_field_later(self, storage: Storage) -> None:
        rows: list[dict[str, Any]] = list(numbered([1, "text", None, 2.5, True, 3, "", False, 0]))
        for row in rows:
            storage.save("things", batch(row))
        assert [exact(row) for row in read(storage)] == [exact(row) for row in rows]

    def test_null_is_not_absence(self, storage: Storage) -> None:
        rows: list[Record] = [
            {"_id": "1", "aa": None},
            {"_id": "2"},
            {"_id": "3", "aa": None, "bb": None},
            {"_id": "4", "aa": 1},
        ]
        storage.save("things", batch(*rows))
        assert read(storage) == rows
        storage.save("things", batch({"_id": "4"}, {"_id": "2", "aa": None}))
        assert read(storage)[2:] == [{"_id": "4"}, {"_id": "2", "aa": None}]

    def test_names_that_differ_in_case_are_different_fields(self, storage: Storage) -> None:
        rows: list[Record] = [
            {"_id": "1", "fee": 1, "Fee": "two", "FEE": None, "fEE": 4.5},
            {"_id": "2", "Fee": 1},
            {"_id": "3", "fee": 2},
        ]
        for row in rows:
            storage.save("things", batch(row))
        assert read(storage) == rows
        assert ids(storage, Query(filters=(Equals("fee", (1,)),))) == ["1"]
        assert ids(storage, Query(filters=(Equals("Fee", (1,)),))) == ["2"]
        assert ids(storage, Query(sort=Sort("Fee"))) == ["2", "1", "3"]
        assert self.groups(storage, Query(group_by=("fee",))).keys() == {
            (None, ("int", 1)),
            (None, ("int", 2)),
        }

    def test_names_that_mean_something_to_engines_are_just_names(self, storage: Storage) -> None:
        row: Record = {"_id": "x"} | {name: n for n, name in enumerate(AWKWARD_NAMES)}
        storage.save("things", batch(row))
        assert read(storage) == [row]
        for n, name in enumerate(AWKWARD_NAMES):
            query = Query(
                group_by=(name,),
                collect=(Collect("aa", "sum"),),
                filters=(Equals(name, (n,)),),
            )
            assert self.groups(storage, query).keys() == {(None, ("int", n))}
            assert ids(storage, Query(sort=Sort(name, descending=True))) == ["x"]

    def test_a_thousand_fields(self, storage: Storage) -> None:
        kinds: list[Callable[[int], Any]] = [int, float, str, lambda n: n % 2 == 0, lambda _: None]
        wide: Record = {"_id": "wide"} | {f"f{n}": kinds[n % 5](n) for n in range(1_000)}
        storage.save("things", batch(wide, {"_id": "narrow", "f0": 5}))
        for store in self.and_reopened(storage):
            storage = store
            assert [exact(row) for row in read(store)] == [
                exact(wide),
                exact({"_id": "narrow", "f0": 5}),
            ]
        storage.update("things", "narrow", lambda record: {**record, "f999": "late"})
        assert read(storage)[1] == {"_id": "narrow", "f0": 5, "f999": "late"}
        found = self.groups(storage, Query(group_by=("f997",), collect=(Collect("f0", "sum"),)))
        assert found == {(None, ("str", "997")): {"_count": 1, ("f0", "sum"): ("int", 0)}}

    def test_very_long_strings(self, storage: Storage) -> None:
        long = "é" * 3_000_000 + "\0end"
        storage.save("things", batch({"_id": "x" * 512, "aa": long}))
        storage = self.reopen(storage)
        (row,) = read(storage)
        assert row["_id"] == "x" * 512
        assert row["aa"] == long
        assert ids(storage, Query(filters=(Equals("aa", (long,)),))) == ["x" * 512]

    def test_time_fields_are_instants_to_the_microsecond(self, storage: Storage) -> None:
        times = [
            FIRST_INSTANT,
            parse_instant("0001-12-31T23:59:59.999999"),
            parse_instant("1582-10-10"),
            parse_instant("1899-12-31T23:59:59.5"),
            parse_instant("1969-12-31T23:59:59.999999"),
            parse_instant("1970-01-01"),
            parse_instant("1970-01-01T00:00:00.000001"),
            parse_instant("2012-06-30T23:59:59.999999"),
            parse_instant("2013-01-01"),
            parse_instant("2262-04-12"),
            LAST_INSTANT,
        ]
        rows: list[Record] = [
            {"_id": str(n), "_timestamp": one, "_start_at": one, "_end_at": times[-1 - n]}
            for n, one in enumerate(times)
        ]
        storage.save("things", batch(*rows))
        for store in self.and_reopened(storage):
            found = read(store)
            assert [exact(row) for row in found] == [exact(row) for row in rows]
            assert all(
                row[name].utcoffset() == timedelta(0)  # type: ignore[union-attr]
                for row in found
                for name in ("_timestamp", "_start_at", "_end_at")
            )

    @pytest.mark.parametrize(
        "record_id",
        [
            "x",
            "X",
            "x" * 512,
            "😀" * 512,
            "\0",
            "a\0b",
            "'",
            '"',
            "%",
            "\\",
            "a/b",
            "é",
            "e\u0301",
            "\uffff",
        ],
    )
    def test_an_id_is_any_text(self, storage: Storage, record_id: str) -> None:
        others = batch({"_id": "other"}, {"_id": record_id + "-"}, {"_id": "a"})
        storage.save("things", others)
        storage.save("things", batch({"_id": record_id, "aa": 1}))
        storage.save("things", batch({"_id": record_id, "aa": 2}))
        storage.update("things", record_id, lambda record: {**record, "bb": 3})
        found = Query(filters=(Equals("_id", (record_id,)),))
        assert read(storage, query=found) == [{"_id": record_id, "aa": 2, "bb": 3}]
        assert storage.state("things").records == 4
        storage.delete("things", record_id)
        assert read(storage, query=found) == []
        assert storage.state("things").records == 3

    # -- saving and replacing ---------------------------------------------------------------

    def test_without_times_records_stand_in_the_order_they_were_stored(
        self, storage: Storage
    ) -> None:
        storage.save("things", batch({"_id": "c"}, {"_id": "a"}))
        storage.save("things", batch({"_id": "b"}))
        storage.save("things", batch({"_id": "0"}, {"_id": "zz"}, new=True))
        for store in self.and_reopened(storage):
            assert ids(store) == ["c", "a", "b", "0", "zz"]

    def test_a_record_of_a_known_id_replaces_the_whole_one_and_counts_as_stored_now(
        self, storage: Storage
    ) -> None:
        storage.save("things", batch({"_id": "x", "aa": 1, "bb": 2}, {"_id": "y"}, {"_id": "z"}))
        storage.save("things", batch({"_id": "x", "cc": "new"}))
        expected = [{"_id": "y"}, {"_id": "z"}, {"_id": "x", "cc": "new"}]
        for store in self.and_reopened(storage):
            storage = store
            assert read(store) == expected
        storage.save("things", batch({"_id": "new"}, {"_id": "z", "aa": 1}, {"_id": "y", "aa": 2}))
        assert ids(storage) == ["x", "new", "z", "y"]
        assert storage.state("things").records == 4

    def test_a_record_of_an_id_made_here_is_replaced_like_any_other(self, storage: Storage) -> None:
        storage.save("things", batch({"_id": "n1", "aa": 1}, {"_id": "n2", "aa": 1}, new=True))
        storage.save("things", batch({"_id": "n1", "aa": 2}))
        storage = self.reopen(storage)
        storage.save("things", batch({"_id": "n2", "aa": 3}, {"_id": "n3"}))
        assert read(storage) == [{"_id": "n1", "aa": 2}, {"_id": "n2", "aa": 3}, {"_id": "n3"}]

    def test_after_reopening_every_known_id_is_known(self, storage: Storage) -> None:
        names = [f"id-{n}" for n in range(3_000)]
        storage.save("things", batch(*({"_id": name, "aa": 1} for name in names)))
        for turn in range(2, 4):
            storage = self.reopen(storage)
            storage.save("things", batch(*({"_id": name, "aa": turn} for name in names[::7])))
            storage.save("things", batch(*({"_id": name, "aa": turn} for name in names[1::7])))
        found = read(storage)
        assert len({row["_id"] for row in found}) == len(found) == 3_000
        assert Counter(row["aa"] for row in found) == {
            1: 3_000 - len(names[::7]) - len(names[1::7]),
            3: len(names[::7]) + len(names[1::7]),
        }

    def test_ids_that_differ_in_case_or_form_are_different(self, storage: Storage) -> None:
        names = ["a", "A", "é", "e\u0301", "ss", "ß", "1", "01", "1.0", "a\0", "\0a"]
        storage.save("things", batch(*({"_id": name} for name in names)))
        storage.save("things", batch(*({"_id": name, "aa": 1} for name in names)))
        assert ids(storage) == names

    def test_saving_nothing_stores_nothing(self, storage: Storage) -> None:
        storage.save("things", batch({"_id": "x"}))
        storage.save("things", batch())
        storage.save("things", batch(new=True))
        assert ids(storage) == ["x"]

    def test_a_large_batch(self, storage: Storage) -> None:
        size = 25_000
        rows = [{"_id": f"{n}", "aa": n, "bb": f"text {n % 7}"} for n in range(size)]
        storage.save("things", batch(*rows))
        assert read(storage) == rows
        again = [{"_id": f"{n}", "aa": -n} for n in range(0, 2 * size, 2)]
        storage.save("things", batch(*again))
        assert read(storage) == [*rows[1::2], *again]
        assert storage.state("things").records == size + size // 2

    def test_many_small_batches(self, storage: Storage) -> None:
        for n in range(150):
            storage.save("things", batch({"_id": str(n % 100), "aa": n, f"f{n % 10}": n}))
        assert [row["aa"] for row in read(storage)] == list(range(50, 150))

    def test_what_is_given_and_what_is_handed_out_is_not_shared(self, storage: Storage) -> None:
        row: Record = {"_id": "x", "aa": 1}
        storage.save("things", Records.of([row]))
        row["aa"] = 2
        read(storage)[0]["aa"] = 3

        def change(stored: Record) -> Record:
            stored["aa"] = 4
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            storage.update("things", "x", change)
        assert read(storage) == [{"_id": "x", "aa": 1}]

    def test_replace_makes_the_records_all_there_is(self, storage: Storage) -> None:
        storage.save("things", batch({"_id": "x", "aa": 1}, {"_id": "y", "bb": "text"}))
        storage.replace("things", batch({"_id": "z"}, {"_id": "x", "aa": "text"}))
        for store in self.and_reopened(storage):
            storage = store
            assert read(store) == [{"_id": "z"}, {"_id": "x", "aa": "text"}]
        with pytest.raises(NotFound):
            storage.delete("things", "y")
        storage.save("things", batch({"_id": "y", "bb": 1}, {"_id": "x", "aa": 2}))
        assert read(storage) == [{"_id": "z"}, {"_id": "y", "bb": 1}, {"_id": "x", "aa": 2}]
        assert storage.state("things").records == 3

    def test_replace_by_nothing_empties(self, storage: Storage) -> None:
        storage.replace("things", batch())
        assert read(storage) == []
        storage.save("things", batch({"_id": "x", "aa": 1}))
        storage.replace("things", batch())
        for store in self.and_reopened(storage):
            storage = store
            assert read(store) == []
            assert self.groups(store, Query(group_by=("aa",))) == {}
        storage.save("things", batch({"_id": "x", "aa": "again"}))
        assert read(storage) == [{"_id": "x", "aa": "again"}]

    # -- one record -------------------------------------------------------------------------

    def test_an_update_gets_the_record_and_stores_what_is_made_of_it(
        self, storage: Storage
    ) -> None:
        first = batch(
            {"_id": "x", "_timestamp": "2013-01-01", "aa": None, "bb": 5.0, "Bb": "5"},
            {"_id": "y", "_timestamp": "2013-01-01"},
        )
        storage.save("things", first)
        seen: list[Record] = []

        def change(stored: Record) -> Record:
            seen.append(dict(stored))
            return {"_id": "x", "_timestamp": stored["_timestamp"], "cc": True}

        storage.update("things", "x", change)
        assert exact(seen[-1]) == exact(first.rows[0])
        for store in self.and_reopened(storage):
            assert read(store) == [
                first.rows[1],
                {"_id": "x", "_timestamp": parse_instant("2013-01-01"), "cc": True},
            ], "it counts as stored now"

    def test_an_update_of_no_record_is_not_found(self, storage: Storage) -> None:
        storage.save("things", batch({"_id": "x"}))
        for name in ("y", "X", "", "x "):
            with pytest.raises(NotFound) as caught:
                storage.update("things", name, lambda record: record)
            assert caught.value.message == no_record("things", name)

    def test_what_a_change_raises_is_raised(self, storage: Storage) -> None:
        storage.save("things", batch({"_id": "x", "aa": 1}))
        problem = InvalidQuery("of our own")

        def fail(_: Record) -> Record:
            raise problem

        with pytest.raises(InvalidQuery) as caught:
            storage.update("things", "x", fail)
        assert caught.value is problem
        storage.update("things", "x", lambda record: {**record, "aa": 2})
        assert read(storage) == [{"_id": "x", "aa": 2}]

    def test_a_deleted_record_is_gone(self, storage: Storage) -> None:
        storage.save("things", batch({"_id": "x"}, {"_id": "y", "aa": 1}, {"_id": "z"}))
        storage.delete("things", "y")
        for store in self.and_reopened(storage):
            storage = store
            assert ids(store) == ["x", "z"]
        for name in ("y", "X", ""):
            with pytest.raises(NotFound) as caught:
                storage.delete("things", name)
            assert caught.value.message == no_record("things", name)
        storage.save("things", batch({"_id": "y", "aa": 2}))
        assert read(storage) == [{"_id": "x"}, {"_id": "z"}, {"_id": "y", "aa": 2}]

    # -- whole buckets ----------------------------------------------------------------------

    def test_stored_gives_all_records_as_they_were_stored(self, storage: Storage) -> None:
        """Whatever their times; a record that was replaced or changed counts as stored then."""
        times = ("2013-01-02", "2013-01-01", None, "2013-01-03", "2013-01-01")
        rows = [
            {"_id": str(n)} | ({"_timestamp": time} if time else {}) for n, time in enumerate(times)
        ]
        storage.save("things", batch(*rows))
        storage.save("things", batch({"_id": "1", "aa": 1}, {"_id": "5"}))
        storage.update("things", "0", lambda record: {**record, "aa": None})
        storage.delete("things", "3")
        for store in self.and_reopened(storage):
            storage = store
            found = stored(store)
            assert [row["_id"] for row in found] == ["2", "4", "1", "5", "0"]
            assert exact(found[-1]) == exact(
                {"_id": "0", "_timestamp": parse_instant(times[0] or ""), "aa": None}
            )
        storage.replace("things", batch({"_id": "z"}, {"_id": "a", "_timestamp": "2013-01-01"}))
        assert [row["_id"] for row in stored(storage)] == ["z", "a"]

    @pytest.mark.parametrize("size", [0, 1, RECORDS_A_PAGE, 130_000])
    def test_stored_gives_many_records_in_pages(self, storage: Storage, size: int) -> None:
        """More than one thread of an engine would read, too."""
        start = parse_instant("2013-01-01")
        rows: list[Record] = [
            {"_id": str(n), "_timestamp": start - timedelta(seconds=n), "aa": n}
            for n in range(size)
        ]
        storage.replace("things", Records.of(rows))
        with storage.stored("things") as pages:
            found = list(pages)
        assert list(chain.from_iterable(found)) == rows
        assert max(map(len, found), default=0) <= 2 * RECORDS_A_PAGE

    def test_stored_reads_one_moment_of_a_bucket_that_is_there(self, storage: Storage) -> None:
        with pytest.raises(NotFound), storage.stored("nowhere"):
            pass
        storage.save("things", Records.of([{"_id": str(n)} for n in range(3 * RECORDS_A_PAGE)]))
        with storage.stored("things") as pages:
            first = next(pages)
            storage.drop_bucket("things")
            assert len(first) + sum(map(len, pages)) == 3 * RECORDS_A_PAGE

    def test_a_restored_bucket_is_as_it_was(self, storage: Storage) -> None:
        """Records of every kind, in their order; settings, tokens, and when it was written."""
        bucket = Bucket(
            name="others",
            data_group="aa",
            data_type="bb",
            auto_ids=("aa",),
            schema={"maximum": 1.0},
        )
        tokens = [
            token("one", "others", label="é", expires_at=NOW, last_used_at=NOW),
            token("two", "others", scope="read", created_at=NOW + timedelta(microseconds=1)),
        ]
        batches = [
            list(map(dict, numbered(SCALARS))),
            [{"_id": "time", "_timestamp": FIRST_INSTANT, "_end_at": LAST_INSTANT, "aa": -0.0}],
            [],
            [{"_id": "first", **{name: n for n, name in enumerate(AWKWARD_NAMES)}}],
        ]
        before = storage.state("things").version
        with storage.restoring(bucket, tokens=tokens, last_written=NOW) as put:
            for rows in batches:
                put(Records.of(rows))
            assert [one.name for one in storage.buckets()] == ["things"]
            assert storage.token(hash_token("one")) is None
        for store in self.and_reopened(storage):
            storage = store
            assert store.bucket_at("aa", "bb") == bucket
            assert store.tokens("others") == tokens
            assert store.token(hash_token("one")) == tokens[0]
            state = store.state("others")
            count = sum(map(len, batches))
            assert (state.records, state.last_written) == (count, NOW)
            assert state.version > before
            assert exact(stored(store, "others")) == exact(list(chain.from_iterable(batches)))
        storage.save("others", batch({"_id": "first", "aa": 7}, {"_id": "new"}))
        assert [row["_id"] for row in stored(storage, "others")][-2:] == ["first", "new"]
        assert storage.state("others").records == count + 1
        storage.drop_bucket("others")
        assert storage.token(hash_token("one")) is None

    def test_an_empty_bucket_that_was_never_written_can_be_restored(self, storage: Storage) -> None:
        with storage.restoring(Bucket(name="others"), tokens=[], last_written=None):
            pass
        for store in self.and_reopened(storage):
            state = store.state("others")
            assert (state.records, state.last_written, store.tokens("others")) == (0, None, [])

    def test_a_restored_bucket_takes_the_place_of_the_one_there_was(self, storage: Storage) -> None:
        """In one step, its address and tokens too."""
        there = Bucket(name="others", data_group="aa", data_type="bb")
        kept, gone = token("kept", "others"), token("gone", "others")
        storage.put_bucket(there, first_token=kept)
        storage.add_token(gone)
        storage.save("others", batch({"_id": "old", "aa": 1}))
        version = storage.state("others").version
        again = dataclasses.replace(there, description="again")
        with storage.restoring(again, tokens=[kept], last_written=NOW) as put:
            put(batch({"_id": "new", "bb": 2}))
            assert stored(storage, "others") == [{"_id": "old", "aa": 1}]
            storage.save("others", batch({"_id": "late"}))
        for store in self.and_reopened(storage):
            storage = store
            assert stored(store, "others") == [{"_id": "new", "bb": 2}]
            assert store.bucket_at("aa", "bb") == again
            assert store.tokens("others") == [kept]
            assert store.token(gone.hash) is None
            assert store.state("others").version > version

    def test_a_restored_bucket_has_a_version_above_all_of_its_name(self, storage: Storage) -> None:
        """Also where one was dropped and made while it was restored."""
        versions: list[int] = []

        def make_anew() -> None:
            storage.drop_bucket("things")
            storage.put_bucket(THINGS)
            versions.append(storage.state("things").version)

        restore(storage, THINGS, batch({"_id": "x"}), then=make_anew)
        assert storage.state("things").version > versions[0]
        assert ids(storage) == ["x"]

    def test_a_restoring_that_fails_changes_nothing(self, storage: Storage) -> None:
        storage.save("things", batch({"_id": "old"}))
        state = storage.state("things")
        for name in ("things", "others"):
            bucket = Bucket(name=name, description="new")
            with pytest.raises(ZeroDivisionError):
                restore(
                    storage,
                    bucket,
                    batch({"_id": "new", "aa": 1}),
                    tokens=[token("one", name)],
                    then=lambda: 1 // 0,
                )
        names = {f"f{n}": n for n in range(600)}
        more = {f"g{n}": n for n in range(600)}
        batches = batch({"_id": "a", **names}), batch({"_id": "b", **more})
        with pytest.raises(InvalidRecords, match="1,200 fields"):
            restore(storage, Bucket(name="others"), *batches)
        for store in self.and_reopened(storage):
            assert store.buckets() == [THINGS]
            assert store.state("things") == state
            assert stored(store) == [{"_id": "old"}]
            assert store.token(hash_token("one")) is None

    def test_what_another_bucket_has_is_not_taken_by_restoring(self, storage: Storage) -> None:
        """Its address or a token's hash; also where it came to it only meanwhile."""
        other = Bucket(name="others", data_group="aa", data_type="bb")
        theirs = token("theirs", "others")
        wanted = [
            (Bucket(name="more", data_group="aa", data_type="bb"), [], address_taken),
            (Bucket(name="more"), [token("theirs", "more")], lambda *_: KNOWN_HASH),
        ]
        for bucket, tokens, message in wanted:
            rows = batch({"_id": "new"})
            with pytest.raises(Conflict) as caught:
                restore(
                    storage,
                    bucket,
                    rows,
                    tokens=tokens,
                    then=lambda: storage.put_bucket(other, first_token=theirs),
                )
            assert caught.value.message == message(bucket, other)
            with pytest.raises(Conflict):
                restore(storage, bucket, tokens=tokens, then=lambda: 1 // 0)  # it is not come to
            assert storage.buckets() == [other, THINGS]
            assert storage.tokens("others") == [theirs]
            storage.drop_bucket("others")

    # -- reading records --------------------------------------------------------------------

    def test_without_a_sort_records_are_by_time_and_those_without_last(
        self, storage: Storage
    ) -> None:
        storage.save(
            "things",
            batch(
                {"_id": "none 1"},
                {"_id": "late", "_timestamp": "2013-01-02"},
                {"_id": "early", "_timestamp": "2013-01-01"},
                {"_id": "none 2"},
                {"_id": "tie 1", "_timestamp": "2013-01-01T12:00"},
                {"_id": "old", "_timestamp": "1913-01-01"},
                {"_id": "tie 2", "_timestamp": "2013-01-01T14:00+02:00"},
            ),
        )
        expected = ["old", "early", "tie 1", "tie 2", "late", "none 1", "none 2"]
        assert ids(storage) == expected
        storage.save("things", batch({"_id": "tie 1", "_timestamp": "2013-01-01T12:00"}))
        expected = ["old", "early", "tie 2", "tie 1", "late", "none 1", "none 2"]
        for store in self.and_reopened(storage):
            assert ids(store) == expected

    @pytest.mark.parametrize("descending", [False, True])
    def test_a_sort_is_by_the_order_of_values_with_ties_as_stored_and_nulls_last(
        self, storage: Storage, descending: bool
    ) -> None:
        column = [
            *("b", 2, None, True, 1.5, "a", False, 2.0, "B", -1, "", "é", 2, "absent", True, None),
            *(INT64_MAX, 2.0**63, 2**53 + 1, 2.0**53, 2**53, -(2**53) - 1, -(2.0**53), INT64_MIN),
            *(
                "😀",
                "\uffff",
                "a\0",
                "a",
                "aa",
                "\0",
                0,
                -0.0,
                0.0,
                1e300,
                -1e300,
                5e-324,
                "10",
                "9",
            ),
            *(2.0**53 + 2, 2**53 + 2, 2**53 + 3, float(INT64_MAX), INT64_MAX - 1, -(2.0**63)),
        ]
        rows: list[dict[str, Any]] = list(numbered(column))
        rows[13] = {"_id": "13"}
        storage.save("things", batch(*rows))
        known = [row for row in rows if row.get("aa") is not None]
        known.sort(key=lambda row: order_key(row["aa"]), reverse=descending)
        expected = [*known, *(row for row in rows if row.get("aa") is None)]
        for store in self.and_reopened(storage):
            storage = store
            assert read(store, query=Query(sort=Sort("aa", descending))) == expected
        for limit in (1, 7, len(rows) - 1, len(rows), len(rows) + 5):
            query = Query(sort=Sort("aa", descending), limit=limit)
            assert read(storage, query=query) == expected[:limit]

    @pytest.mark.parametrize("descending", [False, True])
    @pytest.mark.parametrize(
        "column",
        [
            (3, 1, 2, 1),
            (0.5, -0.5, 0.25, 0.5),
            ("b", "a", "C", "a"),
            (True, False, True, False),
            (None, None, None),
            (2, 1.5, 1, 1.0),
            ("2", 1, "1", 2),
            (True, 1, 1.0, "1", "true", False, 0),
        ],
    )
    def test_a_sort_of_a_field_of_few_types(
        self, storage: Storage, column: Sequence[Any], descending: bool
    ) -> None:
        rows: list[dict[str, Any]] = [*numbered(column), {"_id": "absent"}]
        storage.save("things", batch(*rows))
        known = [row for row in rows if row.get("aa") is not None]
        known.sort(key=lambda row: order_key(row["aa"]), reverse=descending)
        rest = [row for row in rows if row.get("aa") is None]
        assert read(storage, query=Query(sort=Sort("aa", descending))) == [*known, *rest]

    @pytest.mark.parametrize(
        ("sort", "expected"),
        [
            (Sort("_timestamp"), "cab-d"),
            (Sort("_timestamp", descending=True), "bac-d"),
            (Sort("_id"), "-abcd"),
            (Sort("_id", descending=True), "dcba-"),
            (Sort("_start_at"), "bdac-"),
            (Sort("_start_at", descending=True), "abdc-"),
            (Sort("unheard"), "abc-d"),
            (Sort("unheard", descending=True), "abc-d"),
        ],
    )
    def test_a_sort_by_a_reserved_or_an_unknown_field(
        self, storage: Storage, sort: Sort, expected: str
    ) -> None:
        early, late = "2013-01-01", "2013-01-02"
        storage.save(
            "things",
            batch(
                {"_id": "a", "_timestamp": "2013-01-01T01:00", "_start_at": late},
                {"_id": "b", "_timestamp": late, "_start_at": early},
                {"_id": "c", "_timestamp": early},
                {"_id": "-"},
                {"_id": "d", "_start_at": early},
            ),
        )
        assert "".join(ids(storage, Query(sort=sort))) == expected

    @pytest.mark.parametrize("limit", [1, 5, 6, 7, 100])
    def test_a_limit_cuts_after_sorting(self, storage: Storage, limit: int) -> None:
        storage.save("things", batch(*numbered([3, 1, 2, None, 0, 5])))
        assert (
            ids(storage, Query(sort=Sort("aa"), limit=limit))
            == ["4", "1", "2", "0", "5", "3"][:limit]
        )
        assert ids(storage, Query(limit=limit)) == ["0", "1", "2", "3", "4", "5"][:limit]

    @pytest.mark.parametrize("size", [0, 1, RECORDS_A_PAGE, RECORDS_A_PAGE + 1, 5_000])
    def test_pages_hold_all_records_once_in_order(self, storage: Storage, size: int) -> None:
        rows = [{"_id": str(n), "aa": size - n} for n in range(size)]
        storage.save("things", batch(*rows))
        for query, expected in (
            (Query(), rows),
            (Query(sort=Sort("aa")), rows[::-1]),
            (Query(limit=RECORDS_A_PAGE), rows[:RECORDS_A_PAGE]),
            (Query(limit=RECORDS_A_PAGE + 1), rows[: RECORDS_A_PAGE + 1]),
        ):
            with storage.records("things", query) as pages:
                found = [list(page) for page in pages]
            assert list(chain.from_iterable(found)) == expected
            assert all(0 < len(page) <= 2 * RECORDS_A_PAGE for page in found)

    def test_every_page_is_of_the_same_moment(self, storage: Storage) -> None:
        rows = [{"_id": str(n), "aa": 1} for n in range(3 * RECORDS_A_PAGE)]
        storage.save("things", batch(*rows))
        for query in (Query(), Query(sort=Sort("_id"))):
            with storage.records("things", query) as pages:
                found = list(next(pages))
                storage.save("things", batch({"_id": "new"}, {"_id": "5999", "aa": 2}))
                storage.delete("things", "new")
                storage.update("things", "3000", lambda record: {**record, "bb": "other"})
                storage.replace("things", batch({"_id": "only"}))
                storage.put_bucket(dataclasses.replace(THINGS, realtime=True))
                assert ids(storage) == ["only"]
                found += chain.from_iterable(pages)
            assert sorted(found, key=lambda row: int(str(row["_id"]))) == rows
            storage.replace("things", batch(*rows))

    def test_a_bucket_may_be_dropped_while_it_is_read(self, storage: Storage) -> None:
        rows = [{"_id": str(n)} for n in range(3 * RECORDS_A_PAGE)]
        storage.save("things", batch(*rows))
        with storage.records("things", Query()) as pages:
            found = list(next(pages))
            storage.drop_bucket("things")
            storage.put_bucket(THINGS)
            found += chain.from_iterable(pages)
        assert found == rows
        assert read(storage) == []

    def test_readings_may_be_open_side_by_side_and_left_early(self, storage: Storage) -> None:
        rows = [{"_id": str(n)} for n in range(3 * RECORDS_A_PAGE)]
        storage.save("things", batch(*rows))
        with contextlib.ExitStack() as stack:
            readings = [stack.enter_context(storage.records("things", Query())) for _ in range(5)]
            firsts = [next(pages) for pages in readings]
            assert all(list(page) == list(firsts[0]) for page in firsts)
            for pages in readings[1:]:
                assert [*firsts[0], *chain.from_iterable(pages)] == rows
        for _ in range(30):  # left without a look, and within
            with storage.records("things", Query()):
                pass
            with storage.records("things", Query()) as pages:
                next(pages)
        with pytest.raises(ZeroDivisionError):  # noqa: SIM117
            with storage.records("things", Query()) as pages:
                raise ZeroDivisionError
        storage.save("things", batch({"_id": "last"}))
        assert ids(storage)[-1] == "last"

    # -- filters and ranges -----------------------------------------------------------------

    FILTERED = (
        "a", "A", "ab", "a%", "a%b", "a_", "axb", "%", "_", "\\", "a\\b", "\\%", "'", "a'b", '"',
        "", "é", "e\u0301", "😀", "😀x", "\0", "a\0b", "1", "1.0", "true", "null", 1, 1.0, 1.5,
        True, False, 0, -0.0, 0.0, None, 2**53, 2**53 + 1, 2.0**53, INT64_MAX, INT64_MAX - 1,
        2.0**63, INT64_MIN, -(2.0**63), 1e300, 0.1, 5e-324,
    )  # fmt: skip

    def test_equals_is_by_value_and_type(self, storage: Storage) -> None:
        rows: list[dict[str, Any]] = [*numbered(self.FILTERED), {"_id": "absent"}]
        storage.save("things", batch(*rows))
        several: list[tuple[Any, ...]] = [
            (1, "1"),
            (True, 1, "true"),
            ("a", "A", "é"),
            (2**53 + 1, 2.0**63),
            (0.30000000000000004, 0.1),
            ("none of them", 12345),
            (2**53 + 2,),
            (2.0**53 + 2,),
            tuple(range(200)),
        ]
        for wanted in (*((value,) for value in self.FILTERED if value is not None), *several):
            keys = {order_key(value) for value in wanted}
            expected = [
                row for row in rows if row.get("aa") is not None and order_key(row["aa"]) in keys
            ]
            assert read(storage, query=Query(filters=(Equals("aa", wanted),))) == expected, wanted

    @pytest.mark.parametrize(
        ("field", "wanted", "found"),
        [
            ("_id", ("1",), ["1"]),
            ("_id", ("1", "3", "9"), ["1", "3"]),
            ("_id", (1, True, 1.0), []),
            ("_id", ("",), []),
            ("unheard", (1,), []),
            ("Aa", (1,), []),
            ("_timestamp", ("2013-01-01T00:00:00+00:00",), []),
            ("_timestamp", (parse_instant("2013-01-01"),), ["1"]),
        ],
    )
    def test_equals_of_reserved_and_unknown_fields(
        self, storage: Storage, field: str, wanted: tuple[Any, ...], found: list[str]
    ) -> None:
        storage.save(
            "things",
            batch({"_id": "1", "aa": 1, "_timestamp": "2013-01-01"}, {"_id": "2"}, {"_id": "3"}),
        )
        assert ids(storage, Query(filters=(Equals(field, wanted),))) == found

    def test_a_prefix_is_taken_literally(self, storage: Storage) -> None:
        rows: list[dict[str, Any]] = [*numbered(self.FILTERED), {"_id": "absent"}]
        storage.save("things", batch(*rows))
        single = [(text,) for text in self.FILTERED if isinstance(text, str)]
        others = [("none",), ("a*",), (".",), ("^a",), ("b", "\0", '"'), ("%", "_", "\\")]
        for wanted in (*single, *others, ("a", "é"), ("a", "ab")):
            expected = [
                row for row in rows if isinstance(t := row.get("aa"), str) and t.startswith(wanted)
            ]
            query = Query(filters=(StartsWith("aa", wanted),))
            assert read(storage, query=query) == expected, wanted

    def test_a_prefix_of_an_id_or_of_what_is_not_a_string(self, storage: Storage) -> None:
        storage.save(
            "things", batch({"_id": "ab", "aa": 12, "_timestamp": "2013-01-01"}, {"_id": "b"})
        )
        assert ids(storage, Query(filters=(StartsWith("_id", ("a",)),))) == ["ab"]
        for field, prefix in (("aa", "1"), ("aa", ""), ("_timestamp", "2013"), ("unheard", "")):
            assert ids(storage, Query(filters=(StartsWith(field, (prefix,)),))) == []

    def test_all_filters_must_match(self, storage: Storage) -> None:
        storage.save(
            "things",
            batch(
                {"_id": "1", "aa": "xy", "bb": 1, "_timestamp": "2013-01-01"},
                {"_id": "2", "aa": "xz", "bb": 1},
                {"_id": "3", "aa": "xy", "bb": 2, "_timestamp": "2013-01-01"},
                {"_id": "4", "aa": "y", "bb": 1, "_timestamp": "2013-01-02"},
            ),
        )
        combinations: list[tuple[tuple[Filter, ...], list[str]]] = [
            ((StartsWith("aa", ("x",)), Equals("bb", (1,))), ["1", "2"]),
            ((StartsWith("aa", ("x",)), StartsWith("aa", ("xy", "y"))), ["1", "3"]),
            ((Equals("aa", ("xy", "y")), Equals("bb", (1,))), ["1", "4"]),
            ((Equals("bb", (1,)), Equals("bb", (2,))), []),
            ((Equals("bb", (1, 2)), Equals("_id", ("3",))), ["3"]),
            ((Equals("bb", (1,)), Equals("unheard", (1,))), []),
        ]
        for filters, expected in combinations:
            assert sorted(ids(storage, Query(filters=filters))) == expected
        both = Query(filters=(Equals("bb", (1,)),), end=parse_instant("2013-01-02"))
        assert ids(storage, both) == ["1"]

    def test_filters_are_over_groups_too(self, storage: Storage) -> None:
        storage.save("things", batch(*numbered([1, 2, 1, "1", True, None])))
        found = self.groups(storage, Query(group_by=("aa",), filters=(Equals("aa", (1, "1")),)))
        assert {key: row["_count"] for key, row in found.items()} == {
            (None, ("int", 1)): 2,
            (None, ("str", "1")): 1,
        }

    @pytest.mark.parametrize(
        ("start", "end", "expected"),
        [
            (None, None, "abcdef-"),
            ("2013-01-01", None, "bcdef"),
            (None, "2013-01-01", "a"),
            ("2013-01-01", "2013-01-02", "bcd"),
            ("2013-01-01T00:00:00.000001", "2013-01-02T00:00:00.000001", "cde"),
            ("2013-01-02", "2013-01-02", ""),
            ("2013-01-03", "2013-01-01", ""),
            ("2013-01-02T00:00:00.000001", None, "f"),
            ("0001-01-01", "9999-12-31T23:59:59.999999", "abcdef"),
            ("0001-01-01", None, "abcdef"),
        ],
    )
    def test_a_range_holds_its_start_and_not_its_end(
        self, storage: Storage, start: str | None, end: str | None, expected: str
    ) -> None:
        times = {
            "a": "2012-12-31T23:59:59.999999",
            "b": "2013-01-01",
            "c": "2013-01-01T00:00:00.000001",
            "d": "2013-01-01T23:59:59.999999",
            "e": "2013-01-02",
            "f": "9999-12-31T23:59:59.999998",
        }
        rows: list[Record] = [{"_id": name, "_timestamp": text} for name, text in times.items()]
        storage.save("things", batch(*rows, {"_id": "-", "aa": 1}))
        query = Query(
            start=parse_instant(start) if start else None, end=parse_instant(end) if end else None
        )
        assert "".join(ids(storage, query)) == expected
        days = self.groups(storage, dataclasses.replace(query, period=Period("day")))
        assert sum(row["_count"] for row in days.values()) == len(expected.strip("-"))

    # -- groups -----------------------------------------------------------------------------

    def test_keys_that_are_equal_are_one_group(self, storage: Storage) -> None:
        """1 and 1.0 are one, shown as 1; true, "1" and null are not among them."""
        column = [
            *(1, 1.0, True, "1", None, 1.5, 1.5, 0, -0.0, 0.0, False, "", "a", "A", "é", "e\u0301"),
            *(
                2**53,
                2.0**53,
                2**53 + 1,
                INT64_MAX,
                2.0**63,
                INT64_MIN,
                -(2.0**63),
                1e300,
                "😀",
                "a\0",
            ),
            *("a", 1, True, 0.1, 0.1, -1.5, 10.0**15, 10**15),
        ]
        storage.save("things", batch(*numbered(column), {"_id": "absent"}))
        expected = Counter((None, exact(shown(value))) for value in column if value is not None)
        for store in self.and_reopened(storage):
            found = self.groups(store, Query(group_by=("aa",)))
            assert {key: row["_count"] for key, row in found.items()} == expected

    @pytest.mark.parametrize(
        "column",
        [
            (1, 2, 1),
            (1.0, 2.0, 1.0, 2.5),
            (-0.0, 0.0),
            (1e300, 2.0**63, -(2.0**63)),
            ("a", "A", "a"),
            (True, False, True),
            (None, None),
            (True, 1),
            ("1", 1.0),
        ],
    )
    def test_keys_of_a_field_of_few_types(self, storage: Storage, column: Sequence[Any]) -> None:
        storage.save("things", batch(*numbered(column)))
        expected = Counter((None, exact(shown(v))) for v in column if v is not None)
        found = self.groups(storage, Query(group_by=("aa",)))
        assert {key: row["_count"] for key, row in found.items()} == expected

    def test_several_keys_are_combined(self, storage: Storage) -> None:
        storage.save(
            "things",
            batch(
                {"_id": "1", "aa": "x", "bb": 1, "Aa": "z"},
                {"_id": "2", "aa": "x", "bb": 1.0, "Aa": "z"},
                {"_id": "3", "aa": "x", "bb": True, "Aa": "z"},
                {"_id": "4", "aa": "y", "bb": 1, "Aa": None},
                {"_id": "5", "aa": "y", "bb": None, "Aa": "z"},
                {"_id": "6", "aa": "y"},
                {"_id": "7", "aa": 1, "bb": "x", "Aa": "z"},
            ),
        )
        two = self.groups(storage, Query(group_by=("aa", "bb")))
        assert {key[1:]: row["_count"] for key, row in two.items()} == {
            (("str", "x"), ("int", 1)): 2,
            (("str", "x"), ("bool", True)): 1,
            (("str", "y"), ("int", 1)): 1,
            (("int", 1), ("str", "x")): 1,
        }
        three = self.groups(storage, Query(group_by=("bb", "Aa", "aa")))
        assert {key[1:]: row["_count"] for key, row in three.items()} == {
            (("int", 1), ("str", "z"), ("str", "x")): 2,
            (("bool", True), ("str", "z"), ("str", "x")): 1,
            (("str", "x"), ("str", "z"), ("int", 1)): 1,
        }

    def test_there_are_no_groups_of_nothing(self, storage: Storage) -> None:
        queries = [
            Query(group_by=("aa",)),
            Query(group_by=("unheard",), collect=(Collect("aa", "sum"),)),
            Query(period=Period("day")),
            Query(period=Period("day", zone("Europe/London")), group_by=("aa",)),
            Query(group_by=("aa", "unheard")),
        ]
        for query in queries:
            assert self.groups(storage, query) == {}
        storage.save("things", batch({"_id": "x", "aa": None}, {"_id": "y"}))
        for query in queries:
            assert self.groups(storage, query) == {}
        storage.save("things", batch({"_id": "x", "aa": 1, "_timestamp": "2013-01-01"}))
        none = (Equals("aa", (2,)),)
        for query in queries:
            assert self.groups(storage, dataclasses.replace(query, filters=none)) == {}

    def reduced(self, storage: Storage, column: Sequence[Any], *methods: Method) -> dict[str, Any]:
        """What is collected of the column as one group, by reduction."""
        storage.replace(
            "things",
            batch(
                *({**row, "kk": "k"} for row in numbered(column)),
                {"_id": "absent", "kk": "k"},
                {"_id": "none", "kk": "k", "aa": None},
                {"_id": "other", "kk": None, "aa": "text"},
            ),
        )
        collect = tuple(Collect("aa", method) for method in methods)
        (row,) = self.groups(storage, Query(group_by=("kk",), collect=collect)).values()
        assert row.pop("_count") == len(column) + 2
        return {reduction: cell for (_, reduction), cell in row.items()}

    COLUMNS: tuple[tuple[tuple[Any, ...], Any, Any, Any, Any], ...] = (
        # values, sum, min, max, set
        ((), None, None, None, []),
        ((None, None), None, None, None, []),
        ((3, 1, 2), 6, 1, 3, [1, 2, 3]),
        ((0, 0), 0, 0, 0, [0]),
        ((-5,), -5, -5, -5, [-5]),
        ((1.5, 2.5), 4.0, 1.5, 2.5, [1.5, 2.5]),
        ((1.0, 2.0), 3.0, 1.0, 2.0, [1, 2]),
        ((1, 1.0), 2.0, 1, 1, [1]),
        ((1.0, 1), 2.0, 1, 1, [1]),
        ((2, 2.0, 0.5), 4.5, 0.5, 2, [0.5, 2]),
        ((0.5, 0.25, 4), 4.75, 0.25, 4, [0.25, 0.5, 4]),
        ((INT64_MAX, INT64_MAX), 2 * INT64_MAX, INT64_MAX, INT64_MAX, [INT64_MAX]),
        ((INT64_MIN, INT64_MIN, -1), 2 * INT64_MIN - 1, INT64_MIN, -1, [INT64_MIN, -1]),
        ((INT64_MAX, 1, -1), INT64_MAX, -1, INT64_MAX, [-1, 1, INT64_MAX]),
        ((2**53 + 1, 2**53), 2**54 + 1, 2**53, 2**53 + 1, [2**53, 2**53 + 1]),
        ((2**53 + 1, 2.0**53), float(2**54), 2.0**53, 2**53 + 1, [2**53, 2**53 + 1]),
        ((2.0**53 + 2, 2**53 + 1), 2.0**54, 2**53 + 1, 2.0**53 + 2, [2**53 + 1, 2**53 + 2]),
        ((INT64_MAX, 2.0**63), 2.0**64, INT64_MAX, 2.0**63, [INT64_MAX, 2.0**63]),
        ((-0.0,), 0.0, 0.0, 0.0, [0]),
        ((-0.0, 0), 0.0, 0, 0, [0]),
        ((1e300, 1e300), 2e300, 1e300, 1e300, [1e300]),
        ((1.7e308, 1.7e308), 1.7976931348623157e308, 1.7e308, 1.7e308, [1.7e308]),
        ((-1.7e308, -1.7e308), -1.7976931348623157e308, -1.7e308, -1.7e308, [-1.7e308]),
    )

    @pytest.mark.parametrize(("column", "total", "low", "high", "values"), COLUMNS)
    def test_numbers_are_reduced_exactly(
        self,
        storage: Storage,
        column: tuple[Any, ...],
        total: Any,
        low: Any,
        high: Any,
        values: Any,
    ) -> None:
        found = self.reduced(storage, column, "sum", "count", "set", "min", "max")
        expected = {
            "sum": total,
            "count": sum(value is not None for value in column),
            "set": values,
            "min": low,
            "max": high,
        }
        assert found == {name: exact(cell) for name, cell in expected.items()}

    @pytest.mark.parametrize(
        ("column", "low", "high", "values"),
        [
            (("b", "a", "B"), "B", "b", ["B", "a", "b"]),
            (("\uffff", "😀"), "\uffff", "😀", ["\uffff", "😀"]),
            (("", "a\0", "a"), "", "a\0", ["", "a", "a\0"]),
            ((True, False), False, True, [False, True]),
            ((True,), True, True, [True]),
            ((1, True, "1", 1.0), True, "1", [True, 1, "1"]),
            ((5, "x", False, None), False, "x", [False, 5, "x"]),
            ((2.5, "0"), 2.5, "0", [2.5, "0"]),
            ((0, False, -0.0), False, 0, [False, 0]),
            (("10", "9", 9, 10), 9, "9", [9, 10, "10", "9"]),
        ],
    )
    def test_min_max_and_set_go_across_types(
        self, storage: Storage, column: tuple[Any, ...], low: Any, high: Any, values: Any
    ) -> None:
        found = self.reduced(storage, column, "count", "set", "min", "max")
        known = sum(value is not None for value in column)
        assert found == {
            "count": exact(known),
            "set": exact(values),
            "min": exact(low),
            "max": exact(high),
        }

    def test_a_sum_of_many_integers_is_exact_past_64_bits(self, storage: Storage) -> None:
        column = [INT64_MAX - n for n in range(3_000)] + [2**53 + 1] * 1_001
        assert self.reduced(storage, column, "sum") == {"sum": ("int", sum(column))}

    def test_a_sum_of_many_floats_is_near_the_true_one(self, storage: Storage) -> None:
        column = [0.1] * 10_000 + [1e15, -1e15]
        (kind, text) = self.reduced(storage, column, "sum")["sum"]
        assert kind == "float"
        assert abs(float(text) - 1_000) < 1e-9

    @pytest.mark.parametrize("wrong", ["text", "", "1", True, False])
    @pytest.mark.parametrize("method", ["sum", "mean"])
    def test_a_sum_meets_no_text_and_no_boolean(
        self, storage: Storage, wrong: Any, method: Method
    ) -> None:
        rows = [{**row, "kk": "k"} for row in numbered([1, 2.5, wrong, None])]
        storage.save("things", batch(*rows))
        for extra in ((), (Collect("kk", "set"),)):
            query = Query(group_by=("kk",), collect=(*extra, Collect("aa", method)))
            if extra:
                query = dataclasses.replace(query, group_by=("_id",))
            with pytest.raises(InvalidQuery) as caught:
                storage.groups("things", query, most_rows=MANY)
            (problem,) = caught.value.problems
            assert problem.code == "not_a_number"
            assert problem.where == {"parameter": "collect", "field": "aa"}

    def test_a_sum_may_pass_texts_of_records_in_no_group(self, storage: Storage) -> None:
        storage.save(
            "things",
            batch(
                {"_id": "1", "aa": 1, "kk": "k", "_timestamp": "2013-01-01"},
                {"_id": "2", "aa": "text", "kk": None, "_timestamp": "2013-01-01"},
                {"_id": "3", "aa": True, "_timestamp": "2013-01-01"},
                {"_id": "4", "aa": "text", "kk": "k"},
                {"_id": "5", "aa": "text", "kk": "k", "_timestamp": "2014-01-01"},
            ),
        )
        query = Query(
            period=Period("day"),
            group_by=("kk",),
            collect=(Collect("aa", "sum"),),
            end=parse_instant("2014-01-01"),
        )
        (row,) = self.groups(storage, query).values()
        assert row == {"_count": 1, ("aa", "sum"): ("int", 1)}
        with pytest.raises(InvalidQuery):
            self.groups(storage, dataclasses.replace(query, end=None))
        filtered = dataclasses.replace(query, end=None, filters=(Equals("aa", (1,)),))
        assert len(self.groups(storage, filtered)) == 1

    def test_everything_is_collected_of_every_field_at_once(self, storage: Storage) -> None:
        storage.save(
            "things",
            batch(
                {"_id": "1", "kk": "k", "aa": 1, "Aa": 2.5, "bb": "x"},
                {"_id": "2", "kk": "k", "aa": 2, "Aa": None, "bb": True},
                {"_id": "3", "kk": "l", "bb": None},
            ),
        )
        collect = (
            *(Collect("aa", method) for method in METHODS),
            *(Collect("Aa", method) for method in METHODS),
            *(Collect("unheard", method) for method in METHODS),
            Collect("bb", "set", by_default=True),
            Collect("bb", "max"),
            Collect("_id", "count"),
        )
        found = self.groups(storage, Query(group_by=("kk",), collect=collect))
        nothing: dict[str, Any] = {"set": [], "sum": None, "count": 0, "min": None, "max": None}

        def cells(field: str, cells: dict[str, Any]) -> dict[Any, Any]:
            return {(field, reduction): exact(cell) for reduction, cell in cells.items()}

        ones = {"set": [1, 2], "sum": 3, "count": 2, "min": 1, "max": 2}
        halves = {"set": [2.5], "sum": 2.5, "count": 1, "min": 2.5, "max": 2.5}
        assert found == {
            (None, ("str", "k")): {
                "_count": 2,
                **cells("aa", ones),
                **cells("Aa", halves),
                **cells("unheard", nothing),
                **cells("bb", {"set": [True, "x"], "max": "x"}),
                **cells("_id", {"count": 2}),
            },
            (None, ("str", "l")): {
                "_count": 1,
                **cells("aa", nothing),
                **cells("Aa", nothing),
                **cells("unheard", nothing),
                **cells("bb", {"set": [], "max": None}),
                **cells("_id", {"count": 1}),
            },
        }

    def test_ties_of_time_keep_their_order_across_pages_and_limits(self, storage: Storage) -> None:
        """More records of one time, and more without one, than a page holds."""
        first, second = FIRST_INSTANT, FIRST_INSTANT + timedelta(microseconds=1)
        many, names = RECORDS_A_PAGE + 100, ("untimed", "second", "first")
        rows: list[Record] = [{"_id": f"untimed {n}"} for n in range(many)]
        rows += [{"_id": f"second {n}", "_timestamp": second} for n in range(many)]
        rows += [{"_id": f"first {n}", "_timestamp": first} for n in range(many)]
        storage.save("things", Records.of(rows))
        untimed, seconds, firsts = ([f"{name} {n}" for n in range(many)] for name in names)
        upwards, downwards = firsts + seconds + untimed, seconds + firsts + untimed
        assert ids(storage) == upwards
        for limit in (1, many - 1, many, many + 1, 2 * many + 50, 3 * many + 1):
            for sort in (None, Sort("_timestamp")):
                assert ids(storage, Query(sort=sort, limit=limit)) == upwards[:limit]
            last = Query(sort=Sort("_timestamp", descending=True), limit=limit)
            assert ids(storage, last) == downwards[:limit]
        assert ids(storage, Query(sort=Sort("_timestamp", descending=True))) == downwards
        assert ids(storage, Query(start=second, limit=many + 1)) == seconds
        assert ids(storage, Query(end=second, limit=many + 1)) == firsts

    def test_a_set_may_be_larger_than_a_record_may_be(self, storage: Storage) -> None:
        """Beside sums of which each kind is needed, and a group of records without the key."""
        values = [f"{n}".ljust(1_000_000, "x") for n in range(20)]
        numbers = (INT64_MAX, 1, 0.5)
        for first in range(0, 20, 10):
            rows = [
                {"_id": f"{kk}{n}", "kk": kk, "aa": values[n], "bb": numbers[n % 3], "cc": n}
                for n in range(first, first + 10)
                for kk in ("k", None)
            ]
            storage.save("things", batch(*rows))
        reductions = (("aa", "set"), ("bb", "sum"), ("cc", "sum"), ("cc", "set"))
        query = Query(group_by=("kk",), collect=tuple(Collect(*one) for one in reductions))
        for _ in range(2):
            found = storage.groups("things", query, most_rows=1)
            assert [*map(list, found.keys), list(found.counts)] == [["k"], [20]]
            assert sorted(found.reduced["aa", "set"][0]) == sorted(values)
            assert sorted(found.reduced["cc", "set"][0]) == list(range(20))
            assert list(found.reduced["bb", "sum"]) == [float(7 * (INT64_MAX + 1)) + 3.0]
            assert exact(found.reduced["cc", "sum"][0]) == exact(190)

    def test_a_long_string_is_the_least_and_the_greatest(self, storage: Storage) -> None:
        storage.save("things", batch({"_id": "1", "kk": "k", "aa": "x" * 9_000_000}))
        for method in ("min", "max"):
            query = Query(group_by=("kk",), collect=(Collect("aa", method),))
            found = storage.groups("things", query, most_rows=1)
            assert list(found.reduced["aa", method]) == ["x" * 9_000_000]

    def test_sums_are_right_whatever_the_field_held_before(self, storage: Storage) -> None:
        """Integers, floats, integers past 64 bits, none, and texts; each asked twice."""
        query = Query(group_by=("kk",), collect=(Collect("aa", "sum"), Collect("bb", "sum")))
        held: tuple[tuple[list[Any], Any], ...] = (
            ([1, 2], 3),
            ([1, 2.5, None], 3.5),
            ([INT64_MAX, INT64_MAX, 1], 2 * INT64_MAX + 1),
            ([1.7e308, 1.7e308, -1.7e308, 1], 1.7e308),
            ([2**53, 1], 2**53 + 1),
            ([-0.0, 0], 0.0),
            ([None], None),
        )
        for values, expected in held:
            storage.replace("things", batch(*({**row, "kk": 1} for row in numbered(values))))
            for _ in range(2):
                found = self.groups(storage, query)[(None, ("int", 1))]
                assert found["aa", "sum"] == exact(expected)
                assert found["bb", "sum"] == exact(None)
        for other in ("text", "", True, False):
            rows = ({**row, "kk": 1} for row in numbered([1.5, INT64_MAX, other]))
            storage.replace("things", batch(*rows))
            for _ in range(2):
                with pytest.raises(InvalidQuery):
                    self.groups(storage, query)

    def test_more_rows_than_asked_for_are_refused(self, storage: Storage) -> None:
        storage.save("things", batch(*numbered(range(10))))
        query = Query(group_by=("aa",))
        assert len(storage.groups("things", query, most_rows=10).counts) == 10
        with pytest.raises(InvalidQuery) as caught:
            storage.groups("things", query, most_rows=9)
        assert [problem.code for problem in caught.value.problems] == ["too_many_rows"]

    # -- periods ----------------------------------------------------------------------------

    MOMENTS = tuple(
        sorted(
            {
                *(
                    turn + step
                    for turn in TURNS
                    for step in (
                        *(timedelta(minutes=m) for m in (-90, -61, -60, -31, -30, -29, -1, 0, 1)),
                        *(timedelta(minutes=m) for m in (29, 30, 31, 59, 60, 61, 90)),
                        timedelta(microseconds=-1),
                        *(timedelta(days=d) for d in (-40, -2, -1, 1, 2, 7, 40, 400)),
                    )
                ),
                parse_instant("1582-10-10"),
                parse_instant("1850-06-01T12:34:56.789"),
                parse_instant("2100-02-28T23:00"),
            }
        )
    )

    @pytest.mark.parametrize("place", ZONES)
    def test_records_are_grouped_by_calendar_periods_of_the_zone(
        self, storage: Storage, place: str
    ) -> None:
        """Oracle: the period's own start of each record's time."""
        rows: list[Record] = [
            {"_id": str(n), "_timestamp": time, "kk": n % 2} for n, time in enumerate(self.MOMENTS)
        ]
        storage.save("things", batch(*rows, {"_id": "none", "kk": 1}))
        for period in (Period(name, zone(place)) for name in PERIOD_NAMES):
            expected = Counter(period.start(time) for time in self.MOMENTS)
            found = self.groups(storage, Query(period=period))
            assert {start: row["_count"] for (start,), row in found.items()} == expected
            assert all(start.utcoffset() == timedelta(0) for (start,) in found)
            both = self.groups(storage, Query(period=period, group_by=("kk",)))
            assert {key: row["_count"] for key, row in both.items()} == Counter(
                (period.start(time), ("int", n % 2)) for n, time in enumerate(self.MOMENTS)
            )
            for turn in TURNS[:9]:
                start, end = turn - timedelta(minutes=59), turn + timedelta(days=1)
                inside = [time for time in self.MOMENTS if start <= time < end]
                found = self.groups(storage, Query(period=period, start=start, end=end))
                assert {key: row["_count"] for (key,), row in found.items()} == Counter(
                    map(period.start, inside)
                )

    def test_a_change_of_clocks_may_be_the_first_that_a_query_sees(self, storage: Storage) -> None:
        """At 00:01 St John's clocks sprang to 01:01: that hour begins with the change."""
        change = parse_instant("2010-03-14T03:31")
        period = Period("hour", zone("America/St_Johns"))
        only = batch({"_id": "1", "_timestamp": change + timedelta(minutes=20)})
        before = batch({"_id": "0", "_timestamp": change - timedelta(minutes=1)})
        for records, query in (
            (only, Query(period=period)),
            (before, Query(period=period, start=change)),
        ):
            storage.save("things", records)
            assert self.groups(storage, query).keys() == {(change,)}
        assert period.start(change) == change

    @pytest.mark.parametrize("place", ZONES)
    def test_the_calendars_first_and_last_days_have_periods_too(
        self, storage: Storage, place: str
    ) -> None:
        steps = [timedelta(0), timedelta(microseconds=1)]
        steps += [timedelta(hours=hours / 2) for hours in range(72)]
        steps += [timedelta(days=days) for days in (6, 7, 8, 31, 92, 366)]
        for some in ([FIRST_INSTANT + step for step in steps], [LAST_INSTANT - s for s in steps]):
            rows: list[Record] = [{"_id": str(n), "_timestamp": t} for n, t in enumerate(some)]
            storage.replace("things", batch(*rows))
            for period in (Period(name, zone(place)) for name in PERIOD_NAMES):
                found = self.groups(storage, Query(period=period))
                assert {start: row["_count"] for (start,), row in found.items()} == Counter(
                    map(period.start, some)
                ), period

    @pytest.mark.parametrize(
        ("name", "place"),
        [("hour", "UTC"), ("week", "Asia/Kathmandu"), ("month", "America/New_York")],
    )
    def test_a_bucket_may_hold_the_calendars_first_and_last_day(
        self, storage: Storage, name: str, place: str
    ) -> None:
        period = Period(name, zone(place))
        moments = [FIRST_INSTANT, *self.MOMENTS[:5], LAST_INSTANT]
        rows: list[Record] = [{"_id": str(n), "_timestamp": t} for n, t in enumerate(moments)]
        storage.save("things", batch(*rows))
        found = self.groups(storage, Query(period=period))
        assert {start: row["_count"] for (start,), row in found.items()} == Counter(
            map(period.start, moments)
        )

    def test_everything_is_collected_by_period_too(self, storage: Storage) -> None:
        storage.save(
            "things",
            batch(
                {"_id": "1", "_timestamp": "2013-10-27T00:30", "aa": 1, "bb": "x"},
                {"_id": "2", "_timestamp": "2013-10-27T01:30", "aa": 1.5, "bb": 5},
                {"_id": "3", "_timestamp": "2013-10-27T23:59:59.999999", "aa": None},
                {"_id": "4", "_timestamp": "2013-10-28", "aa": 2},
                {"_id": "5", "aa": "text"},
            ),
        )
        collect = (Collect("aa", "mean"), Collect("bb", "set"), Collect("bb", "min"))
        query = Query(period=Period("day", zone("Europe/London")), collect=collect)
        assert self.groups(storage, query) == {
            (parse_instant("2013-10-26T23:00"),): {
                "_count": 3,
                ("aa", "sum"): ("float", "2.5"),
                ("aa", "count"): ("int", 2),
                ("bb", "set"): exact([5, "x"]),
                ("bb", "min"): ("int", 5),
            },
            (parse_instant("2013-10-28"),): {
                "_count": 1,
                ("aa", "sum"): ("int", 2),
                ("aa", "count"): ("int", 1),
                ("bb", "set"): [],
                ("bb", "min"): exact(None),
            },
        }

    # -- many at once -----------------------------------------------------------------------

    def test_what_is_saved_soon_is_there_once_the_future_has_ended(self, storage: Storage) -> None:
        """With its act, in the order of the calls, and kept."""
        act = Act(by="token:1", action="records_stored", bucket="things", records=1, details={})
        ended = [
            storage.save_soon("things", batch({"_id": "a", "aa": n}, {"_id": f"b{n}"}), act=act)
            for n in range(20)
        ]
        assert [one.result(timeout=60) for one in ended] == [None] * 20
        for store in self.and_reopened(storage):
            expected = [one for n in range(19) for one in [{"_id": f"b{n}"}]]
            assert stored(store) == [*expected, {"_id": "a", "aa": 19}, {"_id": "b19"}]
            assert len(store.audit(limit=100)) == 20

    def test_what_can_not_be_saved_soon_is_told_by_the_future(self, storage: Storage) -> None:
        many = {f"field_{n}": n for n in range(storage.most_fields + 1)}
        too_many = storage.save_soon("things", batch({"_id": "a"} | many))
        nowhere = storage.save_soon("nowhere", batch({"_id": "a"}))
        good = storage.save_soon("things", batch({"_id": "b"}))
        assert isinstance(too_many.exception(timeout=60), InvalidRecords)
        assert isinstance(nowhere.exception(timeout=60), NotFound)
        assert good.result(timeout=60) is None
        assert stored(storage) == [{"_id": "b"}]

    def test_what_many_threads_save_is_all_there_once(self, storage: Storage) -> None:
        """Single records and batches, new ones and replaced ones, with fields of their own."""

        def run(thread: int) -> Callable[[], None]:
            def save() -> None:
                for n in range(20):
                    one: Record = {"_id": f"{thread}-one-{n}", "aa": n, f"of{thread}": str(n)}
                    storage.save("things", batch(one, new=n % 2 == 0))
                    many: list[Record] = [
                        {"_id": f"{thread}-many-{n}-{k}", "aa": k} for k in range(25)
                    ]
                    storage.save("things", batch(*many))
                    storage.save("things", batch({"_id": f"shared-{n}", "aa": thread}))

            return save

        in_threads([run(thread) for thread in range(8)])
        for store in self.and_reopened(storage):
            found = Counter(ids(store))
            assert set(found.values()) == {1}
            assert len(found) == store.state("things").records == 8 * 20 * 26 + 20
        texts = {row["_id"]: row for row in read(store)}
        for thread in range(8):
            assert texts[f"{thread}-one-7"] == {
                "_id": f"{thread}-one-7",
                "aa": 7,
                f"of{thread}": "7",
            }

    def test_readers_never_see_half_a_write(self, storage: Storage) -> None:
        """Batches of 50 go in, replace each other and replace all, while others read."""
        storage.save("things", batch(*({"_id": str(n), "aa": 0} for n in range(50))))
        done = threading.Event()

        def write(first: int) -> Callable[[], None]:
            def run() -> None:
                for turn in range(first, first + 25):
                    rows: list[Record] = [
                        {"_id": str(n), "aa": turn, f"f{turn}": None} for n in range(50)
                    ]
                    (storage.replace if turn % 3 == 0 else storage.save)("things", batch(*rows))

            return run

        def reading() -> None:
            look = Query(group_by=("aa",), collect=(Collect("_id", "count"),))
            while not done.is_set():
                rows = read(storage)
                assert len(rows) == 50
                assert len({row["aa"] for row in rows}) == 1
                assert len({len(row) for row in rows}) == 1
                (group,) = self.groups(storage, look).values()
                assert group["_count"] == 50
                assert storage.state("things").records == 50

        readers = [threading.Thread(target=reading) for _ in range(3)]
        failures: list[Any] = []
        previous = threading.excepthook
        threading.excepthook = failures.append
        try:
            for reader in readers:
                reader.start()
            in_threads([write(100), write(200), write(300)])
        finally:
            done.set()
            for reader in readers:
                reader.join(60)
            threading.excepthook = previous
        assert [failure.exc_value for failure in failures] == []

    def test_a_returned_write_is_seen_by_every_later_read(self, storage: Storage) -> None:
        def run(thread: int) -> Callable[[], None]:
            def write_and_read() -> None:
                for n in range(30):
                    name = f"{thread}-{n}"
                    storage.save("things", batch({"_id": name, "aa": n}))
                    assert ids(storage, Query(filters=(Equals("_id", (name,)),))) == [name]
                    storage.delete("things", name)
                    assert ids(storage, Query(filters=(Equals("_id", (name,)),))) == []

            return write_and_read

        in_threads([run(thread) for thread in range(6)])
        assert read(storage) == []

    WAITING: tuple[tuple[Callable[[Storage], Any], ...], ...] = (
        (
            lambda s: s.save("things", batch({"_id": "x", "aa": 1}, {"_id": "y"})),
            lambda s: s.save("things", batch({"_id": "x", "aa": 2})),
            lambda s: s.save("things", batch({"_id": "n", "bb": "text"}, new=True)),
        ),
        (
            lambda s: s.save("things", batch({"_id": "x", "aa": "new"}, {"_id": "old"})),
            lambda s: s.delete("things", "old"),
            lambda s: s.update("things", "old", lambda record: {**record, "cc": 2.5}),
        ),
        (
            lambda s: s.save("things", batch({"_id": "x", "aa": 1}, {"_id": "old", "bb": None})),
            lambda s: s.replace("things", batch({"_id": "z"}, {"_id": "x", "aa": "all"})),
            lambda s: s.save("things", batch({"_id": "z", "aa": 3})),
            lambda s: s.put_bucket(dataclasses.replace(THINGS, realtime=True)),
        ),
        (
            lambda s: s.save("things", batch({"_id": "x"})),
            lambda s: s.drop_bucket("things"),
            lambda s: s.put_bucket(THINGS),
            lambda s: s.save("things", batch({"_id": "y", "old": 1})),
        ),
    )
    """Writes that may come to wait at the same time, and meet."""

    @pytest.mark.parametrize("writes", WAITING)
    def test_writes_that_wait_together_are_done_one_after_the_other(
        self, storage: Storage, writes: Sequence[Callable[[Storage], Any]]
    ) -> None:
        """While one write takes its time others come: they end as they would in some order."""

        def prepared(store: Storage) -> Storage:
            store.put_bucket(THINGS)
            store.save("things", batch({"_id": "old", "aa": 0}, {"_id": "kept", "aa": True}))
            return store

        def attempt(store: Storage, write: Callable[[Storage], Any]) -> None:
            with contextlib.suppress(NotFound):
                write(store)

        def contents(store: Storage) -> Any:
            if not store.buckets():
                return None
            return [exact(row) for row in read(store)], store.state("things").records

        expected = []
        for order in permutations(writes):
            alone = prepared(MemoryStorage())
            for write in order:
                attempt(alone, write)
            expected.append(contents(alone))

        storage.put_bucket(Bucket(name="others"))
        storage.save("others", batch({"_id": "slow"}))
        prepared(storage)
        begun, go_on = threading.Event(), threading.Event()

        def take_time(record: Record) -> Record:
            begun.set()
            go_on.wait(30)
            return record

        threads = [
            threading.Thread(target=attempt, args=[storage, write])
            for write in (lambda s: s.update("others", "slow", take_time), *writes)
        ]
        threads[0].start()
        assert begun.wait(30)
        for thread in threads[1:]:
            thread.start()
        time.sleep(0.05)  # so that they do wait together; the law holds if they don't
        go_on.set()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive(), "a write hangs"
        storage.drop_bucket("others")
        for store in self.and_reopened(storage):
            assert contents(store) in expected

    def test_no_update_is_lost(self, storage: Storage) -> None:
        storage.save("things", batch({"_id": "x", "aa": 0}, {"_id": "y", "aa": 0}))

        def run() -> None:
            for n in range(25):
                storage.update(
                    "things",
                    "xy"[n % 2],
                    lambda stored: {**stored, "aa": int(str(stored["aa"])) + 1},
                )

        in_threads([run] * 8)
        assert sorted((row["_id"], row["aa"]) for row in read(storage)) == [("x", 104), ("y", 96)]

    def test_of_two_that_delete_one_succeeds(self, storage: Storage) -> None:
        names = [str(n) for n in range(30)]
        storage.save("things", batch(*({"_id": name} for name in names)))
        deleted: list[str] = []

        def run() -> None:
            for name in names:
                with contextlib.suppress(NotFound):
                    storage.delete("things", name)
                    deleted.append(name)

        in_threads([run] * 4)
        assert sorted(deleted) == sorted(names)
        assert storage.state("things").records == 0

    def test_of_many_that_make_a_bucket_or_take_a_hash_or_an_address_one_succeeds(
        self, storage: Storage
    ) -> None:
        made: list[bool] = []
        added: list[int] = []
        placed: list[int] = []

        def run(thread: int) -> Callable[[], None]:
            def make() -> None:
                made.append(storage.put_bucket(Bucket(name="shared")))
                with contextlib.suppress(Conflict):
                    storage.add_token(dataclasses.replace(token("one"), id=f"id-{thread}"))
                    added.append(thread)
                with contextlib.suppress(Conflict):
                    own = Bucket(name=f"own-{thread}", data_group="aa", data_type="bb")
                    storage.put_bucket(own)
                    placed.append(thread)

            return make

        in_threads([run(thread) for thread in range(8)])
        assert sorted(made) == [False] * 7 + [True]
        (winner,) = added
        assert [one.id for one in storage.tokens("things")] == [f"id-{winner}"]
        (place,) = placed
        assert storage.bucket_at("aa", "bb").name == f"own-{place}"

    def test_one_failing_write_does_not_harm_those_beside_it(self, storage: Storage) -> None:
        storage.save("things", batch({"_id": "x", "aa": 0}))
        failed: list[str] = []

        def save(thread: int) -> Callable[[], None]:
            def run() -> None:
                for n in range(25):
                    storage.save("things", batch({"_id": f"{thread}-{n}", "aa": n}))

            return run

        def fail() -> None:
            def change(_: Record) -> Record:
                raise ZeroDivisionError

            for n in range(25):
                try:
                    if n % 3 == 0:
                        storage.update("things", "x", change)
                    elif n % 3 == 1:
                        storage.delete("things", "nobody")
                    else:
                        storage.put_bucket(Bucket(name="gone"), first_token=token("one", "gone"))
                        storage.drop_bucket("gone")
                        storage.save("gone", batch({"_id": "x"}))
                except (ZeroDivisionError, NotFound, Conflict) as error:
                    failed.append(type(error).__name__)

        in_threads([save(1), save(2), save(3), save(4), fail, fail])
        assert len(failed) >= 34
        for store in self.and_reopened(storage):
            assert len(ids(store)) == len(set(ids(store))) == store.state("things").records == 101
            assert read(store, query=Query(filters=(Equals("_id", ("x",)),))) == [
                {"_id": "x", "aa": 0}
            ]

    def test_held_ids_are_counted(self, storage: Storage) -> None:
        assert storage.count_held("things", ["a"]) == 0
        storage.save("things", batch(*({"_id": f"é{n}", "aa": n} for n in range(30_000))))
        storage.delete("things", "é7")
        with pytest.raises(NotFound):
            storage.count_held("nothing", ["a"])
        asked = [f"é{n}" for n in range(29_990, 30_010)] + ["é7", "é8", "", "'"]
        for store in self.and_reopened(storage):
            assert store.count_held("things", asked) == 11
            assert store.count_held("things", [f"é{n}" for n in range(30_001)]) == 29_999
            assert store.count_held("things", []) == 0

    # -- the audit log ----------------------------------------------------------------------

    @pytest.fixture
    def audited(self) -> Bucket:
        """A bucket of a name that no other test has: a log outlives its bucket."""
        return Bucket(name=f"audited-{time.time_ns()}")

    def test_an_act_is_kept_with_what_it_tells_of(self, storage: Storage, audited: Bucket) -> None:
        """Of every operation that takes one; the newest first; also once the bucket is gone."""
        name = audited.name

        def act(action: Action, records: int | None = None, **details: Any) -> Act:
            return Act(by="token:1", action=action, bucket=name, records=records, details=details)

        before = datetime.now(UTC) - timedelta(seconds=5)
        done: list[Act] = [act("bucket_created", settings=["realtime"])]
        storage.put_bucket(audited, act=act("settings_changed", settings=["realtime"]))
        writes: list[tuple[Act, Callable[[Act], object]]] = [
            (act("settings_changed", n=1), lambda a: storage.put_bucket(audited, act=a)),
            (
                act("settings_changed", n=2),
                lambda a: storage.change_bucket(name, lambda was: was, act=a),
            ),
            (
                act("token_made", id="id-a"),
                lambda a: storage.add_token(token(name, name), act=a),
            ),
            (
                act("token_revoked", id="id-a"),
                lambda a: storage.drop_token(name, f"id-{name}", act=a),
            ),
            (
                act("records_stored", 2),
                lambda a: storage.save(name, batch({"_id": "a"}, {"_id": "b"}), act=a),
            ),
            (
                act("records_replaced", 1),
                lambda a: storage.replace(name, batch({"_id": "é\0😀"}), act=a),
            ),
            (
                act("record_changed", 1, _id="é\0😀"),
                lambda a: storage.update(name, "é\0😀", lambda was: was, act=a),
            ),
            (
                act("record_removed", 1, _id="é\0😀"),
                lambda a: storage.delete(name, "é\0😀", act=a),
            ),
            (
                act("user_granted", buckets=[]),
                lambda a: storage.put_entry(Entry(name, "key", b"x"), act=a),
            ),
            (
                act("user_granted", taken=["b"]),
                lambda a: storage.change_entry(name, "key", bytes.upper, act=a),
            ),
            (act("user_revoked"), lambda a: storage.take_entry(name, "key", act=a)),
            (act("bucket_dropped"), lambda a: storage.drop_bucket(name, act=a)),
        ]
        for one, write in writes:
            write(one)
            done.append(one)
            assert storage.audit(bucket=name, limit=1)[0].act == one
        found = storage.audit(bucket=name, limit=100)
        assert [entry.act for entry in found] == done[::-1]
        assert len({entry.id for entry in found}) == len(found)
        times = [entry.at for entry in found]
        assert times == sorted(times, reverse=True)
        assert before < times[-1] <= times[0] < datetime.now(UTC) + timedelta(seconds=5)
        everything = storage.audit(limit=len(found))
        assert everything == found
        assert self.reopen(storage).audit(bucket=name, limit=100) == found

    def test_what_is_refused_or_changes_nothing_is_not_in_the_log(
        self, storage: Storage, audited: Bucket
    ) -> None:
        name = audited.name
        act = Act(by="admin", action="settings_changed", bucket=name)

        def refuse(_: Any) -> Any:
            raise InvalidSettings("no")

        refused: list[Callable[[], object]] = [
            lambda: storage.save(name, batch({"_id": "a"}), act=act),
            lambda: storage.replace(name, batch({"_id": "a"}), act=act),
            lambda: storage.update(name, "a", lambda was: was, act=act),
            lambda: storage.delete(name, "a", act=act),
            lambda: storage.change_bucket(name, refuse, act=act),
            lambda: storage.drop_bucket(name, act=act),
            lambda: storage.add_token(token("a", name), act=act),
            lambda: storage.drop_token(name, "a", act=act),
        ]
        for write in refused:
            with pytest.raises(NotFound):
                write()
        storage.put_bucket(audited)
        for write in (refused[2], refused[3], refused[7]):
            with pytest.raises(NotFound):
                write()
        with pytest.raises(InvalidSettings):
            storage.change_bucket(name, refuse, act=act)
        taken = Bucket(name=f"{name}-2", data_group="audited", data_type=name)
        storage.put_bucket(taken)
        with pytest.raises(Conflict):
            storage.put_bucket(dataclasses.replace(taken, name=name), act=act)
        assert storage.take_entry(name, "missing", act=act) is None
        assert not storage.change_entry(name, "missing", bytes.upper, act=act)
        assert storage.audit(bucket=name, limit=10) == []

    def test_the_log_is_paged_by_bucket_and_id(self, storage: Storage, audited: Bucket) -> None:
        other = Bucket(name=f"{audited.name}-2")
        for bucket in (audited, other):
            storage.put_bucket(bucket)
        for n in range(7):
            for bucket in (audited, other):
                act = Act(by="admin", action="records_stored", bucket=bucket.name, records=n)
                storage.save(bucket.name, batch({"_id": f"{n}"}), act=act)
        pages: list[list[int | None]] = []
        before = None
        while page := storage.audit(bucket=audited.name, before=before, limit=3):
            pages.append([entry.act.records for entry in page])
            before = page[-1].id
        assert pages == [[6, 5, 4], [3, 2, 1], [0]]
        newest = storage.audit(limit=4)
        assert [(entry.act.bucket, entry.act.records) for entry in newest] == [
            (other.name, 6),
            (audited.name, 6),
            (other.name, 5),
            (audited.name, 5),
        ]
        assert storage.audit(before=newest[0].id, limit=3) == newest[1:]

    @pytest.mark.parametrize("given", ["", "x", "-1", "1" * 40, "1.5", "٣"])
    def test_what_is_no_id_of_an_entry_is_refused(self, storage: Storage, given: str) -> None:
        with pytest.raises(InvalidQuery) as caught:
            storage.audit(before=given, limit=1)
        assert caught.value.problems[0].where == {"parameter": "before"}

    def test_writes_that_wait_together_are_each_in_the_log(
        self, storage: Storage, audited: Bucket
    ) -> None:
        """The good ones, once each, beside those that fail."""
        name = audited.name
        storage.put_bucket(audited)

        def run(thread: int) -> Callable[[], None]:
            def write() -> None:
                for n in range(10):
                    act = Act(by=f"token:{thread}", action="records_stored", bucket=name, records=n)
                    storage.save(name, batch({"_id": f"{thread}-{n}"}), act=act)
                    with pytest.raises(NotFound):
                        storage.delete(name, "missing", act=act)

            return write

        in_threads([run(thread) for thread in range(6)])
        found = storage.audit(bucket=name, limit=1000)
        assert Counter((entry.act.by, entry.act.records) for entry in found) == Counter(
            (f"token:{thread}", n) for thread in range(6) for n in range(10)
        )
        for thread in range(6):
            own = [entry.act.records for entry in found if entry.act.by == f"token:{thread}"]
            assert own == list(range(10))[::-1]

    def test_the_log_forgets_what_is_older_than_it_is_told(
        self, storage: Storage, audited: Bucket
    ) -> None:
        name = audited.name
        act = Act(by="admin", action="bucket_created", bucket=name)
        storage.put_bucket(audited, act=act)
        storage.prune_audit(datetime.now(UTC) - timedelta(days=1))
        [kept] = storage.audit(bucket=name, limit=10)
        storage.prune_audit(kept.at)
        assert storage.audit(bucket=name, limit=10) == [kept]
        storage.prune_audit(kept.at + timedelta(microseconds=1))
        assert storage.audit(bucket=name, limit=10) == []
        storage.drop_bucket(name, act=act.instead("bucket_dropped"))
        [later] = storage.audit(bucket=name, limit=10)
        assert later.id != kept.id

    # -- writes that are made once ----------------------------------------------------------

    @pytest.mark.parametrize("first", range(len(WRITES)))
    def test_a_write_is_made_once_however_it_is_sent_again(
        self, storage: Storage, first: int
    ) -> None:
        storage.save("things", batch({"_id": "x"}))
        once = kept("one")
        assert storage.done("things", "one") is None
        WRITES[first](storage, once)
        rows, state = stored(storage), storage.state("things")
        for store in self.and_reopened(storage):
            for again in WRITES:
                with pytest.raises(AlreadyDone) as caught:
                    again(store, kept("one"))
                assert caught.value.once == once
            assert store.done("things", "one") == once
            assert store.done("things", "on") is store.done("things", "One") is None
            assert (stored(store), store.state("things")) == (rows, state)
        WRITES[first](store, kept("another"))

    def test_a_key_is_its_buckets_and_any_text(self, storage: Storage) -> None:
        storage.put_bucket(Bucket(name="others"))
        names = ["a", "A", "a/b", "'", "$1", "é", "\U0001f600", " ", "x" * 255]
        onces = {(bucket, n): kept(n) for bucket in ("things", "others") for n in names}
        for (bucket, name), once in onces.items():
            storage.save(bucket, batch({"_id": name}), once=once)
        for store in self.and_reopened(storage):
            found = {known: store.done(*known) for known in onces}
            assert found == onces

    def test_a_dropped_buckets_keys_are_forgotten(self, storage: Storage) -> None:
        """Also where it was replaced meanwhile, and where another is restored in its place."""
        storage.save("things", batch({"_id": "x"}), once=kept("one"))
        storage.replace("things", batch({"_id": "y"}), once=kept("two"))
        for restored in (True, False):
            assert storage.done("things", "one") is not None
            if restored:
                restore(storage, THINGS)
            else:
                storage.drop_bucket("things")
            storage.put_bucket(THINGS)
            for store in self.and_reopened(storage):
                storage = store
                assert store.done("things", "one") is store.done("things", "two") is None
            for key in ("one", "two"):
                storage.save("things", batch({"_id": key}), once=kept(key))
            assert ids(storage) == ["one", "two"]

    def test_a_key_that_has_expired_is_not_known(self, storage: Storage) -> None:
        for n in range(3):
            storage.save("things", batch({"_id": str(n)}), once=kept("one", lasts=timedelta(0)))
            storage = self.reopen(storage)
            assert storage.done("things", "one") is None
        once = kept("one")
        storage.save("things", batch({"_id": "3"}), once=once)
        with pytest.raises(AlreadyDone):
            storage.save("things", batch({"_id": "4"}), once=kept("one", lasts=timedelta(0)))
        assert storage.done("things", "one") == once
        assert ids(storage) == ["0", "1", "2", "3"]

    def test_a_write_that_fails_keeps_no_key(self, storage: Storage) -> None:
        storage.save("things", batch({"_id": "x"}))
        many = batch({"_id": "y", **{f"f{n}": n for n in range(1_001)}})
        failing: list[Callable[[Once], None]] = [
            lambda once: storage.save("things", many, once=once),
            lambda once: storage.replace("things", many, once=once),
            lambda once: storage.update("things", "gone", lambda was: was, once=once),
            lambda once: storage.update("things", "x", lambda was: was | many.rows[0], once=once),
            lambda once: storage.update("things", "x", lambda _: {"_id": 1 // 0}, once=once),
        ]
        for write in failing:
            with pytest.raises((InvalidRecords, NotFound, ZeroDivisionError)):
                write(kept("one"))
            assert storage.done("things", "one") is None
        assert stored(storage) == [{"_id": "x"}]
        once = kept("one")
        storage.save("things", batch({"_id": "y"}), once=once)
        for write in failing:
            with pytest.raises(AlreadyDone) as caught:
                write(kept("one"))
            assert caught.value.once == once

    @pytest.mark.parametrize("write", range(len(WRITES)))
    def test_of_many_at_once_with_one_key_one_writes(self, storage: Storage, write: int) -> None:
        """And none stands in the way of those with other keys."""
        storage.save("things", batch({"_id": "x"}))
        made: list[Once] = []
        found: list[Once] = []

        def run(key: str) -> Callable[[], None]:
            def once() -> None:
                mine = kept(key)
                try:
                    WRITES[write](storage, mine)
                    made.append(mine)
                except AlreadyDone as done:
                    found.append(done.once)

            return once

        keys = [f"key-{n % 3}" for n in range(12)]
        in_threads([run(key) for key in keys])
        assert sorted(one.key for one in made) == ["key-0", "key-1", "key-2"]
        assert Counter(found) == dict.fromkeys(made, 3)
        for store in self.and_reopened(storage):
            assert all(store.done("things", one.key) == one for one in made)

    # -- entries ----------------------------------------------------------------------------

    @pytest.fixture
    def kind(self) -> str:
        """A kind of entries that no other test has."""
        return f"kind-{time.time_ns()}"

    def test_an_entry_is_kept_until_it_is_replaced_or_taken(
        self, storage: Storage, kind: str
    ) -> None:
        later = datetime.now(UTC) + timedelta(days=1)
        entry = Entry(kind, "a@b.example", bytes(range(256)) * 4, later)
        assert storage.entry(kind, entry.key) is None
        for kept in (Entry(kind, entry.key, b"", None), entry):
            storage.put_entry(kept)
            for store in self.and_reopened(storage):
                storage = store
                assert store.entry(kind, entry.key) == kept
                assert store.entry(f"{kind}s", entry.key) is None
        assert storage.take_entry(kind, entry.key) == entry
        for store in self.and_reopened(storage):
            assert store.entry(kind, entry.key) is None
            assert store.take_entry(kind, entry.key) is None

    def test_entries_are_listed_by_kind_and_key(self, storage: Storage, kind: str) -> None:
        kept = [Entry(kind, key, key.encode()) for key in ("Z", "a", "a/b", "é", "\U0001f600")]
        for entry in [*reversed(kept), Entry(f"{kind}s", "other", b"")]:
            storage.put_entry(entry)
        assert storage.entries(kind) == kept
        assert storage.entries(f"{kind}x") == []

    def test_lasting_entries_are_those_of_all_kinds_that_do_not_expire(
        self, storage: Storage, kind: str
    ) -> None:
        kept = [Entry(f"{kind}-{n}", key, b"x") for n in range(2) for key in ("Z", "a")]
        for entry in reversed(kept):
            storage.put_entry(entry)
        storage.put_entry(Entry(kind, "session", b"x", datetime.now(UTC) + timedelta(days=1)))
        for store in self.and_reopened(storage):
            found = store.lasting_entries()
            assert [entry for entry in found if entry.kind.startswith(kind)] == kept
            assert all(entry.expires_at is None for entry in found)

    def test_an_entry_that_has_expired_is_not_there(self, storage: Storage, kind: str) -> None:
        gone = Entry(kind, "gone", b"x", datetime.now(UTC))
        storage.put_entry(gone)
        storage.put_entry(Entry(kind, "here", b"x"))
        assert storage.entry(kind, "gone") is None
        assert [entry.key for entry in storage.entries(kind)] == ["here"]
        assert storage.take_entry(kind, "gone") is None

    def test_an_entry_may_be_as_large_as_is_said(self, storage: Storage, kind: str) -> None:
        large = Entry(kind, "large", bytes(MOST_ENTRY_BYTES))
        storage.put_entry(large)
        assert storage.take_entry(kind, "large") == large

    def test_of_many_that_take_an_entry_one_gets_it(self, storage: Storage, kind: str) -> None:
        taken: list[Entry | None] = []
        storage.put_entry(Entry(kind, "one", b"x"))
        in_threads([lambda: taken.append(storage.take_entry(kind, "one"))] * 8)
        assert sorted(taken, key=bool) == [None] * 7 + [Entry(kind, "one", b"x")]

    def test_no_change_of_an_entry_is_lost(self, storage: Storage, kind: str) -> None:
        later = datetime.now(UTC) + timedelta(days=1)
        storage.put_entry(Entry(kind, "one", b"", later))
        changed: list[bool] = []
        add = partial(storage.change_entry, kind, "one", lambda value: value + b"x")
        in_threads([lambda: changed.append(add())] * 8)
        assert changed == [True] * 8
        for store in self.and_reopened(storage):
            assert store.entry(kind, "one") == Entry(kind, "one", b"x" * 8, later)

    def test_what_is_no_entry_is_not_changed(self, storage: Storage, kind: str) -> None:
        storage.put_entry(Entry(kind, "gone", b"x", datetime.now(UTC)))
        for key in ("gone", "never"):
            assert storage.change_entry(kind, key, lambda _: b"y") is False
            assert storage.entry(kind, key) is None

    # -- the store itself -------------------------------------------------------------------

    def test_a_store_that_is_open_answers(self, storage: Storage) -> None:
        storage.check()
        self.reopen(storage).check()

    def test_a_store_can_be_closed(self, storage: Storage) -> None:
        storage.save("things", batch({"_id": "x", "aa": 1}))
        with storage.records("things", Query()) as pages:
            next(pages)
        storage = self.reopen(storage)
        assert read(storage) == [{"_id": "x", "aa": 1}]
