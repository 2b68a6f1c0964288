"""What all the property tests draw from: values, records, instants, zones, queries.

Names are few and collide in case, ids are few, times are clustered where clocks change: so that
records meet, tie and differ by little. Floats are multiples of 1/8 within a million, so that a sum
is the same in whatever order it is made.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from hypothesis import strategies as st

from backdrop.domain.period import PERIOD_NAMES, Period
from backdrop.domain.query import METHODS, Collect, Equals, Filter, Query, Sort, StartsWith
from backdrop.domain.record import Records
from backdrop.domain.values import ID, INT64_MAX, INT64_MIN, TIMESTAMP, Record

LONG = bool(os.environ.get("BACKDROP_TEST_LONG"))
"""Whether the long profile runs."""

FIELDS = ("fee", "Fee", "FEE", "kind", "note", "select")
IDS = ("a", "A", "b", "é", "😀", "a.b", "'", "%", "0", "x" * 512)

ZONES = (
    "UTC",
    "America/New_York",
    "Europe/London",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "America/St_Johns",
    "America/Sao_Paulo",
    "Asia/Beirut",
    "Africa/Cairo",
    "Africa/Casablanca",
)
"""Zones with every kind of trouble that the tests look for."""

TURNS = tuple(
    datetime.fromisoformat(text)
    for text in (
        "2013-03-10T07:00:00+00:00",  # New York, spring
        "2013-11-03T06:00:00+00:00",  # New York, autumn
        "2013-03-31T01:00:00+00:00",  # London, spring
        "2013-10-27T01:00:00+00:00",  # London, autumn
        "2013-04-06T15:00:00+00:00",  # Lord Howe, half an hour back
        "2013-10-05T15:30:00+00:00",  # Lord Howe, half an hour forth
        "2011-12-30T10:00:00+00:00",  # Apia leaves the 30th out
        "2010-03-14T03:31:00+00:00",  # St John's, 00:01 to 01:01
        "2010-11-07T02:31:00+00:00",  # St John's, 00:01 to 23:01 of the day before
        "2009-11-01T02:31:00+00:00",  # St John's, and of the month before
        "2013-10-20T03:00:00+00:00",  # Sao Paulo, no midnight
        "2013-03-30T22:00:00+00:00",  # Beirut, no midnight
        "2014-05-15T22:00:00+00:00",  # Cairo, no midnight
        "2013-07-07T02:00:00+00:00",  # Casablanca, Ramadan
        "2013-01-01T00:00:00+00:00",
        "2012-12-31T18:15:00+00:00",  # Kathmandu's new year
        "2012-02-29T00:00:00+00:00",
        "1970-01-01T00:00:00+00:00",
        "1969-12-28T23:59:59.999999+00:00",
    )
)
"""Instants around which clocks or calendars turn."""

ENDS = tuple(
    datetime.fromisoformat(text)
    for text in (
        "0001-01-01T00:00:00+00:00",
        "0001-01-01T04:00:00+00:00",
        "0001-01-09T12:00:00+00:00",
        "9999-12-30T11:00:00+00:00",
        "9999-12-31T20:30:00+00:00",
        "9999-12-31T23:59:59.999999+00:00",
    )
)
"""Instants at the ends of the calendar."""

# -- instants and zones ---------------------------------------------------------------------


@cache
def zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


@cache
def all_zone_names() -> tuple[str, ...]:
    return tuple(sorted(available_timezones()))


def zones() -> st.SearchStrategy[ZoneInfo]:
    return st.sampled_from(ZONES).map(zone)


def any_zones() -> st.SearchStrategy[ZoneInfo]:
    return st.one_of(zones(), st.sampled_from(all_zone_names()).map(zone))


_steps = st.one_of(
    st.sampled_from([0, -1, 1, -1_000_000, 1_000_000]).map(lambda us: timedelta(microseconds=us)),
    st.integers(-180, 180).map(lambda minutes: timedelta(minutes=minutes)),
    st.integers(-96, 96).map(lambda halves: timedelta(minutes=30 * halves)),
    st.integers(-400, 400).map(lambda days: timedelta(days=days)),
)


def instants() -> st.SearchStrategy[datetime]:
    """Aware UTC datetimes close to the turns, and now and then at the calendar's ends."""
    near = st.builds(lambda turn, step: turn + step, st.sampled_from(TURNS), _steps)
    return st.one_of(near, near, near, near, st.sampled_from(ENDS))


def wide_instants(first: int = 1900, last: int = 2100) -> st.SearchStrategy[datetime]:
    """Aware UTC datetimes anywhere in those years, or close to the turns."""
    anywhere = st.datetimes(datetime(first, 1, 1), datetime(last, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
    near = st.builds(lambda turn, step: turn + step, st.sampled_from(TURNS), _steps)
    return st.one_of(anywhere, near)


def periods() -> st.SearchStrategy[Period]:
    return st.builds(Period, st.sampled_from(PERIOD_NAMES), zones())


# -- values and records ---------------------------------------------------------------------

texts = st.one_of(
    st.sampled_from(
        [
            "",
            "a",
            "A",
            "ab",
            "a%",
            "a_",
            "a\\",
            "%",
            "_",
            "\\",
            "'",
            '"',
            "é",
            "ü",
            "😀",
            "\uffff",
            "1",
            "1.0",
            "true",
            "null",
            "\0",
            "a\0b",
            "2013-01-01",
            "-0",
            "[]",
        ]
    ),
    st.text(max_size=4),
)
integers = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([2**53 - 1, 2**53, 2**53 + 1, -(2**53) - 1, INT64_MAX, INT64_MIN]),
    st.integers(INT64_MIN, INT64_MAX),
)
eighths = st.integers(-8_000_000, 8_000_000).map(lambda n: n / 8)
floats = st.one_of(st.sampled_from([-0.0, 0.0, 1.0, -1.0, 0.125, 2.5]), eighths)
any_floats = st.floats(allow_nan=False, allow_infinity=False)
numbers = st.one_of(integers, floats)
values = st.one_of(st.none(), st.booleans(), st.integers(-3, 3), numbers, texts, st.just("a"))
field_names = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{1,63}", fullmatch=True)

_fields_numeric = ("fee", "Fee")
"""Two fields that mostly hold numbers, so that sums mostly succeed."""


def records(ids: st.SearchStrategy[str] | None = None) -> st.SearchStrategy[Record]:
    """Validated records, as engines get them."""

    def build(record_id: str, times: dict[str, datetime], cells: dict[str, Any]) -> Record:
        return {ID: record_id, **times, **cells}

    times = st.fixed_dictionaries(
        {}, optional={name: instants() for name in ("_start_at", "_end_at")}
    )
    stamped = st.fixed_dictionaries({TIMESTAMP: instants()}, optional={"_start_at": instants()})
    mostly = st.one_of(numbers, numbers, numbers, st.none(), st.integers(-3, 3))
    cells = st.fixed_dictionaries(
        {},
        optional={name: mostly if name in _fields_numeric else values for name in FIELDS},
    )
    return st.builds(build, ids or st.sampled_from(IDS), st.one_of(stamped, stamped, times), cells)


def batches(least: int = 0, most: int = 8) -> st.SearchStrategy[Records]:
    """Batches with ids of a small pool, each once."""
    return st.lists(records(), min_size=least, max_size=most, unique_by=lambda r: r[ID]).map(
        lambda rows: Records(rows, received=len(rows))
    )


def record_sets(most: int = 40) -> st.SearchStrategy[Records]:
    """One batch in which every record has its own id."""

    def number(rows: list[Record]) -> Records:
        return Records(
            [{**row, ID: f"{row[ID]}-{n}"[-512:]} for n, row in enumerate(rows)], len(rows)
        )

    return st.lists(records(), max_size=most).map(number)


# -- queries --------------------------------------------------------------------------------

_spans = {"hour": 1, "day": 24, "week": 168, "month": 744, "quarter": 2208, "year": 8784}
"""About how many hours each period has."""


@st.composite
def queries(draw: st.DrawFn) -> Query:
    """Valid queries, with every feature there is."""
    kind = draw(st.sampled_from(["raw", "keys", "time", "both", "both"]))
    period = draw(periods()) if kind in ("time", "both") else None
    group_by: tuple[str, ...] = ()
    if kind in ("keys", "both"):
        group_by = tuple(
            draw(st.lists(st.sampled_from(FIELDS), min_size=1, max_size=3, unique=True))
        )
    collect: tuple[Collect, ...] = ()
    if kind != "raw":
        collect = draw(_collects(group_by))
    start, end = draw(_ranges(period))
    return Query(
        period=period,
        group_by=group_by,
        collect=collect,
        filters=tuple(draw(st.lists(filters(), max_size=2))) if draw(st.booleans()) else (),
        start=start,
        end=end,
        sort=draw(_sorts(kind, group_by, collect)),
        limit=draw(st.one_of(st.none(), st.none(), st.integers(1, 6))),
        flatten=kind == "both" and draw(st.booleans()),
    )


@st.composite
def _collects(draw: st.DrawFn, group_by: tuple[str, ...]) -> tuple[Collect, ...]:
    free = [name for name in (*FIELDS, "unheard") if name not in group_by]
    found = []
    for name in draw(st.lists(st.sampled_from(free), max_size=3, unique=True)):
        # sums mostly of the fields that mostly hold numbers; now and then of one that doesn't
        summed = name in _fields_numeric or draw(st.integers(0, 9)) == 0
        methods = [m for m in METHODS if summed or m not in ("sum", "mean")]
        for method in draw(st.lists(st.sampled_from(methods), min_size=1, max_size=2, unique=True)):
            found.append(Collect(name, method, method == "set" and draw(st.booleans())))  # noqa: PERF401
    return tuple(found)


@st.composite
def _ranges(draw: st.DrawFn, period: Period | None) -> tuple[datetime | None, datetime | None]:
    kind = draw(st.sampled_from(["none", "none", "start", "end", "both", "both"]))
    if kind == "none":
        return None, None
    first = draw(instants())
    if kind == "start":
        return first, None
    if kind == "end":
        return None, first
    hours = _spans[period.name] if period else 168
    length = timedelta(hours=hours) * draw(st.sampled_from([0.1, 1, 2, 3.5, 12, 30]))
    if first.year < 9000:
        return first, first + length
    return first - length, first


@st.composite
def _sorts(
    draw: st.DrawFn, kind: str, group_by: tuple[str, ...], collect: tuple[Collect, ...]
) -> Sort | None:
    if kind == "time" or draw(st.booleans()):
        return None
    if kind == "raw":
        keys = [*FIELDS, ID, TIMESTAMP, "_start_at", "unheard"]
    else:
        keys = [*group_by, "_count", *(key for one in collect for key in one.keys)]
        if kind == "both":
            keys = [key for key in keys if key != "_group_count"]
    return Sort(draw(st.sampled_from(keys)), draw(st.booleans()))


def filters() -> st.SearchStrategy[Filter]:
    known = values.filter(lambda value: value is not None)
    names = st.sampled_from([*FIELDS, *FIELDS, ID, "unheard"])
    equals = st.builds(Equals, names, st.lists(known, min_size=1, max_size=6).map(tuple))
    prefixes = st.builds(StartsWith, names, st.lists(texts, min_size=1, max_size=3).map(tuple))
    return st.one_of(equals, equals, prefixes)
