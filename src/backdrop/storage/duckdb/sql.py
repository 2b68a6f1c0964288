"""Query -> (SQL, parameters). Pure: the values are parameters, every identifier is quoted."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from backdrop.domain.period import Period, Segment
from backdrop.domain.period_key import (
    DAY_US,
    DAYS,
    HOUR_BITS,
    HOUR_US,
    hours_are_whole,
    microseconds,
    offset_us,
)
from backdrop.domain.query import Equals, Filter, Query, Reduction, StartsWith
from backdrop.domain.values import INT64_MAX, INT64_MIN, TIMESTAMP, Value
from backdrop.storage.duckdb.catalogue import SEQUENCE, Kind, Table, quoted

_SINCE_YEAR_1 = microseconds(datetime(1970, 1, 1, tzinfo=UTC))
"""Added to a time since 1970 it gives one since 0001-01-01."""

_LARGEST_FLOAT = sys.float_info.max

_VALUE_KINDS: tuple[Kind, ...] = ("boolean", "integer", "float", "string", "time")


@dataclass(slots=True)
class Statement:
    """A statement that grows, with the parameters in the order of their places."""

    text: str = ""
    parameters: list[Any] = field(default_factory=list)

    def bind(self, value: Any) -> str:
        self.parameters.append(value)
        return f"${len(self.parameters)}"


def naive(instant: datetime) -> datetime:
    """An instant as a TIMESTAMP column holds it."""
    return instant.astimezone(UTC).replace(tzinfo=None)


def value_kinds(table: Table, name: str) -> dict[Kind, str]:
    """The columns of a field's values, quoted, by kind in the order of kinds; nulls apart."""
    kinds = table.kinds(name)
    return {kind: quoted(kinds[kind]) for kind in _VALUE_KINDS if kind in kinds}


# -- conditions ----------------------------------------------------------------------------------


def conditions_of(statement: Statement, query: Query, table: Table) -> list[str]:
    conditions = []
    if query.start is not None:
        conditions.append(f"{TIMESTAMP} >= {statement.bind(naive(query.start))}")
    if query.end is not None:
        conditions.append(f"{TIMESTAMP} < {statement.bind(naive(query.end))}")
    conditions += [_condition(statement, one, table) for one in query.filters]
    return conditions


def _condition(statement: Statement, one: Filter, table: Table) -> str:
    kinds = value_kinds(table, one.field)
    if isinstance(one, StartsWith):
        column = kinds.get("string")
        tests = [f"starts_with({column}, {statement.bind(p)})" for p in one.prefixes if column]
    else:
        tests = [
            f"{column} IN ({', '.join(map(statement.bind, values))})"
            for kind, column in kinds.items()
            if (values := _values_of_kind(one, kind))
        ]
    return f"({' OR '.join(tests)})" if tests else "false"


def _values_of_kind(one: Equals, kind: Kind) -> list[Any]:
    """Those of the filter's values that a column of this kind can hold, as it would hold them."""
    found = (_as_kind(value, kind) for value in one.values)
    return [value for value in found if value is not None]


def _as_kind(value: Value, kind: Kind) -> Any:
    if isinstance(value, bool):
        return value if kind == "boolean" else None
    if isinstance(value, (int, float)):
        if kind == "integer" and value == int(value) and INT64_MIN <= value <= INT64_MAX:
            return int(value)
        if kind == "float" and abs(value) <= _LARGEST_FLOAT and float(value) == value:
            return float(value)
        return None  # no float equals that integer, or the other way round
    if isinstance(value, datetime):
        return naive(value) if kind == "time" else None
    return value if kind == "string" else None


def select(columns: Sequence[str], table: Table, conditions: Sequence[str]) -> str:
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    return f"SELECT {', '.join(columns)} FROM {quoted(table.name)}{where}"


# -- single records ------------------------------------------------------------------------------


def select_records(query: Query, table: Table) -> Statement:
    """The matching records, in order: a column for each of `table.columns`."""
    statement = Statement()
    conditions = conditions_of(statement, query, table)
    columns = record_columns(table)
    statement.text = f"{select(columns, table, conditions)} ORDER BY {_order(query, table)}"
    if query.limit is not None:
        statement.text += f" LIMIT {int(query.limit)}"
    return statement


def select_stored(table: Table) -> Statement:
    """All records as they lie, which is the order in which they were stored."""
    return Statement(select(record_columns(table), table, ()))


def select_presence(query: Query, table: Table) -> Statement:
    """One row: for each of `table.columns`, whether any matching record has something in it."""
    statement = Statement()
    conditions = conditions_of(statement, query, table)
    columns = [f"count({column}) > 0" for column in record_columns(table)]
    statement.text = select(columns, table, conditions)
    return statement


def record_columns(table: Table) -> list[str]:
    return [quoted(name) for name in table.columns.values()]


def ordered(terms: Iterable[str], *, descending: bool) -> str:
    """Sort terms with missing values last either way, ties as they were stored."""
    direction = "DESC" if descending else "ASC"
    return ", ".join([*(f"{term} {direction} NULLS LAST" for term in terms), SEQUENCE])


def _order(query: Query, table: Table) -> str:
    """Booleans, numbers, strings."""
    name = query.sort.key if query.sort else TIMESTAMP
    kinds = value_kinds(table, name)
    terms = []
    if len(kinds) > 1:
        ranks = {"boolean": 0, "integer": 1, "float": 1, "string": 2, "time": 3}
        cases = (f"WHEN {column} IS NOT NULL THEN {ranks[kind]}" for kind, column in kinds.items())
        terms.append(f"CASE {' '.join(cases)} END")
    if "integer" in kinds and "float" in kinds:
        terms += number_terms(kinds.pop("integer"), kinds.pop("float"))
    terms += kinds.values()
    return ordered(terms, descending=bool(query.sort and query.sort.descending))


def number_terms(integer: str, double: str) -> list[str]:
    """Terms that order integers and floats of one field by value, also past 2**53.

    Where the doubles are equal and that large, both are whole numbers and are compared as such.
    """
    rounded = f"coalesce({double}, {integer}::DOUBLE)"
    whole = f"coalesce({integer}::HUGEINT, {double}::HUGEINT)"
    large = f"abs({rounded}) BETWEEN {2**53} AND {2**64}"
    return [rounded, f"CASE WHEN {large} THEN {whole} WHEN {rounded} IS NOT NULL THEN 0 END"]


# -- groups --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GroupColumns:
    """Where things stand in a row of `select_groups`, after the keys of the period, if any.

    `keys`: of each field of `group_by` the kinds of its columns, in order. Then one column holds
    the count. `reductions`: of each of `query.reductions` the kinds of its columns, in order; a
    sum ends with one more column, how many of its values are not numbers.
    """

    keys: tuple[tuple[Kind, ...], ...]
    reductions: tuple[tuple[Kind, ...], ...]


def select_groups(
    query: Query, table: Table, zone_segments: Sequence[Segment]
) -> tuple[Statement, GroupColumns] | None:
    """The groups, unsorted; None where no record can have all the grouped fields."""
    statement = Statement()
    conditions = conditions_of(statement, query, table)
    keys: list[str] = []
    key_kinds: list[tuple[Kind, ...]] = []
    if query.period is not None:
        keys.append(_period_key(query.period, zone_segments))
        conditions.append(f"{TIMESTAMP} IS NOT NULL")
    for name in query.group_by:
        kinds = value_kinds(table, name)
        if not kinds:
            return None
        conditions.append(f"({' OR '.join(f'{column} IS NOT NULL' for column in kinds.values())})")
        exact = _key_columns(kinds)
        keys += exact.values()
        key_kinds.append(tuple(exact))
    values: list[str] = []
    reduced_kinds: list[tuple[Kind, ...]] = []
    for name, reduction in query.reductions:
        read, columns = _reduce(value_kinds(table, name), reduction)
        values += columns
        reduced_kinds.append(read)
    statement.text = select([*keys, "count(*)", *values], table, conditions)
    if keys:
        statement.text += f" GROUP BY {', '.join(str(place + 1) for place in range(len(keys)))}"
    return statement, GroupColumns(tuple(key_kinds), tuple(reduced_kinds))


def _key_columns(kinds: dict[Kind, str]) -> dict[Kind, str]:
    """Columns that are equal just where the values are: 1.0 stands with 1, as an integer."""
    if "integer" not in kinds or "float" not in kinds:
        return kinds
    integer, double = kinds["integer"], kinds["float"]
    fits = f"{double} >= -{2**63}::DOUBLE AND {double} < {2**63}::DOUBLE"
    is_whole = f"{double} = trunc({double}) AND {fits}"
    return kinds | {
        "integer": f"coalesce({integer}, CASE WHEN {is_whole} THEN {double}::BIGINT END)",
        "float": f"CASE WHEN NOT ({is_whole}) THEN {double} END",
    }


_SUMS: Mapping[Kind, str] = {
    "integer": "sum({0})",
    # Compensated, so nearer the exact sum; scaled down by a power of two where it overflows on its
    # way, as it may without being past the largest float in the end.
    "float": f"CASE WHEN isfinite(fsum({{0}})) OR count({{0}}) = 0 THEN fsum({{0}})"
    f" ELSE fsum({{0}} * {2.0**-64!r}) * {2.0**64!r} END",
}


def _reduce(kinds: dict[Kind, str], reduction: Reduction) -> tuple[tuple[Kind, ...], list[str]]:
    if reduction == "count":
        counts = [f"count({column})" for column in kinds.values()]
        return (), [" + ".join(counts) or "0"]
    if reduction == "sum":
        numbers = {kind: column for kind, column in kinds.items() if kind in _SUMS}
        others = [f"count({column})" for kind, column in kinds.items() if kind not in _SUMS]
        sums = [_SUMS[kind].format(column) for kind, column in numbers.items()]
        return tuple(numbers), [*sums, " + ".join(others) or "0"]
    if reduction == "set":
        lists = (f"list(DISTINCT {c}) FILTER (WHERE {c} IS NOT NULL)" for c in kinds.values())
        return tuple(kinds), list(lists)
    return tuple(kinds), [f"{reduction}({column})" for column in kinds.values()]


# -- periods -------------------------------------------------------------------------------------
#
# A period's key is an integer that SQL computes from the local time (`domain.period_key`): from UTC
# and the zone's offset, which Python knows. ICU, in the query, would cost many times as much as the
# grouping.


def _period_key(period: Period, zone_segments: Sequence[Segment]) -> str:
    since_year_1 = f"epoch_us({TIMESTAMP}) + {_SINCE_YEAR_1}"
    if period.name == "hour" and not hours_are_whole(zone_segments):
        return _by_segment(
            zone_segments,
            lambda place, segment: (
                f"({since_year_1} + {offset_us(segment)}) // {HOUR_US} + {place << HOUR_BITS}"
            ),
        )
    if period.name == "hour":
        return f"({since_year_1} + {offset_us(zone_segments[0]) % HOUR_US}) // {HOUR_US}"
    offset = _offset(zone_segments)
    if period.name in DAYS:
        return f"({since_year_1} + {offset}) // {DAYS[period.name] * DAY_US}"
    local = TIMESTAMP if offset == "0" else f"make_timestamp(epoch_us({TIMESTAMP}) + {offset})"
    return f"year({local}) * 12 + {_MONTH_OF[period.name].format(f'month({local})')}"


def _offset(zone_segments: Sequence[Segment]) -> str:
    """The zone's offset at a record's time."""
    if not any(segment.offset for segment in zone_segments):
        return "0"
    match zone_segments:
        case [first, summer, last] if first.offset == last.offset:  # a year: one CASE, not two
            since, until = _literal(summer.since), _literal(last.since)
            within = f"{TIMESTAMP} >= {since} AND {TIMESTAMP} < {until}"
            return f"CASE WHEN {within} THEN {offset_us(summer)} ELSE {offset_us(first)} END"
        case _:
            return _by_segment(zone_segments, lambda _, segment: str(offset_us(segment)))


_MONTH_OF = {"month": "{} - 1", "quarter": "({} - 1) // 3 * 3", "year": "0"}
"""From a month (1 to 12) to the first month of the period, from 0."""


def _by_segment(zone_segments: Sequence[Segment], render: Any, first: int = 0) -> str:
    """An expression that is `render(place, segment)` in each segment: a binary tree of CASEs."""
    if len(zone_segments) == 1:
        return str(render(first, zone_segments[0]))
    half = len(zone_segments) // 2
    split = _literal(zone_segments[half].since)
    early = _by_segment(zone_segments[:half], render, first)
    late = _by_segment(zone_segments[half:], render, first + half)
    return f"CASE WHEN {TIMESTAMP} < {split} THEN {early} ELSE {late} END"


def _literal(instant: datetime) -> str:
    return f"TIMESTAMP '{naive(instant).isoformat(sep=' ')}'"
