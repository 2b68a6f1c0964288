"""The rules of records: fields, values, times, ids, batches, patches."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import count
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from backdrop.domain.bucket import Bucket
from backdrop.domain.ids import made_id
from backdrop.domain.raw_row import SchemaCheck
from backdrop.domain.record import (
    Records,
    _parse_one_by_one,
    as_posted,
    parse_patch,
    parse_records,
)
from backdrop.domain.times import parse_instant
from backdrop.domain.values import INT64_MAX, INT64_MIN, Value
from backdrop.errors import MOST_PROBLEMS_LISTED, InvalidRecords, Problem
from tests.strategies import field_names, integers, values

BUCKET = Bucket(name="things")
KEYED = Bucket(name="keyed", auto_ids=("foo", "bar"))


def numbered() -> Iterator[str]:
    return (f"new-{n}" for n in count())


def parse(*raw: Any, bucket: Bucket = BUCKET, schema_check: SchemaCheck | None = None) -> Records:
    return parse_records(raw, bucket, new_ids=numbered(), schema_check=schema_check)


def refused(
    *raw: Any, bucket: Bucket = BUCKET, schema_check: SchemaCheck | None = None
) -> InvalidRecords:
    with pytest.raises(InvalidRecords) as caught:
        parse(*raw, bucket=bucket, schema_check=schema_check)
    return caught.value


def places(error: InvalidRecords) -> list[tuple[str, Any, Any]]:
    """(code, index, field) of each problem that is listed."""
    return [(p.code, p.where.get("index"), p.where.get("field")) for p in error.problems]


# -- what is accepted -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        "", "007", "true", "null", "é", "😀", "\0", " a b ", "x" * 100_000, 0, 5, -1, INT64_MAX,
        INT64_MIN, 0.5, 5.0, 1e300, 5e-324, True, False, None,
    ],
)  # fmt: skip
def test_a_scalar_stays_what_it_is(value: Any) -> None:
    (record,) = parse({"_id": "x", "aa": value}).rows
    assert type(record["aa"]) is type(value)
    assert record == {"_id": "x", "aa": value}


def test_minus_zero_keeps_its_sign() -> None:
    (record,) = parse({"aa": -0.0}).rows
    assert math.copysign(1, record["aa"]) == -1  # type: ignore[arg-type]


def test_names_that_differ_in_case_are_different_fields() -> None:
    (record,) = parse({"_id": "x", "fee": 1, "Fee": 2, "FEE": None}).rows
    assert record == {"_id": "x", "fee": 1, "Fee": 2, "FEE": None}


def test_time_fields_become_instants_in_utc() -> None:
    raw = {
        "_timestamp": "2013-01-01T01:00+01:00",
        "_start_at": "2013-01-01",
        "_end_at": "2013-01-01 00:00:00.5",
    }
    (record,) = parse({"_id": "x", **raw}).rows
    assert record == {
        "_id": "x",
        "_timestamp": datetime(2013, 1, 1, tzinfo=UTC),
        "_start_at": datetime(2013, 1, 1, tzinfo=UTC),
        "_end_at": datetime(2013, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC),
    }


def test_a_time_without_an_offset_is_utc_whatever_the_buckets_zone() -> None:
    bucket = Bucket(name="things", timezone="America/New_York")
    (record,) = parse({"_timestamp": "2013-01-01"}, bucket=bucket).rows
    assert record["_timestamp"] == datetime(2013, 1, 1, tzinfo=UTC)


def test_no_rows_are_no_records() -> None:
    assert parse() == Records({}, received=0, ids_are_new=True)


def test_the_raw_rows_are_left_as_they_were() -> None:
    raw = {"foo": "foo", "bar": "bar", "_timestamp": "2013-01-01"}
    before = dict(raw)
    parse(raw, bucket=KEYED)
    assert raw == before


@given(st.lists(st.dictionaries(field_names, values, min_size=1, max_size=5), max_size=5))
def test_every_flat_object_of_scalars_is_a_record(raw: list[dict[str, Any]]) -> None:
    found = parse(*raw)
    assert found.received == len(raw)
    assert [{k: v for k, v in row.items() if k != "_id"} for row in found.rows] == raw


# -- what is refused ------------------------------------------------------------------------

A_LOT = "x" * 200

REFUSED: tuple[tuple[Any, str, str | None], ...] = (
    # rows
    ([], "not_an_object", None),
    ([{"aa": 1}], "not_an_object", None),
    ("aa", "not_an_object", None),
    (5, "not_an_object", None),
    (True, "not_an_object", None),
    (None, "not_an_object", None),
    ({}, "empty_record", None),
    # names
    ({"": 1}, "invalid_field_name", ""),
    ({"a": 1}, "invalid_field_name", "a"),
    ({"_": 1}, "invalid_field_name", "_"),
    ({"1a": 1}, "invalid_field_name", "1a"),
    ({"a-b": 1}, "invalid_field_name", "a-b"),
    ({"a.b": 1}, "invalid_field_name", "a.b"),
    ({"$ab": 1}, "invalid_field_name", "$ab"),
    ({"a b": 1}, "invalid_field_name", "a b"),
    ({"aa\n": 1}, "invalid_field_name", "aa\\n"),
    ({"é1": 1}, "invalid_field_name", "é1"),
    ({"a\ud800": 1}, "invalid_field_name", "a\\ud800"),
    ({"x" * 65: 1}, "invalid_field_name", "x" * 65),
    ({A_LOT: 1}, "invalid_field_name", "x" * 80 + "…"),
    ({"_foo": 1}, "reserved_field", "_foo"),
    ({"__": 1}, "reserved_field", "__"),
    ({"_ID": "x"}, "reserved_field", "_ID"),
    ({"_Timestamp": "2013-01-01"}, "reserved_field", "_Timestamp"),
    ({"_updated_at": "2013-01-01"}, "reserved_field", "_updated_at"),
    ({"_count": 1}, "reserved_field", "_count"),
    # values
    ({"aa": []}, "invalid_value", "aa"),
    ({"aa": [1]}, "invalid_value", "aa"),
    ({"aa": {}}, "invalid_value", "aa"),
    ({"aa": {"bb": 1}}, "invalid_value", "aa"),
    ({"aa": b"bytes"}, "invalid_value", "aa"),
    ({"aa": math.nan}, "number_not_finite", "aa"),
    ({"aa": math.inf}, "number_not_finite", "aa"),
    ({"aa": -math.inf}, "number_not_finite", "aa"),
    ({"aa": INT64_MAX + 1}, "integer_out_of_range", "aa"),
    ({"aa": INT64_MIN - 1}, "integer_out_of_range", "aa"),
    ({"aa": 10**400}, "integer_out_of_range", "aa"),
    ({"aa": "\ud800"}, "invalid_string", "aa"),
    ({"aa": "a\udfffb"}, "invalid_string", "aa"),
    # times
    *(
        ({name: value}, "invalid_timestamp", name)
        for name in ("_timestamp", "_start_at", "_end_at")
        for value in ("31-11-12", "2013-02-30", "", 1356998400, 1.5, None, True, [], {}, "\ud800")
    ),
    # ids
    ({"_id": ""}, "invalid_id", "_id"),
    ({"_id": "x" * 513}, "invalid_id", "_id"),
    ({"_id": 5}, "invalid_id", "_id"),
    ({"_id": None}, "invalid_id", "_id"),
    ({"_id": True}, "invalid_id", "_id"),
    ({"_id": ["a"]}, "invalid_id", "_id"),
    *(
        ({"_id": f"a{blank}b"}, "invalid_id", "_id")
        for blank in " \t\n\r\v\f\x1c\x85\xa0\u2003\u2028\u3000"
    ),
    ({"_id": " a"}, "invalid_id", "_id"),
    ({"_id": "a\ud800"}, "invalid_string", "_id"),
)


@pytest.mark.parametrize(("raw", "code", "field"), REFUSED)
def test_a_breach_is_named_by_code_index_and_field(raw: Any, code: str, field: str | None) -> None:
    error = refused({"good": 1}, raw, {"good": 2})
    assert places(error) == [(code, 1, field)]
    assert error.count == 1
    (problem,) = error.problems
    assert problem.message
    assert problem.message in error.message
    json.dumps(problem.as_json()).encode()
    error.message.encode()  # what is said can be sent
    assert len(problem.message) < 400


@pytest.mark.parametrize(
    "accepted",
    ["x", "x" * 512, "é" * 512, "😀", "a/b", "a.b", "%20", "'", '"', "\0", "\\", "\u200b", "new-0"],
)
def test_an_id_has_1_to_512_characters_without_white_space(accepted: str) -> None:
    assert parse({"_id": accepted}).rows == [{"_id": accepted}]


@pytest.mark.parametrize("space", [chr(code) for code in range(0x11000) if chr(code).isspace()])
def test_an_id_with_white_space_anywhere_is_refused(space: str) -> None:
    for refused_id in (f"{space}x", f"x{space}x", f"x{space}", space):
        error = refused({"_id": "good"}, {"_id": refused_id}, {"_id": "better"})
        assert places(error) == [("invalid_id", 1, "_id")]


def test_every_problem_of_every_record_is_listed() -> None:
    error = refused(
        {"aa": [], "bb": math.nan, "cc": 1},
        {"good": 1},
        {"_timestamp": "x", "_id": "", "_nope": 1, "1x": 2},
        {},
        "text",
    )
    assert places(error) == [
        ("invalid_value", 0, "aa"),
        ("number_not_finite", 0, "bb"),
        ("invalid_timestamp", 2, "_timestamp"),
        ("invalid_id", 2, "_id"),
        ("reserved_field", 2, "_nope"),
        ("invalid_field_name", 2, "1x"),
        ("empty_record", 3, None),
        ("not_an_object", 4, None),
    ]
    assert error.count == 8


def test_a_bad_value_of_a_bad_name_is_one_problem() -> None:
    assert places(refused({"_nope": []})) == [("reserved_field", 0, "_nope")]


@pytest.mark.parametrize("bad", [99, 100, 101, 250])
def test_the_first_100_problems_are_listed_and_all_are_counted(bad: int) -> None:
    error = refused(*({"aa": []} for _ in range(bad)))
    assert error.count == bad
    assert len(error.problems) == min(bad, MOST_PROBLEMS_LISTED) == min(bad, 100)
    assert [p.where["index"] for p in error.problems] == list(range(min(bad, 100)))


def test_the_first_100_are_counted_within_a_record_too() -> None:
    error = refused({"aa": []}, {f"f{n}": [] for n in range(150)}, {"bb": []})
    assert error.count == 152
    assert len(error.problems) == 100
    assert {p.where["index"] for p in error.problems} == {0, 1}


def test_the_message_says_how_many_and_the_first() -> None:
    one = refused({"aa": []})
    assert one.message == f"nothing was stored: 1 problem in 1 record; the first: {_said(one)}"
    two = refused({"aa": []}, {"aa": []}, {"aa": 1})
    assert two.message == f"nothing was stored: 2 problems in 3 records; the first: {_said(two)}"


def _said(error: InvalidRecords) -> str:
    return error.problems[0].message


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=8,
)
likely_names = st.one_of(
    st.text(max_size=5), field_names, st.sampled_from(["_id", "_timestamp", "_start_at", "_end_at"])
)


@given(
    st.lists(st.one_of(json_values, st.dictionaries(likely_names, json_values, max_size=4))),
    st.sampled_from([BUCKET, KEYED]),
)
def test_any_json_is_records_or_invalid_records(raw: list[Any], bucket: Bucket) -> None:
    try:
        found = parse(*raw, bucket=bucket)
    except InvalidRecords as caught:
        error = caught
    else:
        assert found.received == len(raw)
        ids = [row["_id"] for row in found.rows]
        assert len(set(ids)) == len(ids)
        return
    assert 1 <= len(error.problems) <= error.count
    for problem in error.problems:
        assert 0 <= int(problem.where["index"]) < len(raw)
        json.dumps(problem.as_json()).encode()


# -- ids ------------------------------------------------------------------------------------


def test_without_an_id_a_new_one_is_taken() -> None:
    found = parse({"aa": 1}, {"aa": 2})
    assert found.rows == [{"aa": 1, "_id": "new-0"}, {"aa": 2, "_id": "new-1"}]
    assert (found.received, found.ids_are_new) == (2, True)


def test_ids_are_not_new_where_one_was_given() -> None:
    assert not parse({"aa": 1}, {"_id": "x"}).ids_are_new
    assert not parse({"_id": "x"}).ids_are_new
    assert not parse({"foo": 1, "bar": 1}, bucket=KEYED).ids_are_new


def test_of_one_id_in_a_batch_the_last_wins_in_the_last_place() -> None:
    found = parse({"_id": "x", "aa": 1}, {"_id": "y", "aa": 2}, {"_id": "x", "bb": 3}, {"_id": "z"})
    assert found.rows == [{"_id": "y", "aa": 2}, {"_id": "x", "bb": 3}, {"_id": "z"}]
    assert found.received == 4


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_the_contracts_example_of_an_automatic_id() -> None:
    (record,) = parse({"foo": "foo", "bar": "bar"}, bucket=KEYED).rows
    assert record["_id"] == "Zm9vLmJhcg=="


AUTO_IDS: tuple[tuple[Any, Any, str], ...] = (
    ("foo", "bar", "foo.bar"),
    ("", "", "."),
    ("a.b", "c", r"a\.b.c"),
    ("a", "b.c", r"a.b\.c"),
    ("a\\", "b", r"a\\.b"),
    ("a\\.b", "", r"a\\\.b."),
    ("é", "😀", "é.😀"),
    ("\xff\xfe>", "?~", "\xff\xfe>.?~"),  # + and / of the standard alphabet
    (1, -2, "1.-2"),
    (True, False, "true.false"),
    (None, "x", "null.x"),
    (INT64_MAX, INT64_MIN, f"{INT64_MAX}.{INT64_MIN}"),
    ("a\nb", '"', 'a\nb."'),
)


@pytest.mark.parametrize(("foo", "bar", "joined"), AUTO_IDS)
def test_an_automatic_id_is_base64_of_the_values_joined(foo: Any, bar: Any, joined: str) -> None:
    (record,) = parse({"bar": bar, "foo": foo, "other": 1}, bucket=KEYED).rows
    assert record["_id"] == b64(joined)
    assert made_id({"foo": foo, "bar": bar}, ("foo", "bar")) == b64(joined)


def test_time_fields_join_in_the_form_in_which_they_are_given_back() -> None:
    bucket = Bucket(name="keyed", auto_ids=("_timestamp", "foo"))
    for text in ("2013-01-01", "2013-01-01T01:00+01:00", "2013-01-01 00:00:00.000Z"):
        (record,) = parse({"_timestamp": text, "foo": "x"}, bucket=bucket).rows
        assert record["_id"] == b64("2013-01-01T00:00:00+00:00.x")
    (record,) = parse({"_timestamp": "2013-01-01 00:00:00.25", "foo": "x"}, bucket=bucket).rows
    assert record["_id"] == b64("2013-01-01T00:00:00.250000+00:00.x")


@pytest.mark.parametrize("value", [5, -1, 0, True, False, None, INT64_MAX, INT64_MIN])
def test_a_string_that_spells_a_value_makes_the_id_of_that_value(value: Any) -> None:
    spelt = json.dumps(value)
    assert made_id({"foo": value}, ["foo"]) == made_id({"foo": spelt}, ["foo"])


key_values = st.one_of(
    st.text(alphabet=".\\a1", max_size=4), st.text(max_size=3), integers, st.booleans(), st.none()
)


def _meant(value: Any) -> str:
    """3.3: a string that spells a number, true, false or null is the same key as that value."""
    return value if isinstance(value, str) else json.dumps(value)


@given(st.data())
def test_different_keys_never_meet(data: st.DataObject) -> None:
    """Law of 3.3, for keys of strings, integers, booleans and nulls."""
    width = data.draw(st.integers(1, 3))
    keys = st.lists(key_values, min_size=width, max_size=width)
    one, other = data.draw(keys), data.draw(keys)
    names = [f"f{n}" for n in range(width)]
    ids = [made_id(dict(zip(names, key, strict=True)), names) for key in (one, other)]
    assert (ids[0] == ids[1]) == (list(map(_meant, one)) == list(map(_meant, other)))


@given(st.lists(st.text(alphabet=".\\a", max_size=3), min_size=2, max_size=2))
@example(["a.b", "c"])
@example(["a\\", ".b"])
def test_the_values_can_be_read_back_from_the_id(key: list[str]) -> None:
    """Oracle: unescape character by character."""
    text = base64.b64decode(made_id(dict(zip("ab", key, strict=True)), "ab")).decode()
    parts, current, characters = [], "", iter(text)
    for character in characters:
        if character == "\\":
            current += next(characters)
        elif character == ".":
            parts.append(current)
            current = ""
        else:
            current += character
    assert [*parts, current] == key


def test_only_the_points_of_strings_are_escaped() -> None:
    """A float stands as its JSON, so its point may meet the one that joins: keys want no floats."""
    assert made_id({"foo": 1.5}, ["foo"]) == base64.b64encode(b"1.5").decode()
    assert made_id({"foo": "1.5"}, ["foo"]) == base64.b64encode(b"1\\.5").decode()
    one, other = {"foo": 1.5, "bar": 2}, {"foo": 1, "bar": 5.2}
    assert made_id(one, ("foo", "bar")) == made_id(other, ("foo", "bar"))


def test_a_record_that_lacks_a_field_of_its_id_is_refused() -> None:
    error = refused({"foo": "x"}, {"foo": "x", "bar": None}, {"other": 1}, bucket=KEYED)
    assert places(error) == [("missing_field", 0, "bar"), ("missing_field", 2, "foo")]


def test_a_missing_time_of_an_id_is_refused() -> None:
    bucket = Bucket(name="keyed", auto_ids=("_timestamp",))
    assert places(refused({"foo": 1}, bucket=bucket)) == [("missing_field", 0, "_timestamp")]


def test_an_own_id_must_be_the_one_made() -> None:
    own = {"foo": "foo", "bar": "bar", "_id": "Zm9vLmJhcg=="}
    assert parse(own, bucket=KEYED).rows == [own]
    error = refused({**own, "_id": "mine"}, bucket=KEYED)
    assert places(error) == [("id_mismatch", 0, "_id")]
    assert "Zm9vLmJhcg==" in error.problems[0].message


def test_of_one_automatic_id_the_last_wins() -> None:
    found = parse({"foo": 1, "bar": 2, "aa": 1}, {"foo": "1", "bar": "2", "aa": 2}, bucket=KEYED)
    assert [row["aa"] for row in found.rows] == [2]
    assert found.received == 2


def test_an_automatic_id_past_512_characters_is_refused() -> None:
    fits, too_long = "x" * 382, "x" * 383  # with ".y": 384 bytes make 512 characters
    (record,) = parse({"foo": fits, "bar": "y"}, bucket=KEYED).rows
    assert len(str(record["_id"])) == 512
    error = refused({"foo": too_long, "bar": "y"}, bucket=KEYED)
    assert places(error) == [("invalid_id", 0, "_id")]


# -- the schema -----------------------------------------------------------------------------


def wants_aa(record: Mapping[str, Any]) -> Sequence[tuple[str | None, str]]:
    return [] if record.get("aa") == 1 else [(None, "no aa"), ("aa", "not 1")]


def test_the_schemas_violations_are_problems_of_the_record() -> None:
    error = refused({"aa": 1}, {"aa": 2}, {"bb": []}, schema_check=wants_aa)
    assert places(error) == [
        ("schema_violation", 1, None),
        ("schema_violation", 1, "aa"),
        ("invalid_value", 2, "bb"),
    ]
    assert [p.message for p in error.problems][:2] == ["no aa", "not 1"]


def test_what_is_wrong_with_the_id_is_listed_too() -> None:
    """Beside breaches of the schema and bad fields, where these do not make the id themselves."""
    error = refused(
        {"aa": 2},
        {"foo": 1, "bar": 2, "_id": "other", "aa": []},
        {"foo": [], "aa": 1},
        {},
        bucket=KEYED,
        schema_check=wants_aa,
    )
    assert places(error) == [
        ("schema_violation", 0, None),
        ("schema_violation", 0, "aa"),
        ("missing_field", 0, "foo"),
        ("invalid_value", 1, "aa"),
        ("id_mismatch", 1, "_id"),
        ("invalid_value", 2, "foo"),
        ("empty_record", 3, None),
    ]


def test_the_schema_sees_the_record_as_it_was_posted() -> None:
    seen: list[Mapping[str, Any]] = []

    def check(record: Mapping[str, Any]) -> Sequence[tuple[str | None, str]]:
        seen.append(dict(record))
        return ()

    parse({"_timestamp": "2013-01-01", "foo": 1, "bar": 2}, bucket=KEYED, schema_check=check)
    assert seen == [{"_timestamp": "2013-01-01", "foo": 1, "bar": 2}]


# -- patches --------------------------------------------------------------------------------

STORED: dict[str, Any] = {
    "_id": "x",
    "_timestamp": parse_instant("2013-01-01"),
    "aa": 1,
    "bb": "text",
}


def patch_refused(
    raw: Any,
    stored: Mapping[str, Any] = STORED,
    bucket: Bucket = BUCKET,
    schema_check: SchemaCheck | None = None,
) -> InvalidRecords:
    with pytest.raises(InvalidRecords) as caught:
        parse_patch(dict(stored), raw, bucket, schema_check=schema_check)
    return caught.value


def test_a_patch_merges_its_fields_into_the_record() -> None:
    stored = dict(STORED)
    merged = parse_patch(stored, {"aa": None, "cc": 2.5}, BUCKET)
    assert merged == {**STORED, "aa": None, "cc": 2.5}
    assert stored == STORED, "the stored record itself is not changed"


def test_a_patch_may_move_the_times() -> None:
    changes = {"_timestamp": "2014-01-01", "_end_at": "2015-01-01"}
    merged = parse_patch(dict(STORED), changes, BUCKET)
    assert merged["_timestamp"] == parse_instant("2014-01-01")
    assert merged["_end_at"] == parse_instant("2015-01-01")


@pytest.mark.parametrize(
    ("raw", "code", "field"), [row for row in REFUSED if "_id" not in str(row[2])]
)
def test_a_patch_is_checked_like_a_record(raw: Any, code: str, field: str | None) -> None:
    error = patch_refused(raw)
    assert places(error) == [(code, 0, field)]
    assert error.count == 1


def test_every_problem_of_a_patch_is_listed() -> None:
    error = patch_refused({"aa": [], "_timestamp": 5, "_nope": 1})
    assert [code for code, _, _ in places(error)] == [
        "invalid_value",
        "invalid_timestamp",
        "reserved_field",
    ]
    many = patch_refused({f"f{n}": [] for n in range(150)})
    assert (len(many.problems), many.count) == (100, 150)


def test_a_patch_cannot_change_the_id() -> None:
    assert places(patch_refused({"_id": "y"})) == [("id_mismatch", 0, "_id")]
    assert places(patch_refused({"_id": None})) == [("invalid_id", 0, "_id")]
    assert parse_patch(dict(STORED), {"_id": "x", "aa": 2}, BUCKET) == {**STORED, "aa": 2}


KEYED_STORED: dict[str, Any] = {"_id": "Zm9vLmJhcg==", "foo": "foo", "bar": "bar", "aa": 1}


def test_a_patch_cannot_change_what_makes_the_id() -> None:
    error = patch_refused({"foo": "other", "bar": None, "aa": 2}, KEYED_STORED, KEYED)
    assert places(error) == [("id_mismatch", 0, "foo"), ("id_mismatch", 0, "bar")]


@pytest.mark.parametrize(
    ("stored", "changed"), [(5, "5"), ("true", True), (1, True), (2, 2.0), (0.0, -0.0)]
)
def test_a_patch_cannot_change_its_type_either(stored: Value, changed: Value) -> None:
    """Also where both make the same id."""
    record = {"_id": "any", "foo": stored, "bar": "bar"}
    assert places(patch_refused({"foo": changed}, record, KEYED)) == [("id_mismatch", 0, "foo")]


def test_a_patch_may_repeat_what_makes_the_id() -> None:
    merged = parse_patch(dict(KEYED_STORED), {"foo": "foo", "aa": 2}, KEYED)
    assert merged == {**KEYED_STORED, "aa": 2}


def test_a_patch_cannot_give_a_record_from_before_auto_ids_what_would_make_its_id() -> None:
    assert places(patch_refused({"foo": "foo"}, {"_id": "x", "aa": 1}, KEYED)) == [
        ("id_mismatch", 0, "foo")
    ]


def test_the_merged_record_must_satisfy_the_schema() -> None:
    assert parse_patch({"_id": "x", "aa": 2}, {"aa": 1}, BUCKET, schema_check=wants_aa)
    error = patch_refused({"aa": 2}, {"_id": "x", "aa": 1}, schema_check=wants_aa)
    assert places(error) == [("schema_violation", 0, None), ("schema_violation", 0, "aa")]


def test_the_schema_of_a_patch_may_want_the_id_or_refuse_it() -> None:
    def no_id(record: Mapping[str, Any]) -> Sequence[tuple[str | None, str]]:
        return [("_id", "no _id here")] if "_id" in record else []

    def own_id(record: Mapping[str, Any]) -> Sequence[tuple[str | None, str]]:
        return [] if "_id" in record else [("_id", "needs an _id")]

    for check in (no_id, own_id):
        assert parse_patch({"_id": "x"}, {"aa": 1}, BUCKET, schema_check=check)


def test_the_schema_of_a_patch_sees_times_as_they_are_given_back() -> None:
    seen: list[Mapping[str, Any]] = []

    def check(record: Mapping[str, Any]) -> Sequence[tuple[str | None, str]]:
        seen.append(dict(record))
        return ()

    parse_patch(dict(STORED), {"aa": 2}, BUCKET, schema_check=check)
    assert seen[0]["_timestamp"] == "2013-01-01T00:00:00+00:00"


@given(
    st.dictionaries(field_names, values, max_size=4),
    st.dictionaries(field_names, values, min_size=1, max_size=4),
)
def test_a_patch_is_the_union_in_which_the_new_wins(
    stored: dict[str, Any], changes: dict[str, Any]
) -> None:
    assert parse_patch({"_id": "x", **stored}, changes, BUCKET) == {"_id": "x", **stored, **changes}


def test_as_posted_gives_times_back_as_text() -> None:
    assert as_posted(STORED) == {**STORED, "_timestamp": "2013-01-01T00:00:00+00:00"}


def test_a_problem_stands_in_an_answer_by_its_code_place_and_message() -> None:
    problem = Problem("invalid_value", "aa is wrong", {"index": 3, "field": "aa"})
    assert problem.as_json() == {
        "code": "invalid_value",
        "index": 3,
        "field": "aa",
        "message": "aa is wrong",
    }


# -- by columns -----------------------------------------------------------------------------

_odd = st.sampled_from(
    [
        *(2**63, -(2**63) - 1, 2**63 - 1, float("nan"), float("inf"), "\ud800", "\ud83d\ude00"),
        *("2013-01-01", "2013-02-30", "2013-01-01T10:00:00+05:30", "a b", "", "x" * 513, True),
        *([], {}),
    ]
)
_cells = st.one_of(_odd, st.sampled_from([None, 1, 1.5, "a", "é", False]))
_names = st.sampled_from(["foo", "bar", "_id", "_timestamp", "_end_at", "_other", "a", "9x", "Foo"])
_batches = st.lists(
    st.one_of(
        st.dictionaries(st.sampled_from(["foo", "bar", "Foo"]), _cells, max_size=3),
        st.dictionaries(_names, _cells, max_size=4),
        st.fixed_dictionaries(
            {"foo": st.sampled_from(["a", "a.b", 1, "1", None]), "bar": st.just("x")},
            optional={"_timestamp": st.just("2013-01-01T10:00:00Z"), "_id": st.just("eHg=")},
        ),
        st.just([]),
    ),
    max_size=4,
)


@given(raw=_batches, keyed=st.booleans(), strict=st.booleans())
def test_by_columns_is_only_a_shorter_way(raw: list[Any], keyed: bool, strict: bool) -> None:
    """A batch comes to the same, looked at by columns or record by record: records or problems."""

    def check(row: Any) -> list[tuple[str | None, str]]:
        return [("foo", "foo is missing")] if "foo" not in row else []

    bucket = KEYED if keyed else Bucket(name="things")
    schema_check = check if strict else None

    def outcome(parse_batch: Any) -> Any:
        try:
            found = parse_batch()
        except InvalidRecords as error:
            return ("refused", error.message, error.problems, error.count)
        return (found.rows, found.received, found.ids_are_new)

    assert outcome(
        lambda: parse_records(raw, bucket, new_ids=numbered(), schema_check=schema_check)
    ) == outcome(lambda: _parse_one_by_one(raw, bucket, numbered(), schema_check))


@pytest.mark.parametrize("others", [[], [{"aa": "x"}]], ids=["alone", "among others"])
def test_fields_that_make_an_empty_id_are_refused(others: list[dict[str, str]]) -> None:
    """One empty string makes one: no record could be reached by it."""
    bucket = Bucket(name="things", auto_ids=("aa",))
    with pytest.raises(InvalidRecords) as caught:
        parse_records([*others, {"aa": ""}], bucket, new_ids=iter(()))
    (problem,) = caught.value.problems
    assert problem.code == "invalid_id"
    assert problem.where["index"] == len(others)
