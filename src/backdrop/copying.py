"""FROM STORE TO STORE: buckets with all that is in them, and what lasts beside them."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeAlias

import msgspec

from backdrop.domain.entry import Entry
from backdrop.domain.table import Records
from backdrop.domain.token import Token
from backdrop.domain.values import Record
from backdrop.errors import Conflict
from backdrop.storage.port import Snapshot, Storage

Progress: TypeAlias = Callable[[str, int], None]
"""Called with what is done, such as `copying flights`, and how many more records were read."""

_MOST_RECORDS = 10_000
_MOST_BYTES = 8 * 2**20
"""What is stored at once: a batch ends with the page that takes it to one of these."""


class Clashes(Conflict):
    """The destination has something of the same name that is not the same."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What of a bucket is the same in every store that holds it.

    `checksum`: SHA-256, in hexadecimal, of the records as JSON, a line each with its keys sorted,
    in the order of storing; None where they have not been read. In it `5` is not `5.0`, null is not
    absence, and times have their microseconds. When tokens were last used is left out: to use one
    is no change of the bucket.
    """

    settings: bytes
    tokens: Sequence[Token]
    last_written: datetime | None
    records: int
    checksum: str | None = None

    def difference(self, other: Contents) -> str | None:
        """What is not the same, in words."""
        found = {
            "its settings": self.settings != other.settings,
            "its tokens": self.tokens != other.tokens,
            "when it was last written": self.last_written != other.last_written,
            f"{self.records:,} and {other.records:,} records": self.records != other.records,
            "its records": self.records == other.records and self.checksum != other.checksum,
        }
        return ", ".join(words for words, differs in found.items() if differs) or None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What has become of one bucket. `difference`: what the destination has otherwise, in words."""

    name: str
    contents: Contents
    was_there: bool
    difference: str | None


def copy_store(
    source: Storage, destination: Storage, *, replacing: bool, progress: Progress
) -> Iterator[Outcome]:
    """Copy everything that lasts, and read it back; one outcome for each bucket of the source.

    What the destination has already is left where it is the same. Where it is not, Clashes is
    raised before anything is changed, but for `replacing`: then the source's takes its place.
    """
    names = [bucket.name for bucket in source.buckets()]
    there = {bucket.name for bucket in destination.buckets()}
    found = [_compare(source, destination, name, progress) for name in names if name in there]
    entries = missing_entries(source, destination)
    if not replacing:
        _refuse_clashes(destination, found, entries)
    same = {outcome.name: outcome for outcome in found if outcome.difference is None}
    yield from same.values()
    for name in names:
        if name not in same:
            yield _copy(source, destination, name, progress)
    for entry in entries:
        destination.put_entry(entry)


def are_one(source: Storage, destination: Storage, now: datetime) -> bool:
    """Whether what is put into the one is in the other, whatever their URLs say."""
    note = Entry("copy", secrets.token_hex(), b"", expires_at=now + timedelta(minutes=10))
    destination.put_entry(note)
    try:
        return source.entry(note.kind, note.key) is not None
    finally:
        destination.take_entry(note.kind, note.key)


def missing_entries(source: Storage, destination: Storage) -> list[Entry]:
    """The lasting entries of the source that the destination has not, or not so."""
    there = set(destination.lasting_entries())
    return [entry for entry in source.lasting_entries() if entry not in there]


def _refuse_clashes(
    destination: Storage, found: Iterable[Outcome], entries: Iterable[Entry]
) -> None:
    clashes = [
        f"bucket {outcome.name!r} ({outcome.difference})"
        for outcome in found
        if outcome.difference is not None
    ]
    clashes += [
        f"{entry.kind} {entry.key!r}"
        for entry in entries
        if destination.entry(entry.kind, entry.key) is not None
    ]
    if clashes:
        whose = " and ".join(clashes)
        raise Clashes(f"nothing was copied: the destination has its own {whose}")


def _compare(source: Storage, destination: Storage, name: str, progress: Progress) -> Outcome:
    """Compare a bucket that both have; its records only where all else is the same."""
    here, there = _outside(source, name), _outside(destination, name)
    if here.difference(there) is None:
        here, there = (contents(store, name, progress) for store in (source, destination))
    return Outcome(name, here, was_there=True, difference=here.difference(there))


def _copy(source: Storage, destination: Storage, name: str, progress: Progress) -> Outcome:
    """Copy one bucket. The source is looked at again: was it changed meanwhile, that shows."""
    checksum = _Checksum()
    tokens, last_written = source.tokens(name), source.state(name).last_written
    with (
        source.stored(name) as pages,
        destination.restoring(source.bucket(name), tokens=tokens, last_written=last_written) as put,
    ):
        for batch in _batches(
            pages, checksum, lambda records: progress(f"copying {name}", records)
        ):
            put(batch)
    here = checksum.of(_outside(source, name))
    there = contents(destination, name, progress)
    return Outcome(name, here, was_there=False, difference=here.difference(there))


def _batches(
    pages: Iterable[Sequence[Record]], checksum: _Checksum, progress: Callable[[int], None]
) -> Iterator[Records]:
    """The records of the pages in larger batches, each noted as it goes."""
    rows: list[Record] = []
    size = 0
    for page in pages:
        size += checksum.add(page)
        rows.extend(page)
        progress(len(page))
        if len(rows) >= _MOST_RECORDS or size >= _MOST_BYTES:
            yield Records.of(rows)
            rows, size = [], 0
    if rows:
        yield Records.of(rows)


class _Checksum:
    """The checksum of the records that have come so far."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._records = 0

    def add(self, page: Sequence[Record]) -> int:
        """Add a page; how many bytes it is as JSON."""
        lines = _encoder.encode_lines(page)
        self._hash.update(lines)
        self._records += len(page)
        return len(lines)

    def of(self, outside: Contents) -> Contents:
        """The contents with the records that have come."""
        return replace(outside, records=self._records, checksum=self._hash.hexdigest())


_encoder = msgspec.json.Encoder(order="sorted")


def contents(storage: Storage | Snapshot, name: str, progress: Progress) -> Contents:
    """What a bucket holds, all of it read."""
    checksum = _Checksum()
    with storage.stored(name) as pages:
        for page in pages:
            checksum.add(page)
            progress(f"comparing {name}", len(page))
    return checksum.of(_outside(storage, name))


def _outside(storage: Storage | Snapshot, name: str) -> Contents:
    """What a bucket is without a look at its records."""
    state = storage.state(name)
    tokens = [replace(token, last_used_at=None) for token in storage.tokens(name)]
    settings = _encoder.encode(state.bucket.as_json())
    return Contents(settings, tokens, state.last_written, state.records)
