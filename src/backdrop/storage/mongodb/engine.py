"""The MongoDB store: reads in snapshots, writes in transactions, keeps nothing in the process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import chain, islice

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError, OperationFailure

from backdrop.domain.bucket import Bucket
from backdrop.domain.period_key import microseconds
from backdrop.domain.query import Query
from backdrop.domain.shape import Groups
from backdrop.domain.table import Records
from backdrop.domain.token import Token
from backdrop.domain.values import Record
from backdrop.errors import Conflict, NotFound, StorageUnavailable
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
    bucket_settings,
    chunks,
    from_token,
    new_bucket,
    to_bucket,
    to_document,
    to_documents,
    to_record,
    to_state,
    to_token,
)
from backdrop.storage.mongodb.reading import Snapshot
from backdrop.storage.mongodb.shelves import Shelves
from backdrop.storage.port import (
    KNOWN_HASH,
    BucketState,
    Reading,
    address_taken,
    no_record,
    no_token,
    not_found,
    refuse_too_many_fields,
)


def _settings_update(bucket: Bucket) -> Document:
    settings = bucket_settings(bucket)
    change: Document = {"$set": settings, "$inc": {"changes": 1}}
    if "address" not in settings:
        change["$unset"] = {"address": ""}
    return change


FORMAT = 1
"""The number of this layout; a database with another is refused."""

_TRIES = 10
"""How often a step is begun again that others keep getting ahead of."""


class MongoDBStorage:
    """A store in one database of a replica set, which any number of processes may have open.

    `kept_for`: how long collections that were replaced stay for those that still read them.
    Raises StorageUnavailable where the database can't be opened, with the reason in its message.
    """

    def __init__(
        self,
        url: str,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        kept_for: timedelta = timedelta(minutes=10),
    ) -> None:
        self._clock = clock
        self._client, self._database = connect(url)
        self._store = self._database["store"]
        self._buckets = self._database["buckets"]
        self._tokens = self._database["tokens"]
        self._shelves = Shelves(self._database, kept_for=kept_for)
        self._turns: dict[str, threading.Lock] = {}
        try:
            with driver_errors():
                self._prepare()
        except StorageUnavailable:
            self._client.close()
            raise

    # -- buckets ----------------------------------------------------------------------------

    @driver_errors()
    def buckets(self) -> list[Bucket]:
        return [to_bucket(document) for document in self._buckets.find().sort("_id", 1)]

    @driver_errors()
    def bucket(self, name: str) -> Bucket:
        return to_bucket(self._found(name))

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
                    if self._change_settings(bucket):
                        return False
                    self._make(bucket, first_token)
                    return True
                except DuplicateKeyError:  # of the name: made by another process meanwhile
                    taken = self._who_has_the_address(bucket)
                    if taken:
                        raise Conflict(taken) from None
        raise StorageUnavailable("the store does not answer")

    @driver_errors()
    def change_bucket(self, name: str, change: Callable[[Bucket], Bucket]) -> Bucket:
        changed: list[Bucket] = []

        def work(session: Session) -> None:
            found = self._buckets.find_one_and_update(
                {"_id": name}, {"$inc": {"changes": 1}}, session=session
            )
            if found is None:
                raise NotFound(not_found(name))
            changed[:] = [change(to_bucket(found))]
            self._buckets.update_one({"_id": name}, _settings_update(changed[0]), session=session)

        with self._turn(name):
            try:
                transact(self._client, work)
            except DuplicateKeyError:
                taken = self._who_has_the_address(changed[0])
                raise Conflict(taken or "another bucket had that address: try again") from None
        return changed[0]

    @driver_errors()
    def drop_bucket(self, name: str) -> None:
        def work(session: Session) -> None:
            found = self._buckets.find_one_and_delete({"_id": name}, session=session)
            if found is None:
                raise NotFound(not_found(name))
            self._tokens.delete_many({"bucket": name}, session=session)
            self._shelves.leave(found["collection"], session)

        with self._turn(name):
            transact(self._client, work)
        self._shelves.sweep()

    @driver_errors()
    def state(self, name: str) -> BucketState:
        return to_state(self._found(name))

    # -- tokens -----------------------------------------------------------------------------

    @driver_errors()
    def tokens(self, bucket: str) -> list[Token]:
        with self._client.start_session(snapshot=True) as session:
            self._found(bucket, session)
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
            self._insert_token(token, session)

        with self._turn(token.bucket):
            transact(self._client, work)

    @driver_errors()
    def drop_token(self, bucket: str, token_id: str) -> None:
        self._found(bucket)
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
            before = self._written(bucket, session, stored=count, records=count)
            self._note_fields(before, records.columns, session)
            shelf = self._database[before["collection"]]
            deleted = sum(
                shelf.delete_many({"_id": {"$in": some}}, session=session).deleted_count
                for some in chunks(ids)
            )
            if deleted:
                fewer = {"$inc": {"records": -deleted}}
                self._buckets.update_one({"_id": bucket}, fewer, session=session)
            if count:
                shelf.insert_many(to_documents(records, before["stored"]), session=session)

        with self._turn(bucket):
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
            self._found(bucket)
            name = self._shelves.new()
            if len(records):
                self._database[name].insert_many(to_documents(records, 0))
            count = len(records)
            self._switch({"_id": bucket}, name, records.columns, records=count, stored=count)
        self._shelves.sweep()

    @driver_errors()
    def update(self, bucket: str, record_id: str, change: Callable[[Record], Record]) -> None:
        def work(session: Session) -> None:
            before = self._written(bucket, session, stored=1)
            shelf = self._database[before["collection"]]
            found = shelf.find_one({"_id": record_id}, {SEQUENCE: 0}, session=session)
            if found is None:
                raise NotFound(no_record(bucket, record_id))
            changed = change(to_record(found))
            self._note_fields(before, changed, session)
            document = to_document(changed, before["stored"])
            shelf.replace_one({"_id": record_id}, document, session=session)

        with self._turn(bucket):
            transact(self._client, work)

    @driver_errors()
    def delete(self, bucket: str, record_id: str) -> None:
        def work(session: Session) -> None:
            shelf = self._database[self._written(bucket, session, records=-1)["collection"]]
            if not shelf.delete_one({"_id": record_id}, session=session).deleted_count:
                raise NotFound(no_record(bucket, record_id))

        with self._turn(bucket):
            transact(self._client, work)

    # -- reading ----------------------------------------------------------------------------

    @contextmanager
    def records(self, bucket: str, query: Query, *, with_fields: bool = False) -> Iterator[Reading]:
        with driver_errors(), self._snapshot(bucket) as snapshot:
            fields = snapshot.fields(query) if with_fields else ()
            pages = snapshot.pages(query)
            first = list(islice(pages, 1))  # what can go wrong shows before the first page
            yield Reading(chain(first, pages), fields)

    @driver_errors()
    def groups(self, bucket: str, query: Query, *, most_rows: int) -> Groups:
        with self._snapshot(bucket) as snapshot:
            return snapshot.groups(query, most_rows)

    # -- the store itself -------------------------------------------------------------------

    @driver_errors()
    def check(self) -> None:
        self._store.find_one({"_id": "format"})

    def close(self) -> None:
        self._client.close()

    # -- within -----------------------------------------------------------------------------

    def _prepare(self) -> None:
        self._store.update_one({"_id": "format"}, {"$setOnInsert": {"is": FORMAT}}, upsert=True)
        found = (self._store.find_one({"_id": "format"}) or {}).get("is")
        if found != FORMAT:
            raise StorageUnavailable(
                f"can't open the store: it has layout {found}, and this Backdrop knows {FORMAT}"
            )
        some = {"address": {"$type": "string"}}
        self._buckets.create_index("address", unique=True, partialFilterExpression=some)
        self._tokens.create_index("bucket")
        self._database["left_over"].create_index("since")
        self._shelves.sweep()

    def _turn(self, bucket: str) -> threading.Lock:
        """What the writers of one bucket in this process wait for.

        They would only get in each other's way: each write changes the bucket's document, which
        puts the writes of all processes into one order.
        """
        return self._turns.setdefault(bucket, threading.Lock())

    def _found(self, bucket: str, session: Session | None = None) -> Document:
        found = self._buckets.find_one({"_id": bucket}, session=session)
        if found is None:
            raise NotFound(not_found(bucket))
        return found

    def _change_settings(self, bucket: Bucket) -> bool:
        change = _settings_update(bucket)
        return bool(self._buckets.update_one({"_id": bucket.name}, change).matched_count)

    def _who_has_the_address(self, bucket: Bucket) -> str | None:
        """The message where another bucket has the bucket's address; None where none has."""
        wanted = bucket_settings(bucket).get("address")
        other = wanted and self._buckets.find_one({"address": wanted})
        if other and other["_id"] != bucket.name:
            return address_taken(bucket, to_bucket(other))
        return None

    def _make(self, bucket: Bucket, first_token: Token | None) -> None:
        number, name = self._number(), self._shelves.new()

        def work(session: Session) -> None:
            self._buckets.insert_one(new_bucket(bucket, number, name), session=session)
            self._shelves.put(name, session)
            if first_token is not None:
                self._insert_token(first_token, session)

        transact(self._client, work)

    def _number(self) -> int:
        """A number that the store never gave before."""
        counted = self._store.find_one_and_update(
            {"_id": "buckets"},
            {"$inc": {"made": 1}},
            upsert=True,
            return_document=ReturnDocument.AFTER,
        )
        return int((counted or {})["made"])

    def _insert_token(self, token: Token, session: Session) -> None:
        try:
            self._tokens.insert_one(from_token(token), session=session)
        except DuplicateKeyError:
            raise Conflict(KNOWN_HASH) from None

    def _written(
        self, bucket: str, session: Session, *, stored: int = 0, records: int = 0
    ) -> Document:
        """Note a write in the bucket's document; return it as it was before."""
        before = self._buckets.find_one_and_update(
            {"_id": bucket},
            {
                "$inc": {"changes": 1, "stored": stored, "records": records},
                "$set": {"last_written": microseconds(self._clock())},
            },
            session=session,
        )
        if before is None:
            raise NotFound(not_found(bucket))
        return before

    def _note_fields(self, before: Document, fields: Iterable[str], session: Session) -> None:
        """Keep the names of the bucket's fields, and their number within its bound."""
        known = before["fields"]
        refuse_too_many_fields(known, fields)
        added = sorted({name for name in fields if not name.startswith("_")}.difference(known))
        if added:
            more = {"$addToSet": {"fields": {"$each": added}}}
            self._buckets.update_one({"_id": before["_id"]}, more, session=session)

    def _switch(
        self, held: Document, name: str, fields: Iterable[str], *, records: int, stored: int
    ) -> None:
        """Make the new collection the bucket's, in one step; NotFound where none is `held`."""
        own = sorted(field for field in fields if not field.startswith("_"))
        contents = {"collection": name, "records": records, "stored": stored, "fields": own}
        written = {"last_written": microseconds(self._clock())}

        def work(session: Session) -> None:
            change: Document = {"$set": contents | written, "$inc": {"changes": 1}}
            before = self._buckets.find_one_and_update(held, change, session=session)
            if before is None:
                raise NotFound(not_found(held["_id"]))
            self._shelves.put(name, session)
            self._shelves.leave(before["collection"], session)

        transact(self._client, work)

    def _save_by_copy(self, bucket: str, records: Records) -> None:
        """Save what is too much for one transaction: all records into a new collection."""
        for _ in range(_TRIES):
            before = self._found(bucket)
            name = self._shelves.new()
            new = self._database[name]
            refuse_too_many_fields(before["fields"], records.columns)
            fields = {*before["fields"], *records.columns}
            stored = before["stored"] + len(records)
            new.insert_many(to_documents(records, before["stored"]))
            keep = {"into": name, "on": "_id", "whenMatched": "keepExisting"}
            self._database[before["collection"]].aggregate([{"$merge": keep}])
            held = {"_id": bucket, "number": before["number"], "changes": before["changes"]}
            try:
                self._switch(held, name, fields, records=new.count_documents({}), stored=stored)
            except NotFound:  # or changed meanwhile, by another process
                continue
            self._shelves.sweep()
            return
        raise StorageUnavailable("the store does not answer")

    @contextmanager
    def _snapshot(self, bucket: str) -> Iterator[Snapshot]:
        with self._client.start_session(snapshot=True) as session:
            shelf = self._database[self._found(bucket, session)["collection"]]
            yield Snapshot(shelf, session)
