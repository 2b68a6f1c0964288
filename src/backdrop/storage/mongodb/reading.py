"""Runs the pipelines of one reading over the bucket's records as they stood at one moment."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from typing import Any

from pymongo.collection import Collection
from pymongo.errors import ExecutionTimeout, OperationFailure

from backdrop.domain.period import Segment, segments
from backdrop.domain.period_key import (
    MANY_YEARS,
    NO_OFFSET,
    instant,
    segments_of_years,
)
from backdrop.domain.query import Equals, Query, Reduction
from backdrop.domain.shape import Groups
from backdrop.domain.values import ID, TIMESTAMP, Record
from backdrop.storage.mongodb.connection import Session, is_too_large_a_group
from backdrop.storage.mongodb.documents import Document, to_record
from backdrop.storage.mongodb.groups import short_sums, to_groups
from backdrop.storage.mongodb.pipeline import (
    Pipeline,
    Sums,
    select_fields,
    select_groups,
    select_records,
    select_set,
    select_stored,
    select_years,
)
from backdrop.storage.port import RECORDS_A_PAGE, query_too_slow, too_many_rows

_NARROW = 0.25
"""Of a range that takes more of the bucket's time than this, the index costs more than it saves."""

Ends = tuple[datetime, datetime] | None


@contextmanager
def within(seconds: float | None) -> Iterator[float | None]:
    """Until when the server may work, in monotonic seconds. Raises QueryTooSlow if it stopped."""
    try:
        yield None if seconds is None else time.monotonic() + seconds
    except ExecutionTimeout:
        if seconds is None:
            raise
        raise query_too_slow(seconds) from None


class Snapshot:
    """One bucket's collection, read in a session of one moment.

    `with_floats` remembers, from one reading of the bucket to the next, the fields whose plain sums
    were not enough: it saves the attempt. `until`, in monotonic seconds, is when the server ends
    its work; but for records that come as they are read, since it counts their pages as one work.
    """

    def __init__(
        self,
        shelf: Collection[Document],
        session: Session,
        with_floats: set[str],
        *,
        until: float | None = None,
    ) -> None:
        self._shelf = shelf
        self._session = session
        self._with_floats = with_floats
        self._until = until

    def pages(self, query: Query) -> Iterator[Sequence[Record]]:
        """The records of a raw query."""
        left = query.limit
        is_bounded = query.limit is not None or query.sort is not None
        for pipeline in select_records(query):
            for page in self._pages(pipeline, left, is_bounded=is_bounded):
                yield page
                left = None if left is None else left - len(page)

    def stored(self) -> Iterator[Sequence[Record]]:
        """All records in the order in which they were stored."""
        return self._pages(select_stored(), None, is_bounded=False)

    def fields(self, query: Query) -> list[str]:
        """The fields that the matching records have."""
        return sorted(row["_id"] for row in self._run(select_fields(query)))

    def count(self, ids: Sequence[str]) -> int:
        """How many of the ids a record has."""
        asked = {"_id": {"$in": list(ids)}}
        return self._shelf.count_documents(asked, session=self._session)

    def groups(self, query: Query, most_rows: int) -> Groups:
        ends = self._ends() if query.period or query.start or query.end else None
        natural = _reads_most(query, ends)
        offsets = self._offsets(query, ends)

        def rows_of(sums: Sums, *, with_sets: bool) -> list[Document]:
            pipeline = select_groups(
                query, offsets, most_rows=most_rows, sums=sums, with_sets=with_sets
            )
            return list(self._run(pipeline, natural=natural))

        sums: Sums = "plain" if self._with_floats.isdisjoint(_reduced(query, "sum")) else "split"
        apart: list[str] = []  # the fields whose sets come as rows of their own
        while True:
            try:
                rows = rows_of(sums, with_sets=not apart)
            except OperationFailure as error:
                sets = _reduced(query, "set")
                if apart or not sets or not is_too_large_a_group(error):
                    raise
                apart = sets
                continue
            if len(rows) > most_rows:
                raise too_many_rows(most_rows)
            short = short_sums(query, rows)
            if not short or sums == "exact":
                break
            self._with_floats.update(short)
            sums = "split" if sums == "plain" else "exact"
        found = {
            field: self._run(select_set(query, field, offsets), natural=natural) for field in apart
        }
        return to_groups(query, rows, offsets, found)

    def _pages(
        self, pipeline: Pipeline, left: int | None, *, is_bounded: bool
    ) -> Iterator[Sequence[Record]]:
        rows = islice(map(to_record, self._run(pipeline, is_bounded=is_bounded)), left)
        while page := list(islice(rows, RECORDS_A_PAGE)):
            yield page

    def _run(
        self, pipeline: Pipeline, *, natural: bool = False, is_bounded: bool = True
    ) -> Iterator[Document]:
        options: dict[str, Any] = {"hint": {"$natural": 1}} if natural else {}
        if is_bounded and self._until is not None:
            options["maxTimeMS"] = max(1, int((self._until - time.monotonic()) * 1_000))
        return self._shelf.aggregate(
            pipeline,
            session=self._session,
            allowDiskUse=True,
            batchSize=RECORDS_A_PAGE,
            **options,
        )

    def _ends(self) -> Ends:
        """The first and the last time of the bucket's records, from the index."""
        timed = {TIMESTAMP: {"$gte": 0}}
        found = [
            self._shelf.find_one(
                timed, {TIMESTAMP: 1}, sort=[(TIMESTAMP, way)], session=self._session
            )
            for way in (1, -1)
        ]
        first, last = (None if one is None else instant(one[TIMESTAMP]) for one in found)
        return None if first is None or last is None else (first, last)

    def _offsets(self, query: Query, ends: Ends) -> Sequence[Segment]:
        """The offsets of the query's zone over the times that occur in the bucket and the range."""
        if query.period is None or query.period.zone.key == "UTC" or ends is None:
            return NO_OFFSET
        first, last = ends
        if query.start is not None:
            first = min(max(first, query.start), last)
        if query.end is not None:
            last = max(min(last, query.end), first)
        if last.year - first.year < MANY_YEARS:
            return segments(query.period.zone, query.period.start(first), last)
        years = sorted(int(row["_id"]) for row in self._run(select_years(query)))
        return segments_of_years(query.period, years) or NO_OFFSET


def _reduced(query: Query, by: Reduction) -> list[str]:
    """The fields of which that is asked."""
    return [field for field, reduction in query.reductions if reduction == by]


def _reads_most(query: Query, ends: Ends) -> bool:
    """Whether to read the records as they lie: no index is narrow enough to be worth its way."""
    if any(isinstance(one, Equals) and one.field == ID for one in query.filters):
        return False
    if ends is None or (query.start is None and query.end is None):
        return True
    first, last = ends
    start, end = max(query.start or first, first), min(query.end or last, last)
    return (end - start) > _NARROW * (last - first)
