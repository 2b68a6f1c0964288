"""The MongoDB store: reads in snapshots, writes in transactions, keeps nothing in the process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import chain, islice
from typing import TypeVar

from pymongo.errors import DuplicateKeyError

from backdrop.domain.audit import Act, AuditEntry
from backdrop.domain.bucket import Bucket
from backdrop.domain.entry import Entry
from backdrop.domain.once import Once
from backdrop.domain.period_key import microseconds
from backdrop.domain.query import Query
from backdrop.domain.shape import Groups
from backdrop.domain.table import Records
from backdrop.domain.token import Token
from backdrop.domain.values import MOST_FIELDS, Record
from backdrop.errors import NotFound, StorageUnavailable
from backdrop.storage.mongodb.audit import Audit
from backdrop.storage.mongodb.catalogue import Catalogue
from backdrop.storage.mongodb.connection import (
    LONGEST_WRITE,
    SOON,
    TRIES,
    Connection,
    Session,
    asks,
)
from backdrop.storage.mongodb.documents import (
    Document,
    address,
    chunks,
    to_bucket,
    to_state,
    to_token,
)
from backdrop.storage.mongodb.entries import Entries
from backdrop.storage.mongodb.reading import Snapshot
from backdrop.storage.mongodb.restoring import restoring
from backdrop.storage.mongodb.shelves import Shelves
from backdrop.storage.mongodb.writing import Writing
from backdrop.storage.port import (
    BucketState,
    Load,
    Reading,
    Restore,
    done_at_once,
    no_token,
    not_found,
)

T = TypeVar("T")


class MongoDBStorage:
    """A store in one database of a replica set, which any number of processes may have open.

    `kept_for`: how long collections that were replaced stay for those that still read them.
    `say` is told what has to be waited for when the store is opened.
    Raises StorageUnavailable where the database can't be opened, with the reason in its message.
    """

    state_is_at_hand = False

    def __init__(
        self,
        url: str,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        kept_for: timedelta = timedelta(minutes=10),
        most_fields: int = MOST_FIELDS,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.connection = Connection(url)
        self._database = self.connection.database
        self.most_fields = most_fields
        self._catalogue = Catalogue(self._database, clock, most_fields=most_fields)
        self._buckets, self._tokens = self._catalogue.buckets, self._catalogue.tokens
        self._audit = Audit(self.connection, clock)
        self._entries = Entries(self._catalogue.entries, self._audit, clock)
        self._shelves = Shelves(self.connection, kept_for=kept_for)
        self._writing = Writing(self._database, self._catalogue, self._shelves, self._audit)
        self._turns: dict[str, threading.Lock] = {}
        try:
            self.connection.open(self._prepare, say)
        except BaseException:
            self.connection.close()
            raise

    # -- buckets ----------------------------------------------------------------------------

    @asks
    def buckets(self) -> list[Bucket]:
        return [to_bucket(document) for document in self._buckets.find().sort("_id", 1)]

    @asks
    def bucket(self, name: str) -> Bucket:
        return to_bucket(self._catalogue.found(name))

    @asks
    def bucket_at(self, data_group: str, data_type: str) -> Bucket:
        found = self._buckets.find_one({"address": address(data_group, data_type)})
        if found is None:
            raise NotFound(not_found(f"{data_group}/{data_type}"))
        return to_bucket(found)

    @asks
    def put_bucket(
        self, bucket: Bucket, *, first_token: Token | None = None, act: Act | None = None
    ) -> bool:
        with self._turn(bucket.name):
            for _ in range(TRIES):
                try:
                    if self._change_settings(bucket, {"_id": bucket.name}, act):
                        return False
                    self._make(bucket, first_token, act)
                    return True
                except DuplicateKeyError:  # of its name, if not: another process made it meanwhile
                    self._catalogue.refuse_taken(bucket)
        raise StorageUnavailable("the store does not answer")

    @asks
    def change_bucket(
        self, name: str, change: Callable[[Bucket], Bucket], *, act: Act | None = None
    ) -> Bucket:
        with self._turn(name):
            for _ in range(TRIES):
                found = self._catalogue.found(name)
                bucket = change(to_bucket(found))
                held = {key: found[key] for key in ("_id", "number", "settings")}
                try:
                    if self._change_settings(bucket, held, act):
                        return bucket
                except DuplicateKeyError:
                    self._catalogue.refuse_taken(bucket)
        raise StorageUnavailable("the store does not answer")

    @asks
    def drop_bucket(self, name: str, *, act: Act | None = None) -> None:
        def work(session: Session) -> None:
            found = self._catalogue.drop(name, session)
            if found is None:
                raise NotFound(not_found(name))
            self._shelves.leave(found["collection"], session)

        with self._turn(name):
            self._audit.transact(work, act)
        self._shelves.sweep_if_possible()

    @asks
    def state(self, name: str) -> BucketState:
        return to_state(self._catalogue.found(name))

    # -- tokens -----------------------------------------------------------------------------

    @asks
    def tokens(self, bucket: str) -> list[Token]:
        def work(session: Session) -> list[Token]:
            self._catalogue.found(bucket, session)
            found = map(to_token, self._tokens.find({"bucket": bucket}, session=session))
            return sorted(found, key=lambda token: (token.created_at, token.id))

        with self.connection.reading(work) as tokens:
            return tokens

    @asks
    def add_token(self, token: Token, *, act: Act | None = None) -> None:
        def work(session: Session) -> None:
            # A change of the bucket's document, so that it can't be dropped at the same time.
            holds = self._buckets.update_one(
                {"_id": token.bucket}, {"$inc": {"tokens": 1}}, session=session
            )
            if not holds.matched_count:
                raise NotFound(not_found(token.bucket))
            self._catalogue.insert_token(token, session)

        with self._turn(token.bucket):
            self._audit.transact(work, act)

    @asks
    def drop_token(self, bucket: str, token_id: str, *, act: Act | None = None) -> None:
        def work(session: Session) -> None:
            self._catalogue.found(bucket, session)
            known = {"bucket": bucket, "id": token_id}
            if not self._tokens.delete_one(known, session=session).deleted_count:
                raise NotFound(no_token(bucket, token_id))

        self._audit.transact(work, act)

    @asks
    def token(self, token_hash: str) -> Token | None:
        found = self._tokens.find_one({"_id": token_hash})
        return None if found is None else to_token(found)

    @asks
    def token_used(self, token_hash: str, now: datetime) -> None:
        used = {"$set": {"last_used_at": microseconds(now)}}
        self._tokens.with_options(write_concern=SOON).update_one({"_id": token_hash}, used)

    # -- writing ----------------------------------------------------------------------------

    @asks
    def save(
        self, bucket: str, records: Records, *, once: Once | None = None, act: Act | None = None
    ) -> None:
        with self._turn(bucket):
            self._writing.save(bucket, records, once, act)

    def save_soon(self, bucket: str, records: Records, *, act: Act | None = None) -> Future[None]:
        return done_at_once(lambda: self.save(bucket, records, act=act))

    @asks
    def replace(
        self, bucket: str, records: Records, *, once: Once | None = None, act: Act | None = None
    ) -> None:
        with self._turn(bucket):
            self._writing.replace(bucket, records, once, act)
        self._shelves.sweep_if_possible()

    @asks
    def update(
        self,
        bucket: str,
        record_id: str,
        change: Callable[[Record], Record],
        *,
        once: Once | None = None,
        act: Act | None = None,
    ) -> None:
        with self._turn(bucket):
            self._writing.update(bucket, record_id, change, once, act)

    @asks
    def delete(self, bucket: str, record_id: str, *, act: Act | None = None) -> None:
        with self._turn(bucket):
            self._writing.delete(bucket, record_id, act)

    @asks
    def done(self, bucket: str, key: str) -> Once | None:
        return self._catalogue.done(self._catalogue.found(bucket)["number"], key)

    @contextmanager
    def restoring(
        self, bucket: Bucket, *, tokens: Sequence[Token], last_written: datetime | None
    ) -> Iterator[Restore]:
        parts = self.connection.transact, self._database, self._catalogue, self._shelves
        with self.connection.asked(), restoring(*parts, bucket, tokens, last_written) as put:
            yield put

    # -- reading ----------------------------------------------------------------------------

    @contextmanager
    def records(
        self,
        bucket: str,
        query: Query,
        *,
        with_fields: bool = False,
        most_seconds: float | None = None,
    ) -> Iterator[Reading]:
        def work(session: Session) -> Reading:
            snapshot = self._snapshot(bucket, session, most_seconds)
            fields = snapshot.fields(query) if with_fields else ()
            pages = snapshot.pages(query)
            first = list(islice(pages, 1))  # what can go wrong shows before the first page
            return Reading(chain(first, pages), fields, snapshot.version)

        with self.connection.asked(), self.connection.reading(work) as reading:
            yield reading

    @contextmanager
    def stored(self, bucket: str) -> Iterator[Reading]:
        def work(session: Session) -> Reading:
            return Reading(self._snapshot(bucket, session).stored())

        with self.connection.asked(), self.connection.reading(work) as reading:
            yield reading

    @asks
    def count_held(self, bucket: str, ids: Sequence[str]) -> int:
        def work(session: Session) -> int:
            return sum(map(self._snapshot(bucket, session).count, chunks(ids)))

        with self.connection.reading(work) as count:
            return count

    @asks
    def groups(
        self, bucket: str, query: Query, *, most_rows: int, most_seconds: float | None = None
    ) -> Groups:
        def work(session: Session) -> Groups:
            return self._snapshot(bucket, session, most_seconds).groups(query, most_rows)

        with self.connection.reading(work) as groups:
            return groups

    # -- entries ----------------------------------------------------------------------------

    @asks
    def put_entry(self, entry: Entry, *, act: Act | None = None) -> None:
        self._entries.put(entry, act)

    @asks
    def entry(self, kind: str, key: str) -> Entry | None:
        return self._entries.find(kind, key)

    @asks
    def entries(self, kind: str) -> list[Entry]:
        return self._entries.of_kind(kind)

    @asks
    def lasting_entries(self) -> list[Entry]:
        return self._entries.lasting()

    @asks
    def change_entry(
        self, kind: str, key: str, change: Callable[[bytes], bytes], *, act: Act | None = None
    ) -> bool:
        return self._entries.change(kind, key, change, act)

    @asks
    def take_entry(self, kind: str, key: str, *, act: Act | None = None) -> Entry | None:
        return self._entries.take(kind, key, act)

    # -- the audit log ----------------------------------------------------------------------

    @asks
    def audit(
        self, *, bucket: str | None = None, before: str | None = None, limit: int
    ) -> list[AuditEntry]:
        return self._audit.last(bucket, before, limit)

    @asks
    def prune_audit(self, before: datetime) -> None:
        self._audit.prune(before)

    # -- the store itself -------------------------------------------------------------------

    @asks
    def check(self) -> None:
        self._catalogue.answers()

    def load(self) -> Load:
        return Load()

    def end_queries(self) -> None:
        """Each has its bound in the database, which ends it."""

    def close(self) -> None:
        self.connection.close()

    # -- within -----------------------------------------------------------------------------

    def _prepare(self) -> None:
        self._catalogue.prepare()
        self._audit.prepare()
        self._shelves.sweep()

    @contextmanager
    def _turn(self, bucket: str) -> Iterator[None]:
        """What the writers of one bucket in this process wait for, as long as one may take.

        They would only get in each other's way: each write changes the bucket's document, which
        puts the writes of all processes into one order. Where the database goes, they don't each
        find that out for themselves, one after the other.
        """
        turn = self._turns.setdefault(bucket, threading.Lock())
        if not turn.acquire(timeout=LONGEST_WRITE):
            raise StorageUnavailable("too many writes wait for this bucket")
        try:
            self.connection.refuse_if_gone()
            yield
        finally:
            turn.release()

    def _change_settings(self, bucket: Bucket, held: Document, act: Act | None) -> bool:
        return self._audit.transact(
            lambda session: self._catalogue.change_settings(bucket, held, session), act
        )

    def _make(self, bucket: Bucket, first_token: Token | None, act: Act | None) -> None:
        number, name = self._catalogue.number(), self._shelves.new()

        def work(session: Session) -> None:
            self._catalogue.insert(bucket, number, name, session)
            self._shelves.put(name, session)
            if first_token is not None:
                self._catalogue.insert_token(first_token, session)

        self._audit.transact(work, act.instead("bucket_created") if act else None)

    def _snapshot(
        self, bucket: str, session: Session, most_seconds: float | None = None
    ) -> Snapshot:
        found = self._catalogue.found(bucket, session)
        return Snapshot(self._database, found, session, most_seconds=most_seconds)
