"""The MongoDB engine keeps the contract."""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import bson.errors
import pymongo.errors
import pytest
from bson.errors import BSONError
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import PyMongoError

from backdrop.domain.bucket import Bucket
from backdrop.domain.once import AlreadyDone
from backdrop.domain.period import FIRST_INSTANT, Period
from backdrop.domain.query import Collect, Equals, Query
from backdrop.domain.table import Records
from backdrop.domain.token import hash_token
from backdrop.domain.values import INT64_MAX, Record
from backdrop.errors import (
    BodyTooLarge,
    InvalidQuery,
    NotFound,
    StorageFull,
    StorageUnavailable,
)
from backdrop.storage.mongodb.engine import MongoDBStorage
from backdrop.storage.mongodb.failures import driver_errors
from backdrop.storage.open import open_storage
from backdrop.storage.port import Storage
from tests.storage import mongodb as server
from tests.storage.contract import THINGS, StorageContract, in_threads, kept, token
from tests.storage.exact import batch, exact, ids, read

BEGIN = datetime(2013, 1, 1, tzinfo=UTC)


class TestMongoDBStorage(StorageContract):
    url: str
    opened: MongoDBStorage

    @pytest.fixture
    def storage(self, mongodb: str) -> Iterator[Storage]:
        # One for all: to make one takes a while.
        self.url = server.database(mongodb, f"contract-{os.getpid()}")
        self.opened = MongoDBStorage(self.url)
        server.empty(self.opened)
        yield self.opened
        self.opened.close()

    def reopen(self, storage: Storage) -> Storage:
        assert storage is self.opened, "only the open store can be reopened"
        self.opened.close()
        self.opened = MongoDBStorage(self.url)
        return self.opened


@pytest.fixture
def url(mongodb: str) -> Iterator[str]:
    url = server.database(mongodb)
    yield url
    server.drop(url)


@pytest.fixture
def two(url: str) -> Iterator[tuple[Storage, Storage]]:
    """Two stores over one database, as two processes have them."""
    with ExitStack() as stack:
        stores = [stack.enter_context(closing(open_storage(url))) for _ in range(2)]
        stores[0].put_bucket(THINGS)
        yield stores[0], stores[1]


def test_what_one_process_changes_another_sees_at_once(two: tuple[Storage, Storage]) -> None:
    one, other = two
    one.put_bucket(Bucket(name="others"), first_token=token("first", "others"))
    assert other.token(hash_token("first")) == token("first", "others")
    other.drop_token("others", "id-first")
    assert one.token(hash_token("first")) is None
    one.put_bucket(Bucket(name="others", realtime=True))
    assert other.bucket("others").realtime
    for n in range(20):
        one.save("things", batch({"_id": f"{n}"}))
        assert ids(other)[-1] == f"{n}"
        assert other.state("things") == one.state("things")
        other.replace("things", batch({"_id": f"{n}", "aa": n}))
        assert read(one) == [{"_id": f"{n}", "aa": n}]
    other.drop_bucket("things")
    with pytest.raises(NotFound):
        one.save("things", batch({"_id": "late"}))


def test_processes_that_write_to_one_bucket_lose_nothing(two: tuple[Storage, Storage]) -> None:
    """Updates, new records and records of the same ids, from both at once."""
    one, other = two
    one.save("things", batch({"_id": "x", "aa": 0}))

    def run(store: Storage, name: str) -> Callable[[], None]:
        def write() -> None:
            for n in range(15):
                store.update("things", "x", lambda was: {**was, "aa": int(str(was["aa"])) + 1})
                store.save("things", batch({"_id": f"{name}-{n}"}, {"_id": f"shared-{n}"}))

        return write

    in_threads([run(one, "a"), run(one, "b"), run(other, "c"), run(other, "d")])
    found = read(one)
    assert {"_id": "x", "aa": 60} in found
    assert len({row["_id"] for row in found}) == len(found) == other.state("things").records == 76
    assert found == read(other)


def test_processes_that_make_one_bucket_make_it_once(two: tuple[Storage, Storage]) -> None:
    made: list[bool] = []

    def run(store: Storage, text: str) -> Callable[[], None]:
        bucket = Bucket(name="others", data_group="aa", data_type="bb")
        return lambda: made.append(store.put_bucket(bucket, first_token=token(text, "others")))

    in_threads([run(two[n % 2], f"token-{n}") for n in range(6)])
    assert sorted(made) == [False] * 5 + [True]
    assert len(two[0].tokens("others")) == 1


@pytest.mark.parametrize("limit", [150, 2_000])
def test_a_page_of_records_takes_one_question(url: str, limit: int) -> None:
    """Beside the one for its bucket: it does not begin with a hundred, nor end with none."""
    with closing(open_storage(url)) as storage, MongoClient[dict[str, Any]](url) as client:
        storage.put_bucket(THINGS)
        times = [{"_id": f"{n}", "_timestamp": BEGIN + timedelta(0, n)} for n in range(2_500)]
        storage.save("things", batch(*times))
        database = client.get_default_database()
        database.command("profile", 2)
        assert len(read(storage, query=Query(start=BEGIN, limit=limit))) == limit
        database.command("profile", 0)
        asked = [(one["op"], one["nreturned"]) for one in database["system.profile"].find()]
    assert asked == [("query", 1), ("query", limit)]


def test_a_buckets_indexes_are_there_before_its_records(url: str) -> None:
    """And with those that take the place of others."""
    with closing(open_storage(url)) as storage, MongoClient[dict[str, Any]](url) as client:
        database = client.get_default_database()
        storage.put_bucket(THINGS)
        for _ in range(2):
            name = database["buckets"].find_one({"_id": "things"})["collection"]
            assert set(database[name].index_information()) == {"_id_", "_timestamp_1__seq_1"}
            storage.replace("things", batch({"_id": "x"}))


@pytest.mark.parametrize(
    ("asked", "plan"),
    [
        (Query(group_by=("kind",)), "COLLSCAN"),
        (Query(group_by=("kind",), filters=(Equals("kind", ("a",)),)), "COLLSCAN"),
        (Query(group_by=("kind",), start=BEGIN, end=BEGIN + timedelta(80)), "COLLSCAN"),
        (Query(group_by=("kind",), start=BEGIN, end=BEGIN + timedelta(2)), "IXSCAN"),
        (Query(group_by=("kind",), filters=(Equals("_id", ("7",)),)), "IXSCAN"),
    ],
)
def test_an_index_is_read_only_where_it_is_narrow(url: str, asked: Query, plan: str) -> None:
    """Where it would take most of the records, they are read as they lie, which is faster."""
    with closing(open_storage(url)) as storage, MongoClient[dict[str, Any]](url) as client:
        storage.put_bucket(THINGS)
        times = [
            {"_id": f"{n}", "_timestamp": BEGIN + timedelta(n), "kind": "a"} for n in range(100)
        ]
        storage.save("things", batch(*times))
        database = client.get_default_database()
        database.command("profile", 2)
        assert sum(storage.groups("things", asked, most_rows=9).counts) > 0
        database.command("profile", 0)
        found = database["system.profile"].find({"command.aggregate": {"$regex": "^records_"}})
        assert [one["planSummary"].split()[0] for one in found] == [plan]


def test_ties_stand_in_the_order_of_storing_whichever_process_stored(
    two: tuple[Storage, Storage],
) -> None:
    for n in range(20):
        two[n % 2].save("things", batch({"_id": str(n)}))
    assert ids(two[0]) == [str(n) for n in range(20)]


def test_what_was_replaced_goes_once_nobody_can_read_it(url: str) -> None:
    def collections() -> int:
        with MongoClient[dict[str, object]](url) as client:
            names = client.get_default_database().list_collection_names()
        return sum(name.startswith("records_") for name in names)

    for kept_for, left in ((timedelta(0), 1), (timedelta(hours=1), 4)):
        with closing(MongoDBStorage(url, kept_for=kept_for)) as store:
            store.put_bucket(THINGS)
            for n in range(3):
                store.replace("things", batch({"_id": str(n)}))
            assert collections() == left
            assert ids(store) == ["2"]
    with closing(MongoDBStorage(url, kept_for=timedelta(0))):
        assert collections() == 1, "what is left over is swept when a store is opened"


def test_a_bucket_that_is_being_restored_is_kept_however_long_it_takes(url: str) -> None:
    """What is left of a cut one is swept once nothing has come for a while."""
    with ExitStack() as stack:
        hasty = stack.enter_context(closing(MongoDBStorage(url, kept_for=timedelta(0))))
        store = stack.enter_context(closing(MongoDBStorage(url)))
        with store.restoring(THINGS, tokens=[], last_written=None) as put:
            put(batch({"_id": "x"}))
            store.put_bucket(Bucket(name="others"))
            store.drop_bucket("others")  # which sweeps
            put(batch({"_id": "y"}))
        assert ids(hasty) == ["x", "y"]
        with pytest.raises(StorageUnavailable, match="given up"):
            _restore_while(hasty.drop_bucket, store, hasty)
        assert ids(hasty) == ["x", "y"]


def _restore_while(sweep: Callable[[str], None], store: Storage, other: Storage) -> None:
    with store.restoring(THINGS, tokens=[], last_written=None) as put:
        other.put_bucket(Bucket(name="others"))
        sweep("others")
        put(batch({"_id": "z"}))


def test_a_batch_too_large_for_one_transaction_is_stored_whole(
    two: tuple[Storage, Storage],
) -> None:
    """New records and replaced ones, more than 25,000, twice."""
    size = 25_001
    one, other = two
    one.save("things", batch({"_id": "first"}, {"_id": "7", "aa": "old"}))
    rows: list[Record] = [
        {"_id": str(n), "_timestamp": FIRST_INSTANT, "aa": n} for n in range(size)
    ]
    for store in (one, other):
        store.save("things", Records.of(rows))
    other.save("things", batch({"_id": "last"}))
    assert one.state("things").records == size + 2
    found = other.groups("things", Query(group_by=("_timestamp",)), most_rows=2)
    assert found.counts == [size]
    query = Query(filters=(Equals("_id", ("last", "7", "first")),))
    assert read(other, query=query) == [rows[7], {"_id": "first"}, {"_id": "last"}]


@pytest.mark.parametrize("size", [1, 25_001])
def test_processes_that_write_with_one_key_write_once(
    two: tuple[Storage, Storage], size: int
) -> None:
    """Also what is too large for one transaction, and so goes through a copy."""
    found: list[AlreadyDone] = []

    def run(store: Storage, name: str) -> Callable[[], None]:
        def save() -> None:
            rows = Records.of([{"_id": f"{name}-{n}"} for n in range(size)])
            try:
                store.save("things", rows, once=kept("one"))
            except AlreadyDone as done:
                found.append(done)

        return save

    in_threads([run(two[n % 2], str(n)) for n in range(4)])
    assert len(found) == 3
    assert {done.once for done in found} == {two[0].done("things", "one")}
    assert two[0].state("things").records == len(ids(two[1])) == size


def test_a_record_past_the_servers_limit_is_refused(two: tuple[Storage, Storage]) -> None:
    huge = "x" * (16 * 2**20)
    for write in (two[0].save, two[0].replace):
        with pytest.raises(BodyTooLarge):
            write("things", batch({"_id": "small"}, {"_id": "huge", "aa": huge}))
        assert ids(two[1]) == []


def test_no_error_of_the_driver_leaves_the_engine() -> None:
    """Each class that PyMongo and bson can raise becomes an error of our own."""
    kinds = [
        kind
        for module in (pymongo.errors, bson.errors)
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, (PyMongoError, BSONError))
    ]
    assert len(kinds) > 20
    for kind in kinds:
        with pytest.raises((StorageUnavailable, BodyTooLarge)), driver_errors():
            raise made(kind)


def made(kind: type[Exception]) -> Exception:
    if kind is pymongo.errors.BulkWriteError:
        return kind({"writeErrors": [{"code": 1, "errmsg": "made up"}]})
    if kind is pymongo.errors.ClientBulkWriteException:
        return kind({"error": None}, verbose=False)
    if issubclass(kind, pymongo.errors.OperationFailure):
        return kind("made up", 1)
    error = kind.__new__(kind)
    Exception.__init__(error, "made up")
    return error


def test_what_may_be_logged_of_an_error_holds_no_record() -> None:
    failed = {"code": 1, "errmsg": "made up", "op": {"aa": "private"}}
    with pytest.raises(StorageUnavailable) as caught, driver_errors():
        raise pymongo.errors.BulkWriteError({"writeErrors": [failed]})
    assert "made up" in str(caught.value.__cause__)
    assert "private" not in str(caught.value.__cause__)


def test_a_full_disk_of_the_database_is_told_as_one() -> None:
    """OutOfDiskSpace, of a command or within a batch, is what a full disk is on any store."""
    code = 14031
    of_a_batch = {"writeErrors": [{"code": code, "errmsg": "made up"}]}
    for error in (
        pymongo.errors.OperationFailure("made up", code, {"code": code, "errmsg": "made up"}),
        pymongo.errors.BulkWriteError(of_a_batch),
    ):
        with pytest.raises(StorageFull), driver_errors():
            raise error


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(StorageUnavailable, match="can't open the store"):
            open_storage(f"mongodb://127.0.0.1:{port}/none?serverSelectionTimeoutMS=200")


@pytest.mark.parametrize("wrong", ["mongodb://", "mongodb://host:port/db"])
def test_a_url_that_makes_no_sense_says_so(wrong: str) -> None:
    with pytest.raises(StorageUnavailable, match="URL"):
        open_storage(wrong)


@pytest.mark.parametrize(
    "password",
    ["hush?hush", "hush?w=1&hush", "8080?hush", "8080/hush", "1?hush=1", "a@b?hush", "hush#1"],
)
def test_no_part_of_a_password_is_shown_however_it_is_spelt(
    password: str, recwarn: pytest.WarningsRecorder
) -> None:
    """Nor taken for a host, an option, or a database, which messages name."""
    with pytest.raises(StorageUnavailable) as caught:
        open_storage(f"mongodb://user:{password}@127.0.0.1:1/db?serverSelectionTimeoutMS=100")
    assert not set(re.findall(r"hush|8080", caught.value.message))
    assert not list(recwarn)


@pytest.mark.parametrize("option", ["replicaSe=rs0", "connectTimeoutMS=soon"])
def test_an_option_that_would_be_passed_over_is_refused(option: str) -> None:
    name = option.partition("=")[0].lower()
    with pytest.raises(StorageUnavailable, match=f"(?i)can't use the store's URL: .*{name}"):
        open_storage(f"mongodb://user:hush@127.0.0.1:1/db?{option}")


def test_an_election_loses_no_acknowledged_write(url: str, two: tuple[Storage, Storage]) -> None:
    """The primary steps down while two write: what they were told is stored is there, once."""
    told: list[str] = []

    def run(store: Storage, name: str) -> Callable[[], None]:
        def write() -> None:
            left = 10
            for n in range(10_000):
                with suppress(StorageUnavailable):
                    store.save("things", batch({"_id": f"{name}-{n}"}))
                    told.append(f"{name}-{n}")
                    left -= stepped.is_set()
                if not left:
                    return
            raise AssertionError("no write was stored any more")

        return write

    stepped = threading.Event()

    def step_down() -> None:
        with MongoClient[dict[str, object]](url) as client:
            client.admin.command("replSetStepDown", 5, force=True)
        stepped.set()

    in_threads([run(two[0], "a"), run(two[1], "b"), step_down])
    found = ids(two[0])
    assert len(found) == len(set(found)) == two[1].state("things").records
    assert set(told) <= set(found)


SUMS = Query(group_by=("kk",), collect=(Collect("aa", "sum"), Collect("aa", "count")))


def summed(store: Storage) -> list[object]:
    """What the one group of `SUMS` is."""
    found = store.groups("things", SUMS, most_rows=2)
    return [*found.counts, *(column[0] for column in found.reduced.values())]


def test_sums_are_right_whatever_was_known_of_the_values_before(
    two: tuple[Storage, Storage],
) -> None:
    """Each write brings a kind of value that no record had, by any way to write."""
    one, other = two
    one.save("things", batch({"_id": "x", "kk": "k", "aa": 1}, {"_id": "y", "kk": "k", "aa": 2}))
    assert exact(summed(other)) == exact([2, 3, 2])
    other.save("things", batch({"_id": "z", "kk": "k"}))
    assert exact(summed(one)) == exact([3, 3, 2])
    one.update("things", "z", lambda was: {**was, "aa": 0.5})
    assert exact(summed(other)) == exact([3, 3.5, 3])
    other.save("things", batch({"_id": "no key", "aa": 1}, {"_id": "z", "kk": "k", "aa": None}))
    assert exact(summed(one)) == exact([3, 3, 2])
    one.replace("things", batch({"_id": "x", "kk": "k", "aa": INT64_MAX}))
    other.save("things", batch({"_id": "y", "kk": "k", "aa": INT64_MAX}))
    assert exact(summed(one)) == exact([2, 2 * INT64_MAX, 2])
    one.update("things", "x", lambda was: {**was, "aa": True})
    with pytest.raises(InvalidQuery, match="aa"):
        summed(other)
    rows = [{"_id": f"{n}", "kk": "k", "aa": 1.5} for n in range(25_001)]
    other.save("things", Records.of([*rows, {"_id": "x", "kk": "k", "aa": 1.5}]))
    other.delete("things", "y")
    assert exact(summed(one)) == exact([25_002, 25_002 * 1.5, 25_002])


@pytest.mark.parametrize("value", [0.5, "text", None])
@pytest.mark.parametrize("puts", [False, True])
def test_a_process_of_before_that_counts_no_values_may_write_too(
    url: str, two: tuple[Storage, Storage], value: object, puts: bool
) -> None:
    """It changes what it knows of the bucket's document, and leaves the tally as it is."""
    one, other = two
    one.save("things", batch({"_id": "x", "kk": "k", "aa": 1}))
    stored = {"_id": "y", "kk": "k", "aa": value, "_seq": 0 if puts else 1}
    with MongoClient[dict[str, Any]](url) as client:
        database = client.get_default_database()
        change: dict[str, Any] = {"$inc": {"changes": 1, "records": 1, "stored": 1}}
        if puts:
            change = {"$set": {"collection": "records_new", "stored": 1}, "$inc": {"changes": 1}}
        database["buckets"].update_one({"_id": "things"}, change)
        database[one_collection(database, puts)].insert_one(stored)
    for store in two:
        kept = [] if puts else [1]
        if isinstance(value, str):
            with pytest.raises(InvalidQuery, match="aa"):
                summed(store)
        else:
            added = kept if value is None else [*kept, value]
            total = sum(added) if added else None
            assert exact(summed(store)) == exact([len(kept) + 1, total, len(added)])
    other.replace("things", batch({"_id": "x", "kk": "k", "aa": 7}))
    assert exact(summed(one)) == exact([1, 7, 1])


def one_collection(database: Database[dict[str, Any]], puts: bool) -> str:
    (bucket,) = database["buckets"].find({"_id": "things"})
    assert puts is (bucket["collection"] == "records_new")
    return str(bucket["collection"])


@pytest.mark.parametrize("apart", [timedelta(milliseconds=1), timedelta(microseconds=1)])
@pytest.mark.parametrize("name", ["hour", "day", "week"])
def test_times_next_to_the_turn_of_a_period_are_in_theirs(
    two: tuple[Storage, Storage], name: str, apart: timedelta
) -> None:
    """In all years: whole milliseconds, which become floats, and what those would not hold."""
    one, other = two
    period = Period(name)
    turns = [period.start(datetime(year, 6, 15, 12, 30, tzinfo=UTC)) for year in _YEARS]
    ends = [{"_id": f"end of {turn}", "_timestamp": turn - apart} for turn in turns]
    one.save("things", batch(*ends))
    other.save("things", batch(*({"_id": f"{turn}", "_timestamp": turn} for turn in turns)))
    found = one.groups("things", Query(period=period), most_rows=1_000)
    expected = [start for turn in turns for start in (period.start(turn - apart), turn)]
    assert sorted(found.starts or ()) == expected
    assert set(found.counts) == {1}


_YEARS = [1, 2, 100, 286, 572, 1142, 1970, *range(2000, 2030), 2283, 2284, 4000, 7500, 9999]


def test_a_store_of_before_that_counted_no_milliseconds_is_read(
    url: str, two: tuple[Storage, Storage]
) -> None:
    one, other = two
    turn = datetime(2013, 6, 17, tzinfo=UTC)
    before = turn - timedelta(microseconds=1)
    one.save("things", batch({"_id": "x", "_timestamp": before}))
    with MongoClient[dict[str, Any]](url) as client:
        buckets = client.get_default_database()["buckets"]
        buckets.update_one({}, {"$unset": {"tally.milliseconds": 1}})
    for number in range(2):
        other.save("things", batch({"_id": f"{number}", "_timestamp": turn}))
        found = one.groups("things", Query(period=Period("week")), most_rows=9)
        assert sorted(found.counts) == [1, number + 1]


def test_a_store_of_before_that_has_no_tally_is_read(
    url: str, two: tuple[Storage, Storage]
) -> None:
    one, other = two
    with MongoClient[dict[str, Any]](url) as client:
        client.get_default_database()["buckets"].update_one({}, {"$unset": {"tally": 1}})
    one.save("things", batch({"_id": "x", "kk": "k", "aa": 1}, {"_id": "y", "kk": "k"}))
    other.update("things", "y", lambda was: {**was, "aa": 1.5})
    other.save("things", Records.of([{"_id": f"{n}", "kk": "k", "aa": 0} for n in range(25_001)]))
    assert exact(summed(one)) == exact([25_003, 2.5, 25_003])
