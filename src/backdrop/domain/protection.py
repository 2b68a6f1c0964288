"""What the public may ask of a bucket whose records are not public (`raw_queries_allowed: false`).

Groups only, and over whole days: a week of them at least, where a range is given by both its ends.
This keeps single records out of sight, not out of reach: who knows what to filter by may still find
groups of one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from backdrop.domain.bucket import Bucket
from backdrop.domain.period import Period
from backdrop.domain.query import Query
from backdrop.domain.times import format_instant
from backdrop.errors import Problem

FEWEST_DAYS = 7

_BEGINNINGS: Mapping[str, tuple[str, str]] = {
    "week": ("not_a_monday", "a Monday's midnight where period=week"),
    "month": ("not_the_first", "midnight of a month's first day where period=month"),
}
"""Periods whose ranges must begin and end where such a period begins: code, what is expected."""


def problems(
    query: Query, bucket: Bucket, *, zone: ZoneInfo, ends: tuple[datetime, datetime] | None
) -> list[Problem]:
    """What forbids the query; nothing where the bucket's records are public.

    `zone` is the query's. `ends` is the range as it was given by both its ends, or None.
    """
    if bucket.raw_queries_allowed:
        return []
    found = []
    if query.is_raw:
        found.append(Problem("raw_query_not_allowed", "querying for raw data is not allowed"))
    if ends is not None:
        found.extend(_problems_of_range(*ends, query.period, zone))
    return found


def _problems_of_range(
    start: datetime, end: datetime, period: Period | None, zone: ZoneInfo
) -> Iterator[Problem]:
    if period is None or period.name != "hour":
        for parameter, instant in (("start_at", start), ("end_at", end)):
            yield from _problems_of_end(parameter, instant, period, zone)
    if not _spans(start, end, FEWEST_DAYS, zone):
        message = f"the range from start_at to end_at must span at least {FEWEST_DAYS} days here"
        yield Problem("range_too_short", message, {"parameter": "end_at"})


def _problems_of_end(
    parameter: str, instant: datetime, period: Period | None, zone: ZoneInfo
) -> Iterator[Problem]:
    def refuse(code: str, expected: str) -> Problem:
        given = format_instant(instant)
        message = f"{parameter} must be {expected} in {zone.key}; it is {given}"
        return Problem(code, message, {"parameter": parameter})

    if not _begins(Period("day", zone), instant):
        yield refuse("not_midnight", "midnight")
    elif period is not None and period.name in _BEGINNINGS and not _begins(period, instant):
        yield refuse(*_BEGINNINGS[period.name])


def _begins(period: Period, instant: datetime) -> bool:
    return period.start(instant) == instant


def _spans(start: datetime, end: datetime, days: int, zone: ZoneInfo) -> bool:
    """Whether that many days of the zone fit: days begin at midnight, or at the clock's time."""
    day = Period("day", zone)
    try:
        if _begins(day, start):
            return day.shift(start, days) <= end
        same_time = start.astimezone(zone) + timedelta(days=days)
        return same_time.astimezone(UTC) <= end
    except OverflowError:
        return False
