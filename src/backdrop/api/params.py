"""A query string -> what it asks for, once, with all its problems at once."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Literal, TypeVar, cast
from urllib.parse import unquote_to_bytes
from zoneinfo import ZoneInfo

from backdrop.answer import MOST_ROWS
from backdrop.api.parameters import PARAMETERS, Refused, parse_field, shown
from backdrop.domain.period import Period
from backdrop.domain.query import Equals, Filter, Query, Sort, StartsWith
from backdrop.domain.window import periods_from, periods_to
from backdrop.errors import MOST_PROBLEMS_LISTED, InvalidQuery, Problem, did_you_mean
from backdrop.storage.port import too_many_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A GET, understood: the query, its zone, and the range's ends if both were given.

    `until_now`: its range ends now, so that at another time it is another one.
    """

    query: Query
    format: str
    zone: ZoneInfo
    ends: tuple[datetime, datetime] | None = None
    until_now: bool = False


T = TypeVar("T")


class _Found:
    """What was given, by name: the values that could be read, and which had problems."""

    def __init__(self, zone: ZoneInfo) -> None:
        self.zone = zone
        self.values: dict[str, list[Any]] = {}
        self.broken: set[str] = set()

    def has(self, *names: str) -> bool:
        """Whether any of them was given, readable or not."""
        return any(name in self.values for name in names)

    def sound(self, *names: str) -> bool:
        """Whether none of them had a problem, so that more can be said of them."""
        return self.broken.isdisjoint(names)

    def one(self, name: str, default: T) -> T:
        values = self.values.get(name)
        return cast("T", values[0]) if values else default

    def all(self, name: str) -> list[Any]:
        return self.values.get(name, [])


def parse_query(
    query_string: bytes, *, timezone: str, now: datetime, most_rows: int = MOST_ROWS
) -> Asked:
    """What the query string asks for; `timezone` is the default of the parameter of that name.

    `now` is where a range without an end ends; no range has more than `most_rows` periods.
    Raises InvalidQuery with every problem (the first `MOST_PROBLEMS_LISTED`), each with its
    `parameter`.
    """
    read = _checked if len(query_string) <= MOST_REMEMBERED else _checked.__wrapped__
    found = read(query_string, timezone)
    try:
        return _asked(found, _window(found, now, most_rows))
    except OverflowError:
        message = "the range leaves the calendar: expected years 1 to 9999"
        parameter = "duration" if found.has("duration") else "end_at"
        raise _invalid([_problem("invalid_range", message, parameter)]) from None


@lru_cache(maxsize=256)
def _checked(query_string: bytes, timezone: str) -> _Found:
    """What was given, without a problem: the part that is the same at any time."""
    problems: list[Problem] = []
    found = _read_values(_read_texts(query_string, problems), ZoneInfo(timezone), problems)
    for rule in _RULES:
        problems.extend(rule(found))
    if problems:
        raise _invalid(problems)
    return found


MOST_REMEMBERED = 2_000
"""Bytes of a query string: longer ones are read anew each time."""


def _invalid(problems: Sequence[Problem]) -> InvalidQuery:
    listed = problems[:MOST_PROBLEMS_LISTED]
    return InvalidQuery(problems[0].message, problems=listed, count=len(problems))


def _problem(code: str, message: str, parameter: str) -> Problem:
    return Problem(code, message, {"parameter": parameter})


def _read_texts(query_string: bytes, problems: list[Problem]) -> dict[str, list[str]]:
    """Name -> the texts given for it; what is no text is a problem, and given as nothing."""
    texts: dict[str, list[str]] = {}
    for part in query_string.split(b"&"):
        if not part:
            continue
        raw_name, _, raw_value = part.replace(b"+", b" ").partition(b"=")
        try:
            name = unquote_to_bytes(raw_name).decode()
        except UnicodeDecodeError:
            name = unquote_to_bytes(raw_name).decode(errors="backslashreplace")
        values = texts.setdefault(name, [])
        try:
            value = unquote_to_bytes(raw_value).decode()
        except UnicodeDecodeError:
            message = f"{name[:80]} holds bytes that are not UTF-8 (percent-encoded or as they are)"
            problems.append(_problem("invalid_parameter", message, name[:80]))
            continue
        if name not in _OF_RECORDS and any(map(_is_control, value)):
            message = f"{name[:80]} is {shown(value)}: control characters can't stand there"
            problems.append(_problem("invalid_parameter", message, name[:80]))
            continue
        values.append(value)
    return texts


_OF_RECORDS = ("filter_by", "filter_by_prefix")
"""Parameters that hold values of records, in which any character may stand."""

MOST_REPEATS = 100
"""How often a parameter may be repeated."""


def _is_control(character: str) -> bool:
    return unicodedata.category(character) == "Cc"


def _read_values(texts: Mapping[str, list[str]], zone: ZoneInfo, problems: list[Problem]) -> _Found:
    found = _Found(zone)
    found.broken = {str(problem.where["parameter"]) for problem in problems}
    # The zone first: it says what times and periods mean.
    for name in sorted(texts, key=lambda name: name != "timezone"):
        parameter = PARAMETERS.get(name)
        if parameter is None:
            problems.append(_unknown(name, suggest=len(problems) < MOST_PROBLEMS_LISTED))
            continue
        values = found.values.setdefault(name, [])
        mark = len(problems)
        if len(texts[name]) > 1 and not parameter.repeats:
            message = f"{name} is given {len(texts[name])} times; expected once"
            problems.append(_problem("repeated_parameter", message, name))
        if len(texts[name]) > MOST_REPEATS:
            message = f"{name} is given {len(texts[name])} times; at most {MOST_REPEATS} are read"
            problems.append(_problem("too_many_parameters", message, name))
        for text in texts[name][:MOST_REPEATS]:
            try:
                values.append(parameter.parse(text, found.zone))
            except Refused as error:
                message = error.message or f"expected {parameter.expected}"
                message = f"{name} is {shown(text)}: {message}"
                problems.append(_problem(error.code, message, name))
        if len(problems) > mark:
            found.broken.add(name)
        if name == "timezone":
            found.zone = found.one(name, zone)
    return found


def _unknown(name: str, *, suggest: bool) -> Problem:
    hint = did_you_mean(name, PARAMETERS) if suggest else "see /_docs for those there are"
    message = f"there is no parameter {shown(name)}; {hint}"
    return _problem("unknown_parameter", message, name[:80])


# -- what must hold between parameters -----------------------------------------------------------


def _check_range(found: _Found) -> Iterator[Problem]:
    for given, missing in (("start_at", "end_at"), ("end_at", "start_at")):
        if found.has(given) and not found.has(missing, "duration"):
            message = f"{given} needs {missing}, or period and duration"
            yield _problem("missing_parameter", message, missing)
    if found.has("duration") and not found.has("period"):
        message = "duration needs period: it is a number of periods"
        yield _problem("missing_parameter", message, "period")
    both = found.has("start_at") and found.has("end_at")
    if found.has("duration") and both:
        message = "duration can't be given with both start_at and end_at; expected one of them"
        yield _problem("conflicting_parameters", message, "duration")
    if found.one("inclusive", False) and not both:
        message = "inclusive needs start_at and end_at"
        yield _problem("missing_parameter", message, "inclusive")
    start, end = found.one("start_at", None), found.one("end_at", None)
    if start and end and found.sound("start_at", "end_at", "timezone") and start > end:
        message = "start_at is after end_at; expected start_at to be the earlier one"
        yield _problem("invalid_range", message, "start_at")


def _check_groups(found: _Found) -> Iterator[Problem]:
    fields = found.all("group_by")
    for field in _repeated(fields):
        message = f"group_by={field} is given more than once; expected different fields"
        yield _problem("repeated_parameter", message, "group_by")
    if found.has("collect") and not found.has("group_by", "period"):
        message = "collect needs group_by or period: a value is collected for each group"
        yield _problem("missing_parameter", message, "collect")
    for field in dict.fromkeys(collect.field for collect in found.all("collect")):
        if field in fields:
            message = f"{field} is in group_by; expected collect to name another field"
            yield _problem("conflicting_parameters", message, "collect")


def _repeated(names: Iterable[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def _check_values_key(found: _Found) -> Iterator[Problem]:
    """The answer's nested groups have a key `values` of their own."""
    if not _is_nested(found) or not found.sound("flatten", "format"):
        return
    if "values" in found.all("group_by"):
        yield _values_problem("group_by", "flatten=true")
    if any("values" in collect.keys for collect in found.all("collect")):
        yield _values_problem("collect", "flatten=true, or name the method, as in values:set")


def _values_problem(parameter: str, way_out: str) -> Problem:
    message = (
        f"{parameter}=values would take the place of the list of periods in each group, which has "
        f"that name; expected {way_out}"
    )
    return _problem("conflicting_parameters", message, parameter)


def _is_nested(found: _Found) -> bool:
    return found.has("period") and found.has("group_by") and not _is_flat(found)


def _is_flat(found: _Found) -> bool:
    """Whether groups are rows of a table: asked for, or needed by the format."""
    return found.one("flatten", False) or found.one("format", "json") == "csv"


def _check_sort(found: _Found) -> Iterator[Problem]:
    sort: Sort | None = found.one("sort_by", None)
    if sort is None or not found.sound("sort_by"):
        return
    if not found.has("period", "group_by"):
        try:
            parse_field(sort.key)
        except Refused as error:
            yield _problem(error.code, f"sort_by: {error.message}", "sort_by")
    elif not found.has("group_by"):
        message = "sort_by can't be used with period alone: that answer is always by time"
        yield _problem("conflicting_parameters", message, "sort_by")
    elif found.sound("group_by", "collect", "flatten", "format"):
        known = _sort_keys(found)
        if sort.key not in known:
            hint = did_you_mean(sort.key, known)
            message = f"sort_by: there is no key {shown(sort.key)}; {hint}"
            yield _problem("unknown_sort_key", message, "sort_by")


def _sort_keys(found: _Found) -> list[str]:
    times = ["_start_at", "_end_at"] if found.has("period") and not _is_nested(found) else []
    collected = [key for collect in found.all("collect") for key in collect.keys]
    return list(dict.fromkeys([*found.all("group_by"), *times, "_count", *collected]))


_RULES = (_check_range, _check_groups, _check_values_key, _check_sort)


@dataclass(frozen=True, slots=True)
class _Window:
    start: datetime | None
    end: datetime | None
    slide: Literal["forward", "backward"] | None = None


def _window(found: _Found, now: datetime, most_rows: int) -> _Window:
    """The range of the query. Raises OverflowError for one that leaves the calendar."""
    start: datetime | None = found.one("start_at", None)
    end: datetime | None = found.one("end_at", None)
    if not found.has("duration"):
        inclusive = end is not None and found.one("inclusive", False)
        return _Window(start, end + timedelta(microseconds=1) if inclusive and end else end)
    period, count = found.one("period", Period("day")), found.one("duration", 1)
    if count > most_rows:
        raise too_many_rows(most_rows)
    never_slides = found.has("group_by") and _is_flat(found)
    if start is not None:
        return _Window(*periods_from(period, start, count), None if never_slides else "forward")
    window = periods_to(period, end or now, count)
    return _Window(*window, None if never_slides else "backward")


def _asked(found: _Found, window: _Window) -> Asked:
    query = Query(
        period=found.one("period", None),
        group_by=tuple(found.all("group_by")),
        collect=tuple(dict.fromkeys(found.all("collect"))),
        filters=(
            *_any_of(Equals, found.all("filter_by")),
            *_any_of(StartsWith, found.all("filter_by_prefix")),
        ),
        start=window.start,
        end=window.end,
        slide=window.slide,
        sort=found.one("sort_by", None),
        limit=found.one("limit", None),
        flatten=_is_flat(found),
    )
    start, end = found.one("start_at", None), found.one("end_at", None)
    ends = None if start is None or end is None else (start, end)
    return Asked(
        query=query,
        format=found.one("format", "json"),
        zone=found.zone,
        ends=ends,
        until_now=found.has("duration") and not found.has("start_at", "end_at"),
    )


def _any_of(
    kind: Callable[[str, tuple[Any, ...]], Filter], pairs: Iterable[tuple[str, tuple[Any, ...]]]
) -> list[Filter]:
    """One filter for each field, which any of the field's values passes.

    Sorted, so that the same question is the same query, however it was put.
    """
    by_field: dict[str, list[Any]] = {}
    for field, values in pairs:
        by_field.setdefault(field, []).extend(values)
    return [kind(field, tuple(sorted(by_field[field], key=repr))) for field in sorted(by_field)]
