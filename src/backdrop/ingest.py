"""THE WRITE PATH, from raw rows to the store. POST, PUT, PATCH, uploads and imports join here."""

from __future__ import annotations

import base64
import dataclasses
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

from backdrop.domain.audit import Act, Action
from backdrop.domain.bucket import Bucket
from backdrop.domain.once import AlreadyDone, Once
from backdrop.domain.record import parse_patch, parse_records
from backdrop.domain.table import RawRows, Records, joined
from backdrop.errors import KeyReused
from backdrop.schema import schema_check
from backdrop.storage.port import Storage, done_at_once


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was stored, durably. `records` counts those received, also two of one `_id`.

    `new` and `replaced`, where they were asked for: how many of them had no place yet, and how many
    took that of a stored one. The rest have the id of one further down. `replayed`: whether it was
    an earlier write of the same key that stored them.
    """

    records: int
    new: int = 0
    replaced: int = 0
    replayed: bool = False


def earlier(storage: Storage, bucket: Bucket, once: Once | None) -> Receipt | None:
    """The receipt of that write, if it has been made. Raises KeyReused where it was another."""
    found = None if once is None else storage.done(bucket.name, once.key)
    return None if found is None else _replayed(found, once)


def ingest(
    storage: Storage,
    bucket: Bucket,
    raw_rows: RawRows,
    *,
    replace: bool = False,
    by: str | None = None,
    once: Once | None = None,
) -> Receipt:
    """Check all the rows and store them in one step, as the bucket's whole contents if `replace`.

    The audit log says `by` whom, if that is given.
    Raises InvalidRecords, with every row's problems, KeyReused or StorageUnavailable; then nothing
    is stored. An empty batch is no write, unless `replace`: nothing is kept of it.
    """
    records = _check_of(storage, bucket)(raw_rows, bucket)
    once = _with_records(once, records.received)
    action: Action = "records_replaced" if replace else "records_stored"
    act = _act(by, action, bucket, records.received)
    try:
        if replace:
            storage.replace(bucket.name, records, once=once, act=act)
        elif len(records):
            storage.save(bucket.name, records, once=once, act=act)
    except AlreadyDone as done:
        return _replayed(done.once, once)
    return Receipt(records.received)


def ingest_soon(
    storage: Storage, bucket: Bucket, raw_rows: RawRows, *, by: str | None = None
) -> tuple[Receipt, Future[None]]:
    """Check all the rows as `ingest` does, and begin to store them: the receipt is good once the
    future has ended well. For few rows, and a store that does not wait, on an event loop.
    """
    records = _check_of(storage, bucket)(raw_rows, bucket)
    act = _act(by, "records_stored", bucket, records.received)
    if not len(records):
        return Receipt(0), done_at_once(lambda: None)
    return Receipt(records.received), storage.save_soon(bucket.name, records, act=act)


def ingest_parts(
    storage: Storage, bucket: Bucket, parts: Iterable[Sequence[Any]], *, by: str | None = None
) -> Receipt:
    """Check the rows part by part, and store them all in one step, as `ingest` does.

    What is large is never held as rows, and no other request waits for a check of all of it.
    """
    check = _check_of(storage, bucket)
    checked = [check(rows, bucket) for rows in parts if rows]
    if not checked:
        return Receipt(0)
    records = joined(checked)
    replaced = 0 if records.ids_are_new else storage.count_held(bucket.name, records.ids)
    act = _act(by, "records_stored", bucket, records.received)
    storage.save(bucket.name, records, act=act)
    return Receipt(records.received, len(records) - replaced, replaced)


def ingest_patch(
    storage: Storage,
    bucket: Bucket,
    record_id: str,
    raw: Any,
    *,
    by: str | None = None,
    once: Once | None = None,
) -> Receipt:
    """Merge the raw row's fields into one record. Raises NotFound too."""
    check = schema_check(bucket)
    once = _with_records(once, 1)
    try:
        storage.update(
            bucket.name,
            record_id,
            lambda stored: parse_patch(stored, raw, bucket, schema_check=check),
            once=once,
            act=_act(by, "record_changed", bucket, 1, _id=record_id),
        )
    except AlreadyDone as done:
        return _replayed(done.once, once)
    return Receipt(1)


def _check_of(storage: Storage, bucket: Bucket) -> Callable[[RawRows, Bucket], Records]:
    """What checks raw rows by the bucket's schema and the store's bound, and makes their ids."""
    return partial(
        parse_records,
        new_ids=_new_ids(),
        schema_check=schema_check(bucket),
        most_fields=storage.most_fields,
    )


def _act(
    by: str | None, action: Action, bucket: Bucket, records: int, **details: str
) -> Act | None:
    if by is None:
        return None
    return Act(by=by, action=action, bucket=bucket.name, records=records, details=details)


def _with_records(once: Once | None, records: int) -> Once | None:
    return None if once is None else dataclasses.replace(once, records=records)


def _replayed(found: Once, once: Once | None) -> Receipt:
    if once is None or found.fingerprint != once.fingerprint:
        raise KeyReused(
            "this Idempotency-Key is that of another request, which was stored; the same key "
            "expects the same method, record and body"
        )
    return Receipt(found.records, replayed=True)


def _new_ids() -> Iterator[str]:
    """Ids that no other batch has: the batch's time and 80 random bits, then a number in it."""
    stamp = (time.time_ns() // 1_000_000).to_bytes(6, "big") + secrets.token_bytes(9)
    batch = base64.b32hexencode(stamp).decode().lower()
    for number in count():
        yield f"{batch}-{number}"
