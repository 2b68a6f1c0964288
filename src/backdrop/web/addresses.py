"""Where a bucket is read: addresses that give something of what it holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from typing import TypeGuard

from backdrop.domain.bucket import Bucket
from backdrop.domain.query import Query, Sort
from backdrop.domain.values import ID, TIMESTAMP, Record
from backdrop.storage.port import Storage
from backdrop.uploads.understand import kind_of

_LOOKED_AT = 200
"""The newest records, which tell what a field holds."""
_NUMBERS = {"whole number", "number"}


@dataclass(frozen=True, slots=True)
class Address:
    """One of a bucket's addresses, and what it gives, in words."""

    id: str
    url: str
    words: str


def newest_records(storage: Storage, bucket: Bucket) -> list[Record]:
    """The newest records: enough of them to tell what the bucket holds."""
    newest = Query(sort=Sort(TIMESTAMP, descending=True), limit=_LOOKED_AT)
    with storage.records(bucket.name, newest) as reading:
        return list(chain.from_iterable(reading))


def addresses(url: str, bucket: Bucket, records: Sequence[Record]) -> list[Address]:
    """The addresses of a bucket that is read at `url`, by its newest records: a chart's first."""
    kinds = kinds_by_field(records)
    by, words = _grouping(records, kinds)
    chart = f"{url}?{by}"
    found = [Address("chart", chart, f"For a chart: how many, by {words}")]
    number = next((name for name in sorted(kinds) if set(kinds[name]) <= _NUMBERS), None)
    if number is not None:
        summed = f"{chart}&collect={number}:sum"
        found.append(Address("sum", summed, f"For a chart: the sum of {number}, by {words}"))
    if bucket.raw_queries_allowed:
        found.append(Address("all", url, "All records"))
        found.append(Address("csv", f"{url}?format=csv", "All records, as a table (CSV)"))
    return found


def kinds_by_field(records: Sequence[Record]) -> dict[str, dict[str, int]]:
    """What each field holds in these records, and how often."""
    found: dict[str, dict[str, int]] = {}
    for record in records:
        for name, value in record.items():
            kinds = found.setdefault(name, {})
            kind = kind_of(name, value)
            kinds[kind] = kinds.get(kind, 0) + 1
    return found


def _grouping(records: Sequence[Record], kinds: dict[str, dict[str, int]]) -> tuple[str, str]:
    """The query that groups the records, and by what: by time or, without one, by a text field."""
    texts = (name for name in sorted(kinds) if "text" in kinds[name] and name != ID)
    text = next(texts, None)
    if TIMESTAMP in kinds or text is None:
        return f"period={_period(records)}", "time"
    return f"group_by={text}", text


def _period(records: Sequence[Record]) -> str:
    """A period by which the newest records make a chart that is not one long line of ones."""
    times = [one for one in (record.get(TIMESTAMP) for record in records) if _is_time(one)]
    if len(times) < 2:
        return "month"
    step = (max(times) - min(times)) / len(times)
    return "day" if step < timedelta(hours=12) else "week" if step < timedelta(days=4) else "month"


def _is_time(value: object) -> TypeGuard[datetime]:
    return isinstance(value, datetime)
