"""Periods as integers that a database computes from its records' times, and back to instants.

A database gets no zone: the zone's offsets over the records' times are computed here (`segments`),
and its query adds them. Times are counted in microseconds since 0001-01-01T00:00Z, a Monday, so
that no time is negative and days and weeks are whole multiples of their length. Of a local time,
the key of its day or week is how many of them went before; of a month, quarter or year, the number
of its first month since year 0; of an hour, how many went before, with the number of the segment
`HOUR_BITS` higher where hours are not the same ones in every segment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

from backdrop.domain.period import (
    FIRST_INSTANT,
    Period,
    Segment,
    first_instant_of_hour,
    segments,
)
from backdrop.domain.query import Query

MICROSECOND = timedelta(microseconds=1)
HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US

DAYS: Mapping[str, int] = {"day": 1, "week": 7}
"""How many days the periods have that are counted in days."""

HOUR_BITS = 40
"""Hours since year 1 stay far below 2**40, so a segment's number fits above them."""

NO_OFFSET: Sequence[Segment] = (Segment(FIRST_INSTANT, timedelta(0)),)

MANY_YEARS = 150
"""From here on it costs less to see which years occur than to plan for every change of offset."""


_NEAR = timedelta(days=800)
"""Two years and some: a handful of changes of offset, which cost the database less than to ask when
the first and the last records are.
"""


def microseconds(instant: datetime) -> int:
    """An instant as the microseconds since 0001-01-01T00:00Z."""
    return (instant - FIRST_INSTANT) // MICROSECOND


def instant(microseconds: int) -> datetime:
    """What `microseconds` made a number of."""
    return FIRST_INSTANT + timedelta(0, 0, microseconds)  # by name it would take half as long again


def offset_us(segment: Segment) -> int:
    return segment.offset // MICROSECOND


def segments_of_years(period: Period, years: Sequence[int]) -> list[Segment]:
    """The offsets of the zone in those years, ascending; what is between has no records."""
    found: list[Segment] = []
    for year in years:
        first = period.start(datetime(year, 1, 1, tzinfo=UTC))
        last = datetime(year, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
        for segment in segments(period.zone, first, last):
            if not found or segment.offset != found[-1].offset:
                found.append(segment)
    return found


def offsets(
    period: Period,
    query: Query,
    times: Callable[[], tuple[datetime, datetime] | None],
    years: Callable[[], Sequence[int]],
) -> Sequence[Segment]:
    """The offsets of the period's zone over the times of the query's range.

    `times` says from when to when all records' times are, or that there are none; it is not asked
    where the range has two ends that are near. `years`, asked where the times are far apart, says
    in which years there are any, ascending.
    """
    if query.start is not None and query.end is not None and query.end - query.start < _NEAR:
        return segments(period.zone, period.start(query.start), query.end)
    found = times()
    if found is None:
        return NO_OFFSET
    first, last = found
    if query.start is not None:
        first = min(max(first, query.start), last)
    if query.end is not None:
        last = max(min(last, query.end), first)
    if last.year - first.year < MANY_YEARS:
        return segments(period.zone, period.start(first), last)
    return segments_of_years(period, years()) or NO_OFFSET


def hours_are_whole(zone_segments: Sequence[Segment]) -> bool:
    """Whether all local hours begin at the same minute of UTC, and no change cuts one."""
    rest = offset_us(zone_segments[0]) % HOUR_US
    return all(
        offset_us(segment) % HOUR_US == rest and (microseconds(segment.since) + rest) % HOUR_US == 0
        for segment in zone_segments[1:]
    )


def period_start(period: Period, key: int, zone_segments: Sequence[Segment]) -> datetime:
    """The start of the period that has that key."""
    if period.name in DAYS:
        return period.start_of_date(date.fromordinal(key * DAYS[period.name] + 1))
    if period.name != "hour":
        return period.start_of_date(date(key // 12, key % 12 + 1, 1))
    if hours_are_whole(zone_segments):
        start = instant(max(0, key * HOUR_US - offset_us(zone_segments[0]) % HOUR_US))
        return max(start, zone_segments[0].since)  # where a change began the first hour
    segment = zone_segments[key >> HOUR_BITS]
    return first_instant_of_hour(key % (1 << HOUR_BITS), segment)
