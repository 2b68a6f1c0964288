"""The documents of buckets and tokens: each write of a bucket goes through its document."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from bson import Int64
from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError, PyMongoError

from backdrop.domain.bucket import Bucket
from backdrop.domain.once import AlreadyDone, Once
from backdrop.domain.period_key import microseconds
from backdrop.domain.table import Records
from backdrop.domain.token import Token
from backdrop.errors import Conflict, NotFound, StorageUnavailable
from backdrop.storage.mongodb.connection import Records as Database
from backdrop.storage.mongodb.connection import Session
from backdrop.storage.mongodb.documents import (
    REMOVAL,
    Document,
    bucket_settings,
    from_once,
    from_token,
    new_bucket,
    once_id,
    to_bucket,
    to_once,
)
from backdrop.storage.mongodb.failures import TRANSIENT
from backdrop.storage.mongodb.tally import counted
from backdrop.storage.port import KNOWN_HASH, address_taken, not_found, refuse_too_many_fields

FORMAT = 1
"""The number of this layout; a database with another is refused."""


class Catalogue:
    """The collections `store`, `buckets`, `tokens`, `entries` and `done`.

    A bucket's document holds its settings, the number that no other bucket has, how often it was
    changed, the name of its collection, how many records are in it and were ever stored in it,
    their fields, and the tally of their values.
    """

    def __init__(
        self, database: Database, clock: Callable[[], datetime], *, most_fields: int
    ) -> None:
        self._clock = clock
        self.most_fields = most_fields
        self._store = database["store"]
        self.buckets = database["buckets"]
        self.tokens = database["tokens"]
        self.entries = database["entries"]
        self._done = database["done"]

    def prepare(self) -> None:
        """Make what every store has, where it is missing."""
        # In one step: what a new primary shows to a reading may be older than the write before.
        document = self._store.find_one_and_update(
            {"_id": "format"},
            {"$setOnInsert": {"is": FORMAT}},
            upsert=True,
            return_document=ReturnDocument.AFTER,
        )
        found = (document or {}).get("is")
        if found != FORMAT:
            raise StorageUnavailable(
                f"can't open the store: it has layout {found}, and this Backdrop knows {FORMAT}"
            )
        some = {"address": {"$type": "string"}}
        self.buckets.create_index("address", unique=True, partialFilterExpression=some)
        self.tokens.create_index("bucket")
        self.entries.create_index("kind")
        for expiring in (self.entries, self._done):
            expiring.create_index(REMOVAL, expireAfterSeconds=0)

    def answers(self) -> None:
        """Return if the database does."""
        self._store.find_one({"_id": "format"})

    def number(self) -> int:
        """A number above all that were given, in this store or one that was here before."""
        last = {"$max": [{"$add": ["$made", 1]}, {"$divide": [{"$toLong": "$$NOW"}, Int64(1_000)]}]}
        counted = self._store.find_one_and_update(
            {"_id": "buckets"},
            [{"$set": {"made": {"$toLong": last}}}],
            upsert=True,
            return_document=ReturnDocument.AFTER,
        )
        return int((counted or {})["made"])

    # -- buckets ----------------------------------------------------------------------------

    def found(self, bucket: str, session: Session | None = None) -> Document:
        found = self.buckets.find_one({"_id": bucket}, session=session)
        if found is None:
            raise NotFound(not_found(bucket))
        return found

    def insert(self, bucket: Bucket, number: int, collection: str, session: Session) -> None:
        """Make the bucket's document. DuplicateKeyError where its name or its address is taken."""
        self.buckets.insert_one(new_bucket(bucket, number, collection), session=session)

    def change_settings(self, bucket: Bucket, held: Document, session: Session) -> bool:
        """Whether there is a document like `held`, which then has these settings.

        Raises DuplicateKeyError where another bucket has the address.
        """
        settings = bucket_settings(bucket)
        change: Document = {"$set": settings, "$inc": {"changes": 1}}
        if "address" not in settings:
            change["$unset"] = {"address": ""}
        return bool(self.buckets.update_one(held, change, session=session).matched_count)

    def drop(self, bucket: str, session: Session) -> Document | None:
        """Remove the bucket's document, and its tokens: the document as it was, if there was one.

        Its collection is left.
        """
        self.tokens.delete_many({"bucket": bucket}, session=session)
        return self.buckets.find_one_and_delete({"_id": bucket}, session=session)

    def refuse_taken(self, bucket: Bucket, tokens: Sequence[Token] = ()) -> None:
        """Raise Conflict where another bucket has this one's address, or a token of that hash."""
        taken = bucket_settings(bucket).get("address")
        other = None if taken is None else self.buckets.find_one({"address": taken})
        if other is not None and other["_id"] != bucket.name:
            raise Conflict(address_taken(bucket, to_bucket(other)))
        hashes = {"_id": {"$in": [token.hash for token in tokens]}, "bucket": {"$ne": bucket.name}}
        if tokens and self.tokens.find_one(hashes) is not None:
            raise Conflict(KNOWN_HASH)

    # -- writes -----------------------------------------------------------------------------

    def write(
        self,
        bucket: str,
        session: Session,
        *,
        stored: int = 0,
        records: int = 0,
        values: Records | None = None,
        once: Once | None = None,
    ) -> Document:
        """Note a write: so many places taken, so many records more. The document as it was.

        `values`: the records that are stored, where they are known by now.
        Raises NotFound, AlreadyDone, and InvalidRecords where there would be too many fields.
        """
        names = list(values.columns) if values else []
        change = {
            "$inc": {"changes": 1, "stored": stored, "records": records} | _tallied(values),
            "$set": {"last_written": microseconds(self._clock())},
            "$addToSet": {"fields": {"$each": names}},
        }
        before = self.buckets.find_one_and_update({"_id": bucket}, change, session=session)
        if before is None:
            raise NotFound(not_found(bucket))
        self._keep(before["number"], once, session)
        refuse_too_many_fields(self.most_fields, before["fields"], names)
        return before

    def correct(
        self, bucket: str, session: Session, *, records: int = 0, values: Records | None = None
    ) -> None:
        """What the same transaction learnt of its write after it was noted."""
        names = list(values.columns) if values else []
        change = {
            "$inc": {"records": records} | _tallied(values),
            "$addToSet": {"fields": {"$each": names}},
        }
        self.buckets.update_one({"_id": bucket}, change, session=session)

    def switch(
        self, held: Document, contents: Document, session: Session, *, once: Once | None
    ) -> Document | None:
        """Note other contents where there is a document like `held`: the document as it was.

        Raises AlreadyDone.
        """
        written = {"last_written": microseconds(self._clock())}
        change = {"$set": contents | written, "$inc": {"changes": 1}}
        before = self.buckets.find_one_and_update(held, change, session=session)
        if before is not None:
            self._keep(before["number"], once, session)
        return before

    def done(self, number: int, key: str) -> Once | None:
        """What is kept with the write of that key, if it has not expired."""
        found = self._done.find_one({"_id": once_id(number, key)})
        once = None if found is None else to_once(found)
        return None if once is None or once.expired(self._clock()) else once

    def refuse_done(self, number: int, once: Once | None) -> None:
        """Raise AlreadyDone where that is known, before any work. `write` and `switch` are sure."""
        found = None if once is None else self.done(number, once.key)
        if found is not None:
            raise AlreadyDone(found)

    def _keep(self, number: int, once: Once | None, session: Session) -> None:
        """Keep it, in place of one that has expired. Raises AlreadyDone for one that has not."""
        if once is None:
            return
        document = from_once(number, once)
        expired = {"_id": document["_id"], "expires_at": {"$lte": microseconds(self._clock())}}
        try:
            self._done.replace_one(expired, document, upsert=True, session=session)
        except DuplicateKeyError as error:
            self.refuse_done(number, once)
            # Transactions see what only the primary has yet. It is not done before a majority has.
            raise PyMongoError(str(error), [TRANSIENT]) from None

    # -- tokens -----------------------------------------------------------------------------

    def insert_token(self, token: Token, session: Session) -> None:
        try:
            self.tokens.insert_one(from_token(token), session=session)
        except DuplicateKeyError:
            raise Conflict(KNOWN_HASH) from None


def _tallied(values: Records | None) -> dict[str, int]:
    """What these records add to the bucket's tally, by the path in its document."""
    return {f"tally.{path}": number for path, number in counted(values).items()} if values else {}
