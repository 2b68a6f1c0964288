"""Any sequence of writes leaves an engine with what it leaves the memory engine with."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

from hypothesis import note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from backdrop.domain.bucket import Bucket
from backdrop.domain.once import Once
from backdrop.domain.period import Period
from backdrop.domain.query import Collect, Query, Sort
from backdrop.domain.table import Records
from backdrop.domain.token import Token, hash_token
from backdrop.domain.values import ID, Record
from backdrop.errors import BackdropError
from backdrop.storage.duckdb.engine import DuckDBStorage
from backdrop.storage.memory import MemoryStorage
from backdrop.storage.mongodb.engine import MongoDBStorage
from backdrop.storage.port import Storage
from tests.eventually import eventually
from tests.storage import mongodb as server
from tests.storage.exact import exact, outcome, stored
from tests.strategies import FIELDS, IDS, LONG, batches, instants, records, values, zone

NAMES = ("one", "two", "three")
TOKENS = ("aaaaaaaa", "bbbbbbbb", "cccccccc")
QUERIES = (
    Query(),
    Query(sort=Sort("fee", descending=True)),
    Query(group_by=("kind",), collect=(Collect("fee", "set"), Collect("note", "max"))),
    Query(
        period=Period("day", zone("America/St_Johns")),
        group_by=("Fee",),
        collect=(Collect("kind", "min"), Collect("fee", "count")),
    ),
    Query(period=Period("month"), collect=(Collect("select", "set", by_default=True),)),
)

names = st.sampled_from(NAMES)
one_name = st.just(NAMES[0])
mostly_one = st.one_of(one_name, one_name, names)
some_ids = st.sampled_from(IDS)
_BEGIN = datetime(2113, 1, 1, tzinfo=UTC)
"""In the future: MongoDB removes by its own clock what has expired."""
KEYS = ("a", "b")
onces = st.one_of(
    st.none(),
    st.builds(
        lambda key, number, seconds: (Once(key, str(number), number, _BEGIN), seconds),
        st.sampled_from(KEYS),
        st.integers(0, 3),
        st.sampled_from([0, 5, 60]),
    ),
)
"""What is kept with a write, and for how many seconds; mostly nothing."""
addresses = st.sampled_from([(None, None), (None, None), ("aa", "bb"), ("aa", "cc")])


class Failed(Exception):
    """Raised by a change of a record, to see that it comes out and nothing changes."""


class Stores(RuleBasedStateMachine):
    """The same operations on both engines, and their whole contents compared after each."""

    def __init__(self, where: str) -> None:
        """`where`: what `open` makes of it is an empty store."""
        super().__init__()
        self.where = where
        self.now = _BEGIN
        self.memory = MemoryStorage(clock=lambda: self.now)
        self.engine = self.open()
        self.versions: dict[str, tuple[int, int]] = {}
        self.given: tuple[set[int], set[int]] = (set(), set())
        for name in NAMES[:2]:
            self._make(name)

    def open(self) -> Storage:
        raise NotImplementedError

    def _make(self, name: str) -> None:
        self.both(lambda store: store.put_bucket(Bucket(name=name)))

    def teardown(self) -> None:
        self.engine.close()

    def both(self, use: Callable[[Storage], Any]) -> None:
        """Do it to both; what it returns or raises must be the same."""
        self.now += timedelta(milliseconds=1_500)
        outcomes = []
        for store in (self.memory, self.engine):
            try:
                outcomes.append(("returned", exact(use(store))))
            except (BackdropError, Failed) as error:
                outcomes.append((type(error).__name__, str(error)))
        note(f"{outcomes[0]}")
        assert outcomes[0] == outcomes[1]

    # -- buckets and tokens -----------------------------------------------------------------

    @rule(
        name=names,
        address=addresses,
        text=st.sampled_from(TOKENS),
        with_token=st.booleans(),
        auto_ids=st.lists(st.sampled_from(FIELDS), unique=True, max_size=2).map(tuple),
    )
    def put_bucket(
        self,
        name: str,
        address: tuple[Any, Any],
        text: str,
        with_token: bool,
        auto_ids: tuple[str, ...],
    ) -> None:
        group, kind = address
        bucket = Bucket(name=name, data_group=group, data_type=kind, auto_ids=auto_ids)
        first = self._token(name, text) if with_token else None
        self.both(lambda store: store.put_bucket(bucket, first_token=first))

    @rule(name=names)
    def drop_bucket(self, name: str) -> None:
        self.both(lambda store: store.drop_bucket(name))

    def _token(self, name: str, text: str) -> Token:
        return Token(
            id=f"id-{text}",
            bucket=name,
            hash=hash_token(text),
            scope="write",
            label=text,
            created_at=self.now,
        )

    @rule(name=names, text=st.sampled_from(TOKENS))
    def add_token(self, name: str, text: str) -> None:
        token = self._token(name, text)
        self.both(lambda store: store.add_token(token))

    @rule(name=names, text=st.sampled_from(TOKENS))
    def drop_token(self, name: str, text: str) -> None:
        self.both(lambda store: store.drop_token(name, f"id-{text}"))

    @rule(text=st.sampled_from(TOKENS))
    def use_token(self, text: str) -> None:
        hashed, now = hash_token(text), self.now
        self.both(lambda store: store.token_used(hashed, now))
        eventually(
            lambda: self.engine.token(hashed) == self.memory.token(hashed), seconds=10, every=0.001
        )

    # -- records ----------------------------------------------------------------------------

    @rule(name=mostly_one, batch=batches(), once=onces)
    def save(self, name: str, batch: Records, once: tuple[Once, int] | None) -> None:
        kept = self._kept(once)
        self.both(lambda store: store.save(name, batch, once=kept))

    def _kept(self, once: tuple[Once, int] | None) -> Once | None:
        if once is None:
            return None
        return dataclasses.replace(once[0], expires_at=self.now + timedelta(seconds=once[1]))

    @rule(name=mostly_one, record=records())
    def save_one(self, name: str, record: Record) -> None:
        self.both(lambda store: store.save(name, Records.of([record])))

    @rule(name=mostly_one, rows=st.lists(records(), min_size=1, max_size=5))
    def save_new(self, name: str, rows: list[Record]) -> None:
        stamp = self.now.timestamp()
        numbered = [{**row, ID: f"new-{stamp}-{n}"} for n, row in enumerate(rows)]
        self.both(lambda store: store.save(name, Records.of(numbered, ids_are_new=True)))

    @rule(name=mostly_one, record_id=some_ids, field=st.sampled_from(FIELDS), value=values)
    def replace_one(self, name: str, record_id: str, field: str, value: Any) -> None:
        record: Record = {ID: record_id, field: value}
        self.both(lambda store: store.save(name, Records.of([record])))

    @rule(name=mostly_one, batch=batches(), once=onces)
    def replace_all(self, name: str, batch: Records, once: tuple[Once, int] | None) -> None:
        kept = self._kept(once)
        self.both(lambda store: store.replace(name, batch, once=kept))

    @rule(name=names, parts=st.lists(batches(3), max_size=2), text=st.sampled_from(TOKENS))
    def restore(self, name: str, parts: list[Records], text: str) -> None:
        """Each id once, as it comes out of a store."""
        rows = {row[ID]: row for part in parts for row in part.rows}
        tokens, now = [self._token(name, text)], self.now

        def restore(store: Storage) -> None:
            bucket = Bucket(name=name, description="restored")
            with store.restoring(bucket, tokens=tokens, last_written=now) as put:
                for row in rows.values():
                    put(Records.of([row]))

        self.both(restore)

    @rule(name=mostly_one)
    def empty(self, name: str) -> None:
        self.both(lambda store: store.replace(name, Records.of([])))

    @rule(
        name=mostly_one,
        record_id=some_ids,
        changes=st.dictionaries(st.sampled_from(FIELDS), values, min_size=1, max_size=3),
        time_of=st.one_of(st.none(), instants()),
        once=onces,
    )
    def patch(
        self,
        name: str,
        record_id: str,
        changes: dict[str, Any],
        time_of: datetime | None,
        once: tuple[Once, int] | None,
    ) -> None:
        kept = self._kept(once)
        if time_of is not None:
            changes = {**changes, "_timestamp": time_of}
        self.both(
            lambda store: store.update(name, record_id, lambda stored: stored | changes, once=kept)
        )

    @rule(name=mostly_one, record_id=some_ids, once=onces)
    def fail_to_patch(self, name: str, record_id: str, once: tuple[Once, int] | None) -> None:
        kept = self._kept(once)

        def fail(stored: Record) -> Record:
            raise Failed(str(exact(dict(sorted(stored.items())))))

        self.both(lambda store: store.update(name, record_id, fail, once=kept))

    @rule(name=mostly_one, record_id=some_ids)
    def delete(self, name: str, record_id: str) -> None:
        self.both(lambda store: store.delete(name, record_id))

    @rule()
    def reopen(self) -> None:
        self.engine.close()
        self.engine = self.open()

    # -- what must be the same --------------------------------------------------------------

    @invariant()
    def buckets_and_tokens_are_the_same(self) -> None:
        assert self.engine.buckets() == self.memory.buckets()
        for bucket in self.memory.buckets():
            assert self.engine.tokens(bucket.name) == self.memory.tokens(bucket.name)
            assert self.engine.bucket(bucket.name) == bucket
        for text in TOKENS:
            assert self.engine.token(hash_token(text)) == self.memory.token(hash_token(text))

    @invariant()
    def states_are_the_same_and_versions_change_together(self) -> None:
        before, self.versions = self.versions, {}
        for bucket in self.memory.buckets():
            ours, theirs = self.memory.state(bucket.name), self.engine.state(bucket.name)
            assert (theirs.records, theirs.last_written) == (ours.records, ours.last_written)
            now = ours.version, theirs.version
            self.versions[bucket.name] = now
            then = before.get(bucket.name)
            if then is not None and then[0] == now[0]:
                assert then[1] == now[1], "changed without a write"
                continue
            for new, old, given in zip(now, then or (0, 0), self.given, strict=True):
                assert new > old
                assert new not in given, "used twice"
                given.add(new)

    @invariant()
    def records_are_stored_in_the_same_order(self) -> None:
        for bucket in self.memory.buckets():
            ours, theirs = stored(self.memory, bucket.name), stored(self.engine, bucket.name)
            assert exact(theirs) == exact(ours)

    @invariant()
    def the_same_writes_are_known_as_done(self) -> None:
        for bucket in self.memory.buckets():
            for key in KEYS:
                known = self.memory.done(bucket.name, key)
                assert self.engine.done(bucket.name, key) == known

    @invariant()
    def every_answer_is_the_same(self) -> None:
        for bucket in self.memory.buckets():
            for query in QUERIES:
                expected = outcome(self.memory, bucket, query)
                assert outcome(self.engine, bucket, query) == expected, query


class DuckDBStores(Stores):
    def open(self) -> Storage:
        path = Path(self.where, "store.duckdb")
        return DuckDBStorage(path, clock=lambda: self.now, sorted_at_once=3, gathered_below=2)


class MongoDBStores(Stores):
    def open(self) -> Storage:
        return MongoDBStorage(self.where, clock=lambda: self.now)

    def teardown(self) -> None:
        server.empty(self.engine)
        super().teardown()


_SETTINGS = settings(max_examples=100 if LONG else 20, stateful_step_count=50 if LONG else 25)


def test_duckdb_ends_with_what_memory_has(tmp_path: Path) -> None:
    numbers = count()

    def stores() -> Stores:
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        return DuckDBStores(str(folder))

    run_state_machine_as_test(stores, settings=_SETTINGS)


def test_mongodb_ends_with_what_memory_has(mongodb: str) -> None:
    url = server.database(mongodb)
    run_state_machine_as_test(lambda: MongoDBStores(url), settings=_SETTINGS)
    server.drop(url)
