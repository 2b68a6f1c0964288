"""Query strings: each parameter, good, bad and combined; all problems at once."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote_from_bytes, urlencode
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from backdrop.api.parameters import PARAMETERS
from backdrop.api.params import Asked, parse_query
from backdrop.domain.period import Period
from backdrop.domain.query import Collect, Equals, Query, Sort, StartsWith
from backdrop.errors import MOST_PROBLEMS_LISTED, InvalidQuery

LONDON = ZoneInfo("Europe/London")
NOW = datetime(2013, 5, 15, 12, 30, tzinfo=UTC)


def parse(text: str, timezone: str = "UTC") -> Asked:
    return parse_query(text.encode(), timezone=timezone, now=NOW)


def query(text: str, timezone: str = "UTC") -> Query:
    return parse(text, timezone).query


def refused(text: str | bytes) -> list[tuple[str, Any]]:
    """(code, parameter) of each problem of a query string that is refused."""
    with pytest.raises(InvalidQuery) as caught:
        parse_query(text.encode() if isinstance(text, str) else text, timezone="UTC", now=NOW)
    assert caught.value.message == caught.value.problems[0].message
    return [(problem.code, problem.where["parameter"]) for problem in caught.value.problems]


def message_of(text: str) -> str:
    with pytest.raises(InvalidQuery) as caught:
        parse(text)
    return caught.value.message


def at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc,arg-type]


WEEK = Period("week", ZoneInfo("UTC"))

GOOD: tuple[tuple[str, Query], ...] = (
    ("", Query()),
    ("&&", Query()),
    ("period=week", Query(period=WEEK)),
    ("group_by=authority", Query(group_by=("authority",))),
    ("group_by=bb&group_by=aa", Query(group_by=("bb", "aa"))),
    ("group_by=values", Query(group_by=("values",))),
    ("limit=1", Query(limit=1)),
    ("limit=007", Query(limit=7)),
    ("limit=" + "9" * 5_000, Query(limit=10**18 - 1)),
    ("flatten=true", Query(flatten=True)),
    ("flatten=false", Query()),
    (
        "start_at=2013-01-01&end_at=2013-01-01",
        Query(start=at(2013, 1, 1), end=at(2013, 1, 1)),
    ),
    (
        "start_at=2013-01-01T00:00:00%2B01:00&end_at=2013-01-02 03:04:05.6789Z",
        Query(start=at(2012, 12, 31, 23), end=at(2013, 1, 2, 3, 4, 5, 678900)),
    ),
    (
        "start_at=2013-01-01T00:00:00+01:00&end_at=2013-01-01+10:00",
        Query(start=at(2012, 12, 31, 23), end=at(2013, 1, 1, 10)),
    ),
    (
        "start_at=2013-01-01 00:00 0130&end_at=2013-01-01T00:00-0100",
        Query(start=at(2012, 12, 31, 22, 30), end=at(2013, 1, 1, 1)),
    ),
    ("sort_by=aa:ascending", Query(sort=Sort("aa"))),
    ("sort_by=_timestamp:descending", Query(sort=Sort("_timestamp", descending=True))),
    ("sort_by=_id:ascending", Query(sort=Sort("_id"))),
    ("group_by=aa&sort_by=_count:ascending", Query(group_by=("aa",), sort=Sort("_count"))),
    (
        "group_by=aa&collect=bb:sum&sort_by=bb:sum:descending",
        Query(
            group_by=("aa",),
            collect=(Collect("bb", "sum"),),
            sort=Sort("bb:sum", descending=True),
        ),
    ),
    (
        "group_by=aa&collect=bb&sort_by=bb:ascending",
        Query(group_by=("aa",), collect=(Collect("bb", "set", by_default=True),), sort=Sort("bb")),
    ),
    (
        "period=week&group_by=aa&flatten=true&sort_by=_start_at:descending",
        Query(
            period=WEEK,
            group_by=("aa",),
            flatten=True,
            sort=Sort("_start_at", descending=True),
        ),
    ),
    (
        "period=week&group_by=values&flatten=true",
        Query(period=WEEK, group_by=("values",), flatten=True),
    ),
    (
        "period=week&group_by=aa&collect=values:set",
        Query(period=WEEK, group_by=("aa",), collect=(Collect("values", "set"),)),
    ),
    (
        "period=week&collect=aa&collect=aa:mean&collect=aa:mean",
        Query(
            period=WEEK,
            collect=(Collect("aa", "set", by_default=True), Collect("aa", "mean")),
        ),
    ),
    ("filter_by=aa:", Query(filters=(Equals("aa", ("",)),))),
    ("filter_by=aa:b:c", Query(filters=(Equals("aa", ("b:c",)),))),
    ("filter_by=aa:%C3%A9+x", Query(filters=(Equals("aa", ("é x",)),))),
    ("filter_by=_id:5", Query(filters=(Equals("_id", ("5",)),))),
    (
        "filter_by=aa:x&filter_by=bb:z&filter_by=aa:y",
        Query(filters=(Equals("aa", ("x", "y")), Equals("bb", ("z",)))),
    ),
    (
        "filter_by=_timestamp:2013-01-01T00:00:00+01:00",
        Query(filters=(Equals("_timestamp", (at(2012, 12, 31, 23),)),)),
    ),
    (
        "filter_by_prefix=aa:x:%25&filter_by_prefix=aa:_&filter_by=aa:b",
        Query(filters=(Equals("aa", ("b",)), StartsWith("aa", ("_", "x:%")))),
    ),
    ("filter_by_prefix=_id:ab", Query(filters=(StartsWith("_id", ("ab",)),))),
)


@pytest.mark.parametrize(("text", "expected"), GOOD)
def test_a_query_string_is_understood(text: str, expected: Query) -> None:
    """What is asked stands in the query, and nothing else does."""
    assert query(text) == expected


MEANINGS: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("5", ("5", 5)),
    ("-5", ("-5", -5)),
    ("5.0", ("5.0", 5.0)),
    ("1e3", ("1e3", 1000.0)),
    ("0", ("0", 0)),
    ("9223372036854775807", ("9223372036854775807", 2**63 - 1)),
    ("9223372036854775808", ("9223372036854775808", float(2**63))),
    ("9223372036854775809", ("9223372036854775809",)),
    ("9" * 5_000, ("9" * 5_000,)),
    ("1e999", ("1e999",)),
    ("true", ("true", True)),
    ("false", ("false", False)),
    ("True", ("True",)),
    ("null", ("null",)),
    ("NaN", ("NaN",)),
    ("007", ("007",)),
    ("+5", ("+5",)),
    ("5.", ("5.",)),
    (".5", (".5",)),
    ("1_000", ("1_000",)),
    ("\u0665", ("\u0665",)),
)


@pytest.mark.parametrize(("value", "meanings"), MEANINGS)
def test_a_filters_value_is_all_that_it_spells(value: str, meanings: tuple[Any, ...]) -> None:
    """The string itself; the number, where it is one in JSON; the boolean. Types are exact."""
    found = query(urlencode({"filter_by": f"aa:{value}"})).filters[0]
    assert isinstance(found, Equals)
    assert [(type(v), v) for v in found.values] == [(type(v), v) for v in meanings]


BAD: tuple[tuple[str, list[tuple[str, str]]], ...] = (
    ("foo=1", [("unknown_parameter", "foo")]),
    ("=1", [("unknown_parameter", "")]),
    ("foo=1&foo=2", [("unknown_parameter", "foo")]),
    ("Limit=1", [("unknown_parameter", "Limit")]),
    ("limit=1&limit=1", [("repeated_parameter", "limit")]),
    ("timezone=UTC&timezone=UTC", [("repeated_parameter", "timezone")]),
    ("limit=0", [("invalid_parameter", "limit")]),
    ("limit=-1", [("invalid_parameter", "limit")]),
    ("limit=1.0", [("invalid_parameter", "limit")]),
    ("limit=", [("invalid_parameter", "limit")]),
    ("limit", [("invalid_parameter", "limit")]),
    ("limit=%D9%A5", [("invalid_parameter", "limit")]),
    ("limit=1%0A", [("invalid_parameter", "limit")]),
    ("flatten=yes", [("invalid_parameter", "flatten")]),
    ("flatten=True", [("invalid_parameter", "flatten")]),
    ("period=fortnight", [("invalid_parameter", "period")]),
    ("period=Week", [("invalid_parameter", "period")]),
    ("timezone=Mars/Base", [("invalid_parameter", "timezone")]),
    ("timezone=../etc/passwd", [("invalid_parameter", "timezone")]),
    ("timezone=%2Fetc%2Flocaltime", [("invalid_parameter", "timezone")]),
    ("start_at=2013-01-01", [("missing_parameter", "end_at")]),
    ("end_at=2013-01-01", [("missing_parameter", "start_at")]),
    ("start_at=2013-01-02&end_at=2013-01-01", [("invalid_range", "start_at")]),
    ("start_at=2013-02-30&end_at=2013-03-01", [("invalid_timestamp", "start_at")]),
    ("start_at=31-11-12&end_at=", [("invalid_timestamp", n) for n in ("start_at", "end_at")]),
    ("group_by=a", [("invalid_field_name", "group_by")]),
    ("group_by=$where", [("invalid_field_name", "group_by")]),
    ("group_by=aa.bb", [("invalid_field_name", "group_by")]),
    ("group_by=" + "a" * 65, [("invalid_field_name", "group_by")]),
    ("group_by=_timestamp", [("internal_field", "group_by")]),
    ("group_by=_foo", [("internal_field", "group_by")]),
    ("group_by=aa&group_by=aa&group_by=aa", [("repeated_parameter", "group_by")]),
    ("collect=aa", [("missing_parameter", "collect")]),
    ("period=day&collect=_id", [("internal_field", "collect")]),
    ("period=day&collect=$sum", [("invalid_field_name", "collect")]),
    ("period=day&collect=aa:median", [("invalid_parameter", "collect")]),
    ("period=day&collect=aa:", [("invalid_parameter", "collect")]),
    ("period=day&collect=aa:sum:mean", [("invalid_parameter", "collect")]),
    ("group_by=aa&collect=aa&collect=aa:sum", [("conflicting_parameters", "collect")]),
    ("period=day&group_by=values", [("conflicting_parameters", "group_by")]),
    ("period=day&group_by=aa&collect=values", [("conflicting_parameters", "collect")]),
    ("filter_by=aa", [("invalid_parameter", "filter_by")]),
    ("filter_by=:x", [("invalid_field_name", "filter_by")]),
    ("filter_by=$or:x", [("invalid_field_name", "filter_by")]),
    ("filter_by=_foo:x", [("invalid_field_name", "filter_by")]),
    ("filter_by=_timestamp:yesterday", [("invalid_timestamp", "filter_by")]),
    ("group_by=aa%00", [("invalid_parameter", "group_by")]),
    ("&".join(["filter_by=aa:b"] * 101), [("too_many_parameters", "filter_by")]),
    (
        "period=day&inclusive=true&start_at=9999-12-31&end_at=9999-12-31T23:59:59.999999",
        [("invalid_range", "end_at")],
    ),
    ("filter_by=aa:%ff", [("invalid_parameter", "filter_by")]),
    ("filter_by=aa:%ED%A0%80", [("invalid_parameter", "filter_by")]),
    ("filter_by_prefix=aa", [("invalid_parameter", "filter_by_prefix")]),
    ("filter_by_prefix=_timestamp:2013", [("invalid_parameter", "filter_by_prefix")]),
    ("sort_by=aa", [("invalid_parameter", "sort_by")]),
    ("sort_by=aa:up", [("invalid_parameter", "sort_by")]),
    ("sort_by=aa:ascending&sort_by=bb:ascending", [("repeated_parameter", "sort_by")]),
    ("sort_by=$aa:ascending", [("invalid_field_name", "sort_by")]),
    ("sort_by=_count:ascending", [("invalid_field_name", "sort_by")]),
    ("sort_by=aa:sum:ascending", [("invalid_field_name", "sort_by")]),
    ("period=day&sort_by=_count:ascending", [("conflicting_parameters", "sort_by")]),
    ("group_by=aa&sort_by=bb:ascending", [("unknown_sort_key", "sort_by")]),
    ("group_by=aa&collect=bb:sum&sort_by=bb:ascending", [("unknown_sort_key", "sort_by")]),
    ("period=day&group_by=aa&sort_by=_start_at:ascending", [("unknown_sort_key", "sort_by")]),
    ("group_by=aa&flatten=true&sort_by=_start_at:ascending", [("unknown_sort_key", "sort_by")]),
    ("inclusive=1", [("invalid_parameter", "inclusive")]),
    ("format=1", [("invalid_parameter", "format")]),
)


@pytest.mark.parametrize(("text", "problems"), BAD)
def test_a_bad_query_string_is_refused(text: str, problems: list[tuple[str, str]]) -> None:
    """Each problem has its code and the parameter that it is of, and is told once."""
    assert refused(text) == problems


def test_all_problems_are_told_at_once() -> None:
    """One bad parameter hides no other."""
    text = "limit=0&foo=1&start_at=x&period=eon&group_by=$a&collect=bb:max&collect=cc:&flatten=1"
    assert refused(text) == [
        ("invalid_parameter", "limit"),
        ("unknown_parameter", "foo"),
        ("invalid_timestamp", "start_at"),
        ("invalid_parameter", "period"),
        ("invalid_field_name", "group_by"),
        ("invalid_parameter", "collect"),
        ("invalid_parameter", "flatten"),
        ("missing_parameter", "end_at"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "period=eon&collect=aa",
        "group_by=$x&collect=aa",
        "group_by=$x&sort_by=aa:ascending",
        "group_by=aa&collect=bb:no&sort_by=bb:no:ascending",
        "period=day&group_by=values&flatten=ja",
    ],
)
def test_a_problem_brings_no_others_along(text: str) -> None:
    """What may only follow from another problem is not told."""
    assert len(refused(text)) == 1


def test_no_more_problems_are_listed_than_the_bound() -> None:
    """Thousands of unknown parameters cost little and list little; the count has them all."""
    text = "&".join(f"foo{n}=1" for n in range(5_000))
    with pytest.raises(InvalidQuery) as caught:
        parse(text)
    assert len(caught.value.problems) == MOST_PROBLEMS_LISTED
    assert caught.value.count == 5_000


@pytest.mark.parametrize(
    ("given_name", "near"),
    [("grop_by", "group_by"), ("START_AT", "start_at"), ("filterby", "filter_by")],
)
def test_an_unknown_parameter_suggests_the_nearest(given_name: str, near: str) -> None:
    """A slip of the finger is met with the name that was meant."""
    assert f"did you mean {near}?" in message_of(f"{given_name}=1")


def test_one_like_no_other_is_told_what_there_is() -> None:
    """Where nothing is near, all names are listed."""
    assert all(name in message_of("zzzzz=1") for name in PARAMETERS)


@pytest.mark.parametrize("name", ["start_at", "period", "timezone", "limit", "flatten", "sort_by"])
def test_a_message_says_what_was_given_and_what_was_expected(name: str) -> None:
    """Both stand in the one sentence."""
    message = message_of(f"{name}=bogus")
    assert "'bogus'" in message
    assert PARAMETERS[name].expected in message


def test_methods_are_listed_where_one_is_unknown() -> None:
    """Whoever guesses a method learns which there are."""
    assert "set, sum, count, mean, min, max" in message_of("period=day&collect=aa:median")


def test_the_prefix_of_a_time_hints_at_ranges() -> None:
    """Times have no prefix: a range is what was meant."""
    assert "use start_at and end_at" in message_of("filter_by_prefix=_start_at:2013")


def test_nested_values_hint_at_flatten() -> None:
    """The way out is in the message."""
    assert "flatten=true" in message_of("period=day&group_by=values")


# -- zones ----------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["{zone}&{range}", "{range}&{zone}"])
def test_times_without_an_offset_are_the_querys_zones(order: str) -> None:
    """The parameter says whose time it is, wherever it stands."""
    text = order.format(
        zone="timezone=Europe/London",
        range="start_at=2013-07-01&end_at=2013-07-01T01:00%2B00:00&period=day",
    )
    asked = parse(text)
    assert asked.zone == LONDON
    assert asked.query.period == Period("day", LONDON)
    assert asked.ends == (at(2013, 6, 30, 23), at(2013, 7, 1, 1))
    assert asked.ends == (asked.query.start, asked.query.end)


def test_the_default_zone_is_the_buckets() -> None:
    """Where the query names none, the bucket's zone is used, in filters too."""
    asked = parse("period=hour&filter_by=_timestamp:2013-07-01", timezone="Europe/London")
    assert asked.query.period == Period("hour", LONDON)
    assert asked.query.filters == (Equals("_timestamp", (at(2013, 6, 30, 23),)),)
    assert asked.ends is None


# -- laws -----------------------------------------------------------------------------------

_names = st.sampled_from([*PARAMETERS, "foo", "", "timezone", "group_by"])
_values = st.one_of(
    st.sampled_from(["_count:ascending", "aa:descending", "3", "Europe/London", "aa:5", "$aa"]),
    st.sampled_from(
        ["aa", "values", "aa:sum", "_timestamp:2013-01-01", "week", "2013-01-01", "UTC", "true"]
    ),
    st.text(max_size=8),
)
_query_strings = st.one_of(
    st.binary(max_size=40),
    st.lists(st.tuples(_names, _values), max_size=6).map(lambda pairs: urlencode(pairs).encode()),
    st.lists(st.tuples(_names, st.binary(max_size=6)), max_size=3).map(
        lambda pairs: "&".join(f"{n}={quote_from_bytes(v)}" for n, v in pairs).encode()
    ),
)


@given(_query_strings)
@example(b"%")
@example(b"%ff=%ff&%00=%00")
@example(b"start_at=9999-12-31T23:59-23:59&end_at=0001-01-01T00:00%2B23:59")
def test_any_query_string_is_a_query_or_is_refused(text: bytes) -> None:
    """Bytes give a Query or InvalidQuery, whose problems can be told as JSON."""
    try:
        asked = parse_query(text, timezone="UTC", now=NOW)
    except InvalidQuery as error:
        assert error.problems  # noqa: PT017
        for problem in error.problems:
            assert isinstance(problem.where["parameter"], str)
            repr(problem.as_json()).encode()
    else:
        assert isinstance(asked.query, Query)


def test_the_table_describes_each_parameter() -> None:
    """What documents are made from is whole, and each example is a good one."""
    for parameter in PARAMETERS.values():
        assert parameter.description.endswith(".")
        parameter.parse(parameter.example, ZoneInfo("UTC"))
