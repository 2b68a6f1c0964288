"""The one table of what a GET may be asked: each parameter, how it is read, what is said of it.

`params` reads query strings by it; documents are made from it too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from backdrop.domain.bucket import is_timezone
from backdrop.domain.period import PERIOD_NAMES, Period
from backdrop.domain.query import METHODS, Collect, Sort
from backdrop.domain.times import EXPECTED as TIME_EXPECTED
from backdrop.domain.times import parse_instant
from backdrop.domain.values import (
    FIELD_EXPECTED,
    ID,
    INT64_MAX,
    INT64_MIN,
    RESERVED_FIELDS,
    TIME_FIELDS,
    Value,
    is_field_name,
)


class Refused(Exception):
    """A value that is not what its parameter takes. Without a message: not as `expected`."""

    def __init__(self, message: str | None = None, code: str = "invalid_parameter") -> None:
        super().__init__(message)
        self.message, self.code = message, code


def shown(text: str) -> str:
    """What was given, as it stands in a message."""
    return repr(text if len(text) <= 80 else f"{text[:80]}…")


# -- the values of parameters: text and zone -> value, or Refused ------------------------------


def parse_field(text: str) -> str:
    """The name of a field that records may have. Raises Refused."""
    if not is_field_name(text):
        raise Refused(f"{shown(text)} can't be a field: {FIELD_EXPECTED}", "invalid_field_name")
    if text.startswith("_") and text not in RESERVED_FIELDS:
        known = ", ".join(sorted(RESERVED_FIELDS))
        message = f"there is no field {text}: of those that begin with _ there are {known}"
        raise Refused(message, "invalid_field_name")
    return text


def _open_field(text: str, zone: ZoneInfo) -> str:  # noqa: ARG001  (each parser takes both)
    if is_field_name(text) and text.startswith("_"):
        message = f"{text} can't be grouped or collected: internal fields begin with _"
        raise Refused(message, "internal_field")
    return parse_field(text)


_offset_blank = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d\S*) (\d\d:?\d\d)", re.ASCII).fullmatch


def _time(text: str, zone: ZoneInfo) -> datetime:
    found = _offset_blank(text)
    try:
        return parse_instant(f"{found[1]}+{found[2]}" if found else text, zone=zone)
    except ValueError:
        raise Refused(code="invalid_timestamp") from None


def _period(text: str, zone: ZoneInfo) -> Period:
    if text not in PERIOD_NAMES:
        raise Refused
    return Period(text, zone)


def _timezone(text: str, zone: ZoneInfo) -> ZoneInfo:  # noqa: ARG001
    text = text.replace(" ", "+")  # as in Etc/GMT+5, whose + arrives as a blank
    if not is_timezone(text):
        raise Refused
    return ZoneInfo(text)


def _collect(text: str, zone: ZoneInfo) -> Collect:
    name, colon, method = text.partition(":")
    field = _open_field(name, zone)
    if not colon:
        return Collect(field, "set", by_default=True)
    for known in METHODS:
        if method == known:
            return Collect(field, known)
    raise Refused(f"there is no method {shown(method)}; there are {', '.join(METHODS)}")


def _filter(text: str, zone: ZoneInfo) -> tuple[str, tuple[Value, ...]]:
    name, colon, value = text.partition(":")
    if not colon:
        raise Refused
    field = parse_field(name)
    if field in TIME_FIELDS:
        try:
            return field, (_time(value, zone),)
        except Refused as error:
            message = f"{field} holds times, not {shown(value)}; expected {TIME_EXPECTED}"
            raise Refused(message, error.code) from None
    return field, (value,) if field == ID else tuple(_meanings(value))


_is_json_number = re.compile(r"-?(?:0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?", re.ASCII).fullmatch


def _meanings(text: str) -> Iterator[Value]:
    """The values that a text can stand for: itself, a number, a boolean."""
    yield text
    number = _is_json_number(text)
    if number is not None:
        nearest = float(text)
        if not math.isfinite(nearest):
            return  # no record holds it
        if number[1] or number[2]:
            yield nearest
        elif INT64_MIN <= (whole := int(text)) <= INT64_MAX:
            yield whole
        elif nearest == whole:
            yield nearest  # past 64 bits only a float can be equal
    elif text in ("true", "false"):
        yield text == "true"


def _prefix(text: str, zone: ZoneInfo) -> tuple[str, tuple[str, ...]]:  # noqa: ARG001
    name, colon, value = text.partition(":")
    if not colon:
        raise Refused
    field = parse_field(name)
    if field in TIME_FIELDS:
        raise Refused(f"{field} holds times, which have no prefix: use start_at and end_at")
    return field, (value,)


def _sort(text: str, zone: ZoneInfo) -> Sort:  # noqa: ARG001
    key, colon, direction = text.rpartition(":")
    if not colon or direction not in ("ascending", "descending"):
        raise Refused
    return Sort(key, descending=direction == "descending")


FORMATS = ("json", "csv")


def _format(text: str, zone: ZoneInfo) -> str:  # noqa: ARG001
    if text not in FORMATS:
        raise Refused
    return text


_is_whole = re.compile(r"0*([1-9][0-9]*)").fullmatch
_MOST_DIGITS = 18


def _count(text: str, zone: ZoneInfo) -> int:  # noqa: ARG001
    found = _is_whole(text)
    if found is None:
        raise Refused
    digits = found[1]
    return int(digits) if len(digits) <= _MOST_DIGITS else int("9" * _MOST_DIGITS)


def _flag(text: str, zone: ZoneInfo) -> bool:  # noqa: ARG001
    if text not in ("true", "false"):
        raise Refused
    return text == "true"


# -- the table ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter of a GET: how it is read, and what is said of it."""

    name: str
    parse: Callable[[str, ZoneInfo], Any]
    expected: str
    description: str
    example: str
    repeats: bool = False


PARAMETERS: Mapping[str, Parameter] = {
    parameter.name: parameter
    for parameter in (
        Parameter(
            name="start_at",
            parse=_time,
            expected=TIME_EXPECTED,
            description="Only records whose _timestamp is this time or later. A time without an "
            "offset is the timezone's. Needs end_at or duration.",
            example="2013-01-01T00:00:00Z",
        ),
        Parameter(
            name="end_at",
            parse=_time,
            expected=TIME_EXPECTED,
            description="Only records whose _timestamp is before this time. Needs start_at or "
            "duration.",
            example="2013-02-01T00:00:00Z",
        ),
        Parameter(
            name="duration",
            parse=_count,
            expected="a whole number of periods, at least 1",
            description="With period: so many periods, from the one that holds start_at, or up to "
            "the one that holds end_at (now, if neither is given). Where the near end is empty, "
            "the window slides to the first period that has records.",
            example="3",
        ),
        Parameter(
            name="inclusive",
            parse=_flag,
            expected="true or false",
            description="true: the range includes the instant end_at, and so the period that it "
            "begins. Needs start_at and end_at.",
            example="true",
        ),
        Parameter(
            name="period",
            parse=_period,
            expected=f"one of {', '.join(PERIOD_NAMES)}",
            description="Group by calendar period of _timestamp.",
            example="week",
        ),
        Parameter(
            name="timezone",
            parse=_timezone,
            expected="an IANA time zone such as Europe/London",
            description="Whose hours, days, weeks and months they are. The bucket's, if not given.",
            example="Europe/London",
        ),
        Parameter(
            name="group_by",
            parse=_open_field,
            expected=f"a field: {FIELD_EXPECTED}",
            description="Group by the values of a field; repeated, by their combinations.",
            example="authority",
            repeats=True,
        ),
        Parameter(
            name="collect",
            parse=_collect,
            expected=f"field or field:method, of the methods {', '.join(METHODS)}",
            description="What to compute of a field for each group: set, if no method is named. "
            "Needs group_by or period.",
            example="pickup:sum",
            repeats=True,
        ),
        Parameter(
            name="filter_by",
            parse=_filter,
            expected="field:value",
            description="Only records whose field is that string, number or boolean. Repeats of "
            "one field: any of them; different fields: all.",
            example="authority:Camden",
            repeats=True,
        ),
        Parameter(
            name="filter_by_prefix",
            parse=_prefix,
            expected="field:prefix",
            description="Only records whose field is a string that begins so. Repeats of one "
            "field: any of them; different fields: all.",
            example="path:/browse/",
            repeats=True,
        ),
        Parameter(
            name="sort_by",
            parse=_sort,
            expected="key:ascending or key:descending",
            description="The order of the records, by any field; or of the groups, by a field of "
            "group_by, _count or a collected key.",
            example="_count:descending",
        ),
        Parameter(
            name="limit",
            parse=_count,
            expected="a whole number, at least 1",
            description="At most so many records or groups, after sorting.",
            example="10",
        ),
        Parameter(
            name="flatten",
            parse=_flag,
            expected="true or false",
            description="With period and group_by: one flat list, a row for each period and group.",
            example="true",
        ),
        Parameter(
            name="format",
            parse=_format,
            expected=f"one of {', '.join(FORMATS)}",
            description="csv: a table (RFC 4180), always flat, with its columns sorted.",
            example="csv",
        ),
    )
}
