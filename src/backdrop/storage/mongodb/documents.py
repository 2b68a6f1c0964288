"""Buckets, tokens and records -> documents, and back. Pure.

A record is one document with its fields as they are, its times as microseconds since year 1 (a BSON
date holds milliseconds) and its place in the order of storing. BSON keeps integers, floats,
booleans, null and absence apart by itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain
from typing import Any, TypeAlias

import msgspec
from bson import Int64

from backdrop.domain.bucket import Bucket
from backdrop.domain.entry import Entry
from backdrop.domain.once import Once
from backdrop.domain.period_key import instant, microseconds
from backdrop.domain.table import Records
from backdrop.domain.token import Token
from backdrop.domain.values import TIME_FIELDS, Record, Value
from backdrop.storage.mongodb.tally import new_tally
from backdrop.storage.port import BucketState

Document: TypeAlias = dict[str, Any]

SEQUENCE = "_seq"
"""The field that orders the records of a bucket as they were stored; no record can have it."""

# -- records -------------------------------------------------------------------------------------


def to_documents(records: Records, first_place: int) -> list[Document]:
    places = range(first_place, first_place + len(records))
    columns = {**records.columns, SEQUENCE: places}
    for name in TIME_FIELDS & columns.keys():
        columns[name] = [stored_value(value) for value in columns[name]]
    return Records(columns, received=len(places)).rows


def to_document(record: Record, place: int) -> Document:
    document: Document = {**record, SEQUENCE: place}
    for name in TIME_FIELDS & record.keys():
        document[name] = stored_value(document[name])
    return document


def to_record(document: Document) -> Record:
    """The record of a document, with which nothing else is done."""
    return to_records([document])[0]


def to_records(documents: list[Document]) -> list[Record]:
    """The records of documents that were read, with which nothing else is done."""
    for document in documents:
        document.pop(SEQUENCE, None)
    for name in TIME_FIELDS:
        timed = [document for document in documents if name in document]
        times = _instants([document[name] for document in timed])
        for document, time in zip(timed, times, strict=True):
            document[name] = time
    values = chain.from_iterable(map(dict.values, documents))
    if Int64 not in set(map(type, values)):
        return documents
    return [
        {name: int(value) if type(value) is Int64 else value for name, value in document.items()}
        for document in documents
    ]


def _instants(times: list[int]) -> list[datetime]:
    """What each number of microseconds stands for. Whole seconds take a quarter of the time."""
    if any(time % _SECOND for time in times):
        return list(map(instant, times))
    seconds = [time // _SECOND - _BEFORE_1970 for time in times]
    return msgspec.convert(seconds, list[datetime], strict=False)


_SECOND = 1_000_000
_BEFORE_1970 = microseconds(datetime(1970, 1, 1, tzinfo=UTC)) // _SECOND


def stored_value(value: Value) -> Any:
    return microseconds(value) if isinstance(value, datetime) else value


def read_value(field: str, value: Any) -> Value:
    """What one value of that field stands for."""
    number = int(value) if type(value) is Int64 else value
    return instant(number) if field in TIME_FIELDS and number is not None else number


# -- buckets -------------------------------------------------------------------------------------

_CHANGE_BITS = 40
"""A version is a bucket's number above the number of its changes, of which there are fewer."""


def new_bucket(bucket: Bucket, number: int, collection: str) -> Document:
    """The document of a bucket that is made now. No other one ever has its number."""
    return {
        "_id": bucket.name,
        **bucket_settings(bucket),
        "number": number,
        "changes": 0,
        "collection": collection,
        "records": 0,
        "stored": 0,  # ever, into this collection: the place of the next one
        "fields": [],  # that any of them had
        "last_written": None,
        "tally": new_tally(collection),
    }


def bucket_settings(bucket: Bucket) -> Document:
    settings: Document = {"settings": msgspec.json.encode(bucket).decode()}
    if bucket.address is not None:
        settings["address"] = address(*bucket.address)
    return settings


def address(data_group: str, data_type: str) -> str:
    return f"{data_group}/{data_type}"


def to_bucket(document: Mapping[str, Any]) -> Bucket:
    return msgspec.json.decode(document["settings"], type=Bucket)


def to_version(document: Mapping[str, Any]) -> int:
    return int((document["number"] << _CHANGE_BITS) + document["changes"])


def to_state(document: Mapping[str, Any]) -> BucketState:
    written = document["last_written"]
    return BucketState(
        to_bucket(document),
        to_version(document),
        int(document["records"]),
        None if written is None else instant(written),
    )


# -- tokens --------------------------------------------------------------------------------------

_TOKEN_TIMES = ("created_at", "expires_at", "last_used_at")


def from_token(token: Token) -> Document:
    """The token's document; its hash is its `_id`, so that no other token can have it."""
    document = dataclasses.asdict(token)
    document |= {name: stored_value(document[name]) for name in _TOKEN_TIMES}
    return {"_id": document.pop("hash"), **document}


def to_token(document: Mapping[str, Any]) -> Token:
    fields = dict(document)
    for name in _TOKEN_TIMES:
        fields[name] = None if fields[name] is None else instant(fields[name])
    return Token(hash=fields.pop("_id"), **fields)


# -- entries -------------------------------------------------------------------------------------

REMOVAL = "removed_from"
"""The date, of BSON's kind, from which the server may remove what has expired."""


def entry_id(kind: str, key: str) -> str:
    return f"{kind}/{key}"


def from_entry(entry: Entry) -> Document:
    document = {"_id": entry_id(entry.kind, entry.key), **dataclasses.asdict(entry)}
    if entry.expires_at is not None:
        document |= {"expires_at": microseconds(entry.expires_at), REMOVAL: entry.expires_at}
    return document


def to_entry(document: Mapping[str, Any]) -> Entry:
    expires_at = document["expires_at"]
    return Entry(
        document["kind"],
        document["key"],
        bytes(document["value"]),
        None if expires_at is None else instant(expires_at),
    )


# -- writes that are made once ---------------------------------------------------------------------


def once_id(number: int, key: str) -> str:
    """Of a write of the bucket with that number, which no later one of its name has."""
    return f"{number}/{key}"


def from_once(number: int, once: Once) -> Document:
    document = {"_id": once_id(number, once.key), **dataclasses.asdict(once)}
    return document | {"expires_at": microseconds(once.expires_at), REMOVAL: once.expires_at}


def to_once(document: Mapping[str, Any]) -> Once:
    return Once(
        document["key"],
        document["fingerprint"],
        int(document["records"]),
        instant(document["expires_at"]),
    )


# -- lists of ids --------------------------------------------------------------------------------


def chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """The ids in parts that fit one command: the longest takes 2 KB, and a command 16 MB."""
    return (ids[at : at + 5_000] for at in range(0, len(ids), 5_000))
