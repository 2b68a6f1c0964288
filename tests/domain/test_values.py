"""The one order and equality of values."""

from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backdrop.domain.values import (
    INT64_MAX,
    INT64_MIN,
    is_field_name,
    order_key,
    shown,
)
from tests.strategies import any_floats, integers, texts, values

known = values.filter(lambda value: value is not None)


def rank(value: Any) -> tuple[Any, ...]:
    """An independent order: by kind, then numbers as fractions, strings as lists of code points."""
    if isinstance(value, bool):
        return (0, int(value))
    if isinstance(value, (int, float)):
        return (1, Fraction(value))
    return (2, [ord(character) for character in value])


IN_ORDER: tuple[Any, ...] = (
    False, True, -1.5e300, INT64_MIN, -1, -0.5, 0, 0.5, 1, 1.5, 2**53, 2**53 + 1, INT64_MAX,
    2.0**63, "", "\0", "-", "0", "10", "9", "A", "Z", "a", "a\0", "aa", "b", "é", "\ue000",
    "\uffff", "😀",
)  # fmt: skip


def test_booleans_then_numbers_then_strings_each_in_its_order() -> None:
    shuffled = [*IN_ORDER[1::2], *IN_ORDER[::2]]
    assert sorted(shuffled, key=order_key) == list(IN_ORDER)
    keys = [order_key(value) for value in IN_ORDER]
    assert all(a < b for a, b in pairwise(keys))


@given(known, known)
def test_the_order_is_that_of_the_values(one: Any, other: Any) -> None:
    assert (order_key(one) < order_key(other)) == (rank(one) < rank(other))
    assert (order_key(one) == order_key(other)) == (rank(one) == rank(other))


@given(st.one_of(integers, any_floats), st.one_of(integers, any_floats))
def test_numbers_compare_exactly_whatever_their_size(one: float, other: float) -> None:
    assert (order_key(one) < order_key(other)) == (Fraction(one) < Fraction(other))
    assert (order_key(one) == order_key(other)) == (Fraction(one) == Fraction(other))


def test_times_are_ordered_as_instants() -> None:
    early, late = datetime(1969, 1, 1, tzinfo=UTC), datetime(2013, 1, 1, tzinfo=UTC)
    assert order_key(early) < order_key(late)
    assert order_key(early) == order_key(datetime(1969, 1, 1, tzinfo=UTC))


@given(known, known)
def test_equal_keys_hash_alike(one: Any, other: Any) -> None:
    if order_key(one) == order_key(other):
        assert hash(order_key(one)) == hash(order_key(other))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1.0, 1),
        (-0.0, 0),
        (0.0, 0),
        (-3.0, -3),
        (1e15, 10**15),
        (2.0**62, 2**62),
        (-(2.0**63), INT64_MIN),
        (2.0**63, 2.0**63),
        (1e300, 1e300),
        (-1e300, -1e300),
        (1.5, 1.5),
        (1, 1),
        (INT64_MAX, INT64_MAX),
        (True, True),
        (False, False),
        ("1.0", "1.0"),
        (None, None),
    ],
)
def test_a_float_that_is_a_64_bit_integer_is_shown_as_that(value: Any, expected: Any) -> None:
    assert (type(shown(value)), shown(value)) == (type(expected), expected)


@given(known, known)
def test_what_is_equal_is_shown_alike_and_what_differs_is_not(one: Any, other: Any) -> None:
    same = (type(shown(one)), shown(one)) == (type(shown(other)), shown(other))
    assert same == (order_key(one) == order_key(other))


GOOD_NAMES = ("ab", "aB", "A1", "_a", "__", "_1", "a_", "a" * 64, "select", "_timestamp")
BAD_NAMES = ("", "a", "_", "1a", "a-b", "a.b", "a b", " ab", "ab ", "ab\n", "é1", "aé", "$ab", "a$")


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_a_name_of_2_to_64_word_characters_may_be_a_fields(name: str) -> None:
    assert is_field_name(name)


@pytest.mark.parametrize("name", [*BAD_NAMES, "a" * 65, "a\0", "a٣", "ab;", '"ab"', "ªb"])
def test_no_other_name_may_be(name: str) -> None:
    assert not is_field_name(name)


@given(texts)
def test_strings_are_ordered_by_code_point_not_by_utf16(text: str) -> None:
    assert order_key(text + "\uffff") < order_key(text + "\U00010000")
