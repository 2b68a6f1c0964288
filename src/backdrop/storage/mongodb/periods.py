"""The period of a record's time, as an expression that the server computes. Pure.

Whole numbers of 64 bits are added, subtracted and divided with a rest exactly there. What divides
without a rest makes floats, which hold microseconds since year 1 no more, but hold those since a
time that is near. The server's quicker way to run pipelines (its slot-based engine, as of 6.0)
knows sums, quotients and floors; differences and rests take it back to the slower one.
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


def key_of(period: Period, zone_segments: Sequence[Segment], since: int | None) -> Expression:
    """The key of the period of a record's time, for `period_key` to read; null without a time.

    `zone_segments` are the zone's offsets over the records' times. `since`, in microseconds, is a
    time after year 1 that none of them is before, nor `MOST_US` after, if there is one.
    """
    unit = _unit(period, zone_segments)
    if since is not None and unit is not None:
        return _quotient(zone_segments, unit, _begin(since, unit))
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


def _unit(period: Period, zone_segments: Sequence[Segment]) -> int | None:
    """What local times are divided by, of periods of one length."""
    if period.name in DAYS:
        return DAYS[period.name] * DAY_US
    return HOUR_US if period.name == "hour" and hours_are_whole(zone_segments) else None


MOST_US = 2**52
"""Of times as far apart as this, and their offsets, floats hold the differences exactly: 142 years.

A quotient of such whole numbers that is not whole stays below the next one when it is rounded.
"""


def _quotient(zone_segments: Sequence[Segment], unit: int, begin: int) -> Expression:
    """How many units of local time there were since `begin`: a float that is whole."""
    if unit == HOUR_US:  # whole ones: all offsets have the rest of the first
        shift: Expression = Int64(offset_us(zone_segments[0]) % HOUR_US - begin)
    else:
        shift = _by_segment(zone_segments, lambda _, segment: Int64(offset_us(segment) - begin))
    return {"$floor": {"$divide": [{"$add": [TIME_PATH, shift]}, unit]}}


def _begin(since: int, unit: int) -> int:
    """The last multiple of the unit that is a day or more before."""
    return (since - DAY_US) // unit * unit


def period_key(
    period: Period, value: float, zone_segments: Sequence[Segment], since: int | None
) -> int:
    """The period's key, as `backdrop.domain.period_key` has it, of what a row holds."""
    number = int(value)
    unit = _unit(period, zone_segments)
    if since is not None and unit is not None:
        return number + _begin(since, unit) // unit
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
