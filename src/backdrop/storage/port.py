"""What a store must do: the port, with its semantics written out.

All methods are synchronous and may be called from any thread at once. Times are aware UTC
datetimes. A write is durable, and seen by every later read of the same deployment, once its method
has returned; a write that raises has changed nothing, but for `StorageUnavailable` with the code
`outcome_unknown`: such a write may have been made, whole. Errors of the driver never leave an
engine: what comes out is `StorageUnavailable`, which is `StorageFull` where it is the store's disk
that refuses, or an error named here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Protocol, TypeAlias, runtime_checkable

from backdrop.domain.audit import Act, AuditEntry
from backdrop.domain.bucket import Bucket
from backdrop.domain.entry import Entry
from backdrop.domain.once import Once
from backdrop.domain.query import Query
from backdrop.domain.shape import Groups
from backdrop.domain.table import Records
from backdrop.domain.token import Token
from backdrop.domain.values import Record
from backdrop.domain.words import counted
from backdrop.errors import (
    InvalidQuery,
    InvalidRecords,
    Problem,
    QueryTooLarge,
    QueryTooSlow,
    StorageUnavailable,
)

RECORDS_A_PAGE = 2_000
"""About how many records `Storage.records` hands out at once."""


@dataclass(frozen=True, slots=True)
class BucketState:
    """What a store knows of a bucket at one moment.

    `version` grows with every write and every change of settings, and is never used twice in a
    store, not even by a later bucket of the same name.
    """

    bucket: Bucket
    version: int
    records: int
    last_written: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a store has done since it was opened, and does. None is what an engine does not know.

    Writes that wait at the same time may share a commit: `writes` are those that were committed.
    """

    commits: int | None = None
    writes: int | None = None
    writes_waiting: int | None = None
    engine_bytes: int | None = None
    """Memory that the engine holds in this process."""


Restore: TypeAlias = Callable[[Records], None]
"""Stores one more batch of a bucket that is being restored."""


Report: TypeAlias = Callable[[str, Path | None, int], None]
"""Told of what an engine set aside to open its store: why, where it is kept, and its bytes."""


class Reading(Iterator[Sequence[Record]]):
    """The pages of records that are being read.

    `fields`: those that occur, if asked for. `version`: the bucket's at the moment that is read;
    None where the engine does not say, since it costs nothing to ask it again.
    """

    def __init__(
        self,
        pages: Iterator[Sequence[Record]],
        fields: Sequence[str] = (),
        version: int | None = None,
    ) -> None:
        self._pages = pages
        self.fields = fields
        self.version = version

    def __next__(self) -> Sequence[Record]:
        return next(self._pages)


class Storage(Protocol):
    """A store. Methods that take a bucket's name raise NotFound where there is no such bucket.

    Those that take an `act` keep it in the audit log where they do what they are asked to: in the
    same step, so that there is no change without its entry, and no entry without its change.

    Those that write records raise InvalidRecords (code `too_many_fields`) where the bucket would
    have more than `most_fields`.

    `state_is_at_hand`: whether `bucket`, `bucket_at`, `state`, `token` and `token_used` answer from
    memory, and `save_soon` does not wait for a disk, so that an event loop may call them.
    """

    state_is_at_hand: bool
    most_fields: int

    # -- buckets ----------------------------------------------------------------------------

    def buckets(self) -> list[Bucket]:
        """Every bucket, by name."""

    def bucket(self, name: str) -> Bucket:
        """The bucket of that name."""

    def bucket_at(self, data_group: str, data_type: str) -> Bucket:
        """The bucket of that second address; NotFound where there is none."""

    def put_bucket(
        self, bucket: Bucket, *, first_token: Token | None = None, act: Act | None = None
    ) -> bool:
        """Make the bucket, with its first token, or replace the settings of the one there is.

        Returns whether it was made. `first_token` is kept only where it was, and then the act is
        kept as `bucket_created`. Raises Conflict where another bucket has the same `address`, or
        where another token has the same hash.
        """

    def change_bucket(
        self, name: str, change: Callable[[Bucket], Bucket], *, act: Act | None = None
    ) -> Bucket:
        """Replace the settings by what `change` makes of them, with no change of them in between.

        Returns the bucket as it then is. `change` may be called more than once, and what it raises
        is raised; it keeps the name. Raises Conflict as `put_bucket` does.
        """

    def drop_bucket(self, name: str, *, act: Act | None = None) -> None:
        """Remove the bucket with its records, settings and tokens, and the keys of its writes.

        Its audit log stays.
        """

    def state(self, name: str) -> BucketState:
        """The bucket with its version, its number of records, and when it was last written."""

    # -- tokens -----------------------------------------------------------------------------

    def tokens(self, bucket: str) -> list[Token]:
        """The bucket's tokens, the oldest first."""

    def add_token(self, token: Token, *, act: Act | None = None) -> None:
        """Keep one more token. Raises Conflict where another token has the same hash."""

    def drop_token(self, bucket: str, token_id: str, *, act: Act | None = None) -> None:
        """Revoke a token. Raises NotFound where the bucket has no such token."""

    def token(self, token_hash: str) -> Token | None:
        """The token with that hash, of whichever bucket; None where there is none."""

    def token_used(self, token_hash: str, now: datetime) -> None:
        """Note that a token was used: soon, not at once, and lost in a crash at the worst."""

    # -- writing ----------------------------------------------------------------------------
    #
    # A write with `once` is made once: that is kept in the same step as the records, or not at all.
    # Where the bucket has had a write with the same key, and what was kept of it has not expired,
    # nothing is done and AlreadyDone raised, before any other error but NotFound of the bucket.

    def save(
        self, bucket: str, records: Records, *, once: Once | None = None, act: Act | None = None
    ) -> None:
        """Store all the records, or none. One whose `_id` exists replaces that record whole.

        Saved records count as stored now, in the order given, whether new or replacing.
        """

    def save_soon(self, bucket: str, records: Records, *, act: Act | None = None) -> Future[None]:
        """Begin what `save` does. The future, which can't be cancelled, tells its end: what `save`
        would raise, it raises, but that a store that is closed may do so at once.
        """

    def replace(
        self, bucket: str, records: Records, *, once: Once | None = None, act: Act | None = None
    ) -> None:
        """Make the records all that the bucket holds, in one step for every reader."""

    def update(
        self,
        bucket: str,
        record_id: str,
        change: Callable[[Record], Record],
        *,
        once: Once | None = None,
        act: Act | None = None,
    ) -> None:
        """Replace one record by what `change` makes of it, with no write of it in between.

        `change` may be called more than once, and what it raises is raised; it keeps the `_id`.
        Raises NotFound where there is no such record. The record counts as stored now.
        """

    def delete(self, bucket: str, record_id: str, *, act: Act | None = None) -> None:
        """Remove one record. Raises NotFound where there is none."""

    def done(self, bucket: str, key: str) -> Once | None:
        """What was kept with the write of that key; None where there was none, or has expired."""

    def restoring(
        self, bucket: Bucket, *, tokens: Sequence[Token], last_written: datetime | None
    ) -> AbstractContextManager[Restore]:
        """Make a bucket as it was elsewhere, in place of the one of that name, if there is one.

        What the context gives stores records, batch by batch, aside; no id may come twice. With the
        context's end the bucket is there, in one step: with these records, in the order given, with
        these tokens, last written then, and with no key of a write. Where the context ends by an
        error, or the process does, nothing has changed. Raises Conflict, at the start or the end,
        as `put_bucket` does.
        """

    # -- reading ----------------------------------------------------------------------------

    def records(
        self,
        bucket: str,
        query: Query,
        *,
        with_fields: bool = False,
        most_seconds: float | None = None,
    ) -> AbstractContextManager[Reading]:
        """The matching records of a raw query, in pages, sorted and cut as the query says.

        Without `sort`, by `_timestamp`, records without one last. With it, booleans, numbers,
        strings (times for a time field), each in the order of `order_key`, records without the
        field or with null last whatever the direction. Ties and the rest in the order in which
        they were stored, whatever the direction. `with_fields` asks for the fields that any
        matching record has, cut off or not. Every page is of the same moment. Memory does not
        grow with the number of records. The context's end frees what the reading holds.

        Raises QueryTooSlow, on entering, where there is no first page within `most_seconds`. An
        engine may bound each further page alike, or all pages of what it has to sort together, and
        then breaks off those that take longer.
        """

    def count_held(self, bucket: str, ids: Sequence[str]) -> int:
        """How many of these ids, which are all different, a record of the bucket has."""

    def stored(self, bucket: str) -> AbstractContextManager[Reading]:
        """All records in the order in which they were stored, in pages like those of `records`."""

    def groups(
        self, bucket: str, query: Query, *, most_rows: int, most_seconds: float | None = None
    ) -> Groups:
        """The groups of a query with `period` or `group_by`, unsorted, unfilled and uncut.

        Records where a grouped field is missing or null are left out and, with a period, those
        without `_timestamp`. Keys that are equal by `order_key` are one group. Raises InvalidQuery
        (code `not_a_number`) where a `sum` meets a string or a boolean in a record of a group, and
        (code `too_many_rows`) where there would be more than `most_rows`. Raises QueryTooSlow where
        it would take longer than `most_seconds`: the engine stops its work on it then.
        """

    # -- entries ----------------------------------------------------------------------------

    def put_entry(self, entry: Entry, *, act: Act | None = None) -> None:
        """Keep an entry, in place of one of the same kind and key."""

    def entry(self, kind: str, key: str) -> Entry | None:
        """The entry of that kind and key; None where there is none, or none any more."""

    def entries(self, kind: str) -> list[Entry]:
        """Every entry of that kind, by key."""

    def lasting_entries(self) -> list[Entry]:
        """Every entry of any kind that does not expire, by kind and key."""

    def change_entry(
        self, kind: str, key: str, change: Callable[[bytes], bytes], *, act: Act | None = None
    ) -> bool:
        """Replace an entry's value by what `change` makes of it, with no change of it in between.

        Returns whether there was such an entry. `change` may be called more than once.
        """

    def take_entry(self, kind: str, key: str, *, act: Act | None = None) -> Entry | None:
        """Remove the entry and return it: of several who take it, one gets it."""

    # -- the audit log ----------------------------------------------------------------------

    def audit(
        self, *, bucket: str | None = None, before: str | None = None, limit: int
    ) -> list[AuditEntry]:
        """The last entries, the newest first: of one bucket, whether it is there or not, or of all.

        `before`, the id of an entry, asks for those that came before it. Raises InvalidQuery where
        it can't be an id. Of two entries that one process made, the later one comes later here;
        those of several come in the order of their processes' clocks.
        """

    def prune_audit(self, before: datetime) -> None:
        """Forget the entries that were made before that time."""

    # -- the store itself -------------------------------------------------------------------

    def check(self) -> None:
        """Return if the store answers; raise StorageUnavailable if it doesn't."""

    def load(self) -> Load:
        """What the store has to do, for those who watch over it."""

    def end_queries(self) -> None:
        """The server stops: end the queries that run, by StorageUnavailable, where that can be."""

    def close(self) -> None:
        """Finish what was accepted and let go of everything. Nothing may be called afterwards."""


class Snapshot(Protocol):
    """All that a store holds, as it stood at one moment.

    Its methods raise StorageUnavailable, with the reason, and are for one thread at a time.
    """

    def buckets(self) -> list[Bucket]:
        """Every bucket, by name."""

    def state(self, name: str) -> BucketState:
        """As `Storage.state`."""

    def tokens(self, bucket: str) -> list[Token]:
        """As `Storage.tokens`."""

    def stored(self, bucket: str) -> AbstractContextManager[Reading]:
        """As `Storage.stored`."""

    def digests(self) -> dict[str, str]:
        """Of what is no record, by the engine's own names: something that differs where it does."""

    def write(self, path: Path, note: bytes) -> None:
        """Make a new file that holds all of it, and the note; durable once the file is synced."""

    def note(self) -> bytes:
        """What the file was made with: it is one that `write` has made."""


@runtime_checkable
class HasSnapshots(Protocol):
    """A store that can be copied whole while it is written to."""

    @property
    def path(self) -> Path:
        """The store's file. Beside it there is room for as much again."""

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        """All that it holds now. Writes go on meanwhile. Raises Conflict where one is open."""


# The messages that all engines share.

KNOWN_HASH = "that token is in use already: choose another, or let the server make one"


def not_found(bucket: str) -> str:
    return f"there is no bucket {bucket!r}"


def no_record(bucket: str, record_id: str) -> str:
    return f"there is no record {record_id!r} in {bucket!r}"


def no_token(bucket: str, token_id: str) -> str:
    return f"{bucket!r} has no token with the id {token_id!r}"


def address_taken(bucket: Bucket, other: Bucket) -> str:
    return (
        f"data_group {bucket.data_group!r} with data_type {bucket.data_type!r} "
        f"is the address of {other.name!r} already"
    )


def query_too_slow(most_seconds: float) -> QueryTooSlow:
    return QueryTooSlow(
        f"the query took longer than the {counted(most_seconds, 'second')} that it may take "
        "(max_query_seconds): ask for a shorter range, or fewer groups"
    )


def stopping() -> StorageUnavailable:
    return StorageUnavailable("the server is stopping: ask again soon")


def query_too_large() -> QueryTooLarge:
    return QueryTooLarge(
        "the query took more memory than there is for all of them (max_engine_memory), or more "
        "temporary files (max_engine_files): ask for a shorter range, or fewer groups"
    )


def not_an_audit_id(given: str) -> InvalidQuery:
    message = f"before is {given[:80]!r}: expected the id of an entry of the audit log"
    problem = Problem("invalid_parameter", message, {"parameter": "before"})
    return InvalidQuery(message, problems=[problem])


def audit_number(given: str) -> int:
    """The number that is an id of the audit log, where ids are numbers."""
    if not (given.isascii() and given.isdecimal() and len(given) <= _MOST_DIGITS):
        raise not_an_audit_id(given)
    return int(given)


_MOST_DIGITS = 18
"""Of what surely fits 64 bits."""


def done_at_once(write: Callable[[], None]) -> Future[None]:
    """The future of a write that is done, or has failed, by the time it is returned."""
    future: Future[None] = Future()
    try:
        write()
    except Exception as error:  # noqa: BLE001  whoever asks the future is told
        future.set_exception(error)
    else:
        future.set_result(None)
    return future


def refuse_too_many_fields(most: int, *fields: Iterable[str]) -> None:
    """Raise InvalidRecords where these are more than `most`, time fields and ids apart."""
    names = {name for name in chain.from_iterable(fields) if not name.startswith("_")}
    if len(names) > most:
        raise InvalidRecords(
            f"nothing was stored: the bucket would have {len(names):,} fields, and may have "
            f"{most:,} (max_fields): is something a field's name that should be a value?",
            code="too_many_fields",
        )


def not_a_number(field: str) -> InvalidQuery:
    """The error of a sum that meets a string or a boolean."""
    message = f"{field} holds values that are not numbers: only numbers can be summed or averaged"
    where: dict[str, str | int] = {"parameter": "collect", "field": field}
    return InvalidQuery(message, problems=[Problem("not_a_number", message, where)])


def too_many_rows(most_rows: int) -> InvalidQuery:
    """The error of an answer past the bound on its rows."""
    message = (
        f"the answer would have more than {counted(most_rows, 'row')} (max_rows), periods without "
        "records included, before limit is applied: ask for a shorter range, longer periods, or "
        "fewer groups"
    )
    return InvalidQuery(message, code="too_many_rows")
