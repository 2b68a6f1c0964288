"""The grammar of instants."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backdrop.domain.times import format_instant, parse_instant, parse_instants
from tests.strategies import all_zone_names, zone

ACCEPTED = {
    "2013-01-31": "2013-01-31T00:00:00+00:00",
    "2012-02-29": "2012-02-29T00:00:00+00:00",
    "2000-02-29": "2000-02-29T00:00:00+00:00",
    "0001-01-01": "0001-01-01T00:00:00+00:00",
    "9999-12-31": "9999-12-31T00:00:00+00:00",
    "2013-01-31T09:30": "2013-01-31T09:30:00+00:00",
    "2013-01-31 09:30": "2013-01-31T09:30:00+00:00",
    "2013-01-31T09:30Z": "2013-01-31T09:30:00+00:00",
    "2013-01-31 09:30Z": "2013-01-31T09:30:00+00:00",
    "2013-01-31T09:30+01:00": "2013-01-31T08:30:00+00:00",
    "2013-01-31T09:30-0100": "2013-01-31T10:30:00+00:00",
    "2013-01-31T09:30:15": "2013-01-31T09:30:15+00:00",
    "2013-01-31 09:30:15": "2013-01-31T09:30:15+00:00",
    "2013-01-31T09:30:15Z": "2013-01-31T09:30:15+00:00",
    "2013-01-31T09:30:15+00:00": "2013-01-31T09:30:15+00:00",
    "2013-01-31T09:30:15-00:00": "2013-01-31T09:30:15+00:00",
    "2013-01-31T00:30:15+0545": "2013-01-30T18:45:15+00:00",
    "2013-01-31 09:30:15+01:00": "2013-01-31T08:30:15+00:00",
    "2013-01-31T09:30:15+23:59": "2013-01-30T09:31:15+00:00",
    "2013-01-31T09:30:15-23:59": "2013-02-01T09:29:15+00:00",
    "2013-01-31T09:30:15.5": "2013-01-31T09:30:15.500000+00:00",
    "2013-01-31T09:30:15.000001Z": "2013-01-31T09:30:15.000001+00:00",
    "2013-01-31T09:30:15.000000Z": "2013-01-31T09:30:15+00:00",
    "2013-01-31T09:30:15.1234567+01:00": "2013-01-31T08:30:15.123456+00:00",
    "2013-01-31T09:30:15.123456789": "2013-01-31T09:30:15.123456+00:00",
    "2013-01-31T09:30:15.999999999": "2013-01-31T09:30:15.999999+00:00",
    "1969-12-31T23:59:59.999999999": "1969-12-31T23:59:59.999999+00:00",
    "0001-01-01T00:00-00:01": "0001-01-01T00:01:00+00:00",
    "9999-12-31T23:59:59.999999": "9999-12-31T23:59:59.999999+00:00",
    "9999-12-31T23:59:59+00:01": "9999-12-31T23:58:59+00:00",
}

REFUSED = (
    "",
    " ",
    "now",
    "31-11-12",
    "2013",
    "2013-01",
    "20130131",
    "2013-1-31",
    "2013-01-1",
    "13-01-31",
    "12013-01-31",
    "+2013-01-31",
    "-0001-01-31",
    "2013/01/31",
    "2013-W05-4",
    "2013-W05",
    "2013-031",
    "0000-01-01",
    "2013-00-01",
    "2013-13-01",
    "2013-01-00",
    "2013-02-29",
    "2013-02-30",
    "1900-02-29",
    "2013-04-31",
    "2013-01-31T",
    "2013-01-31Z",
    "2013-01-31+01:00",
    "2013-01-31 +01:00",
    "2013-01-31T09",
    "2013-01-31T09Z",
    "2013-01-31T0930",
    "2013-01-31T9:30",
    "2013-01-31T09:3",
    "2013-01-31t09:30",
    "2013-01-31_09:30",
    "2013-01-31  09:30",
    "2013-01-31T09:30z",
    "2013-01-31T09:30 Z",
    "2013-01-31T09:30:15 +01:00",
    "2013-01-31T24:00",
    "2013-01-31T24:00:00",
    "2013-01-31T25:00",
    "2013-01-31T09:60",
    "2013-01-31T09:30:60",
    "2013-01-31T23:59:60Z",
    "2013-01-31T09:30:15.",
    "2013-01-31T09:30:15,5",
    "2013-01-31T09:30:15.1234567890",
    "2013-01-31T09:30.5",
    "2013-01-31T09:30:15.5.5",
    "2013-01-31T09:30+1",
    "2013-01-31T09:30+01",
    "2013-01-31T09:30+1:00",
    "2013-01-31T09:30+01:0",
    "2013-01-31T09:30+01:00:00",
    "2013-01-31T09:30+24:00",
    "2013-01-31T09:30-24:00",
    "2013-01-31T09:30+99:99",
    "2013-01-31T09:30+01:60",
    "2013-01-31T09:30-0199",
    "2013-01-31T09:30\N{MINUS SIGN}01:00",
    "2013-01-31T09:30ZZ",
    "2013-01-31T09:30Z+01:00",
    "2013-01-31T09:30[Europe/London]",
    "2013-01-31T09:30 UTC",
    " 2013-01-31",
    "2013-01-31 ",
    "2013-01-31\n",
    "2013-01-31T09:30\n",
    "\ufeff2013-01-31",
    "2013-01-31\0",
    "\u0662\u0660\u0661\u0663-01-31",  # digits of other scripts
    "\uff12\uff10\uff11\uff13-01-31",
    "2013-01-31T0\u0669:30",
    "2013\N{EN DASH}01\N{EN DASH}31",
    "1356998400",
    "null",
    "0001-01-01T00:00+00:01",
    "9999-12-31T23:59:59-00:01",
    "2013-01-31T09:30:15\ud800",
)


@pytest.mark.parametrize(("text", "instant"), ACCEPTED.items())
def test_a_form_of_the_grammar_is_its_instant_in_utc(text: str, instant: str) -> None:
    assert format_instant(parse_instant(text)) == instant
    assert parse_instant(text).tzinfo is UTC


@pytest.mark.parametrize("text", REFUSED)
def test_anything_else_is_refused_with_what_was_expected(text: str) -> None:
    with pytest.raises(ValueError, match="expected a time such as 2013-01-31"):
        parse_instant(text)


moments = st.datetimes(timezones=st.just(UTC))


@given(moments)
def test_what_is_given_back_is_read_as_the_same_instant(moment: datetime) -> None:
    assert parse_instant(format_instant(moment)) == moment


@given(moments)
def test_microseconds_are_shown_only_where_they_are_not_zero(moment: datetime) -> None:
    text = format_instant(moment)
    assert text.endswith("+00:00")
    assert ("." in text) == (moment.microsecond != 0)
    assert len(text) == (32 if moment.microsecond else 25)


@given(moments.filter(lambda t: 1 < t.year < 9999), st.integers(-1439, 1439))
def test_an_offset_names_the_same_instant(moment: datetime, minutes: int) -> None:
    local = moment.astimezone(timezone(timedelta(minutes=minutes)))
    assert parse_instant(local.isoformat()) == moment
    assert parse_instant(local.isoformat(" ")) == moment
    compact = local.isoformat()[:-3] + local.isoformat()[-2:]
    assert parse_instant(compact) == moment
    assert format_instant(local) == format_instant(moment)


@given(moments, st.from_regex(r"[0-9]{1,9}", fullmatch=True))
def test_decimals_past_the_microsecond_are_cut(moment: datetime, decimals: str) -> None:
    text = f"{moment:%H:%M:%S}"
    parsed = parse_instant(f"2013-01-31T{text}.{decimals}Z")
    assert parsed.microsecond == int(decimals.ljust(9, "0")) // 1000
    assert f"{parsed:%H:%M:%S}" == text


@given(st.text())
def test_any_text_is_an_instant_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert parse_instant(text).tzinfo is UTC


LOCAL = (
    ("America/New_York", "2013-07-01", "2013-07-01T04:00:00+00:00"),
    ("America/New_York", "2013-07-01T09:30", "2013-07-01T13:30:00+00:00"),
    ("America/New_York", "2013-01-01 09:30:15.5", "2013-01-01T14:30:15.500000+00:00"),
    ("America/New_York", "2013-07-01T09:30Z", "2013-07-01T09:30:00+00:00"),
    ("America/New_York", "2013-07-01T09:30+02:00", "2013-07-01T07:30:00+00:00"),
    # comes twice: the first
    ("America/New_York", "2013-11-03T01:30", "2013-11-03T05:30:00+00:00"),
    ("Europe/London", "2013-10-27T01:30", "2013-10-27T00:30:00+00:00"),
    ("Australia/Lord_Howe", "2013-04-07T01:45", "2013-04-06T14:45:00+00:00"),
    ("America/St_Johns", "2010-11-07", "2010-11-07T02:30:00+00:00"),
    # skipped: with the offset before the change
    ("America/New_York", "2013-03-10T02:30", "2013-03-10T07:30:00+00:00"),
    ("Europe/London", "2013-03-31T01:30", "2013-03-31T01:30:00+00:00"),
    ("America/Sao_Paulo", "2013-10-20", "2013-10-20T03:00:00+00:00"),
    ("Pacific/Apia", "2011-12-30T12:00", "2011-12-30T22:00:00+00:00"),
    ("Asia/Kathmandu", "2013-01-01", "2012-12-31T18:15:00+00:00"),
)


@pytest.mark.parametrize(("place", "text", "instant"), LOCAL)
def test_without_an_offset_a_time_is_local_to_the_zone(place: str, text: str, instant: str) -> None:
    assert format_instant(parse_instant(text, zone=zone(place))) == instant


@pytest.mark.parametrize(
    ("place", "text"),
    [("Asia/Kathmandu", "0001-01-01"), ("America/New_York", "9999-12-31T23:00")],
)
def test_a_local_time_past_the_calendars_end_is_refused(place: str, text: str) -> None:
    with pytest.raises(ValueError, match="expected a time"):
        parse_instant(text, zone=zone(place))


@given(
    st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1)),  # noqa: DTZ001
    st.sampled_from(all_zone_names()),
)
def test_a_local_time_is_the_earlier_instant_that_shows_it(local: datetime, place: str) -> None:
    """Oracle: of the instants whose local time in the zone is that, the first; if any is."""
    here = zone(place)
    parsed = parse_instant(local.isoformat(), zone=here)
    shown = parsed.astimezone(here).replace(tzinfo=None)
    candidates = {
        instant
        for fold in (0, 1)
        for instant in [local.replace(tzinfo=here, fold=fold).astimezone(UTC)]
        if instant.astimezone(here).replace(tzinfo=None) == local
    }
    if candidates:
        assert parsed == min(candidates)
    else:
        assert shown > local  # skipped: the offset before the change leads past it


def _outcome(parse: Callable[[], list[datetime]]) -> list[datetime] | str:
    try:
        return parse()
    except ValueError:
        return "refused"


def _is_read_as_each(texts: list[str]) -> None:
    each = _outcome(lambda: [parse_instant(text) for text in texts])
    column = _outcome(lambda: parse_instants(texts))
    assert column == each
    assert column == "refused" or {one.tzinfo for one in column} == {UTC}  # type: ignore[union-attr]


_GIVEN = st.sampled_from(
    [*ACCEPTED, *REFUSED, "2013-01-31T09:30:15+01:75", "2013-01-31\n2013-01-31"]
)


@given(st.lists(_GIVEN, min_size=1, max_size=3), st.integers(1, 3))
def test_a_column_is_read_as_each_of_its_texts(texts: list[str], times: int) -> None:
    """Whether they have one form or many; one that is refused is enough."""
    _is_read_as_each(texts * times)


_NEAR_THE_ENDS = st.tuples(
    st.sampled_from([0, 1, 2013, 9999]),
    st.sampled_from([0, 1, 2, 12, 13]),
    st.sampled_from([0, 1, 28, 29, 31, 32]),
    st.sampled_from([0, 20, 23, 24, 25]),
    st.sampled_from([0, 24, 59, 60]),
)


@given(
    st.lists(_NEAR_THE_ENDS, min_size=1, max_size=3),
    st.sampled_from(["", "Z", "+00:00", "-0130", "+2400", "+00:60"]),
)
def test_a_column_of_one_form_is_read_as_each_of_its_texts(
    numbers: list[tuple[int, ...]], offset: str
) -> None:
    """Digits that make no date, hour or minute are refused in a column, too."""
    form = "{:04}-{:02}-{:02}T{:02}:{:02}"
    _is_read_as_each([form.format(*number) + offset for number in numbers])
