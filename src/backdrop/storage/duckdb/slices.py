"""Many records in order, without ever sorting them all: slice by slice of the sort value. Pure.

A sort holds every record in memory until the last is in. So a large answer is cut into ranges of
the sort value that hold about as many records each (a sample says where), in the order of the
answer, and each is sorted by itself. Records of one value are read as they lie, which is the order
in which they were stored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from backdrop.domain.query import Query
from backdrop.domain.values import TIMESTAMP
from backdrop.storage.duckdb.catalogue import Table
from backdrop.storage.duckdb.sql import (
    Statement,
    conditions_of,
    number_terms,
    ordered,
    record_columns,
    select,
    value_kinds,
)

SAMPLED = 4_000
"""How many sort values are looked at to find where to cut."""


@dataclass(frozen=True, slots=True)
class Tier:
    """Matching records whose sort values are of one rank: booleans, numbers, strings or times.

    `value`: what is cut, None of records without a value. `terms`: what sorts within a cut.
    """

    condition: str
    value: str | None = None
    terms: tuple[str, ...] = ()


def tiers(query: Query, table: Table) -> list[Tier]:
    """The tiers of the answer, in its order; records without a value last."""
    kinds = value_kinds(table, query.sort.key if query.sort else TIMESTAMP)
    missing = Tier(" AND ".join(f"{column} IS NULL" for column in kinds.values()) or "true")
    found = []
    for kind, column in kinds.items():
        if kind == "integer" and "float" in kinds:
            terms = number_terms(column, kinds["float"])
            found.append(Tier(f"{terms[0]} IS NOT NULL", terms[0], tuple(terms)))
        elif kind != "float" or "integer" not in kinds:
            found.append(Tier(f"{column} IS NOT NULL", column, (column,)))
    if query.sort and query.sort.descending:
        found.reverse()
    return [*found, missing]


def select_sample(query: Query, table: Table, tier: Tier) -> Statement:
    """Some of the tier's values, taken evenly."""
    statement = Statement()
    conditions = [*conditions_of(statement, query, table), tier.condition]
    values = select([f"{tier.value} AS value"], table, conditions)
    statement.text = f"SELECT value FROM ({values}) USING SAMPLE {SAMPLED} ROWS"
    return statement


def cuts(sample: Sequence[Any], pieces: int) -> list[tuple[Any, bool]]:
    """Where to cut into about that many: different values, ascending, and whether each is common.

    A common value would fill a slice alone.
    """
    ordered = sorted(sample)
    step = max(1, len(ordered) // pieces)
    chosen = ordered[step::step]
    return [(value, chosen.count(value) > 1) for value in dict.fromkeys(chosen)]


def select_slices(
    query: Query, table: Table, tier: Tier, where: Sequence[tuple[Any, bool]]
) -> Iterator[Statement]:
    """The statements whose answers, one after the other, are the tier's records in order."""
    bounds: list[tuple[Any, Any, Any]] = []  # from (inclusive), after (exclusive), before
    since: Any = None
    after: Any = None
    for value, common in where:
        bounds.append((since, after, value))
        since, after = value, None
        if common:
            bounds.append((value, None, _SAME))
            since, after = None, value
    bounds.append((since, after, None))
    if query.sort and query.sort.descending:
        bounds.reverse()
    for low, above, below in bounds:
        yield _slice(query, table, tier, low, above, below)


_SAME = object()
"""Stands for an upper bound that is the lower bound, inclusive."""


def _slice(query: Query, table: Table, tier: Tier, low: Any, above: Any, below: Any) -> Statement:
    statement = Statement()
    conditions = [*conditions_of(statement, query, table), tier.condition]
    if below is _SAME:
        conditions.append(f"{tier.value} = {statement.bind(low)}")
    else:
        tests = ((">=", low), (">", above), ("<", below))
        conditions += [
            f"{tier.value} {test} {statement.bind(bound)}"
            for test, bound in tests
            if bound is not None
        ]
    statement.text = select(record_columns(table), table, conditions)
    one_value = below is _SAME and len(tier.terms) == 1
    if tier.terms and not one_value:
        descending = bool(query.sort and query.sort.descending)
        statement.text += f" ORDER BY {ordered(tier.terms, descending=descending)}"
    return statement
