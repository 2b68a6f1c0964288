"""A question to a bucket, as frozen data. It knows no engine and can't run itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias, get_args

from backdrop.domain.period import Period
from backdrop.domain.values import Value

Method: TypeAlias = Literal["set", "sum", "count", "mean", "min", "max"]
METHODS: tuple[Method, ...] = get_args(Method)

Reduction: TypeAlias = Literal["set", "sum", "count", "min", "max"]
"""What an engine computes of one field for one group: each can be merged with another group's."""


@dataclass(frozen=True, slots=True)
class Collect:
    """`collect=field:method`. `by_default`: no method was named, so `set`, under both keys."""

    field: str
    method: Method
    by_default: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys under which the value stands in the answer."""
        key = f"{self.field}:{self.method}"
        return (key, self.field) if self.by_default else (key,)

    @property
    def reductions(self) -> tuple[tuple[str, Reduction], ...]:
        """What engines compute for it: a mean is a sum and a count."""
        if self.method == "mean":
            return ((self.field, "sum"), (self.field, "count"))
        return ((self.field, self.method),)


@dataclass(frozen=True, slots=True)
class Equals:
    """The field is one of `values`, in the equality of `order_key` (1 is 1.0, not true)."""

    field: str
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class StartsWith:
    """The field is a string that begins with one of `prefixes`, literally."""

    field: str
    prefixes: tuple[str, ...]


Filter: TypeAlias = Equals | StartsWith


@dataclass(frozen=True, slots=True)
class Sort:
    key: str
    descending: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One GET, understood. All filters must match; `start <= _timestamp < end`, either end open."""

    period: Period | None = None
    group_by: tuple[str, ...] = ()
    collect: tuple[Collect, ...] = ()
    filters: tuple[Filter, ...] = ()
    start: datetime | None = None
    end: datetime | None = None
    sort: Sort | None = None
    limit: int | None = None
    flatten: bool = False
    slide: Literal["forward", "backward"] | None = None
    """Set for a relative range: where its window goes if the periods at its near end are empty."""

    @property
    def is_raw(self) -> bool:
        """Whether it asks for single records."""
        return self.period is None and not self.group_by

    @property
    def columns(self) -> tuple[str, ...]:
        """The keys of each row of a flat answer of groups."""
        times = ("_start_at", "_end_at") if self.period else ()
        collected = (key for collect in self.collect for key in collect.keys)
        return (*self.group_by, *times, "_count", *collected)

    @property
    def reductions(self) -> tuple[tuple[str, Reduction], ...]:
        """Every (field, reduction) that the collects need, each once, in a fixed order."""
        wanted = (pair for collect in self.collect for pair in collect.reductions)
        return tuple(dict.fromkeys(wanted))
