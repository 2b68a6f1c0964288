"""What all the property tests draw from: values, records, instants, zones, queries.

Names are few and collide in case, ids are few, times are clustered where clocks change: so that
records meet, tie and differ by little. Floats are multiples of 1/8 within a million, so that a sum
is the same in whatever order it is made.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import permutations
from typing import Literal, TypeAlias
from zoneinfo import ZoneInfo, available_timezones

from hypothesis import strategies as st

from backdrop.domain.period import PERIOD_NAMES, Period
from backdrop.domain.query import METHODS, Collect, Equals, Filter, Query, Sort, StartsWith
from backdrop.domain.table import Records
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


@cache
def instants(turns: tuple[datetime, ...] = TURNS) -> st.SearchStrategy[datetime]:
    """Aware UTC datetimes close to the turns, and now and then at the calendar's ends."""
    near = st.builds(lambda turn, step: turn + step, st.sampled_from(turns), _steps)
    return st.one_of(*[near] * 15, st.sampled_from(ENDS))


def wide_instants(first: int = 1900, last: int = 2100) -> st.SearchStrategy[datetime]:
    """Aware UTC datetimes anywhere in those years, or close to the turns."""
    anywhere = st.datetimes(datetime(first, 1, 1), datetime(last, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
    near = st.builds(lambda turn, step: turn + step, st.sampled_from(TURNS), _steps)
    return st.one_of(anywhere, near)


def periods() -> st.SearchStrategy[Period]:
    return st.builds(Period, st.sampled_from(PERIOD_NAMES), zones())


# -- values and records ---------------------------------------------------------------------

_awkward_texts = (
    "", "a", "A", "ab", "a%", "a_", "a\\", "%", "_", "\\", "'", '"', "é", "ü", "😀", "\uffff",
    "1", "1.0", "true", "null", "\0", "a\0b", "2013-01-01", "-0", "[]",
)  # fmt: skip
texts = st.one_of(
    st.sampled_from(_awkward_texts),
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
few = st.sampled_from(["a", "A", "b", 0, 1, 1.0, 2, 2.5, -0.0, True, False, "1", None])
values = st.one_of(few, few, few, st.none(), st.booleans(), numbers, texts)
field_names = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{1,63}", fullmatch=True)

_fields_numeric = ("fee", "Fee")
"""Two fields that mostly hold numbers, so that sums mostly succeed."""


_mostly_numbers = st.one_of(st.integers(-3, 3), floats, numbers, numbers, st.none())


_some_ids = st.sampled_from(IDS)
_times_given = st.sampled_from([(TIMESTAMP,)] * 5 + [(), ("_start_at",), (TIMESTAMP, "_end_at")])
_fields_given = st.integers(0, 2 ** len(FIELDS) - 1).map(
    lambda bits: tuple(name for place, name in enumerate(FIELDS) if not bits >> place & 1)
)


@st.composite
def records(draw: st.DrawFn, turns: tuple[datetime, ...] = TURNS) -> Record:
    """Validated records, as engines get them."""
    record: Record = {ID: draw(_some_ids)}
    for name in draw(_times_given):
        record[name] = draw(instants(turns))
    for name in draw(_fields_given):
        record[name] = draw(_mostly_numbers if name in _fields_numeric else values)
    return record


@cache
def batches(most: int = 8, *, turns: tuple[datetime, ...] = TURNS) -> st.SearchStrategy[Records]:
    """Batches with ids of a small pool, each once."""
    return st.lists(records(turns), max_size=most, unique_by=lambda record: record[ID]).map(
        lambda rows: Records.of(rows)
    )


def _numbered(rows: list[Record]) -> Records:
    """One batch in which every record has its own id."""
    own = [{**row, ID: f"{row[ID]}-{n}"[-512:]} for n, row in enumerate(rows)]
    return Records.of(own)


@st.composite
def workloads(draw: st.DrawFn, asked: int) -> tuple[list[Records], list[Query]]:
    """Writes, and so many queries: about the same few turns, so that they meet."""
    turns = draw(_neighbours)
    rows = draw(st.lists(records(turns), min_size=draw(_sizes), max_size=24))
    writes = [_numbered(rows), draw(batches(3, turns=turns)), draw(batches(3, turns=turns))]
    return writes, [draw(queries(turns)) for _ in range(asked)]


_sizes = st.sampled_from([16, 16, 16, 8, 0])
_neighbours = st.integers(0, len(TURNS) - 2).map(lambda place: TURNS[place : place + 2])


# -- queries --------------------------------------------------------------------------------

_spans = {"hour": 1, "day": 24, "week": 168, "month": 744, "quarter": 2208, "year": 8784}
"""About how many hours each period has."""


@st.composite
def queries(draw: st.DrawFn, turns: tuple[datetime, ...] = TURNS) -> Query:
    """Valid queries, with every feature there is."""
    kind = draw(_kinds)
    period = draw(_any_period) if kind in ("time", "both") else None
    group_by: tuple[str, ...] = ()
    if kind in ("keys", "both"):
        group_by = draw(_groupings)
    collect = () if kind == "raw" else draw(_collects(group_by))
    flatten = kind == "both" and draw(_toss)
    start, end = draw(_ranges(turns, period))
    slide: Slide = None
    if period is not None and start is not None and end is not None and not flatten:
        slide = draw(_slides)
        if slide is not None:  # relative ranges begin and end where periods do
            start, end = period.start(start), period.next(period.start(end))
    return Query(
        period=period,
        group_by=group_by,
        collect=collect,
        filters=draw(_filterings),
        start=start,
        end=end,
        sort=draw(_sorts(kind, group_by, collect)),
        limit=draw(_limits),
        flatten=flatten,
        slide=slide,
    )


Slide: TypeAlias = Literal["forward", "backward"] | None

_kinds = st.sampled_from(["raw", "keys", "time", "both", "both"])
_any_period = periods()
_toss = st.booleans()
_limits = st.sampled_from([None, None, None, 1, 2, 5])
_slides: st.SearchStrategy[Slide] = st.sampled_from([None, None, "forward", "backward"])
_groupings = st.sampled_from(
    [
        *((name,) for name in (*FIELDS, *FIELDS, *FIELDS)),
        *permutations(FIELDS, 2),
        ("kind", "fee", "Fee"),
        ("note", "kind", "FEE"),
    ]
)
_methods = st.sampled_from(METHODS)
_methods_of_any = st.sampled_from(["set", "count", "min", "max"])
_collected = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(_fields_numeric), _methods, _toss),
        st.tuples(st.sampled_from(_fields_numeric), _methods, _toss),
        st.tuples(st.sampled_from([*FIELDS, "unheard"]), _methods_of_any, _toss),
        st.tuples(st.sampled_from([*FIELDS, "unheard"]), _methods_of_any, _toss),
        st.tuples(st.sampled_from(FIELDS), st.sampled_from(["sum", "mean"]), _toss),
    ),
    max_size=4,
    unique_by=lambda one: one[:2],
)
_ranges_given = st.sampled_from(["none", "none", "start", "end", "both", "both"])
_lengths = st.sampled_from([0.1, 1, 2, 3.5, 12, 40, 150])


@st.composite
def _collects(draw: st.DrawFn, group_by: tuple[str, ...]) -> tuple[Collect, ...]:
    """Sums are mostly of the fields that mostly hold numbers."""
    return tuple(
        Collect(name, method, method == "set" and by_default)
        for name, method, by_default in draw(_collected)
        if name not in group_by
    )


@st.composite
def _ranges(
    draw: st.DrawFn, turns: tuple[datetime, ...], period: Period | None
) -> tuple[datetime | None, datetime | None]:
    kind = draw(_ranges_given)
    if kind == "none":
        return None, None
    first = draw(instants(turns))
    if kind == "start":
        return first, None
    if kind == "end":
        return None, first
    hours = _spans[period.name] if period else 168
    length = timedelta(hours=hours) * draw(_lengths)
    if first.year < 9000:
        return first, first + length
    return first - length, first


@st.composite
def _sorts(
    draw: st.DrawFn, kind: str, group_by: tuple[str, ...], collect: tuple[Collect, ...]
) -> Sort | None:
    if kind == "time" or draw(_toss):
        return None
    keys = [*FIELDS, ID, TIMESTAMP, "_start_at", "unheard"]
    if kind != "raw":
        keys = [*group_by, "_count", *(key for one in collect for key in one.keys)]
    return Sort(keys[draw(st.integers(0, len(keys) - 1))], draw(_toss))


_known = values.filter(lambda value: value is not None)
_filtered = st.sampled_from([*FIELDS, *FIELDS, ID, "unheard"])
_equals = st.builds(Equals, _filtered, st.lists(_known, min_size=1, max_size=5).map(tuple))
_prefixes = st.builds(StartsWith, _filtered, st.lists(texts, min_size=1, max_size=3).map(tuple))
one_filter: st.SearchStrategy[Filter] = st.one_of(_equals, _equals, _prefixes)
_filterings: st.SearchStrategy[tuple[Filter, ...]] = st.one_of(
    st.just(()), st.just(()), st.tuples(one_filter), st.tuples(one_filter, one_filter)
)
