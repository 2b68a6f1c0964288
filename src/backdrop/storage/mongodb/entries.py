"""The entries: a document each, removed by the server some time after it has expired."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import datetime

from pymongo.collection import Collection

from backdrop.domain.audit import Act
from backdrop.domain.entry import Entry
from backdrop.errors import StorageUnavailable
from backdrop.storage.mongodb.audit import Audit
from backdrop.storage.mongodb.connection import TRIES, Session
from backdrop.storage.mongodb.documents import Document, entry_id, from_entry, to_entry

_BY_KIND = (("kind", 1), ("key", 1))


class Entries:
    """The collection `entries`. One that has expired is not there, whether it is removed or not.

    A change takes a transaction only where an act goes with it.
    """

    def __init__(
        self, collection: Collection[Document], audit: Audit, clock: Callable[[], datetime]
    ) -> None:
        self._collection = collection
        self._audit = audit
        self._clock = clock

    def put(self, entry: Entry, act: Act | None) -> None:
        document = from_entry(entry)

        def work(session: Session | None) -> None:
            self._collection.replace_one(
                {"_id": document["_id"]}, document, upsert=True, session=session
            )

        if act is None:
            work(None)
        else:
            self._audit.transact(work, act)

    def find(self, kind: str, key: str) -> Entry | None:
        return self._unexpired(self._collection.find_one({"_id": entry_id(kind, key)}))

    def of_kind(self, kind: str) -> list[Entry]:
        found = map(self._unexpired, self._collection.find({"kind": kind}).sort("key", 1))
        return [entry for entry in found if entry is not None]

    def lasting(self) -> list[Entry]:
        return list(map(to_entry, self._collection.find({"expires_at": None}).sort(_BY_KIND)))

    def change(
        self, kind: str, key: str, change: Callable[[bytes], bytes], act: Act | None
    ) -> bool:
        for _ in range(TRIES):
            document = self._collection.find_one({"_id": entry_id(kind, key)})
            found = self._unexpired(document)
            if document is None or found is None:
                return False
            changed = from_entry(dataclasses.replace(found, value=change(found.value)))
            if self._replace(document, changed, act):
                return True
        raise StorageUnavailable("the store does not answer")

    def take(self, kind: str, key: str, act: Act | None) -> Entry | None:
        def work(session: Session | None) -> Entry | None:
            known = {"_id": entry_id(kind, key)}
            found = self._unexpired(self._collection.find_one_and_delete(known, session=session))
            if act is not None and found is not None:
                self._audit.note(act, session)
            return found

        return work(None) if act is None else self._audit.transact(work, None)

    def _replace(self, held: Document, changed: Document, act: Act | None) -> bool:
        def work(session: Session | None) -> bool:
            return bool(self._collection.replace_one(held, changed, session=session).matched_count)

        return work(None) if act is None else self._audit.transact(work, act)

    def _unexpired(self, document: Document | None) -> Entry | None:
        entry = None if document is None else to_entry(document)
        return None if entry is None or entry.expired(self._clock()) else entry
