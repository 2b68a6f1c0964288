"""The period of a record's time, as an expression that the server computes. Pure.

Whole numbers of 64 bits are added, subtracted and divided with a rest exactly there; what divides
without a rest makes floats, which microseconds since year 1 don't fit. Made small enough for floats
first, they would take the server longer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias

from bson import Int64

from backdrop.domain.period import FIRST_INSTANT, Period, Segment
from backdrop.domain.period_key import (
    DAY_US,
    DAYS,
    HOUR_BITS,
    HOUR_US,
    hours_are_whole,
    microseconds,
    offset_us,
)
from backdrop.domain.values import TIMESTAMP

Expression: TypeAlias = Any

TIME_PATH = f"${TIMESTAMP}"


def key_of(period: Period, zone_segments: Sequence[Segment]) -> Expression:
    """The key of the period of a record's time, for `period_key` to read; null without a time.

    `zone_segments` are the zone's offsets over the records' times.
    """
    if period.name == "hour" and not hours_are_whole(zone_segments):
        return _by_segment(
            zone_segments,
            lambda place, segment: {"$add": [_floor(_plus(offset_us(segment)), HOUR_US), place]},
        )
    if period.name == "hour":
        return _floor(_plus(offset_us(zone_segments[0]) % HOUR_US), HOUR_US)
    local: Expression = TIME_PATH
    if any(segment.offset for segment in zone_segments):
        offsets = _by_segment(zone_segments, lambda _, segment: Int64(offset_us(segment)))
        local = {"$add": [TIME_PATH, offsets]}
    if period.name in DAYS:
        key = _floor("$$local", DAYS[period.name] * DAY_US)
    else:
        key = {"$let": {"vars": {"date": as_date("$$local")}, "in": _months[period.name]}}
    return {"$let": {"vars": {"local": local}, "in": key}}


def period_key(period: Period, value: float) -> int:
    """The period's key, as `backdrop.domain.period_key` has it, of what a row holds."""
    number = int(value)
    if period.name in DAYS:
        return number // (DAYS[period.name] * DAY_US)
    if period.name != "hour":
        return number
    hours, place = divmod(number, HOUR_US)
    return hours + (place << HOUR_BITS)


_YEAR_MONTHS = {"$multiply": [{"$year": "$$date"}, 12]}
_MONTH = {"$subtract": [{"$month": "$$date"}, 1]}
_months: Mapping[str, Expression] = {
    "month": {"$add": [_YEAR_MONTHS, _MONTH]},
    "quarter": {"$add": [_YEAR_MONTHS, {"$subtract": [_MONTH, {"$mod": [_MONTH, 3]}]}]},
    "year": _YEAR_MONTHS,
}


def _plus(offset: int) -> Expression:
    return {"$add": [TIME_PATH, Int64(offset)]} if offset else TIME_PATH


def _floor(number: Expression, unit: int) -> Expression:
    """The number without its rest; of one below zero the nearer multiple."""
    return {"$subtract": [number, {"$mod": [number, Int64(unit)]}]}


_MS_TO_1970 = microseconds(datetime(1970, 1, 1, tzinfo=FIRST_INSTANT.tzinfo)) // 1_000


def as_date(number: Expression) -> Expression:
    """A time in microseconds as a BSON date, cut to milliseconds."""
    milliseconds = {"$divide": [_floor(number, 1_000), 1_000]}
    return {"$toDate": {"$subtract": [milliseconds, Int64(_MS_TO_1970)]}}


def _by_segment(
    zone_segments: Sequence[Segment], render: Callable[[int, Segment], Expression], first: int = 0
) -> Expression:
    """An expression that is `render(place, segment)` in each segment: a binary tree of tests."""
    if len(zone_segments) == 1:
        return render(first, zone_segments[0])
    half = len(zone_segments) // 2
    split = Int64(microseconds(zone_segments[half].since))
    early = _by_segment(zone_segments[:half], render, first)
    late = _by_segment(zone_segments[half:], render, first + half)
    return {"$cond": [{"$lt": [TIME_PATH, split]}, early, late]}
