"""Calendar periods in zones, against an oracle that looks at every minute or quarter of an hour."""

from __future__ import annotations

import contextlib
import importlib.resources
import struct
import zoneinfo
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from backdrop.domain.period import (
    FIRST_INSTANT,
    LAST_INSTANT,
    PERIOD_NAMES,
    Period,
    segments,
)
from backdrop.domain.times import format_instant, parse_instant
from tests.strategies import (
    LONG,
    ZONES,
    all_zone_names,
    any_zones,
    instants,
    wide_instants,
    zone,
)

MINUTE = timedelta(minutes=1)
MICROSECOND = timedelta(microseconds=1)


def utc(text: str) -> datetime:
    return parse_instant(text)


def texts(starts: Any) -> list[str]:
    return [format_instant(start) for start in starts]


# -- the oracle -----------------------------------------------------------------------------

_labels: dict[str, Callable[[datetime], Any]] = {
    "hour": lambda local: (local.date(), local.hour, local.utcoffset()),
    "day": lambda local: local.date(),
    "week": lambda local: local.isocalendar()[:2],
    "month": lambda local: (local.year, local.month),
    "quarter": lambda local: (local.year, (local.month - 1) // 3),
    "year": lambda local: local.year,
}


def firsts(name: str, here: ZoneInfo, begin: datetime, end: datetime, step: timedelta) -> Any:
    """Every instant of the scan with its label, and the first instant of each label."""
    scan: list[tuple[datetime, Any]] = []
    first: dict[Any, datetime] = {}
    label = _labels[name]
    instant = begin
    while instant < end:
        this = label(instant.astimezone(here))
        scan.append((instant, this))
        first.setdefault(this, instant)
        instant += step
    return scan, first


def agree(name: str, place: str, begin: str, end: str, step: timedelta) -> None:
    """The period's starts, nexts, previous ones and axis over the window are the oracle's.

    The first and the last label of the window are left out: they may reach beyond it.
    """
    here = zone(place)
    period = Period(name, here)
    scan, first = firsts(name, here, utc(begin), utc(end), step)
    labels = list(first)[1:-1]
    assert len(labels) >= 3, "the window is too small to say anything"
    known = {label: first[label] for label in labels}
    for instant, label in scan:
        if label in known:
            assert period.start(instant) == known[label], (instant, label)
    starts = sorted(known.values())
    assert starts == list(known.values())
    for start, following in pairwise(starts):
        assert period.next(start) == following
        assert period.previous(following) == start
        assert period.start(following - MICROSECOND) <= start
    assert list(period.axis(starts[0], starts[-1])) == starts[:-1]
    assert list(period.axis(starts[0], starts[-1] + MICROSECOND)) == starts
    assert list(period.axis(starts[0] + MINUTE, starts[-1])) == starts[:-1]


NARROW = (
    ("America/New_York", "2013-03-07", "2013-03-14"),
    ("America/New_York", "2013-10-31", "2013-11-07"),
    ("Europe/London", "2013-03-28", "2013-04-03"),
    ("Europe/London", "2013-10-24", "2013-10-30"),
    ("Pacific/Apia", "2011-12-27", "2012-01-04"),
    ("Pacific/Apia", "2011-09-22", "2011-09-27"),
    ("Australia/Lord_Howe", "2013-04-04", "2013-04-09"),
    ("Australia/Lord_Howe", "2013-10-03", "2013-10-08"),
    ("Asia/Kathmandu", "2013-01-01", "2013-01-05"),
    ("Asia/Kathmandu", "1985-12-29", "1986-01-04"),  # +5:30 became +5:45
    ("America/St_Johns", "2007-03-09", "2007-03-14"),
    ("America/St_Johns", "2009-10-29", "2009-11-05"),  # midnight of the 1st comes twice
    ("America/St_Johns", "2010-11-04", "2010-11-10"),
    ("America/St_Johns", "2011-03-10", "2011-03-16"),
    ("America/Sao_Paulo", "2013-10-17", "2013-10-23"),
    ("America/Sao_Paulo", "2014-02-13", "2014-02-19"),
    ("Asia/Beirut", "2013-03-28", "2013-04-03"),
    ("Asia/Beirut", "2013-10-24", "2013-10-30"),
    ("Africa/Cairo", "2014-05-13", "2014-05-18"),
    ("Africa/Cairo", "2014-09-23", "2014-09-28"),
    ("Africa/Casablanca", "2013-07-05", "2013-07-10"),
    ("Africa/Casablanca", "2013-08-08", "2013-08-13"),
    ("Africa/Casablanca", "2024-03-08", "2024-03-13"),
    ("America/Toronto", "1919-03-28", "1919-04-03"),  # 23:30 became 00:30
    ("Pacific/Kwajalein", "1993-08-18", "1993-08-25"),  # left the 21st out
    ("Pacific/Kwajalein", "1969-09-27", "1969-10-04"),  # had a date for two days
    ("Antarctica/Troll", "2013-03-29", "2013-04-03"),  # two hours at once
    ("Europe/Dublin", "2013-10-24", "2013-10-30"),  # winter is the DST
    ("Asia/Pyongyang", "2015-08-13", "2015-08-18"),  # half an hour back at midnight
    ("Asia/Pyongyang", "2018-05-03", "2018-05-08"),  # and forth at 23:30
    ("America/Caracas", "2007-12-07", "2007-12-12"),
    ("Africa/Monrovia", "1972-01-05", "1972-01-10"),  # -0:44:30 became 0
)


@pytest.mark.parametrize("name", ["hour", "day"])
@pytest.mark.parametrize(("place", "begin", "end"), NARROW)
def test_hours_and_days_are_those_of_the_minutes(
    name: str, place: str, begin: str, end: str
) -> None:
    step = timedelta(seconds=30) if place == "Africa/Monrovia" else MINUTE
    if name == "day" and place == "Pacific/Kwajalein" and begin < "1970":
        step = timedelta(minutes=5)
    agree(name, place, begin, end, step)


QUARTER_HOUR = timedelta(minutes=15)
WIDE = (
    *((place, "2012-11-15", "2014-02-15") for place in ("UTC", *ZONES[1:])),
    ("America/St_Johns", "2009-08-15", "2010-01-15"),
    ("Pacific/Apia", "2011-09-15", "2012-03-15"),
    ("America/Scoresbysund", "2023-11-15", "2024-06-15"),
)


@pytest.mark.parametrize("name", ["week", "month"])
@pytest.mark.parametrize(("place", "begin", "end"), WIDE)
def test_weeks_and_months_are_those_of_their_days(
    name: str, place: str, begin: str, end: str
) -> None:
    agree(name, place, begin, end, QUARTER_HOUR)


@pytest.mark.parametrize("name", ["quarter", "year"])
@pytest.mark.parametrize("place", ZONES)
def test_quarters_and_years_are_those_of_their_days(name: str, place: str) -> None:
    period, here = Period(name, zone(place)), zone(place)
    begin, end = utc("2009-06-15"), utc("2014-06-15")
    expected = [
        min(_instants_of(date(year, month, day), here))
        for year in range(2009, 2015)
        for month, day in ((1, 1), (4, 1), (7, 1), (10, 1))
        if name == "quarter" or month == 1
    ]
    expected = [start for start in expected if begin < start < end]
    assert list(period.axis(begin, end))[1:] == expected
    for start, following in pairwise(expected):
        assert period.next(start) == following
        assert period.start(following - MICROSECOND) == start
        assert period.previous(following) == start


def _instants_of(day: date, here: ZoneInfo) -> Iterator[datetime]:
    """The minutes of that local date."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    for minutes in range(-26 * 60, 26 * 60):
        instant = midnight + minutes * MINUTE
        if instant.astimezone(here).date() == day:
            yield instant


# -- known rows -----------------------------------------------------------------------------

AXES = (
    # London's longest and shortest day are one row each
    (
        "day",
        "Europe/London",
        "2013-03-31",
        "2013-04-01T12:00",
        ["2013-03-31T00:00", "2013-03-31T23:00"],
    ),
    (
        "day",
        "Europe/London",
        "2013-10-27T12:00",
        "2013-10-28T12:00",
        ["2013-10-26T23:00", "2013-10-28T00:00"],
    ),
    # autumn's 01:00 comes twice, spring's missing hour not at all
    (
        "hour",
        "Europe/London",
        "2013-10-27T00:00",
        "2013-10-27T03:00",
        ["2013-10-27T00:00", "2013-10-27T01:00", "2013-10-27T02:00"],
    ),
    (
        "hour",
        "Europe/London",
        "2013-03-31T00:00",
        "2013-03-31T02:00",
        ["2013-03-31T00:00", "2013-03-31T01:00"],
    ),
    # half-hour rows
    (
        "hour",
        "Australia/Lord_Howe",
        "2013-04-06T14:00",
        "2013-04-06T16:30",
        ["2013-04-06T14:00", "2013-04-06T15:00", "2013-04-06T15:30"],
    ),
    (
        "hour",
        "Australia/Lord_Howe",
        "2013-10-05T14:30",
        "2013-10-05T17:00",
        ["2013-10-05T14:30", "2013-10-05T15:30", "2013-10-05T16:00"],
    ),
    # the 30th of December is not there
    (
        "day",
        "Pacific/Apia",
        "2011-12-29T00:00",
        "2012-01-01T00:00",
        ["2011-12-28T10:00", "2011-12-29T10:00", "2011-12-30T10:00", "2011-12-31T10:00"],
    ),
    # midnight comes twice: the first one begins the day and the month
    (
        "day",
        "America/St_Johns",
        "2009-10-31T12:00",
        "2009-11-02T12:00",
        ["2009-10-31T02:30", "2009-11-01T02:30", "2009-11-02T03:30"],
    ),
    (
        "month",
        "America/St_Johns",
        "2009-10-15",
        "2009-11-15",
        ["2009-10-01T02:30", "2009-11-01T02:30"],
    ),
    # midnight does not exist
    (
        "day",
        "America/Sao_Paulo",
        "2013-10-19T12:00",
        "2013-10-21T12:00",
        ["2013-10-19T03:00", "2013-10-20T03:00", "2013-10-21T02:00"],
    ),
    (
        "week",
        "UTC",
        "2013-01-01",
        "2013-01-15",
        ["2012-12-31T00:00", "2013-01-07T00:00", "2013-01-14T00:00"],
    ),
    (
        "month",
        "Asia/Kathmandu",
        "2013-01-31T18:00",
        "2013-01-31T18:16",
        ["2012-12-31T18:15", "2013-01-31T18:15"],
    ),
    (
        "quarter",
        "UTC",
        "2012-12-31",
        "2013-04-02",
        ["2012-10-01T00:00", "2013-01-01T00:00", "2013-04-01T00:00"],
    ),
    (
        "year",
        "America/New_York",
        "2013-01-01",
        "2014-06-01",
        ["2012-01-01T05:00", "2013-01-01T05:00", "2014-01-01T05:00"],
    ),
    (
        "hour",
        "UTC",
        "2013-01-01T00:59:59.999999",
        "2013-01-01T01:00:00.000001",
        ["2013-01-01T00:00", "2013-01-01T01:00"],
    ),
    (
        "day",
        "UTC",
        "1969-12-31T12:00",
        "1970-01-01T00:00:00.000001",
        ["1969-12-31T00:00", "1970-01-01T00:00"],
    ),
)


@pytest.mark.parametrize(("name", "place", "first", "end", "expected"), AXES)
def test_known_rows(name: str, place: str, first: str, end: str, expected: list[str]) -> None:
    found = Period(name, zone(place)).axis(utc(first), utc(end))
    assert texts(found) == [f"{start}:00+00:00" for start in expected]


def test_an_instant_that_is_shown_before_a_day_began_still_belongs_to_the_day_before() -> None:
    """St John's fell back to 23:01 one minute after midnight: that hour is the old day's."""
    day = Period("day", zone("America/St_Johns"))
    assert day.start(utc("2010-11-07T02:30:30")) == utc("2010-11-07T02:30")
    assert day.start(utc("2010-11-07T02:45")) == utc("2010-11-06T02:30")
    assert day.start(utc("2010-11-07T03:30")) == utc("2010-11-07T02:30")


def test_an_empty_range_has_no_periods() -> None:
    day = Period("day")
    assert list(day.axis(utc("2013-01-01"), utc("2013-01-01"))) == []
    assert list(day.axis(utc("2013-01-02"), utc("2013-01-01"))) == []


def test_the_names_are_the_contracts() -> None:
    assert PERIOD_NAMES == ("hour", "day", "week", "month", "quarter", "year")


# -- laws -----------------------------------------------------------------------------------

any_period = st.builds(Period, st.sampled_from(PERIOD_NAMES), any_zones())
any_day_or_longer = st.builds(Period, st.sampled_from(PERIOD_NAMES[1:]), any_zones())
any_hour = st.builds(Period, st.just("hour"), any_zones())


@given(any_period, wide_instants())
def test_a_period_begins_no_later_than_what_it_holds(period: Period, instant: datetime) -> None:
    assert period.start(instant) <= instant


@given(any_period, wide_instants())
def test_a_start_is_its_own_start(period: Period, instant: datetime) -> None:
    start = period.start(instant)
    assert period.start(start) == start


@given(any_hour, wide_instants())
def test_an_hour_holds_one_local_hour_at_one_offset(period: Period, instant: datetime) -> None:
    start, local = period.start(instant), instant.astimezone(period.zone)
    end = period.next(start)
    assert start <= instant < end
    assert end - start <= timedelta(hours=1)
    label = _labels["hour"]
    assert label(start.astimezone(period.zone)) == label(local)
    assert label((end - MICROSECOND).astimezone(period.zone)) == label(local)
    assert label(end.astimezone(period.zone)) != label(local)
    assert label((start - MICROSECOND).astimezone(period.zone)) != label(local)


@given(any_day_or_longer, wide_instants())
def test_a_start_has_the_label_of_what_it_begins(period: Period, instant: datetime) -> None:
    """The local date of the start is the first there was of the period; before it is another."""
    label, here = _labels[period.name], period.zone
    start = period.start(instant)
    assert label(start.astimezone(here)) == label(instant.astimezone(here))
    before = start - MICROSECOND
    assert label(before.astimezone(here)) != label(start.astimezone(here))
    first = start.astimezone(here).date()
    nominal = {
        "day": first,
        "week": first - timedelta(days=first.weekday()),
        "month": first.replace(day=1),
        "quarter": first.replace(month=(first.month - 1) // 3 * 3 + 1, day=1),
        "year": first.replace(month=1, day=1),
    }[period.name]
    assert first - nominal <= timedelta(days=1), "only a date that was skipped may be missing"
    if first != nominal:
        assert before.astimezone(here).date() < nominal


@given(any_period, wide_instants())
def test_the_next_start_is_later_and_the_one_before_it_is_back_here(
    period: Period, instant: datetime
) -> None:
    start = period.start(instant)
    following = period.next(start)
    assert following > start
    assert period.start(following) == following
    assert period.previous(following) == start


@given(any_period, wide_instants())
def test_the_previous_start_is_earlier_and_the_one_after_it_is_back_here(
    period: Period, instant: datetime
) -> None:
    start = period.start(instant)
    before = period.previous(start)
    assert before < start
    assert period.start(before) == before
    assert period.next(before) == start


@given(any_period, wide_instants(), st.integers(0, 60))
@example(Period("day", zone("Pacific/Apia")), utc("2011-12-28"), 5)
@example(Period("day", zone("Pacific/Kwajalein")), utc("1993-08-20"), 5)
@example(Period("day", zone("Pacific/Kwajalein")), utc("1969-09-28"), 5)
@example(Period("hour", zone("Australia/Lord_Howe")), utc("2013-04-06"), 48)
def test_a_shift_is_so_many_steps(period: Period, instant: datetime, count: int) -> None:
    start = later = earlier = period.start(instant)
    for _ in range(count):
        later, earlier = period.next(later), period.previous(earlier)
    assert period.shift(start, count) == later
    assert period.shift(start, -count) == earlier
    assert period.shift(later, -count) == start
    assert period.shift(earlier, count) == start


@pytest.mark.parametrize("name", PERIOD_NAMES)
@pytest.mark.parametrize("place", ZONES)
@pytest.mark.parametrize("count", [10**8, -(10**8), 10**12, -(10**12)])
def test_a_shift_past_the_calendar_is_an_overflow(name: str, place: str, count: int) -> None:
    period = Period(name, zone(place))
    with pytest.raises(OverflowError):
        period.shift(period.start(utc("2013-06-15")), count)


_rough = {"hour": 3_600, "day": 86_400, "week": 604_800, "month": 2_629_800}
_rough |= {"quarter": 7_889_400, "year": 31_557_600}


@given(any_period, wide_instants(), st.floats(0, 40))
@example(Period("day", zone("America/St_Johns")), utc("2010-11-07T02:45"), 2.0)
@example(Period("day", zone("America/St_Johns")), utc("2010-11-07T02:30:30"), 1.0)
@example(Period("day", zone("America/St_Johns")), utc("2010-11-07T02:30"), 60 / 86_400)
@example(Period("day", zone("America/St_Johns")), utc("2010-11-07T02:30"), 61 / 86_400)
@example(Period("day", zone("Pacific/Apia")), utc("2011-12-29T12:00"), 3.0)
def test_the_axis_holds_the_periods_of_the_range_without_gap_or_overlap(
    period: Period, first: datetime, periods: float
) -> None:
    """Each period on it holds an instant of the range, and each of the range's instants has one."""
    end = first + timedelta(seconds=periods * _rough[period.name])
    axis = list(period.axis(first, end))
    if first >= end:
        assert axis == []
        return
    assert all(a < b == period.next(a) for a, b in pairwise(axis))
    assert all(period.next(start) - start <= period.longest for start in axis)
    turns = [run.since for run in segments(period.zone, first, end)]
    probes = [first, end - MICROSECOND, *(turn for turn in turns if turn < end)]
    probes += [first + (end - first) * share for share in (0.3, 0.7, 0.999)]
    probes += [start for start in axis if first <= start]
    held = {period.start(probe) for probe in probes if first <= probe < end}
    assert held == set(axis)


near_the_ends = st.builds(
    lambda end, step: min(max(end, FIRST_INSTANT + abs(step)), LAST_INSTANT - abs(step)) + step,
    st.sampled_from([FIRST_INSTANT, LAST_INSTANT]),
    st.timedeltas(timedelta(days=-400), timedelta(days=400)).map(lambda step: step / 20),
)


@given(any_period, st.one_of(instants(), near_the_ends))
@example(Period("hour", zone("Asia/Kathmandu")), utc("9999-12-31T18:30"))
@example(Period("day", zone("America/New_York")), utc("0001-01-01T02:00"))
def test_whatever_the_year_an_instant_has_a_period(period: Period, instant: datetime) -> None:
    """At the ends of the calendar too, where a zone's local times reach past them."""
    start = period.start(instant)
    assert FIRST_INSTANT <= start <= instant
    assert period.start(start) == start
    end = period.next(start)
    assert start < end <= LAST_INSTANT
    if instant < LAST_INSTANT:
        assert list(period.axis(instant, instant + MICROSECOND)) == [start]


@pytest.mark.parametrize("name", PERIOD_NAMES)
@pytest.mark.parametrize("place", ZONES)
def test_the_calendars_ends(name: str, place: str) -> None:
    period = Period(name, zone(place))
    assert period.start(FIRST_INSTANT) == FIRST_INSTANT
    assert period.previous(FIRST_INSTANT) == FIRST_INSTANT
    last = period.start(LAST_INSTANT)
    assert last < LAST_INSTANT
    assert period.next(last) == LAST_INSTANT
    assert list(period.axis(last, LAST_INSTANT)) == [last]


@given(wide_instants(), st.sampled_from(PERIOD_NAMES))
def test_in_utc_periods_are_plain_calendar_arithmetic(instant: datetime, name: str) -> None:
    midnight = instant.replace(hour=0, minute=0, second=0, microsecond=0)
    expected = {
        "hour": instant.replace(minute=0, second=0, microsecond=0),
        "day": midnight,
        "week": midnight - timedelta(days=instant.weekday()),
        "month": midnight.replace(day=1),
        "quarter": midnight.replace(month=(instant.month - 1) // 3 * 3 + 1, day=1),
        "year": midnight.replace(month=1, day=1),
    }[name]
    assert Period(name).start(instant) == expected
    assert Period(name, zone("Etc/UTC")).start(instant) == expected


# -- the changes of zones -------------------------------------------------------------------


def transitions(name: str) -> list[tuple[datetime, timedelta]]:
    """The changes of offset that the zone's file lists (RFC 8536), read without zoneinfo."""
    data = _zone_file(name)

    def counts(at: int) -> tuple[int, ...]:
        return struct.unpack(">6l", data[at + 20 : at + 44])

    isut, isstd, leap, times, types, characters = counts(0)
    header = 44 + times * 5 + types * 6 + characters + leap * 8 + isstd + isut
    isut, isstd, leap, times, types, characters = counts(header)
    at = header + 44
    seconds = struct.unpack(f">{times}q", data[at : at + 8 * times])
    at += 8 * times
    kinds = data[at : at + times]
    at += times
    offsets = [struct.unpack(">l", data[at + 6 * n : at + 6 * n + 4])[0] for n in range(types)]
    found, before = [], offsets[0]
    for second, kind in zip(seconds, kinds, strict=True):
        if offsets[kind] != before and second > _FIRST_SECOND:
            found.append((_EPOCH + timedelta(seconds=second), timedelta(seconds=offsets[kind])))
        before = offsets[kind]
    return found


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_SECOND = (FIRST_INSTANT - _EPOCH) // timedelta(seconds=1)


def _zone_file(name: str) -> bytes:
    for folder in zoneinfo.TZPATH:
        path = Path(folder, name)
        if path.is_file():
            return path.read_bytes()
    return importlib.resources.files("tzdata").joinpath("zoneinfo", name).read_bytes()


@cache
def zone_names_with_own_rules() -> tuple[str, ...]:
    """Of zones that share a file, the first."""
    own: dict[bytes, str] = {}
    for name in all_zone_names():
        own.setdefault(_zone_file(name), name)
    return tuple(own.values())


def _some_zones() -> tuple[str, ...]:
    """All of them in the long profile, else every ninth and those with trouble."""
    names = zone_names_with_own_rules()
    return names if LONG else tuple(dict.fromkeys((*ZONES, *names[::9])))


@given(any_zones(), st.one_of(wide_instants(1, 9998), near_the_ends), st.integers(0, 500))
def test_a_segment_tells_the_offset_of_every_instant_in_it(
    here: ZoneInfo, instant: datetime, days: int
) -> None:
    first = max(FIRST_INSTANT, instant - min(timedelta(days=days), instant - FIRST_INSTANT))
    runs = segments(here, first, instant)
    assert runs[0].since == first
    assert all(a.since < b.since and a.offset != b.offset for a, b in pairwise(runs))
    assert runs[-1].since <= instant
    for run in runs:
        with contextlib.suppress(OverflowError):  # past the calendar nothing is local
            assert run.since.astimezone(here).utcoffset() == run.offset
    with contextlib.suppress(OverflowError):
        assert instant.astimezone(here).utcoffset() == runs[-1].offset


@pytest.mark.parametrize("place", _some_zones())
def test_every_change_of_a_zones_file_is_found(place: str) -> None:
    first, last = utc("1900-01-01"), utc("2037-01-01")
    listed = [(at, offset) for at, offset in transitions(place) if first < at <= last]
    found = segments(zone(place), first, last)
    assert found[0].since == first
    assert found[0].offset == first.astimezone(zone(place)).utcoffset()
    assert [(segment.since, segment.offset) for segment in found[1:]] == listed
