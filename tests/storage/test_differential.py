"""Any query over any records has the same answer from each engine as from the memory engine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from backdrop.domain.bucket import Bucket
from backdrop.domain.period import PERIOD_NAMES
from backdrop.domain.query import METHODS, Collect, Query
from backdrop.domain.table import Records
from backdrop.domain.values import ID, Record
from backdrop.storage.duckdb.engine import DuckDBStorage
from backdrop.storage.memory import MemoryStorage
from backdrop.storage.mongodb.engine import MongoDBStorage
from backdrop.storage.port import Storage
from tests.storage import mongodb as server
from tests.storage.exact import answered, close_to, exact, outcome, read
from tests.strategies import LONG, ZONES, any_floats, integers, workloads

RECORD_SETS = 1_000 if LONG else 100
QUERIES_A_SET = 20
PAIRS = RECORD_SETS * QUERIES_A_SET
"""How many answers are compared: 2,000, or 20,000 in the long profile."""


@dataclass
class Engines:
    """The memory engine, DuckDB as it is and cutting what it sorts into slices, and MongoDB."""

    memory: Storage
    others: dict[str, Storage]
    compared: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    number: int = 0

    def fill(self, *writes: Records) -> Bucket:
        """A new bucket in each, in which the same was written; drop it when it was read."""
        self.number += 1
        bucket = Bucket(name=f"bucket-{self.number}")
        for store in (self.memory, *self.others.values()):
            store.put_bucket(bucket)
            for batch in writes:
                store.save(bucket.name, batch)
        return bucket

    def drop(self, bucket: Bucket) -> None:
        for store in (self.memory, *self.others.values()):
            store.drop_bucket(bucket.name)

    def compare(self, bucket: Bucket, query: Query) -> None:
        expected = outcome(self.memory, bucket, query)
        for name, store in self.others.items():
            if name == "sliced" and not query.is_raw:
                continue  # only single records are sorted
            found = outcome(store, bucket, query)
            if found != expected:
                note(f"{query}")
            assert found == expected, name
        self.compared += 1
        self.kinds.update(_features(query, expected))


def _features(query: Query, answer: Any) -> Iterator[str]:
    """What a pair is an example of."""
    yield "refused" if isinstance(answer, tuple) else "rows" if answer else "no rows"
    yield "raw" if query.is_raw else "flat" if query.flatten else "groups"
    if query.period is not None:
        yield query.period.name
        yield query.period.zone.key
    for name in ("group_by", "collect", "filters", "start", "end", "sort", "limit"):
        if getattr(query, name):
            yield name
    if query.start is not None and query.end is not None and query.period is not None:
        yield "filled"
    if query.slide is not None:
        yield "slide"
    yield from (collect.method for collect in query.collect)


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory, mongodb: str) -> Iterator[Engines]:
    folder: Path = tmp_path_factory.mktemp("differential")
    whole = DuckDBStorage(folder / "whole.duckdb")
    sliced = DuckDBStorage(folder / "sliced.duckdb", sorted_at_once=3, gathered_below=2)
    url = server.database(mongodb)
    others = {"whole": whole, "sliced": sliced, "mongodb": MongoDBStorage(url)}
    engines = Engines(MemoryStorage(), others)
    yield engines
    for store in engines.others.values():
        store.close()
    server.drop(url)


@settings(max_examples=RECORD_SETS)
@given(workloads(QUERIES_A_SET))
def _compare_answers(engines: Engines, workload: tuple[list[Records], list[Query]]) -> None:
    writes, asked = workload
    bucket = engines.fill(*writes)
    for query in asked:
        engines.compare(bucket, query)
    engines.drop(bucket)


def test_every_answer_is_the_memory_engines_to_the_last_bit(engines: Engines) -> None:
    """Records and queries of every kind, in every zone; as many pairs as were promised."""
    _compare_answers(engines)
    assert engines.compared >= PAIRS
    promised = {"refused", "rows", "no rows", "raw", "flat", "groups", "filled", "slide", *METHODS}
    promised |= {"group_by", "collect", "filters", "start", "end", "sort", "limit"}
    assert promised | {*PERIOD_NAMES} | {*ZONES} <= engines.kinds.keys()


several = st.lists(st.tuples(st.sampled_from("ab"), st.one_of(any_floats, integers)), max_size=20)
positive = st.floats(1e-300, 1e300)
additive = st.lists(st.tuples(st.sampled_from("ab"), positive), max_size=200)


@settings(max_examples=500 if LONG else 40)
@given(several)
def test_sums_of_any_floats_are_near(engines: Engines, rows: list[tuple[str, Any]]) -> None:
    """Within 1e-12 of what was added: where large numbers cancel out, little is left to compare."""
    size = sum(min(abs(value), 1e306) for _, value in rows)
    _compare_sums(engines, rows, scale=size)


@settings(max_examples=500 if LONG else 40)
@given(additive)
def test_sums_of_positive_floats_are_near(engines: Engines, rows: list[tuple[str, Any]]) -> None:
    """Within 1e-12 of the sum itself, where nothing cancels out."""
    _compare_sums(engines, rows, scale=0.0)


def _compare_sums(engines: Engines, rows: list[tuple[str, Any]], *, scale: float) -> None:
    records: list[Record] = [
        {ID: str(n), "kind": kind, "fee": value} for n, (kind, value) in enumerate(rows)
    ]
    bucket = engines.fill(Records.of(records))
    collect = tuple(Collect("fee", method) for method in METHODS)
    query = Query(group_by=("kind",), collect=collect)
    expected = answered(engines.memory, bucket, query)
    for name, store in engines.others.items():
        assert close_to(answered(store, bucket, query), expected, scale=scale), name
        assert exact(read(store, bucket.name)) == exact(records)
    engines.drop(bucket)
