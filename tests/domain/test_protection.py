"""Buckets whose records are not public: what their public may ask."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backdrop.domain.bucket import Bucket
from backdrop.domain.period import PERIOD_NAMES, Period
from backdrop.domain.protection import problems
from backdrop.domain.query import Query
from backdrop.domain.times import parse_instant

CLOSED = Bucket(name="closed")
OPEN = Bucket(name="open_one", raw_queries_allowed=True)


def found(
    start: str | None,
    end: str | None,
    *,
    period: str | None = None,
    group_by: tuple[str, ...] = ("aa",),
    zone: str = "UTC",
    bucket: Bucket = CLOSED,
) -> list[tuple[str, object]]:
    """(code, parameter) of what forbids a query over the range; its times are the zone's."""
    place = ZoneInfo(zone)
    ends = None
    if start is not None and end is not None:
        ends = (parse_instant(start, zone=place), parse_instant(end, zone=place))
    query = Query(
        period=Period(period, place) if period else None,
        group_by=group_by,
        start=ends[0] if ends else None,
        end=ends[1] if ends else None,
    )
    return [
        (p.code, p.where.get("parameter")) for p in problems(query, bucket, zone=place, ends=ends)
    ]


def test_raw_queries_are_refused_in_these_words() -> None:
    """Single records are not given away."""
    (problem,) = problems(Query(), CLOSED, zone=ZoneInfo("UTC"), ends=None)
    assert problem.message == "querying for raw data is not allowed"
    assert found("2013-01-01", "2013-01-02", group_by=()) == [
        ("raw_query_not_allowed", None),
        ("range_too_short", "end_at"),
    ]


def test_nothing_is_forbidden_where_records_are_public() -> None:
    """The rules are for protected buckets alone."""
    assert found("2013-01-01T10:01", "2013-01-01T10:02", group_by=(), bucket=OPEN) == []


START, END, SHORT = ("not_midnight", "start_at"), ("not_midnight", "end_at"), "range_too_short"

RANGES: tuple[tuple[str | None, str | None, str | None, str, list[object]], ...] = (
    # start, end, period, zone, what is wrong
    (None, None, "week", "UTC", []),
    ("2013-01-01", "2013-01-08", None, "UTC", []),
    ("2013-01-01", "2013-01-08", "day", "UTC", []),
    ("2013-01-01", "2013-01-07", "day", "UTC", [(SHORT, "end_at")]),
    ("2013-01-01", "2013-01-01", "day", "UTC", [(SHORT, "end_at")]),
    ("2013-01-01T00:01", "2013-01-08T00:01", "day", "UTC", [START, END]),
    ("2013-01-01", "2013-01-08T00:00:00.000001", None, "UTC", [END]),
    ("2013-01-01T12:00", "2013-01-08", "quarter", "UTC", [START, (SHORT, "end_at")]),
    ("2013-01-01", "2013-01-08", "year", "UTC", []),
    # hours need no midnight, but seven days
    ("2013-01-01T05:30", "2013-01-08T05:30", "hour", "UTC", []),
    ("2013-01-01T05:30", "2013-01-08T05:29", "hour", "UTC", [(SHORT, "end_at")]),
    # Mondays and firsts
    ("2013-01-07", "2013-01-14", "week", "UTC", []),
    ("2013-01-07", "2013-01-15", "week", "UTC", [("not_a_monday", "end_at")]),
    (
        "2013-01-06",
        "2013-01-13",
        "week",
        "UTC",
        [("not_a_monday", "start_at"), ("not_a_monday", "end_at")],
    ),
    ("2013-01-07T01:00", "2013-01-14", "week", "UTC", [START, (SHORT, "end_at")]),
    ("2013-01-01", "2013-02-01", "month", "UTC", []),
    ("2013-01-01", "2013-02-02", "month", "UTC", [("not_the_first", "end_at")]),
    # midnight is the zone's, and so are the days
    ("2013-07-01T00:00Z", "2013-07-08T00:00Z", "day", "Europe/London", [START, END]),
    ("2013-06-30T23:00Z", "2013-07-07T23:00Z", "day", "Europe/London", []),
    ("2013-03-25", "2013-04-01", "week", "Europe/London", []),  # an hour short of 168
    ("2013-10-21", "2013-10-28", "week", "Europe/London", []),  # an hour more
    ("2013-03-29T01:00", "2013-04-05T01:00", "hour", "Europe/London", []),
    ("2013-03-29T02:00", "2013-04-05T01:00", "hour", "Europe/London", [(SHORT, "end_at")]),
    # a midnight that a change of clocks skipped: the day begins with its first instant
    ("2018-11-04T01:00", "2018-11-11", "day", "America/Sao_Paulo", []),
    ("2018-10-28", "2018-11-04T01:00", "day", "America/Sao_Paulo", []),
    ("2018-10-28", "2018-11-04T02:00", "day", "America/Sao_Paulo", [END]),
    # the calendar's end
    ("9999-12-30", "9999-12-31", "day", "UTC", [(SHORT, "end_at")]),
    ("9999-12-30T10:00", "9999-12-31T10:00", "hour", "Asia/Tokyo", [(SHORT, "end_at")]),
    ("0001-01-01", "0001-01-08", "day", "UTC", []),
)


@pytest.mark.parametrize(("start", "end", "period", "zone", "expected"), RANGES)
def test_ranges_span_seven_days_between_beginnings(
    start: str | None, end: str | None, period: str | None, zone: str, expected: list[object]
) -> None:
    """At least seven days of the zone, from a beginning to a beginning of what is grouped by."""
    assert found(start, end, period=period, zone=zone) == expected


ZONES = ("UTC", "Europe/London", "America/Sao_Paulo", "Asia/Kolkata", "Pacific/Apia")


@given(
    st.datetimes(datetime(1950, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    st.timedeltas(timedelta(0), timedelta(days=500)),
    st.sampled_from(PERIOD_NAMES),
    st.sampled_from(ZONES),
)
def test_a_range_of_whole_periods_and_seven_days_passes(
    begin: datetime, length: timedelta, period: str, zone: str
) -> None:
    """Any range widened to what its period begins with, and to seven days, is allowed."""
    step = Period(period, ZoneInfo(zone))
    start = step.start(begin)
    end = step.start(start + length)
    while end < start + timedelta(days=8):
        end = step.next(end)
    query = Query(period=step, start=start, end=end)
    assert problems(query, CLOSED, zone=step.zone, ends=(start, end)) == []
