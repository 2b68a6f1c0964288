"""The smallest correct engine: everything in dictionaries, every answer by brute force.

It is the oracle that the other engines are tested against, so it is written to be read.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from backdrop.domain.audit import Act, AuditEntry
from backdrop.domain.bucket import Bucket
from backdrop.domain.entry import Entry
from backdrop.domain.once import AlreadyDone, Once
from backdrop.domain.query import Equals, Filter, Query, Reduction
from backdrop.domain.reduce import add, distinct, greatest, least
from backdrop.domain.shape import Groups
from backdrop.domain.table import Records
from backdrop.domain.token import Token
from backdrop.domain.values import ID, MOST_FIELDS, TIMESTAMP, Record, Value, order_key, shown
from backdrop.errors import Conflict, NotFound
from backdrop.storage.port import (
    KNOWN_HASH,
    RECORDS_A_PAGE,
    BucketState,
    Load,
    Reading,
    Restore,
    address_taken,
    audit_number,
    done_at_once,
    no_record,
    no_token,
    not_a_number,
    not_found,
    refuse_too_many_fields,
    too_many_rows,
)


@dataclasses.dataclass
class _Shelf:
    """One bucket with all that is in it. `records` keeps the order of storing."""

    bucket: Bucket
    version: int
    records: dict[str, Record] = dataclasses.field(default_factory=dict)
    tokens: dict[str, Token] = dataclasses.field(default_factory=dict)
    done: dict[str, Once] = dataclasses.field(default_factory=dict)
    last_written: datetime | None = None


class MemoryStorage:
    """A store that lives as long as its process. See `Storage` for what each method does.

    It is for small stores, and bounds no query's time.
    """

    state_is_at_hand = True

    def __init__(
        self,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        most_fields: int = MOST_FIELDS,
    ) -> None:
        self._clock = clock
        self.most_fields = most_fields
        self._lock = threading.RLock()
        self._shelves: dict[str, _Shelf] = {}
        self._entries: dict[tuple[str, str], Entry] = {}
        self._audit: list[AuditEntry] = []
        self._noted = 0
        self._version = time.time_ns()  # so that no version comes again after a restart

    # -- buckets ----------------------------------------------------------------------------

    def buckets(self) -> list[Bucket]:
        with self._lock:
            return [self._shelves[name].bucket for name in sorted(self._shelves)]

    def bucket(self, name: str) -> Bucket:
        return self._shelf(name).bucket

    def bucket_at(self, data_group: str, data_type: str) -> Bucket:
        for bucket in self.buckets():
            if bucket.address == (data_group, data_type):
                return bucket
        raise NotFound(not_found(f"{data_group}/{data_type}"))

    def put_bucket(
        self, bucket: Bucket, *, first_token: Token | None = None, act: Act | None = None
    ) -> bool:
        with self._lock:
            self._refuse_taken(bucket)
            shelf = self._shelves.get(bucket.name)
            if shelf is not None:
                shelf.bucket = bucket
                self._changed(shelf)
                self._note(act)
                return False
            shelf = _Shelf(bucket, 0)
            if first_token is not None:
                self._refuse_known(first_token)
                shelf.tokens[first_token.id] = first_token
            self._changed(shelf)
            self._shelves[bucket.name] = shelf
            self._note(act.instead("bucket_created") if act else None)
            return True

    def change_bucket(
        self, name: str, change: Callable[[Bucket], Bucket], *, act: Act | None = None
    ) -> Bucket:
        with self._lock:
            bucket = change(self.bucket(name))
            self.put_bucket(bucket, act=act)
            return bucket

    def drop_bucket(self, name: str, *, act: Act | None = None) -> None:
        with self._lock:
            self._shelf(name)
            del self._shelves[name]
            self._note(act)

    def state(self, name: str) -> BucketState:
        with self._lock:
            shelf = self._shelf(name)
            return BucketState(shelf.bucket, shelf.version, len(shelf.records), shelf.last_written)

    # -- tokens -----------------------------------------------------------------------------

    def tokens(self, bucket: str) -> list[Token]:
        with self._lock:
            return sorted(self._shelf(bucket).tokens.values(), key=lambda t: (t.created_at, t.id))

    def add_token(self, token: Token, *, act: Act | None = None) -> None:
        with self._lock:
            shelf = self._shelf(token.bucket)
            self._refuse_known(token)
            shelf.tokens[token.id] = token
            self._note(act)

    def drop_token(self, bucket: str, token_id: str, *, act: Act | None = None) -> None:
        with self._lock:
            if self._shelf(bucket).tokens.pop(token_id, None) is None:
                raise NotFound(no_token(bucket, token_id))
            self._note(act)

    def token(self, token_hash: str) -> Token | None:
        with self._lock:
            for shelf in self._shelves.values():
                for token in shelf.tokens.values():
                    if token.hash == token_hash:
                        return token
        return None

    def token_used(self, token_hash: str, now: datetime) -> None:
        with self._lock:
            token = self.token(token_hash)
            if token is not None:
                used = dataclasses.replace(token, last_used_at=now)
                self._shelves[token.bucket].tokens[token.id] = used

    # -- writing ----------------------------------------------------------------------------

    def save(
        self, bucket: str, records: Records, *, once: Once | None = None, act: Act | None = None
    ) -> None:
        with self._lock:
            shelf = self._shelf(bucket)
            self._refuse_done(shelf, once)
            refuse_too_many_fields(self.most_fields, *shelf.records.values(), records.columns)
            for record in records.rows:
                _put(shelf, record)
            self._written(shelf, once)
            self._note(act)

    def save_soon(self, bucket: str, records: Records, *, act: Act | None = None) -> Future[None]:
        return done_at_once(lambda: self.save(bucket, records, act=act))

    def replace(
        self, bucket: str, records: Records, *, once: Once | None = None, act: Act | None = None
    ) -> None:
        with self._lock:
            shelf = self._shelf(bucket)
            self._refuse_done(shelf, once)
            refuse_too_many_fields(self.most_fields, records.columns)
            shelf.records.clear()
            for record in records.rows:
                _put(shelf, record)
            self._written(shelf, once)
            self._note(act)

    def update(
        self,
        bucket: str,
        record_id: str,
        change: Callable[[Record], Record],
        *,
        once: Once | None = None,
        act: Act | None = None,
    ) -> None:
        with self._lock:
            shelf = self._shelf(bucket)
            self._refuse_done(shelf, once)
            if record_id not in shelf.records:
                raise NotFound(no_record(bucket, record_id))
            changed = change(dict(shelf.records[record_id]))
            refuse_too_many_fields(self.most_fields, *shelf.records.values(), changed)
            _put(shelf, changed)
            self._written(shelf, once)
            self._note(act)

    def delete(self, bucket: str, record_id: str, *, act: Act | None = None) -> None:
        with self._lock:
            shelf = self._shelf(bucket)
            if shelf.records.pop(record_id, None) is None:
                raise NotFound(no_record(bucket, record_id))
            self._written(shelf)
            self._note(act)

    def done(self, bucket: str, key: str) -> Once | None:
        with self._lock:
            once = self._shelf(bucket).done.get(key)
            return None if once is None or once.expired(self._clock()) else once

    @contextmanager
    def restoring(
        self, bucket: Bucket, *, tokens: Sequence[Token], last_written: datetime | None
    ) -> Iterator[Restore]:
        shelf = _Shelf(bucket, 0, last_written=last_written)
        shelf.tokens = {token.id: token for token in tokens}

        def put(records: Records) -> None:
            refuse_too_many_fields(self.most_fields, *shelf.records.values(), records.columns)
            for record in records.rows:
                _put(shelf, record)

        self._refuse_taken(bucket, tokens)
        yield put
        with self._lock:
            self._refuse_taken(bucket, tokens)
            self._changed(shelf)
            self._shelves[bucket.name] = shelf

    # -- reading ----------------------------------------------------------------------------

    @contextmanager
    def records(
        self,
        bucket: str,
        query: Query,
        *,
        with_fields: bool = False,
        most_seconds: float | None = None,  # noqa: ARG002  there is nothing that it could interrupt
    ) -> Iterator[Reading]:
        matching = self._matching(bucket, query)
        found = _sorted(query, matching)[: query.limit]
        fields = sorted({name for record in matching for name in record}) if with_fields else ()
        yield _paged(found, fields)

    @contextmanager
    def stored(self, bucket: str) -> Iterator[Reading]:
        yield _paged(self._matching(bucket, Query()))

    def count_held(self, bucket: str, ids: Sequence[str]) -> int:
        with self._lock:
            records = self._shelf(bucket).records
            return sum(one in records for one in ids)

    def groups(
        self,
        bucket: str,
        query: Query,
        *,
        most_rows: int,
        most_seconds: float | None = None,  # noqa: ARG002
    ) -> Groups:
        found: dict[tuple[Any, ...], list[Record]] = {}
        for record in self._matching(bucket, query):
            values = [record.get(field) for field in query.group_by]
            time = record.get(TIMESTAMP)
            if any(value is None for value in values) or (query.period and time is None):
                continue
            start = query.period.start(time) if query.period else None  # type: ignore[arg-type]
            found.setdefault((start, *map(order_key, values)), []).append(record)
        groups = list(found.values())
        if len(groups) > most_rows:
            raise too_many_rows(most_rows)
        return Groups(
            keys=tuple([shown(rows[0][field]) for rows in groups] for field in query.group_by),
            starts=[start for start, *_ in found] if query.period else None,
            counts=[len(rows) for rows in groups],
            reduced={
                (field, reduction): [_reduce(field, reduction, rows) for rows in groups]
                for field, reduction in query.reductions
            },
        )

    # -- entries ----------------------------------------------------------------------------

    def put_entry(self, entry: Entry, *, act: Act | None = None) -> None:
        with self._lock:
            self._entries = {key: one for key, one in self._entries.items() if self._holds(one)}
            self._entries[entry.kind, entry.key] = entry
            self._note(act)

    def entry(self, kind: str, key: str) -> Entry | None:
        with self._lock:
            entry = self._entries.get((kind, key))
            return entry if entry is not None and self._holds(entry) else None

    def entries(self, kind: str) -> list[Entry]:
        with self._lock:
            found = [one for one in self._entries.values() if one.kind == kind and self._holds(one)]
        return sorted(found, key=lambda entry: entry.key)

    def lasting_entries(self) -> list[Entry]:
        with self._lock:
            found = [entry for entry in self._entries.values() if entry.expires_at is None]
        return sorted(found, key=lambda entry: (entry.kind, entry.key))

    def change_entry(
        self, kind: str, key: str, change: Callable[[bytes], bytes], *, act: Act | None = None
    ) -> bool:
        with self._lock:
            found = self.entry(kind, key)
            if found is not None:
                self.put_entry(dataclasses.replace(found, value=change(found.value)), act=act)
            return found is not None

    def take_entry(self, kind: str, key: str, *, act: Act | None = None) -> Entry | None:
        with self._lock:
            found = self.entry(kind, key)
            self._entries.pop((kind, key), None)
            self._note(act if found else None)
            return found

    # -- the audit log ----------------------------------------------------------------------

    def audit(
        self, *, bucket: str | None = None, before: str | None = None, limit: int
    ) -> list[AuditEntry]:
        until = self._noted + 1 if before is None else audit_number(before)
        with self._lock:
            found = [
                entry
                for entry in reversed(self._audit)
                if (bucket is None or entry.act.bucket == bucket) and int(entry.id) < until
            ]
        return found[:limit]

    def prune_audit(self, before: datetime) -> None:
        with self._lock:
            self._audit = [entry for entry in self._audit if entry.at >= before]

    # -- the store itself -------------------------------------------------------------------

    def check(self) -> None:
        pass

    def load(self) -> Load:
        return Load()

    def end_queries(self) -> None:
        """None takes long."""

    def close(self) -> None:
        pass

    # -- within -----------------------------------------------------------------------------

    def _shelf(self, name: str) -> _Shelf:
        with self._lock:
            if name not in self._shelves:
                raise NotFound(not_found(name))
            return self._shelves[name]

    def _holds(self, entry: Entry) -> bool:
        return not entry.expired(self._clock())

    def _refuse_taken(self, bucket: Bucket, tokens: Iterable[Token] = ()) -> None:
        """Raise Conflict where another bucket has the address, or one of the tokens' hashes."""
        with self._lock:
            for other in self.buckets():
                if bucket.address and other.address == bucket.address and other.name != bucket.name:
                    raise Conflict(address_taken(bucket, other))
            for token in tokens:
                known = self.token(token.hash)
                if known is not None and known.bucket != bucket.name:
                    raise Conflict(KNOWN_HASH)

    def _refuse_known(self, token: Token) -> None:
        if self.token(token.hash) is not None:
            raise Conflict(KNOWN_HASH)

    def _note(self, act: Act | None) -> None:
        if act is not None:
            self._noted += 1
            self._audit.append(AuditEntry(str(self._noted), self._clock(), act))

    def _changed(self, shelf: _Shelf) -> None:
        self._version += 1
        shelf.version = self._version

    def _refuse_done(self, shelf: _Shelf, once: Once | None) -> None:
        found = None if once is None else self.done(shelf.bucket.name, once.key)
        if found is not None:
            raise AlreadyDone(found)

    def _written(self, shelf: _Shelf, once: Once | None = None) -> None:
        shelf.last_written = now = self._clock()
        if once is not None:
            shelf.done = {key: one for key, one in shelf.done.items() if not one.expired(now)}
            shelf.done[once.key] = once
        self._changed(shelf)

    def _matching(self, bucket: str, query: Query) -> list[Record]:
        with self._lock:
            return [dict(r) for r in self._shelf(bucket).records.values() if _matches(query, r)]


def _paged(records: Sequence[Record], fields: Sequence[str] = ()) -> Reading:
    places = range(0, len(records), RECORDS_A_PAGE)
    return Reading((records[at : at + RECORDS_A_PAGE] for at in places), fields)


def _put(shelf: _Shelf, record: Record) -> None:
    record_id = str(record[ID])
    shelf.records.pop(record_id, None)
    shelf.records[record_id] = dict(record)


def _matches(query: Query, record: Record) -> bool:
    time = record.get(TIMESTAMP)
    if query.start is not None and not (isinstance(time, datetime) and query.start <= time):
        return False
    if query.end is not None and not (isinstance(time, datetime) and time < query.end):
        return False
    return all(_passes(one, record.get(one.field)) for one in query.filters)


def _passes(one: Filter, value: Value) -> bool:
    if isinstance(one, Equals):
        return value is not None and order_key(value) in map(order_key, one.values)
    return isinstance(value, str) and value.startswith(one.prefixes)


def _sorted(query: Query, records: list[Record]) -> list[Record]:
    field = query.sort.key if query.sort else TIMESTAMP
    descending = query.sort.descending if query.sort else False
    known = [record for record in records if record.get(field) is not None]
    known.sort(key=lambda record: order_key(record[field]), reverse=descending)
    return [*known, *(record for record in records if record.get(field) is None)]


def _reduce(field: str, reduction: Reduction, rows: Iterable[Record]) -> Any:
    values = [row[field] for row in rows if row.get(field) is not None]
    if reduction == "sum":
        numbers = [v for v in values if isinstance(v, (int, float)) and not isinstance(v, bool)]
        if len(numbers) < len(values):
            raise not_a_number(field)
        return add(numbers)
    reduce: dict[str, Callable[[list[Value]], Any]] = {
        "set": distinct,
        "count": len,
        "min": least,
        "max": greatest,
    }
    return reduce[reduction](values)
