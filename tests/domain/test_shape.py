"""From rows of groups to the rows of an answer, on groups made by hand."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from datetime import datetime
from fractions import Fraction
from itertools import chain
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backdrop.domain.period import Period
from backdrop.domain.query import Collect, Query, Sort
from backdrop.domain.reduce import add, distinct, finite, greatest, least
from backdrop.domain.shape import Groups, Row
from backdrop.domain.shape import shape as pages_of
from backdrop.domain.times import parse_instant
from backdrop.domain.values import INT64_MAX, INT64_MIN, order_key
from tests.strategies import any_floats, floats, integers, numbers, values, zone

DAY = Period("day")
D1, D2, D3, D4 = (parse_instant(f"2013-01-0{n}") for n in (1, 2, 3, 4))


def groups_of(**columns: Any) -> Groups:
    return Groups(**{"reduced": {}, **columns})


def shape(query: Query, groups: Groups, axis: Sequence[datetime] | None = None) -> list[Row]:
    """The rows of all the pages."""
    return list(chain.from_iterable(pages_of(query, groups, axis)))


def ends(start: datetime) -> dict[str, str]:
    day = start.day
    return {
        "_start_at": f"2013-01-0{day}T00:00:00+00:00",
        "_end_at": f"2013-01-0{day + 1}T00:00:00+00:00",
    }


def exact(rows: Any) -> Any:
    """The same with each value's type, so that 1, 1.0 and true differ."""
    if isinstance(rows, dict):
        return {key: exact(value) for key, value in rows.items()}
    if isinstance(rows, list):
        return [exact(value) for value in rows]
    return (type(rows), rows)


# -- by time --------------------------------------------------------------------------------


def test_a_timeline_is_by_time_whatever_the_order_of_the_groups() -> None:
    groups = groups_of(starts=[D3, D1], counts=[2, 5])
    assert shape(Query(period=DAY), groups) == [
        {**ends(D1), "_count": 5},
        {**ends(D3), "_count": 2},
    ]


def test_on_an_axis_the_gaps_are_zeros_and_nulls() -> None:
    query = Query(
        period=DAY,
        collect=(
            Collect("aa", "sum"),
            Collect("aa", "mean"),
            Collect("aa", "count"),
            Collect("bb", "set", by_default=True),
            Collect("bb", "min"),
            Collect("bb", "max"),
        ),
    )
    groups = groups_of(
        starts=[D2],
        counts=[3],
        reduced={
            ("aa", "sum"): [9],
            ("aa", "count"): [2],
            ("bb", "set"): [["x"]],
            ("bb", "min"): ["x"],
            ("bb", "max"): ["x"],
        },
    )
    gap = dict.fromkeys(("aa:sum", "aa:mean", "aa:count", "bb:set", "bb", "bb:min", "bb:max"), None)
    full = {
        "aa:sum": 9, "aa:mean": 4.5, "aa:count": 2, "bb:set": ["x"], "bb": ["x"], "bb:min": "x",
        "bb:max": "x",
    }  # fmt: skip
    assert shape(query, groups, [D1, D2, D3]) == [
        {**ends(D1), "_count": 0, **gap},
        {**ends(D2), "_count": 3, **full},
        {**ends(D3), "_count": 0, **gap},
    ]


def test_no_groups_on_an_axis_are_all_gaps_and_without_one_nothing() -> None:
    assert shape(Query(period=DAY), groups_of(starts=[]), [D1, D2]) == [
        {**ends(D1), "_count": 0},
        {**ends(D2), "_count": 0},
    ]
    assert shape(Query(period=DAY), groups_of(starts=[])) == []
    assert shape(Query(period=DAY), groups_of(starts=[]), []) == []


def test_limit_cuts_the_timeline() -> None:
    groups = groups_of(starts=[D1, D2, D3], counts=[1, 2, 3])
    assert [row["_count"] for row in shape(Query(period=DAY, limit=2), groups)] == [1, 2]
    assert len(shape(Query(period=DAY, limit=2), groups, [D1, D2, D3, D4])) == 2
    assert len(shape(Query(period=DAY, limit=9), groups)) == 3


def test_the_ends_of_periods_are_those_of_the_zone() -> None:
    period = Period("day", zone("Europe/London"))
    start = parse_instant("2013-03-31")
    for axis in (None, [start]):
        (row,) = shape(Query(period=period), groups_of(starts=[start], counts=[1]), axis)
        assert row["_end_at"] == "2013-03-31T23:00:00+00:00"


# -- by keys --------------------------------------------------------------------------------


def test_groups_are_sorted_by_their_keys_in_the_order_given() -> None:
    query = Query(group_by=("kind", "fee"))
    groups = groups_of(keys=(["b", "a", "a", True], [1, 2, 1.5, "x"]), counts=[1, 2, 3, 4])
    assert exact(shape(query, groups)) == exact(
        [
            {"kind": True, "fee": "x", "_count": 4},
            {"kind": "a", "fee": 1.5, "_count": 3},
            {"kind": "a", "fee": 2, "_count": 2},
            {"kind": "b", "fee": 1, "_count": 1},
        ]
    )


def test_keys_of_all_types_are_in_the_order_of_records() -> None:
    column = [
        "b",
        "a",
        "B",
        "",
        10,
        9,
        -1,
        0.5,
        2**53 + 1,
        2.0**53,
        True,
        False,
        "é",
        "😀",
        "\uffff",
    ]
    found = shape(Query(group_by=("kind",)), groups_of(keys=(column,), counts=[1] * len(column)))
    assert [row["kind"] for row in found] == [
        False, True, -1, 0.5, 9, 10, 2.0**53, 2**53 + 1, "", "B", "a", "b", "é", "\uffff", "😀",
    ]  # fmt: skip


def test_no_groups_are_no_rows() -> None:
    assert shape(Query(group_by=("kind",)), groups_of(keys=([],))) == []
    assert shape(Query(group_by=("kind",), period=DAY), groups_of(keys=([],), starts=[])) == []
    flat = Query(group_by=("kind",), period=DAY, flatten=True)
    assert shape(flat, groups_of(keys=([],), starts=[]), [D1, D2]) == []


SORTED: tuple[tuple[Sort | None, int | None, str], ...] = (
    (None, None, "abcde"),
    (None, 2, "ab"),
    (Sort("kind"), None, "abcde"),
    (Sort("kind", descending=True), None, "edcba"),
    (Sort("_count"), None, "bdace"),
    (Sort("_count", descending=True), None, "acedb"),
    (Sort("_count", descending=True), 1, "a"),
    # null last whatever the direction; ties keep the key order
    (Sort("fee:sum"), None, "dbcae"),
    (Sort("fee:sum", descending=True), None, "bcdae"),
    (Sort("fee:sum", descending=True), 3, "bcd"),
    (Sort("fee:mean"), None, "dcbae"),
    (Sort("fee:min"), None, "cbdae"),
    (Sort("fee:min", descending=True), None, "dbcae"),
    (Sort("fee:set"), None, "aecbd"),
    (Sort("fee:set", descending=True), None, "dbcae"),
    (Sort("fee"), 2, "ae"),
)


@pytest.mark.parametrize(("sort", "limit", "expected"), SORTED)
def test_groups_are_sorted_by_what_is_asked_and_then_cut(
    sort: Sort | None, limit: int | None, expected: str
) -> None:
    query = Query(
        group_by=("kind",),
        collect=(
            Collect("fee", "sum"),
            Collect("fee", "mean"),
            Collect("fee", "min"),
            Collect("fee", "set", by_default=True),
        ),
        sort=sort,
        limit=limit,
    )
    groups = groups_of(
        keys=(["e", "c", "a", "d", "b"],),
        counts=[3, 3, 3, 2, 1],
        reduced={
            ("fee", "sum"): [None, 7, None, 5.5, 7],
            ("fee", "count"): [0, 4, 0, 4, 1],
            ("fee", "min"): [None, True, None, "x", 7],
            ("fee", "set"): [[], [True, 7], [], ["x"], [7]],
        },
    )
    assert "".join(row["kind"] for row in shape(query, groups)) == expected


# -- nested ---------------------------------------------------------------------------------

BOTH = Query(
    period=DAY,
    group_by=("kind",),
    collect=(
        Collect("fee", "sum"),
        Collect("fee", "mean"),
        Collect("note", "set", by_default=True),
    ),
)
GROUPS = groups_of(
    keys=(["b", "a", "a"],),
    starts=[D1, D3, D1],
    counts=[1, 2, 3],
    reduced={
        ("fee", "sum"): [None, 2, 7],
        ("fee", "count"): [0, 1, 2],
        ("note", "set"): [[], ["y", 1], [True, 1.0]],
    },
)


def cell(start: datetime, count: int, total: Any, mean: Any, notes: Any) -> dict[str, Any]:
    return {
        **ends(start),
        "_count": count,
        "fee:sum": total,
        "fee:mean": mean,
        "note:set": notes,
        "note": notes,
    }


def test_nested_groups_hold_their_periods_and_what_they_collect_over_all_of_them() -> None:
    assert exact(shape(BOTH, GROUPS)) == exact(
        [
            {
                "kind": "a",
                "_count": 5,
                "_group_count": 2,
                "fee:sum": 9,
                "fee:mean": 3.0,
                "note:set": [True, 1, "y"],
                "note": [True, 1, "y"],
                "values": [cell(D1, 3, 7, 3.5, [True, 1]), cell(D3, 2, 2, 2.0, [1, "y"])],
            },
            {
                "kind": "b",
                "_count": 1,
                "_group_count": 1,
                "fee:sum": None,
                "fee:mean": None,
                "note:set": [],
                "note": [],
                "values": [cell(D1, 1, None, None, [])],
            },
        ]
    )


def test_nested_groups_are_each_filled_over_the_axis() -> None:
    found = shape(BOTH, GROUPS, [D1, D2, D3])
    assert [(row["kind"], row["_group_count"], row["_count"]) for row in found] == [
        ("a", 2, 5),
        ("b", 1, 1),
    ]
    assert found[0]["values"] == [
        cell(D1, 3, 7, 3.5, [True, 1]),
        cell(D2, 0, None, None, None),
        cell(D3, 2, 2, 2.0, [1, "y"]),
    ]
    assert found[1]["values"] == [
        cell(D1, 1, None, None, []),
        cell(D2, 0, None, None, None),
        cell(D3, 0, None, None, None),
    ]


def test_sort_and_limit_are_over_the_groups_and_leave_their_values() -> None:
    query = Query(period=DAY, group_by=("kind",), sort=Sort("_count"), limit=1)
    groups = groups_of(keys=GROUPS.keys, starts=GROUPS.starts, counts=GROUPS.counts)
    for axis, length in ((None, 1), ([D1, D2, D3, D4], 4)):
        (row,) = shape(query, groups, axis)
        assert row["kind"] == "b"
        assert len(row["values"]) == length


def test_nested_groups_may_be_sorted_by_what_they_collect_over_all_periods() -> None:
    query = Query(
        period=DAY,
        group_by=("kind",),
        collect=(Collect("fee", "sum"),),
        sort=Sort("fee:sum", descending=True),
    )
    groups = groups_of(
        keys=(["a", "b", "b", "c"],),
        starts=[D1, D1, D2, D1],
        counts=[1, 1, 1, 1],
        reduced={("fee", "sum"): [5, 3, 4, None]},
    )
    assert [(row["kind"], row["fee:sum"]) for row in shape(query, groups)] == [
        ("b", 7),
        ("a", 5),
        ("c", None),
    ]


def test_every_method_is_merged_over_the_periods_of_a_group() -> None:
    methods = ("set", "sum", "count", "mean", "min", "max")
    query = Query(period=DAY, group_by=("kind",), collect=tuple(Collect("fee", m) for m in methods))
    groups = groups_of(
        keys=(["a", "a", "a"],),
        starts=[D1, D2, D3],
        counts=[2, 1, 1],
        reduced={
            ("fee", "set"): [[3, 1.0], [1], []],
            ("fee", "sum"): [4.0, 1, None],
            ("fee", "count"): [2, 1, 0],
            ("fee", "min"): [1.0, 1, None],
            ("fee", "max"): [3, 1, None],
        },
    )
    (row,) = shape(query, groups)
    del row["values"]
    assert exact(row) == exact(
        {
            "kind": "a", "_count": 4, "_group_count": 3, "fee:set": [1, 3], "fee:sum": 5.0,
            "fee:count": 3, "fee:mean": 5 / 3, "fee:min": 1, "fee:max": 3,
        }
    )  # fmt: skip


def test_a_group_whose_sums_are_past_64_bits_is_merged_exactly_before_it_is_rounded() -> None:
    query = Query(period=DAY, group_by=("kind",), collect=(Collect("fee", "sum"),))
    groups = groups_of(
        keys=(["a", "a"],),
        starts=[D1, D2],
        counts=[2, 2],
        reduced={("fee", "sum"): [2 * INT64_MAX, -2 * INT64_MAX + 1]},
    )
    (row,) = shape(query, groups)
    assert exact(row["fee:sum"]) == (int, 1)
    assert [exact(v["fee:sum"]) for v in row["values"]] == [
        (float, float(2 * INT64_MAX)),
        (float, float(-2 * INT64_MAX + 1)),
    ]


# -- flat -----------------------------------------------------------------------------------


def test_flat_rows_are_by_period_and_then_by_keys() -> None:
    query = Query(period=DAY, group_by=("kind",), flatten=True)
    groups = groups_of(keys=GROUPS.keys, starts=GROUPS.starts, counts=GROUPS.counts)
    assert shape(query, groups) == [
        {"kind": "a", **ends(D1), "_count": 3},
        {"kind": "b", **ends(D1), "_count": 1},
        {"kind": "a", **ends(D3), "_count": 2},
    ]


def test_flat_rows_are_filled_with_the_combinations_that_occur() -> None:
    query = Query(
        period=DAY, group_by=("kind", "size"), collect=(Collect("fee", "sum"),), flatten=True
    )
    groups = groups_of(
        keys=(["b", "a"], [1, 2]),
        starts=[D1, D2],
        counts=[1, 2],
        reduced={("fee", "sum"): [None, 4]},
    )
    assert shape(query, groups, [D1, D2]) == [
        {"kind": "a", "size": 2, **ends(D1), "_count": 0, "fee:sum": None},
        {"kind": "b", "size": 1, **ends(D1), "_count": 1, "fee:sum": None},
        {"kind": "a", "size": 2, **ends(D2), "_count": 2, "fee:sum": 4},
        {"kind": "b", "size": 1, **ends(D2), "_count": 0, "fee:sum": None},
    ]


def test_sort_and_limit_are_over_flat_rows() -> None:
    groups = groups_of(
        keys=GROUPS.keys,
        starts=GROUPS.starts,
        counts=GROUPS.counts,
        reduced={("fee", "sum"): [None, 2, 7]},
    )

    def counts(sort: Sort, limit: int | None, axis: list[datetime] | None) -> list[Any]:
        query = Query(
            period=DAY,
            group_by=("kind",),
            collect=(Collect("fee", "sum"),),
            flatten=True,
            sort=sort,
            limit=limit,
        )
        return [
            (row["kind"], row["_start_at"][9:10], row["_count"])
            for row in shape(query, groups, axis)
        ]

    assert counts(Sort("_count", descending=True), 2, None) == [("a", "1", 3), ("a", "3", 2)]
    assert counts(Sort("fee:sum"), None, [D1, D2, D3]) == [
        ("a", "3", 2), ("a", "1", 3), ("b", "1", 1), ("a", "2", 0), ("b", "2", 0), ("b", "3", 0),
    ]  # fmt: skip
    assert counts(Sort("kind", descending=True), 3, [D1, D2, D3]) == [
        ("b", "1", 1), ("b", "2", 0), ("b", "3", 0),
    ]  # fmt: skip


# -- values ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("total", "shown"),
    [
        (INT64_MAX, INT64_MAX),
        (INT64_MIN, INT64_MIN),
        (INT64_MAX + 1, 2.0**63),
        (INT64_MIN - 1, -(2.0**63)),
        (3 * INT64_MAX, float(3 * INT64_MAX)),
        (2**80 + 1, float(2**80)),
        (7, 7),
        (7.0, 7.0),
        (None, None),
        (0, 0),
    ],
)
def test_a_sum_past_64_bits_is_the_nearest_float(total: Any, shown: Any) -> None:
    query = Query(group_by=("kind",), collect=(Collect("fee", "sum"),))
    groups = groups_of(keys=(["a"],), counts=[1], reduced={("fee", "sum"): [total]})
    assert exact(shape(query, groups)[0]["fee:sum"]) == exact(shown)


@pytest.mark.parametrize(
    ("total", "count", "mean"),
    [
        (9, 2, 4.5),
        (9, 3, 3.0),
        (7.5, 3, 2.5),
        (None, 0, None),
        (0, 5, 0.0),
        (3 * INT64_MAX, 3, float(INT64_MAX)),
        (2**63 + 2**53 + 2, 2, (2**63 + 2**53 + 2) / 2),
    ],
)
def test_a_mean_is_the_sum_over_the_count(total: Any, count: int, mean: Any) -> None:
    query = Query(group_by=("kind",), collect=(Collect("fee", "mean"),))
    groups = groups_of(
        keys=(["a"],),
        counts=[5],
        reduced={("fee", "sum"): [total], ("fee", "count"): [count]},
    )
    assert exact(shape(query, groups)[0]["fee:mean"]) == exact(mean)


def test_a_set_is_sorted_and_holds_each_value_once() -> None:
    assert exact(distinct(["b", 1.0, 1, True, "a", "1", 0.5, -0.0, 0, False, "b"])) == exact(
        [False, True, 0, 0.5, 1, "1", "a", "b"]
    )
    assert distinct([]) == []


@pytest.mark.parametrize(
    ("column", "low", "high"),
    [
        ([], None, None),
        ([3, 1, 2], 1, 3),
        ([1, 1.0], 1, 1),
        ([1.0, 1], 1, 1),
        ([1.0], 1.0, 1.0),
        ([True, 0, "a"], True, "a"),
        ([5, True, False], False, 5),
        (["b", "a", 1e300], 1e300, "b"),
        ([2**53, 2**53 + 1, 2.0**53], 2**53, 2**53 + 1),
        ([2.0**53 + 2, 2**53 + 1], 2**53 + 1, 2.0**53 + 2),
        (["\uffff", "😀"], "\uffff", "😀"),
        (["", "a"], "", "a"),
    ],
)
def test_min_and_max_follow_the_order_of_values(column: list[Any], low: Any, high: Any) -> None:
    assert exact(least(column)) == exact(low)
    assert exact(greatest(column)) == exact(high)


@given(st.lists(values.filter(lambda v: v is not None), min_size=1))
def test_min_and_max_are_the_ends_of_the_set(column: list[Any]) -> None:
    line = distinct(column)
    assert order_key(least(column)) == order_key(line[0])
    assert order_key(greatest(column)) == order_key(line[-1])


@given(st.lists(integers))
def test_a_sum_of_integers_is_exact(column: list[int]) -> None:
    assert exact(add(column)) == exact(sum(column) if column else None)


@given(st.lists(any_floats, min_size=1))
def test_a_sum_of_floats_is_the_nearest_to_the_true_one(column: list[float]) -> None:
    true = sum(map(Fraction, column), Fraction(0))
    found = add(column)
    assert isinstance(found, float)
    largest = Fraction(math.nextafter(math.inf, 0))
    if abs(true) > largest:
        assert abs(found) == float(largest)
        assert (found > 0) == (true > 0)
    else:
        assert found == float(true)


def test_a_sum_that_overflows_only_on_the_way_is_the_true_one() -> None:
    assert add([1e308, 1e308, -1e308, -1e308]) == 0.0
    assert add([1.7e308, 1.7e308, -1.7e308]) == 1.7e308


@given(st.lists(numbers, min_size=1), st.randoms(use_true_random=False))
def test_a_sum_does_not_depend_on_the_order(column: list[Any], chance: random.Random) -> None:
    shuffled = list(column)
    chance.shuffle(shuffled)
    assert exact(add(column)) == exact(add(shuffled))


def test_a_sum_of_both_is_a_float_of_the_exact_integers_and_the_floats() -> None:
    assert exact(add([1, 2.0])) == (float, 3.0)
    assert exact(add([INT64_MAX, INT64_MAX, 0.5])) == (float, float(2 * INT64_MAX) + 0.5)
    assert exact(add([2**53, 1, 1, 0.0])) == (float, 2.0**53 + 2)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (math.inf, math.nextafter(math.inf, 0)),
        (-math.inf, -math.nextafter(math.inf, 0)),
        (1.5, 1.5),
        (-0.0, 0.0),
    ],
)
def test_what_is_shown_is_finite_and_never_minus_zero(number: float, expected: float) -> None:
    assert finite(number) == expected
    assert math.copysign(1, finite(number)) == math.copysign(1, expected)


# -- all together, against an oracle --------------------------------------------------------

keys = st.sampled_from(["a", "b", 1, 2.5, True])


@given(
    st.lists(
        st.tuples(st.sampled_from([D1, D2, D3]), keys, keys, st.one_of(st.none(), floats)),
        max_size=12,
    ),
    st.booleans(),
)
def test_nested_flat_and_timeline_tell_the_same(rows: list[Any], filled: bool) -> None:
    """Oracle: count and add the rows themselves."""
    places = {(row[0], order_key(row[1]), order_key(row[2])): row[:3] for row in rows}
    members = {
        place: [row for row in rows if (row[0], order_key(row[1]), order_key(row[2])) == place]
        for place in places
    }
    groups = groups_of(
        keys=([places[p][1] for p in places], [places[p][2] for p in places]),
        starts=[places[p][0] for p in places],
        counts=[len(members[p]) for p in places],
        reduced={
            ("fee", "sum"): [add([r[3] for r in members[p] if r[3] is not None]) for p in places]
        },
    )
    axis = [D1, D2, D3] if filled else None
    nested_query = Query(period=DAY, group_by=("kind", "size"), collect=(Collect("fee", "sum"),))
    nested = shape(nested_query, groups, axis)
    flat_query = Query(
        period=DAY, group_by=("kind", "size"), collect=(Collect("fee", "sum"),), flatten=True
    )
    flat = shape(flat_query, groups, axis)
    unnested = [
        {"kind": group["kind"], "size": group["size"], **value}
        for group in nested
        for value in group["values"]
    ]
    unnested.sort(key=lambda r: (r["_start_at"], order_key(r["kind"]), order_key(r["size"])))
    assert exact(flat) == exact(unnested)
    for group in nested:
        own = [r for r in rows if exact(list(r[1:3])) == exact([group["kind"], group["size"]])]
        assert group["_count"] == len(own)
        assert group["_group_count"] == len({r[0] for r in own})
        assert exact(group["fee:sum"]) == exact(add([r[3] for r in own if r[3] is not None]))
    if filled:
        assert len(flat) == 3 * len({(order_key(r[1]), order_key(r[2])) for r in rows})
