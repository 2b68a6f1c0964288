"""The period of a record's time, as an expression that the server computes. Pure.

Whole numbers of 64 bits are added, subtracted and divided with a rest exactly there. What divides
without a rest makes floats, which not all microseconds since year 1 fit. Where all times of a
bucket are whole milliseconds, and no offset is added, a quotient costs the server less, and its
floor is right: the turns of periods are multiples of 1,024 microseconds, which floats hold, and any
other time is at least a millisecond before the next turn, ten times as much as is rounded off.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


def key_of(
    period: Period, zone_segments: Sequence[Segment], *, are_milliseconds: bool = False
) -> Expression:
    """The key of the period of a record's time, for `period_key` to read; null without a time.

    `zone_segments` are the zone's offsets over the records' times, which `are_milliseconds` if all
    are whole ones.
    """
    local: Expression
    if period.name == "hour" and not hours_are_whole(zone_segments):
        return _by_segment(
            zone_segments,
            lambda place, segment: {"$add": [_multiple(_plus(offset_us(segment)), HOUR_US), place]},
        )
    if period.name == "hour":
        local = _plus(offset_us(zone_segments[0]) % HOUR_US)
        return _begun(local, HOUR_US, are_milliseconds)
    local = TIME_PATH
    if any(segment.offset for segment in zone_segments):
        offsets = _by_segment(zone_segments, lambda _, segment: Int64(offset_us(segment)))
        local = {"$add": [TIME_PATH, offsets]}
    if period.name in DAYS:
        return _begun(local, DAYS[period.name] * DAY_US, are_milliseconds)
    return _let(as_date(local), lambda date: _months(period, date))


def period_key(period: Period, value: float) -> int:
    """The period's key, as `backdrop.domain.period_key` has it, of what a row holds.

    Of hours, days and weeks that is their number as a float, or as an integer the local time at
    which they begin, to which an hour's place among the zone's segments is added.
    """
    number = int(value)
    if isinstance(value, float):
        return number
    if period.name in DAYS:
        return number // (DAYS[period.name] * DAY_US)
    if period.name != "hour":
        return number
    hours, place = divmod(number, HOUR_US)
    return hours + (place << HOUR_BITS)


def _months(period: Period, date: str) -> Expression:
    """The number of the period's first month since year 0."""
    years = {"$multiply": [{"$year": date}, 12]}
    month = {"$subtract": [{"$month": date}, 1]}
    if period.name == "month":
        return {"$add": [years, month]}
    if period.name == "quarter":
        return {"$add": [years, {"$subtract": [month, {"$mod": [month, 3]}]}]}
    return years


def _plus(offset: int) -> Expression:
    return {"$add": [TIME_PATH, Int64(offset)]} if offset else TIME_PATH


def _let(value: Expression, render: Callable[[str], Expression]) -> Expression:
    """What is rendered of the value, which is computed once."""
    if isinstance(value, str):  # a path
        return render(value)
    return {"$let": {"vars": {"value": value}, "in": render("$$value")}}


def _begun(local: Expression, unit: int, are_milliseconds: bool) -> Expression:
    """How many whole units went before the local time, as a float; or when its own one begins, as
    an integer.
    """
    if are_milliseconds and local == TIME_PATH:
        return {"$floor": {"$divide": [local, Int64(unit)]}}
    return _multiple(local, unit)


def _multiple(number: Expression, unit: int) -> Expression:
    """The number without its rest; of one below zero the nearer multiple."""
    return _let(number, lambda path: {"$subtract": [path, {"$mod": [path, Int64(unit)]}]})


_MS_TO_1970 = microseconds(datetime(1970, 1, 1, tzinfo=FIRST_INSTANT.tzinfo)) // 1_000


def as_date(number: Expression) -> Expression:
    """A time in microseconds as a BSON date, cut to milliseconds."""
    milliseconds = {"$divide": [_multiple(number, 1_000), 1_000]}
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
