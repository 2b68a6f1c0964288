"""Bodies: limits, unpacking, JSON with its places, and what passes to be named by record."""

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st

from backdrop.api.body import (
    Encoding,
    Limits,
    SentBody,
    content_encoding,
    refuse_other_content,
    unpack,
)
from backdrop.api.decode import parse_row, parse_rows, parse_settings
from backdrop.domain.bucket import Bucket
from backdrop.domain.record import parse_records
from backdrop.errors import BodyTooLarge, InvalidBody, InvalidRecords, UnsupportedMediaType

LIMITS = Limits(body_as_sent=10_000, body_unpacked=10_000)

PACKERS: dict[Encoding, Any] = {
    "identity": bytes,
    "gzip": gzip.compress,
    "zstd": zstandard.compress,
}


# -- headers --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        'application/json;charset="UTF-8"',
        "application/json; profile=x; charset=utf8",
    ],
)
def test_json_in_utf_8_is_read(header: str) -> None:
    """The type is JSON's, in any case, with any parameter but another charset."""
    refuse_other_content(header)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonx",
        "application/vnd.api+json",
        "application/json; charset=latin-1",
        "application/json, text/plain",
    ],
)
def test_other_content_is_refused_with_what_to_send(header: str | None) -> None:
    """Another type names what came, what was expected, and how to say so with curl."""
    with pytest.raises(UnsupportedMediaType, match="application/json") as caught:
        refuse_other_content(header)
    assert "-H 'Content-Type: application/json'" in caught.value.message


@pytest.mark.parametrize(
    ("header", "encoding"),
    [
        (None, "identity"),
        ("identity", "identity"),
        ("gzip", "gzip"),
        ("X-GZIP", "gzip"),
        (" zstd ", "zstd"),
    ],
)
def test_encodings_by_name(header: str | None, encoding: str) -> None:
    """The known names of packings are taken in any case."""
    assert content_encoding(header) == encoding


@pytest.mark.parametrize("header", ["br", "deflate", "gzip, zstd", "gzip;q=1"])
def test_unknown_encodings_are_refused(header: str) -> None:
    """A packing that can't be undone is refused, with those that can."""
    with pytest.raises(UnsupportedMediaType, match="gzip, zstd"):
        content_encoding(header)


# -- unpacking ------------------------------------------------------------------------------


@given(data=st.binary(max_size=3_000), parts=st.integers(1, 4))
@pytest.mark.parametrize("encoding", PACKERS)
def test_packed_data_comes_back(encoding: Encoding, data: bytes, parts: int) -> None:
    """What was packed comes back, also in several members or frames one after another."""
    packed = PACKERS[encoding](data) * parts
    if packed:
        assert unpack(SentBody(packed, encoding), LIMITS) == data * parts


@given(st.sampled_from(["gzip", "zstd"]), st.binary(min_size=1, max_size=200))
def test_any_bytes_unpack_or_are_refused(encoding: Encoding, data: bytes) -> None:
    """Bytes that are not packed so raise InvalidBody and nothing else."""
    try:
        unpack(SentBody(data, encoding), LIMITS)
    except InvalidBody as error:
        assert encoding in error.message  # noqa: PT017


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
@pytest.mark.parametrize("cut", [1, 3, 9])
def test_cut_data_is_refused(encoding: Encoding, cut: int) -> None:
    """Data that ends before it is whole is refused, though all that came was good."""
    packed = PACKERS[encoding](b"[1,2,3]" * 50)
    with pytest.raises(InvalidBody, match="ends too early"):
        unpack(SentBody(packed[:-cut], encoding), LIMITS)


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_rubbish_after_the_data_is_refused(encoding: Encoding) -> None:
    """What follows the packed data must be packed data too."""
    with pytest.raises(InvalidBody):
        unpack(SentBody(PACKERS[encoding](b"[]") + b"rubbish that is long", encoding), LIMITS)


def test_zeros_after_gzip_data_are_padding() -> None:
    """Zeros may fill up a gzip file."""
    assert unpack(SentBody(gzip.compress(b"[]") + bytes(600), "gzip"), LIMITS) == b"[]"


@pytest.mark.parametrize("encoding", PACKERS)
def test_the_unpacked_limit_is_exact(encoding: Encoding) -> None:
    """As many bytes as the limit pass; one more does not."""
    most = LIMITS.body_unpacked
    assert len(unpack(SentBody(PACKERS[encoding](bytes(most)), encoding), LIMITS)) == most
    with pytest.raises(BodyTooLarge, match="unpacked"):
        unpack(SentBody(PACKERS[encoding](bytes(most + 1)), encoding), LIMITS)


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_bomb_stops_at_the_limit(encoding: Encoding) -> None:
    """What would unpack to a gigabyte is given up after a few steps."""
    bomb = b"".join([PACKERS[encoding](bytes(2**24))] * 64)
    with pytest.raises(BodyTooLarge):
        unpack(SentBody(bomb, encoding), Limits(body_unpacked=2**20))


def test_a_frame_as_large_as_the_limit_can_be_read() -> None:
    """A frame whose window is all of its content, as one-shot compressors make it."""
    data = bytes(20 * 2**20)
    assert unpack(SentBody(zstandard.compress(data), "zstd"), Limits()) == data


# -- JSON -----------------------------------------------------------------------------------


def test_one_object_counts_as_an_array_of_one() -> None:
    """An object and an array of it are the same rows."""
    assert parse_rows(b'{"aa":1}') == parse_rows(b' [{"aa":1}] ') == [{"aa": 1}]
    assert parse_rows(b"[]") == []
    assert parse_row(b'{"aa":1}') == {"aa": 1}


def test_a_byte_order_mark_is_skipped() -> None:
    """Some tools put one before UTF-8; it is not data."""
    assert parse_rows(b"\xef\xbb\xbf[]") == []


def test_numbers_come_as_they_stand() -> None:
    """Integers stay integers and floats floats, also past 53 bits."""
    rows = parse_rows(b'[{"aa":5,"bb":5.0,"cc":9007199254740993,"dd":1e2}]')
    assert [(type(v), v) for v in rows[0].values()] == [
        (int, 5),
        (float, 5.0),
        (int, 9007199254740993),
        (float, 100.0),
    ]


@pytest.mark.parametrize("data", [b"", b"  \n", b"\xef\xbb\xbf", b"\xef\xbb\xbf \t"])
def test_an_empty_body_is_refused_for_records_and_no_settings(data: bytes) -> None:
    """Nothing is no record; for settings it is the same as {}."""
    with pytest.raises(InvalidBody, match="empty"):
        parse_rows(data)
    if not data.startswith(b"\xef"):
        assert parse_settings(data) == {}


@pytest.mark.parametrize("data", [b"1", b'"text"', b"null", b"true", b"-0.5", b"NaN", b"[NaN]"])
def test_other_json_at_the_top_is_refused(data: bytes) -> None:
    """A body is an object or an array, and NaN alone is not JSON."""
    with pytest.raises(InvalidBody):
        parse_rows(data)


@pytest.mark.parametrize("parse", [parse_row, parse_settings])
def test_where_one_object_is_needed_an_array_is_refused(parse: Any) -> None:
    """PATCH and the admin API take one object."""
    with pytest.raises(InvalidBody, match="one JSON object"):
        parse(b"[]")


PLACES = (
    (b"[1,\n 2,,]", 2, 4),
    (b'{"aa" 1}', 1, 7),
    (b"{", 1, 2),
    (b"[1]x", 1, 4),
    (b"\n\n  [01]", 3, 5),
    (b'["\xc3\xa9\xc3\xa9", \xff]', 1, 8),
    (b"[1,\n\xff]", 2, 1),
    (b'["a\nb"]', 1, 4),
    (b"{'aa': 1}", 1, 2),
)


@pytest.mark.parametrize(("data", "line", "column"), PLACES)
def test_broken_json_is_refused_with_its_place(data: bytes, line: int, column: int) -> None:
    """The line and the column, counted in characters from 1, stand in words and as data."""
    with pytest.raises(InvalidBody) as caught:
        parse_rows(data)
    assert caught.value.problems[0].where == {"line": line, "column": column}
    assert f"line {line}, column {column}" in caught.value.message


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 100_000,
        b'[{"aa":' + b"[" * 5_000 + b"]" * 5_000 + b"}]",
        b'[{"aa":' + b"9" * 5_000 + b"}]",
        b'{"aa":NaN,"aa":1}',
        b'[{"aa":Infinity,"aa":1},{"bb":2}]',
        b'{"aa":"\\ud800","aa":"x"}',
        b'{"aa":1e999,"aa":1}',
    ],
)
def test_what_json_has_not_never_passes_as_something_else(data: bytes) -> None:
    """Nesting and digits without end, and a NaN that a later value would hide, are refused."""
    with pytest.raises(InvalidBody):
        parse_rows(data)


NAMED_BY_RECORD = (
    (b'[{"aa":1},{"bb":NaN}]', "number_not_finite", 1, "bb"),
    (b'{"bb":-Infinity}', "number_not_finite", 0, "bb"),
    (b'[{"bb":1e400}]', "number_not_finite", 0, "bb"),
    (b'[{"bb":"\\ud800"}]', "invalid_string", 0, "bb"),
    (b'[{"bb":18446744073709551616}]', "integer_out_of_range", 0, "bb"),
    (b'[{"bb":' + b"9" * 400 + b"}]", "integer_out_of_range", 0, "bb"),
    (b'[{"bb":[NaN]}]', "invalid_value", 0, "bb"),
    (b'[{"\\udc00":1}]', "invalid_field_name", 0, "\\udc00"),
)


@pytest.mark.parametrize(("data", "code", "index", "field"), NAMED_BY_RECORD)
def test_refused_values_are_named_by_record_and_field(
    data: bytes, code: str, index: int, field: str
) -> None:
    """What records may not hold passes the body, so that its record and field can be named."""
    with pytest.raises(InvalidRecords) as caught:
        parse_records(parse_rows(data), Bucket(name="things"), new_ids=iter("x"))
    problem = caught.value.problems[0]
    assert (problem.code, problem.where) == (code, {"index": index, "field": field})


@pytest.mark.parametrize("data", [b'{"aa":NaN}', b'{"aa":"\\ud800"}', b'{"aa":1e400}'])
def test_settings_are_json_alone(data: bytes) -> None:
    """Nothing after the body would refuse a NaN in settings, so the body does."""
    with pytest.raises(InvalidBody, match="not JSON"):
        parse_settings(data)


_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(alphabet=st.characters(), max_size=5),
)
_near_json = st.one_of(
    st.binary(max_size=40),
    st.text(alphabet='{}[],:"\\ud8NaNInfinity0123456789.eE+-truefalsnu \n', max_size=60).map(
        lambda text: text.encode(errors="surrogatepass")
    ),
    st.recursive(
        _scalars,
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
        ),
        max_leaves=6,
    ).map(lambda value: json.dumps(value).encode()),
)


@given(_near_json)
@example(b'[{"aa":NaN,"aa":1}]')
def test_any_bytes_are_rows_of_json_or_are_refused(data: bytes) -> None:
    """Bytes give rows or InvalidBody; and rows that JSON doesn't have, records refuse."""
    try:
        rows = parse_rows(data)
    except InvalidBody as error:
        assert error.problems  # noqa: PT017
        return
    text = data.removeprefix(b"\xef\xbb\xbf").decode()
    lenient: list[str] = []

    def constant(name: str) -> float:
        lenient.append(name)
        return float(name)

    value = json.loads(text, parse_constant=constant)
    assert repr(rows) == repr([value] if isinstance(value, dict) else value)
    if lenient:
        ids = (str(n) for n in count())
        with pytest.raises(InvalidRecords):
            parse_records(rows, Bucket(name="things"), new_ids=ids)


def test_gzip_levels_and_headers_are_all_read() -> None:
    """A gzip stream with a name in its header, and one of stored blocks."""
    packer = zlib.compressobj(0, zlib.DEFLATED, 31)
    stored = packer.compress(b"[]") + packer.flush()
    assert unpack(SentBody(stored, "gzip"), LIMITS) == b"[]"


# -- what grows, and what is many ---------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_body_may_grow_so_many_times(encoding: Encoding) -> None:
    """Where a bound is set; the message names it. Without one, what grows much comes back whole."""
    data = b" " * 9_000 + b"1"
    packed = SentBody(PACKERS[encoding](data), encoding)
    assert unpack(packed, LIMITS) == data
    times = -(-len(data) // len(packed.data))
    assert unpack(packed, replace(LIMITS, times_unpacked=times)) == data
    with pytest.raises(BodyTooLarge, match="max_unpacking"):
        unpack(packed, replace(LIMITS, times_unpacked=times - 1))


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_pieces_that_hold_nothing_are_counted(encoding: Encoding) -> None:
    few, many = (PACKERS[encoding](b"") * number for number in (1_000, 150_000))
    assert unpack(SentBody(few, encoding), LIMITS) == b""
    with pytest.raises(BodyTooLarge, match="100,000 pieces"):
        unpack(SentBody(many, encoding), LIMITS)


@pytest.mark.parametrize("item", [b"{}", b"[]", b'{"aa":"{["}', b"1", b'"{"'])
def test_a_batch_has_so_many_records(item: bytes) -> None:
    """Brackets in strings are none; the message names the setting."""
    assert len(parse_rows(b"[" + b",".join([item] * 5) + b"]", most=5)) == 5
    with pytest.raises(InvalidRecords, match="max_records") as caught:
        parse_rows(b"[" + b",".join([item] * 6) + b"]", most=5)
    assert caught.value.problems[0].code == "batch_too_large"
