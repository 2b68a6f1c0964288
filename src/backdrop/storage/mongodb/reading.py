"""Runs the pipelines of one reading over the bucket's records as they stood at one moment."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from pymongo.command_cursor import CommandCursor
from pymongo.errors import ExecutionTimeout, OperationFailure

from backdrop.domain.period import Segment
from backdrop.domain.period_key import NO_OFFSET, instant, offsets
from backdrop.domain.query import Equals, Query
from backdrop.domain.shape import Groups
from backdrop.domain.values import ID, TIMESTAMP, Record
from backdrop.storage.mongodb.connection import Records as Database
from backdrop.storage.mongodb.connection import Session
from backdrop.storage.mongodb.documents import SEQUENCE, Document, to_records, to_version
from backdrop.storage.mongodb.failures import is_too_large_a_group
from backdrop.storage.mongodb.groups import short_sums, to_groups
from backdrop.storage.mongodb.pipeline import (
    Pipeline,
    Place,
    Search,
    Sums,
    select_fields,
    select_groups,
    select_latest,
    select_nth_latest,
    select_set,
    select_sorted,
    select_stored,
    select_timed,
    select_untimed,
    select_years,
    ways_to_sum,
)
from backdrop.storage.mongodb.tally import Known
from backdrop.storage.port import RECORDS_A_PAGE, query_too_slow, too_many_rows

_NARROW = 0.25
"""Of a range that takes more of the bucket's time than this, the index costs more than it saves."""

_ALL = 1_000_000
"""Rows at once, where all are needed: the server sends 16 MB a trip, its bound."""

Ends = tuple[datetime, datetime] | None


class Snapshot:
    """One bucket's collection, read in a session of one moment. `found` is the bucket's document.

    Raises QueryTooSlow where the server works longer than `most_seconds`: on groups, on each page
    of records, or on all pages of those that it has to sort, which it counts as one work.
    """

    def __init__(
        self,
        database: Database,
        found: Document,
        session: Session,
        *,
        most_seconds: float | None = None,
    ) -> None:
        self.version = to_version(found)
        self._shelf = database[found["collection"]]
        self._known = Known.of(found)
        self._session = session
        self._most_seconds = most_seconds
        self._begin()

    def pages(self, query: Query) -> Iterator[Sequence[Record]]:
        """The records of a raw query."""
        for page in self._documents(query):
            yield to_records(page)
            self._begin()

    def stored(self) -> Iterator[Sequence[Record]]:
        """All records in the order in which they were stored."""
        for page in self._batches(select_stored(), is_bounded=False):
            yield to_records(page)

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
        segments = self._offsets(query, ends)

        def rows_of(sums: Sums, *, with_sets: bool) -> list[Document]:
            pipeline = select_groups(
                query,
                segments,
                most_rows=most_rows,
                sums=sums,
                with_sets=with_sets,
                known=self._known,
            )
            return self._run(pipeline, natural=natural)

        ways = iter(ways_to_sum(query, self._known))
        sums = next(ways)
        apart: list[str] = []  # the fields whose sets come as rows of their own
        while True:
            try:
                rows = rows_of(sums, with_sets=not apart)
            except OperationFailure as error:
                sets = [field for field, reduction in query.reductions if reduction == "set"]
                if apart or not sets or not is_too_large_a_group(error):
                    raise
                apart = sets
                continue
            if len(rows) > most_rows:
                raise too_many_rows(most_rows)
            dearer = next(ways, None) if short_sums(query, rows) else None
            if dearer is None:
                break
            sums = dearer
        found = {
            field: self._run(select_set(query, field, segments, self._known), natural=natural)
            for field in apart
        }
        groups = to_groups(query, rows, segments, found)
        return dataclasses.replace(groups, version=self.version)

    def _documents(self, query: Query) -> Iterator[list[Document]]:
        """What `pages` gives, as it is stored."""
        by = query.sort
        if by is not None and by.key != TIMESTAMP:
            yield from self._batches(select_sorted(query, by))
            return
        left = query.limit
        backwards = by is not None and by.descending
        for page in self._latest(query) if backwards else self._paged(select_timed, query, left):
            yield page
            left = None if left is None else left - len(page)
        if query.start is None and query.end is None and left != 0:
            yield from self._paged(select_untimed, query, left)

    def _paged(
        self, select: Callable[..., Search], query: Query, left: int | None
    ) -> Iterator[list[Document]]:
        """Pages that are asked for one by one, each from where the one before ended."""
        after: Place | None = None
        while left != 0:
            most = RECORDS_A_PAGE if left is None else min(RECORDS_A_PAGE, left)
            page = self._find(select(query, most=most, after=after))
            if page:
                after = page[-1].get(TIMESTAMP), page[-1][SEQUENCE]
                yield page
            if len(page) < most:
                return
            left = None if left is None else left - most

    def _latest(self, query: Query) -> Iterator[list[Document]]:
        """Records with a time, the latest first.

        Ties stand as they were stored, which no index has for times that go back. So the server
        sorts: from the last time that is wanted on, where a limit says which, or all of them.
        """
        since: int | None = None
        if query.limit is not None:
            last = self._run(select_nth_latest(query, query.limit))
            since = last[0][TIMESTAMP] if last else None
        return self._batches(select_latest(query, since))

    def _begin(self) -> None:
        """From now on the server may work for as long as it may."""
        bound = self._most_seconds
        self._until = None if bound is None else time.monotonic() + bound

    def _find(self, search: Search) -> list[Document]:
        """What is found, as one answer: without a size, the server would send 101 at first."""
        with self._within():
            return self._shelf.find(
                **search,
                batch_size=search["limit"],
                allow_disk_use=True,
                max_time_ms=self._most_ms(),
                session=self._session,
            ).to_list()

    def _run(self, pipeline: Pipeline, *, natural: bool = False) -> list[Document]:
        with self._within():
            return self._cursor(pipeline, natural=natural, at_once=_ALL).to_list()

    def _batches(self, pipeline: Pipeline, *, is_bounded: bool = True) -> Iterator[list[Document]]:
        with self._within():
            cursor = self._cursor(pipeline, is_bounded=is_bounded)
        while True:
            with self._within():
                page = cursor.to_list(RECORDS_A_PAGE)
            if not page:
                return
            yield page

    @contextmanager
    def _within(self) -> Iterator[None]:
        """Raises QueryTooSlow where the server stopped."""
        try:
            yield
        except ExecutionTimeout:
            if self._most_seconds is None:
                raise
            raise query_too_slow(self._most_seconds) from None

    def _cursor(
        self,
        pipeline: Pipeline,
        *,
        natural: bool = False,
        is_bounded: bool = True,
        at_once: int = RECORDS_A_PAGE,
    ) -> CommandCursor[Document]:
        options: dict[str, Any] = {"hint": {"$natural": 1}} if natural else {}
        if is_bounded and self._until is not None:
            options["maxTimeMS"] = self._most_ms()
        return self._shelf.aggregate(
            pipeline,
            session=self._session,
            allowDiskUse=True,
            batchSize=at_once,
            **options,
        )

    def _most_ms(self) -> int | None:
        """For how long the server may work from now on, if that is bounded."""
        if self._until is None:
            return None
        return max(1, int((self._until - time.monotonic()) * 1_000))

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

        def years() -> list[int]:
            return sorted(int(row["_id"]) for row in self._run(select_years(query)))

        return offsets(query.period, query, lambda: ends, years)


def _reads_most(query: Query, ends: Ends) -> bool:
    """Whether to read the records as they lie: no index is narrow enough to be worth its way."""
    if any(isinstance(one, Equals) and one.field == ID for one in query.filters):
        return False
    if ends is None or (query.start is None and query.end is None):
        return True
    first, last = ends
    start, end = max(query.start or first, first), min(query.end or last, last)
    return (end - start) > _NARROW * (last - first)
