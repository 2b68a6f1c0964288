"""The collections of records: made aside, put in their place in a transaction, removed late.

A bucket's document names its collection. A new one is listed as left over before it is made, and
taken off the list in the transaction that puts it in its place; the one that was there goes on the
list. Whatever stays on it is dropped once no reading can need it any more: after the time for which
the server keeps snapshots, and a crash while one is made leaves nothing behind.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

from bson import Int64, ObjectId
from pymongo.errors import PyMongoError
from pymongo.operations import IndexModel

from backdrop.errors import StorageUnavailable
from backdrop.storage.mongodb.connection import Connection, Session
from backdrop.storage.mongodb.documents import Document
from backdrop.storage.mongodb.pipeline import TIME_INDEX


class Shelves:
    """The collections that hold records, in one database."""

    def __init__(self, connection: Connection, *, kept_for: timedelta) -> None:
        self._connection = connection
        self._database = connection.database
        self._left_over = self._database["left_over"]
        self._kept_for = Int64(kept_for // timedelta(milliseconds=1))

    def new(self) -> str:
        """The name of an empty collection. No other one ever has it."""
        name = f"records_{ObjectId()}"
        self._leave(name)
        indexes = [IndexModel(list(TIME_INDEX))]
        self._connection.again(lambda: self._database[name].create_indexes(indexes))
        return name

    def add(self, some: str, name: str) -> None:
        """Copy the records of a collection into another one, but those whose ids it has."""
        merge = {"$merge": {"into": name, "on": "_id", "whenMatched": "keepExisting"}}
        self._connection.again(lambda: self._database[some].aggregate([merge]))

    def keep(self, name: str) -> None:
        """List a new collection as left over from now on only, as it is still being filled."""
        if not self._left_over.update_one(_listed(name), _SINCE_NOW).matched_count:
            raise StorageUnavailable(_GIVEN_UP)

    def put(self, name: str, session: Session) -> None:
        """Take a new collection off the list, as its bucket's document names it from now on."""
        if not self._left_over.delete_one(_listed(name), session=session).deleted_count:
            raise StorageUnavailable(_GIVEN_UP)

    def leave(self, name: str, session: Session) -> None:
        """List a collection that no bucket's document names any more."""
        self._leave(name, session)

    def sweep(self) -> None:
        """Drop what has been left over for long enough."""
        limit = {"$subtract": ["$$NOW", self._kept_for]}
        old = {"$or": [{"dropping": True}, {"$expr": {"$lte": ["$since", limit]}}]}
        while found := self._left_over.find_one_and_update(old, {"$set": {"dropping": True}}):
            self._database.drop_collection(found["_id"])
            self._left_over.delete_one({"_id": found["_id"]})

    def sweep_if_possible(self) -> None:
        """The same after a write, which is durable: it has not failed where this does."""
        with suppress(PyMongoError):
            self.sweep()

    def _leave(self, name: str, session: Session | None = None) -> None:
        self._left_over.update_one({"_id": name}, _SINCE_NOW, upsert=True, session=session)


_SINCE_NOW = [{"$set": {"since": "$$NOW"}}]
"""By the server's clock, which all processes share."""
_GIVEN_UP = "the write took so long that it was given up"


def _listed(name: str) -> Document:
    """The collection on the list, where nobody is dropping it."""
    return {"_id": name, "dropping": {"$exists": False}}
