"""Making a bucket as it was elsewhere: its records aside, then all of it in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from pymongo.errors import DuplicateKeyError

from backdrop.domain.bucket import Bucket
from backdrop.domain.table import Records
from backdrop.domain.token import Token
from backdrop.storage.mongodb.catalogue import Catalogue
from backdrop.storage.mongodb.connection import Records as Database
from backdrop.storage.mongodb.connection import Session
from backdrop.storage.mongodb.documents import new_bucket, stored_value, to_documents
from backdrop.storage.mongodb.failures import driver_errors
from backdrop.storage.mongodb.shelves import Shelves
from backdrop.storage.mongodb.tally import add, new_tally
from backdrop.storage.port import Restore, refuse_too_many_fields


@contextmanager
def restoring(
    transact: Callable[[Callable[[Session], None]], None],
    database: Database,
    catalogue: Catalogue,
    shelves: Shelves,
    bucket: Bucket,
    tokens: Sequence[Token],
    last_written: datetime | None,
) -> Iterator[Restore]:
    """What `Storage.restoring` is, in this database. `transact` does its work in a transaction."""
    catalogue.refuse_taken(bucket, tokens)
    name = shelves.new()
    fields: dict[str, None] = {}
    tally = new_tally(name)
    stored = 0

    @driver_errors()
    def put(records: Records) -> None:
        nonlocal stored
        refuse_too_many_fields(catalogue.most_fields, fields, records.columns)
        shelves.keep(name)
        if len(records):
            database[name].insert_many(to_documents(records, stored))
        fields.update(dict.fromkeys(records.columns))
        add(tally, records)
        stored += len(records)

    yield put

    number = catalogue.number()  # above that of whatever was made of this name meanwhile

    def work(session: Session) -> None:
        before = catalogue.drop(bucket.name, session)
        if before is not None:
            shelves.leave(before["collection"], session)
        document = new_bucket(bucket, number, name)
        document |= {"records": stored, "stored": stored, "fields": list(fields), "tally": tally}
        document["last_written"] = stored_value(last_written)
        catalogue.buckets.insert_one(document, session=session)
        shelves.put(name, session)
        for token in tokens:
            catalogue.insert_token(token, session)

    try:
        transact(work)
    except DuplicateKeyError:
        catalogue.refuse_taken(bucket, tokens)
        raise
    shelves.sweep_if_possible()
