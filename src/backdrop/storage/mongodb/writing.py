"""The writes of records: each in a transaction, or by a copy that a transaction puts in place."""

from __future__ import annotations

from collections.abc import Callable

from pymongo.errors import OperationFailure

from backdrop.domain.audit import Act
from backdrop.domain.once import Once
from backdrop.domain.table import Records
from backdrop.domain.values import Record
from backdrop.errors import NotFound, StorageUnavailable
from backdrop.storage.mongodb.audit import Audit
from backdrop.storage.mongodb.catalogue import Catalogue
from backdrop.storage.mongodb.connection import TRIES, Session
from backdrop.storage.mongodb.connection import Records as Database
from backdrop.storage.mongodb.documents import (
    SEQUENCE,
    Document,
    chunks,
    to_document,
    to_documents,
    to_record,
)
from backdrop.storage.mongodb.failures import is_too_large
from backdrop.storage.mongodb.shelves import Shelves
from backdrop.storage.mongodb.tally import Known, add, new_tally
from backdrop.storage.port import no_record, not_found, refuse_too_many_fields

_MOST_IN_A_TRANSACTION = 25_000
"""Records. With twice as many known ones, a server of the smallest cache never gets done."""


class Writing:
    """What `Storage` says of the methods of these names, one writer of a bucket at a time."""

    def __init__(
        self, database: Database, catalogue: Catalogue, shelves: Shelves, audit: Audit
    ) -> None:
        self._database = database
        self._catalogue = catalogue
        self._shelves = shelves
        self._audit = audit

    def save(self, bucket: str, records: Records, once: Once | None, act: Act | None) -> None:
        ids = () if records.ids_are_new else records.ids

        def work(session: Session) -> None:
            count = len(records)
            before = self._catalogue.write(
                bucket, session, stored=count, records=count, values=records, once=once
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

        if len(records) > _MOST_IN_A_TRANSACTION:
            self._save_by_copy(bucket, records, once, act)
            return
        try:
            self._audit.transact(work, act)
        except OperationFailure as error:
            if not is_too_large(error):
                raise
            self._save_by_copy(bucket, records, once, act)

    def replace(self, bucket: str, records: Records, once: Once | None, act: Act | None) -> None:
        number = self._catalogue.found(bucket)["number"]
        self._catalogue.refuse_done(number, once)
        refuse_too_many_fields(self._catalogue.most_fields, records.columns)
        name = self._shelves.new()
        if len(records):
            self._database[name].insert_many(to_documents(records, 0))
        count = len(records)
        contents = {
            "records": count,
            "stored": count,
            "fields": list(records.columns),
            "tally": add(new_tally(name), records),
        }
        self._switch({"_id": bucket, "number": number}, name, contents, once, act)

    def update(
        self,
        bucket: str,
        record_id: str,
        change: Callable[[Record], Record],
        once: Once | None,
        act: Act | None,
    ) -> None:
        def work(session: Session) -> None:
            before = self._catalogue.write(bucket, session, stored=1, once=once)
            shelf = self._database[before["collection"]]
            found = shelf.find_one({"_id": record_id}, {SEQUENCE: 0}, session=session)
            if found is None:
                raise NotFound(no_record(bucket, record_id))
            changed = change(to_record(found))
            refuse_too_many_fields(self._catalogue.most_fields, before["fields"], changed)
            self._catalogue.correct(bucket, session, values=Records.of([changed]))
            document = to_document(changed, before["stored"])
            shelf.replace_one({"_id": record_id}, document, session=session)

        self._audit.transact(work, act)

    def delete(self, bucket: str, record_id: str, act: Act | None) -> None:
        def work(session: Session) -> None:
            before = self._catalogue.write(bucket, session, records=-1)
            shelf = self._database[before["collection"]]
            if not shelf.delete_one({"_id": record_id}, session=session).deleted_count:
                raise NotFound(no_record(bucket, record_id))

        self._audit.transact(work, act)

    def _switch(
        self, held: Document, name: str, contents: Document, once: Once | None, act: Act | None
    ) -> None:
        """Make the new collection the bucket's, in one step; NotFound where none is `held`."""

        def work(session: Session) -> None:
            collection = {"collection": name}
            before = self._catalogue.switch(held, collection | contents, session, once=once)
            if before is None:
                raise NotFound(not_found(held["_id"]))
            self._shelves.put(name, session)
            self._shelves.leave(before["collection"], session)

        self._audit.transact(work, act)

    def _save_by_copy(
        self, bucket: str, records: Records, once: Once | None, act: Act | None
    ) -> None:
        """Save what is too much for one transaction: all records into a new collection."""
        for _ in range(TRIES):
            before = self._catalogue.found(bucket)
            self._catalogue.refuse_done(before["number"], once)
            fields = list(dict.fromkeys([*before["fields"], *records.columns]))
            refuse_too_many_fields(self._catalogue.most_fields, fields)
            name = self._shelves.new()
            new = self._database[name]
            new.insert_many(to_documents(records, before["stored"]))
            self._shelves.add(before["collection"], name)
            contents = {
                "records": new.count_documents({}),
                "stored": before["stored"] + len(records),
                "fields": fields,
                "tally": Known.of(before).moved(name, records),
            }
            held = {"_id": bucket, "number": before["number"], "changes": before["changes"]}
            try:
                self._switch(held, name, contents, once, act)
            except NotFound:  # or changed meanwhile, by another process
                continue
            self._shelves.sweep_if_possible()
            return
        raise StorageUnavailable("the store does not answer")
