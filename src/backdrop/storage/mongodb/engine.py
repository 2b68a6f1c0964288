"""The MongoDB store: reads in snapshots, writes in transactions, keeps nothing in the process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain, islice

from pymongo.errors import DuplicateKeyError, OperationFailure

from backdrop.domain.bucket import Bucket
from backdrop.domain.entry import Entry
from backdrop.domain.period_key import microseconds
from backdrop.domain.query import Query
from backdrop.domain.shape import Groups
from backdrop.domain.table import Records
from backdrop.domain.token import Token
from backdrop.domain.values import Record
from backdrop.errors import NotFound, StorageUnavailable
from backdrop.storage.mongodb.catalogue import Catalogue
from backdrop.storage.mongodb.connection import (
    SOON,
    Session,
    connect,
    driver_errors,
    is_too_large,
    transact,
)
from backdrop.storage.mongodb.documents import (
    SEQUENCE,
    Document,
    address,
    chunks,
    entry_id,
    from_entry,
    to_bucket,
    to_document,
    to_documents,
    to_entry,
    to_record,
    to_state,
    to_token,
)
from backdrop.storage.mongodb.reading import Snapshot
from backdrop.storage.mongodb.restoring import restoring
from backdrop.storage.mongodb.shelves import Shelves
from backdrop.storage.port import (
    BucketState,
    Reading,
    Restore,
    no_record,
    no_token,
    not_found,
    refuse_too_many_fields,
)

_MOST_IN_A_TRANSACTION = 25_000
"""Records. With twice as many known ones, a server of the smallest cache never gets done."""

_BY_KIND = (("kind", 1), ("key", 1))

_TRIES = 10
"""How often a step is begun again that others keep getting ahead of."""


class MongoDBStorage:
    """A store in one database of a replica set, which any number of processes may have open.

    `kept_for`: how long collections that were replaced stay for those that still read them.
    Raises StorageUnavailable where the database can't be opened, with the reason in its message.
    """

    state_is_at_hand = False

    def __init__(
        self,
        url: str,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        kept_for: timedelta = timedelta(minutes=10),
    ) -> None:
        self._client, self._database = connect(url)
        self._catalogue = Catalogue(self._database, clock)
        self._buckets, self._tokens = self._catalogue.buckets, self._catalogue.tokens
        self._entries = self._catalogue.entries
        self._clock = clock
        self._shelves = Shelves(self._database, kept_for=kept_for)
        self._turns: dict[str, threading.Lock] = {}
        try:
            with driver_errors():
                self._catalogue.prepare()
                self._shelves.sweep()
        except StorageUnavailable:
            self._client.close()
            raise

    # -- buckets ----------------------------------------------------------------------------

    @driver_errors()
    def buckets(self) -> list[Bucket]:
        return [to_bucket(document) for document in self._buckets.find().sort("_id", 1)]

    @driver_errors()
    def bucket(self, name: str) -> Bucket:
        return to_bucket(self._catalogue.found(name))

    @driver_errors()
    def bucket_at(self, data_group: str, data_type: str) -> Bucket:
        found = self._buckets.find_one({"address": address(data_group, data_type)})
        if found is None:
            raise NotFound(not_found(f"{data_group}/{data_type}"))
        return to_bucket(found)

    @driver_errors()
    def put_bucket(self, bucket: Bucket, *, first_token: Token | None = None) -> bool:
        with self._turn(bucket.name):
            for _ in range(_TRIES):
                try:
                    if self._catalogue.change_settings(bucket, {"_id": bucket.name}):
                        return False
                    self._make(bucket, first_token)
                    return True
                except DuplicateKeyError:  # of its name, if not: another process made it meanwhile
                    self._catalogue.refuse_taken(bucket)
        raise StorageUnavailable("the store does not answer")

    @driver_errors()
    def change_bucket(self, name: str, change: Callable[[Bucket], Bucket]) -> Bucket:
        with self._turn(name):
            for _ in range(_TRIES):
                found = self._catalogue.found(name)
                bucket = change(to_bucket(found))
                held = {key: found[key] for key in ("_id", "number", "settings")}
                try:
                    if self._catalogue.change_settings(bucket, held):
                        return bucket
                except DuplicateKeyError:
                    self._catalogue.refuse_taken(bucket)
        raise StorageUnavailable("the store does not answer")

    @driver_errors()
    def drop_bucket(self, name: str) -> None:
        def work(session: Session) -> None:
            found = self._catalogue.drop(name, session)
            if found is None:
                raise NotFound(not_found(name))
            self._shelves.leave(found["collection"], session)

        with self._turn(name):
            transact(self._client, work)
        self._shelves.sweep()

    @driver_errors()
    def state(self, name: str) -> BucketState:
        return to_state(self._catalogue.found(name))

    # -- tokens -----------------------------------------------------------------------------

    @driver_errors()
    def tokens(self, bucket: str) -> list[Token]:
        with self._client.start_session(snapshot=True) as session:
            self._catalogue.found(bucket, session)
            found = map(to_token, self._tokens.find({"bucket": bucket}, session=session))
            return sorted(found, key=lambda token: (token.created_at, token.id))

    @driver_errors()
    def add_token(self, token: Token) -> None:
        def work(session: Session) -> None:
            # A change of the bucket's document, so that it can't be dropped at the same time.
            holds = self._buckets.update_one(
                {"_id": token.bucket}, {"$inc": {"tokens": 1}}, session=session
            )
            if not holds.matched_count:
                raise NotFound(not_found(token.bucket))
            self._catalogue.insert_token(token, session)

        with self._turn(token.bucket):
            transact(self._client, work)

    @driver_errors()
    def drop_token(self, bucket: str, token_id: str) -> None:
        self._catalogue.found(bucket)
        if not self._tokens.delete_one({"bucket": bucket, "id": token_id}).deleted_count:
            raise NotFound(no_token(bucket, token_id))

    @driver_errors()
    def token(self, token_hash: str) -> Token | None:
        found = self._tokens.find_one({"_id": token_hash})
        return None if found is None else to_token(found)

    @driver_errors()
    def token_used(self, token_hash: str, now: datetime) -> None:
        used = {"$set": {"last_used_at": microseconds(now)}}
        self._tokens.with_options(write_concern=SOON).update_one({"_id": token_hash}, used)

    # -- writing ----------------------------------------------------------------------------

    @driver_errors()
    def save(self, bucket: str, records: Records) -> None:
        ids = () if records.ids_are_new else records.ids

        def work(session: Session) -> None:
            count = len(records)
            before = self._catalogue.write(
                bucket, session, stored=count, records=count, fields=records.columns
            )
            shelf = self._database[before["collection"]]
            deleted = sum(
                shelf.delete_many({"_id": {"$in": some}}, session=session).deleted_count
                for some in chunks(ids)
            )
            if deleted:
                self._catalogue.correct(bucket, session, records=-deleted)
            if count:
                shelf.insert_many(to_documents(records, before["stored"]), session=session)

        with self._turn(bucket):
            if len(records) > _MOST_IN_A_TRANSACTION:
                self._save_by_copy(bucket, records)
                return
            try:
                transact(self._client, work)
            except OperationFailure as error:
                if not is_too_large(error):
                    raise
                self._save_by_copy(bucket, records)

    @driver_errors()
    def replace(self, bucket: str, records: Records) -> None:
        refuse_too_many_fields(records.columns)
        with self._turn(bucket):
            number = self._catalogue.found(bucket)["number"]
            name = self._shelves.new()
            if len(records):
                self._database[name].insert_many(to_documents(records, 0))
            count = len(records)
            contents = {"records": count, "stored": count, "fields": list(records.columns)}
            self._switch({"_id": bucket, "number": number}, name, contents)
        self._shelves.sweep()

    @driver_errors()
    def update(self, bucket: str, record_id: str, change: Callable[[Record], Record]) -> None:
        def work(session: Session) -> None:
            before = self._catalogue.write(bucket, session, stored=1)
            shelf = self._database[before["collection"]]
            found = shelf.find_one({"_id": record_id}, {SEQUENCE: 0}, session=session)
            if found is None:
                raise NotFound(no_record(bucket, record_id))
            changed = change(to_record(found))
            refuse_too_many_fields(before["fields"], changed)
            self._catalogue.correct(bucket, session, fields=changed)
            document = to_document(changed, before["stored"])
            shelf.replace_one({"_id": record_id}, document, session=session)

        with self._turn(bucket):
            transact(self._client, work)

    @driver_errors()
    def delete(self, bucket: str, record_id: str) -> None:
        def work(session: Session) -> None:
            before = self._catalogue.write(bucket, session, records=-1)
            shelf = self._database[before["collection"]]
            if not shelf.delete_one({"_id": record_id}, session=session).deleted_count:
                raise NotFound(no_record(bucket, record_id))

        with self._turn(bucket):
            transact(self._client, work)

    @contextmanager
    def restoring(
        self, bucket: Bucket, *, tokens: Sequence[Token], last_written: datetime | None
    ) -> Iterator[Restore]:
        transacted = partial(transact, self._client)
        parts = self._database, self._catalogue, self._shelves
        with driver_errors(), restoring(transacted, *parts, bucket, tokens, last_written) as put:
            yield put

    # -- reading ----------------------------------------------------------------------------

    @contextmanager
    def records(self, bucket: str, query: Query, *, with_fields: bool = False) -> Iterator[Reading]:
        with driver_errors(), self._snapshot(bucket) as snapshot:
            fields = snapshot.fields(query) if with_fields else ()
            pages = snapshot.pages(query)
            first = list(islice(pages, 1))  # what can go wrong shows before the first page
            yield Reading(chain(first, pages), fields)

    @contextmanager
    def stored(self, bucket: str) -> Iterator[Reading]:
        with driver_errors(), self._snapshot(bucket) as snapshot:
            yield Reading(snapshot.stored())

    @driver_errors()
    def groups(self, bucket: str, query: Query, *, most_rows: int) -> Groups:
        with self._snapshot(bucket) as snapshot:
            return snapshot.groups(query, most_rows)

    # -- entries ----------------------------------------------------------------------------

    @driver_errors()
    def put_entry(self, entry: Entry) -> None:
        document = from_entry(entry)
        self._entries.replace_one({"_id": document["_id"]}, document, upsert=True)

    @driver_errors()
    def entry(self, kind: str, key: str) -> Entry | None:
        return self._unexpired(self._entries.find_one({"_id": entry_id(kind, key)}))

    @driver_errors()
    def entries(self, kind: str) -> list[Entry]:
        found = map(self._unexpired, self._entries.find({"kind": kind}).sort("key", 1))
        return [entry for entry in found if entry is not None]

    @driver_errors()
    def lasting_entries(self) -> list[Entry]:
        return list(map(to_entry, self._entries.find({"expires_at": None}).sort(_BY_KIND)))

    @driver_errors()
    def take_entry(self, kind: str, key: str) -> Entry | None:
        return self._unexpired(self._entries.find_one_and_delete({"_id": entry_id(kind, key)}))

    # -- the store itself -------------------------------------------------------------------

    @driver_errors()
    def check(self) -> None:
        self._catalogue.answers()

    def close(self) -> None:
        self._client.close()

    # -- within -----------------------------------------------------------------------------

    def _turn(self, bucket: str) -> threading.Lock:
        """What the writers of one bucket in this process wait for.

        They would only get in each other's way: each write changes the bucket's document, which
        puts the writes of all processes into one order.
        """
        return self._turns.setdefault(bucket, threading.Lock())

    def _unexpired(self, document: Document | None) -> Entry | None:
        entry = None if document is None else to_entry(document)
        return None if entry is None or entry.expired(self._clock()) else entry

    def _make(self, bucket: Bucket, first_token: Token | None) -> None:
        number, name = self._catalogue.number(), self._shelves.new()

        def work(session: Session) -> None:
            self._catalogue.insert(bucket, number, name, session)
            self._shelves.put(name, session)
            if first_token is not None:
                self._catalogue.insert_token(first_token, session)

        transact(self._client, work)

    def _switch(self, held: Document, name: str, contents: Document) -> None:
        """Make the new collection the bucket's, in one step; NotFound where none is `held`."""

        def work(session: Session) -> None:
            before = self._catalogue.switch(held, {"collection": name, **contents}, session)
            if before is None:
                raise NotFound(not_found(held["_id"]))
            self._shelves.put(name, session)
            self._shelves.leave(before["collection"], session)

        transact(self._client, work)

    def _save_by_copy(self, bucket: str, records: Records) -> None:
        """Save what is too much for one transaction: all records into a new collection."""
        for _ in range(_TRIES):
            before = self._catalogue.found(bucket)
            fields = list(dict.fromkeys([*before["fields"], *records.columns]))
            refuse_too_many_fields(fields)
            name = self._shelves.new()
            new = self._database[name]
            new.insert_many(to_documents(records, before["stored"]))
            keep = {"into": name, "on": "_id", "whenMatched": "keepExisting"}
            self._database[before["collection"]].aggregate([{"$merge": keep}])
            contents = {
                "records": new.count_documents({}),
                "stored": before["stored"] + len(records),
                "fields": fields,
            }
            held = {"_id": bucket, "number": before["number"], "changes": before["changes"]}
            try:
                self._switch(held, name, contents)
            except NotFound:  # or changed meanwhile, by another process
                continue
            self._shelves.sweep()
            return
        raise StorageUnavailable("the store does not answer")

    @contextmanager
    def _snapshot(self, bucket: str) -> Iterator[Snapshot]:
        with self._client.start_session(snapshot=True) as session:
            shelf = self._database[self._catalogue.found(bucket, session)["collection"]]
            yield Snapshot(shelf, session)
