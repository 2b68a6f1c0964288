"""A query as data: what it asks of an engine."""

from __future__ import annotations

import dataclasses

import pytest

from backdrop.domain.period import Period
from backdrop.domain.query import METHODS, Collect, Equals, Query, Sort


def test_the_methods_are_the_contracts() -> None:
    assert METHODS == ("set", "sum", "count", "mean", "min", "max")


@pytest.mark.parametrize("method", METHODS)
def test_a_collect_stands_under_field_and_method(method: str) -> None:
    assert Collect("fee", method).keys == (f"fee:{method}",)  # type: ignore[arg-type]


def test_a_collect_by_default_stands_under_the_field_too() -> None:
    assert Collect("fee", "set", by_default=True).keys == ("fee:set", "fee")


@pytest.mark.parametrize("method", [m for m in METHODS if m != "mean"])
def test_a_method_is_its_own_reduction(method: str) -> None:
    assert Collect("fee", method).reductions == (("fee", method),)  # type: ignore[arg-type]


def test_a_mean_is_a_sum_and_a_count() -> None:
    assert Collect("fee", "mean").reductions == (("fee", "sum"), ("fee", "count"))


def test_each_reduction_is_asked_for_once_in_a_fixed_order() -> None:
    query = Query(
        group_by=("kind",),
        collect=(
            Collect("fee", "count"),
            Collect("fee", "mean"),
            Collect("Fee", "sum"),
            Collect("fee", "sum"),
            Collect("fee", "set"),
            Collect("fee", "set", by_default=True),
        ),
    )
    assert query.reductions == (("fee", "count"), ("fee", "sum"), ("Fee", "sum"), ("fee", "set"))


def test_only_a_query_without_period_and_group_by_asks_for_records() -> None:
    assert Query().is_raw
    assert Query(filters=(Equals("fee", (1,)),), limit=1, sort=Sort("fee")).is_raw
    assert not Query(period=Period("day")).is_raw
    assert not Query(group_by=("fee",)).is_raw
    assert not Query(period=Period("day"), group_by=("fee",)).is_raw


def test_a_query_is_frozen_and_can_be_compared_and_hashed() -> None:
    query = Query(period=Period("day"), filters=(Equals("fee", (1, "a")),))
    assert query == Query(period=Period("day"), filters=(Equals("fee", (1, "a")),))
    assert hash(query) == hash(dataclasses.replace(query))
    with pytest.raises(dataclasses.FrozenInstanceError):
        query.limit = 5  # type: ignore[misc]
