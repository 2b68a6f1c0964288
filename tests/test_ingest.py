"""The write path on the memory engine, and the read path beside it."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from backdrop.answer import answer
from backdrop.domain.bucket import Bucket
from backdrop.domain.period import Period
from backdrop.domain.query import Collect, Query
from backdrop.domain.times import parse_instant
from backdrop.errors import InvalidQuery, InvalidRecords, NotFound
from backdrop.ingest import Receipt, ingest, ingest_patch
from backdrop.storage.memory import MemoryStorage

THINGS = Bucket(name="things")
KEYED = Bucket(name="keyed", auto_ids=("foo",))
STRICT = Bucket(
    name="strict", schema={"required": ["aa"], "properties": {"aa": {"type": "integer"}}}
)


@pytest.fixture
def storage() -> MemoryStorage:
    store = MemoryStorage()
    for bucket in (THINGS, KEYED, STRICT):
        store.put_bucket(bucket)
    return store


def contents(storage: MemoryStorage, bucket: Bucket) -> list[dict[str, Any]]:
    with answer(storage, bucket, Query()) as pages:
        return [row for page in pages for row in page]


# -- records --------------------------------------------------------------------------------


def test_what_was_received_is_counted_and_stored(storage: MemoryStorage) -> None:
    receipt = ingest(storage, THINGS, [{"_id": "x", "aa": 1}, {"_id": "y", "aa": 2}])
    assert receipt == Receipt(2)
    assert contents(storage, THINGS) == [{"_id": "x", "aa": 1}, {"_id": "y", "aa": 2}]


def test_records_counts_those_received_also_two_of_one_id(storage: MemoryStorage) -> None:
    assert ingest(storage, THINGS, [{"_id": "x", "aa": 1}, {"_id": "x", "aa": 2}]) == Receipt(2)
    assert contents(storage, THINGS) == [{"_id": "x", "aa": 2}]


def test_an_empty_batch_is_no_records(storage: MemoryStorage) -> None:
    ingest(storage, THINGS, [{"_id": "x"}])
    assert ingest(storage, THINGS, []) == Receipt(0)
    assert contents(storage, THINGS) == [{"_id": "x"}]


def test_one_bad_record_keeps_all_out(storage: MemoryStorage) -> None:
    ingest(storage, THINGS, [{"_id": "x", "aa": 1}])
    before = storage.state("things")
    for replace in (False, True):
        with pytest.raises(InvalidRecords) as caught:
            ingest(storage, THINGS, [{"_id": "x", "aa": 2}, {"aa": []}], replace=replace)
        assert [p.where for p in caught.value.problems] == [{"index": 1, "field": "aa"}]
    assert contents(storage, THINGS) == [{"_id": "x", "aa": 1}]
    assert storage.state("things") == before


def test_the_schema_is_asked(storage: MemoryStorage) -> None:
    with pytest.raises(InvalidRecords) as caught:
        ingest(storage, STRICT, [{"aa": 1}, {"bb": 1}, {"aa": "x"}])
    assert [(p.code, p.where) for p in caught.value.problems] == [
        ("schema_violation", {"index": 1}),
        ("schema_violation", {"index": 2, "field": "aa"}),
    ]
    assert ingest(storage, STRICT, [{"aa": 1}]) == Receipt(1)


def test_replace_makes_the_batch_all_there_is(storage: MemoryStorage) -> None:
    ingest(storage, THINGS, [{"_id": "x"}, {"_id": "y"}])
    assert ingest(storage, THINGS, [{"_id": "z"}, {"_id": "x", "aa": 1}], replace=True) == Receipt(
        2
    )
    assert contents(storage, THINGS) == [{"_id": "z"}, {"_id": "x", "aa": 1}]
    assert ingest(storage, THINGS, [], replace=True) == Receipt(0)
    assert contents(storage, THINGS) == []


def test_an_unknown_bucket_is_not_found(storage: MemoryStorage) -> None:
    with pytest.raises(NotFound):
        ingest(storage, Bucket(name="gone"), [{"aa": 1}])
    with pytest.raises(NotFound):
        ingest(storage, Bucket(name="gone"), [], replace=True)
    with pytest.raises(NotFound):
        ingest_patch(storage, Bucket(name="gone"), "x", {"aa": 1})


# -- ids ------------------------------------------------------------------------------------


def test_ids_made_here_are_unique_over_batches_and_threads(storage: MemoryStorage) -> None:
    def run() -> None:
        for _ in range(50):
            ingest(storage, THINGS, [{"aa": 1}, {"aa": 2}])

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert storage.state("things").records == 400


def test_ids_made_here_keep_the_rules_of_ids(storage: MemoryStorage) -> None:
    ingest(storage, THINGS, [{"aa": n} for n in range(20)])
    kept = contents(storage, THINGS)
    ingest(storage, THINGS, kept, replace=True)  # read back, they are ids that may be given
    assert contents(storage, THINGS) == kept
    assert [row["aa"] for row in kept] == list(range(20))


def test_automatic_ids_replace(storage: MemoryStorage) -> None:
    ingest(storage, KEYED, [{"foo": "a", "aa": 1}, {"foo": "b", "aa": 1}])
    ingest(storage, KEYED, [{"foo": "a", "aa": 2}])
    assert [(row["foo"], row["aa"]) for row in contents(storage, KEYED)] == [("b", 1), ("a", 2)]


# -- patches --------------------------------------------------------------------------------


def test_a_patch_is_stored(storage: MemoryStorage) -> None:
    ingest(storage, THINGS, [{"_id": "x", "aa": 1, "bb": 2}])
    assert ingest_patch(storage, THINGS, "x", {"aa": None}) == Receipt(1)
    assert contents(storage, THINGS) == [{"_id": "x", "aa": None, "bb": 2}]


def test_a_patch_of_no_record_is_not_found_even_if_it_is_bad(storage: MemoryStorage) -> None:
    with pytest.raises(NotFound):
        ingest_patch(storage, THINGS, "x", {"aa": 1})
    with pytest.raises(NotFound):
        ingest_patch(storage, THINGS, "x", {"aa": []})


@pytest.mark.parametrize("raw", [{"aa": []}, {}, [], None, {"_id": "y"}, {"_timestamp": None}])
def test_a_bad_patch_changes_nothing(storage: MemoryStorage, raw: Any) -> None:
    ingest(storage, THINGS, [{"_id": "x", "aa": 1}])
    before = storage.state("things")
    with pytest.raises(InvalidRecords):
        ingest_patch(storage, THINGS, "x", raw)
    assert contents(storage, THINGS) == [{"_id": "x", "aa": 1}]
    assert storage.state("things") == before


def test_a_patch_keeps_the_schema_and_the_automatic_id(storage: MemoryStorage) -> None:
    ingest(storage, STRICT, [{"_id": "x", "aa": 1}])
    with pytest.raises(InvalidRecords, match="nothing was stored"):
        ingest_patch(storage, STRICT, "x", {"aa": "text"})
    ingest_patch(storage, STRICT, "x", {"bb": "text"})
    ingest(storage, KEYED, [{"foo": "a"}])
    (record,) = contents(storage, KEYED)
    with pytest.raises(InvalidRecords, match="nothing was stored"):
        ingest_patch(storage, KEYED, record["_id"], {"foo": "b"})


def test_patches_of_one_record_from_many_threads_all_count(storage: MemoryStorage) -> None:
    ingest(storage, THINGS, [{"_id": "x"}])

    def run(thread: int) -> None:
        for n in range(25):
            ingest_patch(storage, THINGS, "x", {f"f{thread}_{n}": n})

    threads = [threading.Thread(target=run, args=[n]) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(contents(storage, THINGS)[0]) == 101


# -- answers --------------------------------------------------------------------------------


def test_a_raw_answer_comes_in_pages_of_records(storage: MemoryStorage) -> None:
    ingest(storage, THINGS, [{"_id": str(n)} for n in range(4_500)])
    with answer(storage, THINGS, Query(limit=4_200)) as pages:
        found = [len(page) for page in pages]
    assert sum(found) == 4_200
    assert max(found) <= 2_000


def test_an_answer_of_groups_is_one_page_filled_over_the_range(storage: MemoryStorage) -> None:
    ingest(storage, THINGS, [{"_timestamp": "2013-01-02T12:00", "aa": 1}])
    query = Query(
        period=Period("day"),
        start=parse_instant("2013-01-01"),
        end=parse_instant("2013-01-04"),
        collect=(Collect("aa", "sum"),),
    )
    with answer(storage, THINGS, query) as pages:
        (page,) = list(pages)
    assert [(row["_start_at"][:10], row["_count"], row["aa:sum"]) for row in page] == [
        ("2013-01-01", 0, None),
        ("2013-01-02", 1, 1),
        ("2013-01-03", 0, None),
    ]


@pytest.mark.parametrize("end", ["start", "end"])
def test_with_half_a_range_nothing_is_filled(storage: MemoryStorage, end: str) -> None:
    ingest(storage, THINGS, [{"_timestamp": "2013-01-02"}, {"_timestamp": "2013-01-05"}])
    bound = {"start": parse_instant("2013-01-01"), "end": parse_instant("2014-01-01")}[end]
    query = Query(period=Period("day"), **{end: bound})  # type: ignore[arg-type]
    with answer(storage, THINGS, query) as pages:
        assert [row["_count"] for page in pages for row in page] == [1, 1]


def test_what_is_wrong_with_a_query_is_raised_on_entering(storage: MemoryStorage) -> None:
    ingest(storage, THINGS, [{"aa": "text", "bb": 1}])
    query = Query(group_by=("bb",), collect=(Collect("aa", "sum"),))
    with pytest.raises(InvalidQuery, match="aa holds values that are not numbers"):  # noqa: SIM117
        with answer(storage, THINGS, query):
            raise AssertionError("entered")
    with pytest.raises(NotFound):  # noqa: SIM117
        with answer(storage, Bucket(name="gone"), Query()):
            raise AssertionError("entered")
