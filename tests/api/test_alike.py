"""Rows that are alike, read by columns: the same values as read one by one, or nothing."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backdrop.api.alike import decode_alike
from backdrop.api.decode import parse_rows
from backdrop.domain.table import RawTable

_ROW = {"_id": "a", "fee": 1, "rate": 0.5, "open": True, "none": None}

_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
)
_names = st.sampled_from(["_id", "_timestamp", "fee", "Fee", "x", "a b", 'q"', "b\\", "é", "{}"])
_rows = st.lists(st.dictionaries(_names, _scalars | st.lists(_scalars), max_size=4), max_size=6)


def exactly(rows: Any) -> list[list[str]]:
    """Rows so that 1, 1.0 and true differ, and the order of fields does not count."""
    return [sorted(f"{name!r}: {value!r}" for name, value in row.items()) for row in rows]


@given(_rows)
def test_what_is_read_by_columns_is_what_is_read_row_by_row(rows: list[dict[str, Any]]) -> None:
    data = json.dumps(rows).encode()
    table = decode_alike(data)
    if table is not None:
        assert len(table) == len(rows)
        assert exactly(table) == exactly(msgspec.json.decode(data))
        for name, kind in table.kinds.items():
            assert set(map(type, table.columns[name])) == {kind}


@given(st.lists(st.fixed_dictionaries({name: st.none() | st.just(one) for name, one in _ROW.items()}, optional={})))  # fmt: skip  # noqa: E501
def test_rows_like_the_first_are_read_by_columns(rows: list[dict[str, Any]]) -> None:
    """With nulls anywhere, and whichever number comes first."""
    data = json.dumps([_ROW, *rows, {**_ROW, "fee": 1.5, "rate": 2}]).encode()
    table = decode_alike(data)
    assert table is not None
    assert exactly(table) == exactly(msgspec.json.decode(data))


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [{}],
        [_ROW, {"other": 1}],
        [_ROW, {**_ROW, "fee": "1"}],
        [_ROW, {**_ROW, "fee": True}],
        [_ROW, {**_ROW, "open": 1}],
        [_ROW, {**_ROW, "_id": 1}],
        [_ROW, {**_ROW, "fee": [1]}],
        [_ROW, 5],
        [{"fee": {"aa": 1}}],
        [{f"field_{n}": n for n in range(65)}],
        [{"no name": 1}],
        _ROW,
        "{}",
    ],
)
def test_rows_that_are_not_alike_are_left_to_be_read_one_by_one(rows: Any) -> None:
    assert decode_alike(json.dumps(rows).encode()) is None


@pytest.mark.parametrize("rest", [b"", b",", b",]", b"]]", b',{"_id":"\xff"}]', b',{"_id":NaN}]'])
def test_what_is_not_json_is_left_to_who_says_why(rest: bytes) -> None:
    assert decode_alike(b'[{"_id":"a"}' + rest) is None


def test_which_types_are_sure_is_told() -> None:
    """Of texts and booleans that no row lacks; a number may be of either kind."""
    rows = [_ROW, {**_ROW, "_id": "b"}]
    table = decode_alike(json.dumps(rows).encode())
    assert table is not None
    assert table.kinds == {"_id": str, "open": bool}
    with_gap = decode_alike(json.dumps([*rows, {"_id": "c"}]).encode())
    assert with_gap is not None
    assert with_gap.kinds == {}


def test_a_table_of_gaps_is_not_made() -> None:
    """A row of 64 fields and thousands of none would take a hundred times the room of the data."""
    wide = {f"field_{n}": n for n in range(64)}
    assert decode_alike(json.dumps([wide, *[{}] * 1_000]).encode()) is None
    assert decode_alike(json.dumps([wide, *[wide] * 100, {}]).encode()) is not None


def test_a_body_of_many_rows_is_read_by_columns() -> None:
    rows = [{**_ROW, "_id": f"id-{n}"} for n in range(100)]
    table = parse_rows(json.dumps(rows).encode())
    assert isinstance(table, RawTable)
    assert list(table) == rows
