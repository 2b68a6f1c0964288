"""Files -> raw rows."""

from __future__ import annotations

import csv
import gzip
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backdrop.file_rows import BadFile, CsvTypes, Format, cell_value, format_of, read_rows


def rows(
    data: bytes,
    format: Format | None = None,  # noqa: A002
    *,
    timestamp: str | None = None,
    csv_types: CsvTypes = "auto",
) -> list[tuple[int, bytes]]:
    file: Any = io.BufferedReader(io.BytesIO(data))
    found = read_rows(file, format, timestamp=timestamp, csv_types=csv_types)
    return [(row.line, row.json) for row in found]


def values(data: bytes, **options: Any) -> list[Any]:
    return [json.loads(text) for _, text in rows(data, "csv", **options)]


def refused(data: bytes, format: Format | None = None, **options: Any) -> tuple[int | None, str]:  # noqa: A002
    with pytest.raises(BadFile) as caught:
        rows(data, format, **options)
    return caught.value.line, caught.value.message


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.ndjson", "ndjson"),
        ("a.JSONL.gz", "ndjson"),
        ("a.json.gz", "json"),
        ("dir.json/a.CSV", "csv"),
        ("a.xlsx", "xlsx"),
        ("a.XLS", "xls"),
        ("a.ods.gz", "ods"),
        ("-", None),
        ("a.txt", None),
        ("a.gz", None),
    ],
)
def test_the_name_tells_the_format(name: str, expected: str | None) -> None:
    assert format_of(name) == expected


# -- JSON -------------------------------------------------------------------------------------

ODD = b'{"int":5,"float":5.0, "exp":1e2,"big":9007199254740993,"text":"\\u00e9\xc3\xa9","no":null}'


@pytest.mark.parametrize("format_", ["ndjson", "json", None])
def test_lines_pass_as_they_are_written(format_: Format | None) -> None:
    """No number, escape or blank changes; empty lines don't count, but their numbers do."""
    data = b"\n" + ODD + b"\r\n\n  " + ODD + b"  \n" + ODD
    assert rows(data, format_) == [(2, ODD), (4, ODD), (5, ODD)]


def test_an_arrays_items_pass_as_they_are_written() -> None:
    data = b"\n[" + ODD + b",\n\n {\n}, " + ODD + b"]\n"
    assert rows(data, "json") == [(2, ODD), (4, b"{\n}"), (5, ODD)]
    assert rows(b"[]") == []


def test_one_object_over_many_lines_is_one_row() -> None:
    data = b'\n{\n "one": 1\n}\n'
    assert rows(data, "json") == [(2, data.strip())]


def test_gzip_and_a_byte_order_mark_are_taken_off() -> None:
    data = b"\xef\xbb\xbf" + ODD + b"\n"
    assert rows(gzip.compress(data) + gzip.compress(ODD), "ndjson") == [(1, ODD), (2, ODD)]
    assert rows(data) == [(1, ODD)]


@pytest.mark.parametrize(
    ("data", "format_", "line", "message"),
    [
        (b"{}\n{]", "ndjson", 2, "not JSON"),
        (b"{}\n5\n", "ndjson", 2, "not a JSON object"),
        (b'{"one": NaN}\n', "ndjson", 1, "not JSON"),
        (b'{}\n\n{"one": "\xff"}\n', "ndjson", 3, "not UTF-8"),
        (b'{"one": ' + b"[" * 100_000, "ndjson", 1, "nested too deeply"),
        (b'[{},\n{"one" 1}]', "json", 2, "not JSON at column 8"),
        (b"[{},\n5]", "json", 2, "not a JSON object"),
        (b'[{},\n"\xff"]', "json", 2, "not UTF-8"),
        (b"[{}, {}]\n{}", "json", 2, "not JSON at column 1: Extra data"),
        (b'{"one":\n1,\n}', "json", 3, "not JSON"),
        (gzip.compress(b"{}\n" * 100_000, mtime=0)[:-20], "ndjson", None, "ends too early"),
        (gzip.compress(b"{}", mtime=0)[:-8] + b"12345678", "ndjson", None, "gzip"),
    ],
)
def test_what_is_not_json_is_refused_with_its_line(
    data: bytes, format_: Format, line: int | None, message: str
) -> None:
    found_line, found_message = refused(data, format_)
    assert found_line == line
    assert message in found_message


class _Blanks(io.RawIOBase):
    """A file that begins with some bytes and goes on with blanks, for ever."""

    def __init__(self, start: bytes) -> None:
        self._start = start

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        start, self._start = self._start, b""
        buffer[:] = start.ljust(len(buffer))
        return len(buffer)


@pytest.mark.parametrize(
    ("start", "format_", "line", "message"),
    [
        (b"{}\n{", "ndjson", 2, "the line has more than 32 MiB"),
        (b"aa\n1\n2", "csv", 3, "the line has more than 32 MiB"),
        (b"[", "json", None, "more than 256 MiB: make it NDJSON"),
    ],
)
def test_what_would_fill_the_memory_is_refused(
    start: bytes, format_: Format, line: int | None, message: str
) -> None:
    with pytest.raises(BadFile) as caught:
        list(read_rows(io.BufferedReader(_Blanks(start)), format_))
    assert caught.value.line == line
    assert message in caught.value.message


def test_a_field_becomes_the_timestamp() -> None:
    data = b'{"at":"2013-01-31","fee":1.50}'
    assert rows(data, timestamp="at") == [(1, b'{"_timestamp":"2013-01-31","fee":1.50}')]
    assert rows(data[:-1] + b',"_timestamp":1}', timestamp="_timestamp")
    assert refused(data, timestamp="when") == (
        1,
        "there is no field 'when' to become _timestamp; there are at, fee",
    )
    both = data[:-1] + b',"_timestamp":1}'
    assert refused(both, timestamp="at") == (1, "there are both 'at' and _timestamp")


# -- CSV --------------------------------------------------------------------------------------


def test_csv_is_read_by_the_rules_of_uploads() -> None:
    data = (
        b"\xef\xbb\xbf# a comment\n"
        b'_timestamp , name,fee,"comment",paid\r\n'
        b"2013-01-31, Camden ,27,why,true\n"
        b"# another\n"
        b",,,,\n\n"
        b',"a, ""b""\n# no comment",-1.5,,False\n'
        b",,,only a comment,\n"
        b",x,,,\n"
    )
    assert [line for line, _ in rows(data, "csv")] == [3, 7, 10]
    long = "x" * 1_000_000
    assert values(f'note\n{long}\n"{long}\n{long}"\n'.encode()) == [
        {"note": long},
        {"note": f"{long}\n{long}"},
    ]
    assert values(data) == [
        {"_timestamp": "2013-01-31", "name": "Camden", "fee": 27, "paid": True},
        {"name": 'a, "b"\n# no comment', "fee": -1.5, "paid": "False"},
        {"name": "x"},
    ]
    assert values(data, csv_types="text")[0]["fee"] == "27"


def test_reserved_fields_stay_text() -> None:
    assert values(b"_id,_timestamp,when\n27,2013,2013\n", timestamp=None) == [
        {"_id": "27", "_timestamp": "2013", "when": 2013}
    ]
    assert values(b"when,n1\n2013,1\n", timestamp="when") == [{"_timestamp": "2013", "n1": 1}]


@pytest.mark.parametrize(
    ("data", "line", "message"),
    [
        (b"", None, "empty"),
        (b"# only\n\n", None, "empty"),
        (b"aa,bb\n1,2\n\n3\n", 4, "1 cell, where the first row names 2"),
        (b"aa,bb\n1,2,3\n", 2, "3 cells"),
        (b"#\naa,b-b\n", 2, "column 2 can't be a field"),
        (b"aa,\n1,2\n", 1, "column 2 can't be a field"),
        (b"aa,aa\n", 1, "two columns are named 'aa'"),
        (b"aa\n1\n\xff\n", 3, "not UTF-8; if it is Latin-1, convert it: iconv -f latin1 -t utf-8"),
        (b"aa;bb\n1;2\n", 1, "it seems to be separated by `;`; commas are expected"),
        (b"aa\tbb\n1\t2\n", 1, "separated by tabs"),
        (b'aa,bb\n1,"2\n3,4\n5,6\n', 2, "quote"),
        (b'aa,bb\n1,"2"3\n', 2, "quote"),
    ],
)
def test_bad_csv_is_refused_with_its_line(data: bytes, line: int | None, message: str) -> None:
    found_line, found_message = refused(data, "csv")
    assert found_line == line
    assert message in found_message


def test_columns_of_numbers_and_what_looks_like_numbers_are_remarked() -> None:
    data = (
        b"fee,text,mixed,day,paid\n"
        b'1.25,2.50,5,2013-01-31,true\n2.50,"1,234",a,7,1\n7,007,,2013-02-01,01\n'
    )
    remarks: list[str] = []
    file: Any = io.BufferedReader(io.BytesIO(data))
    assert len(list(read_rows(file, "csv", remark=remarks.append))) == 3
    assert remarks == [
        "column fee: 2 numbers, and 1 text such as '2.50': a sum needs numbers only",
        "column paid: 1 number, and 1 text such as '01': a sum needs numbers only",
    ]


@pytest.mark.parametrize("text", ["2.50", "1,234", "1 234.5", "007", "+1", "1e5", ".5", "5.", "-0"])
def test_a_text_that_looks_like_a_number_is_counted(text: str) -> None:
    remarks: list[str] = []
    file: Any = io.BufferedReader(io.BytesIO(f'fee\n1\n"{text}"\n'.encode()))
    list(read_rows(file, "csv", remark=remarks.append))
    assert len(remarks) == 1


@pytest.mark.parametrize("text", ["2013-01-31", "1.2.3", "a1", "-", ".", "e5", "12%", "1/2", ","])
def test_a_text_that_looks_like_none_is_not(text: str) -> None:
    remarks: list[str] = []
    file: Any = io.BufferedReader(io.BytesIO(f'fee\n1\n"{text}"\n'.encode()))
    list(read_rows(file, "csv", remark=remarks.append))
    assert remarks == []


def test_without_a_fallback_only_json_is_guessed() -> None:
    def read(data: bytes) -> list[Any]:
        file: Any = io.BufferedReader(io.BytesIO(data))
        return list(read_rows(file, None, fallback=None))

    assert len(read(b' {"aa": 1}')) == 1
    assert len(read(gzip.compress(b"[{}]"))) == 1
    with pytest.raises(BadFile, match="say --format ndjson, json, csv, xlsx, xls or ods") as caught:
        read(b"aa,bb\n1,2\n")
    assert caught.value.option == "format"


def test_a_csv_column_becomes_the_timestamp() -> None:
    assert refused(b"aa\n1\n", "csv", timestamp="bb")[0] == 1
    assert refused(b"aa,bb\n1,x\n2,\n", "csv", timestamp="bb")[0] == 3


@pytest.mark.parametrize(
    "text",
    ["27", "0", "-5", "-1.5", "0.0", "1.0", "0.00001", "9223372036854775807", "true", "false"],
)
def test_canonical_spellings_become_values(text: str) -> None:
    value = cell_value(text)
    assert not isinstance(value, str)
    assert json.dumps(value) == text or float(text) == value


@pytest.mark.parametrize(
    "text",
    [
        *("007", "1_000", "1e5", "nan", "NaN", "inf", "+1", "-0", "1.50", "1.", ".5", "1,000"),
        *(
            "True",
            "٣",
            "²",
            "0x1",
            "9223372036854775808",
            "0.1234567890123456789",
            "1" * 400 + ".5",
        ),
    ],
)
def test_other_spellings_stay_text(text: str) -> None:
    assert cell_value(text) == text


@given(st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.booleans()))
def test_a_value_that_is_not_text_spells_its_cell(value: float | bool) -> None:
    """No digit is lost: what a cell becomes can be written as the cell again."""
    text = json.dumps(value)
    found = cell_value(text)
    assert found == (text if isinstance(found, str) else value)
    assert type(found) in (str, type(value))


_CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), max_size=8)


@given(st.lists(st.tuples(_CELLS, _CELLS, _CELLS), max_size=5))
def test_any_cells_come_back(table: list[tuple[str, str, str]]) -> None:
    """Whatever Python's csv writes is read as its stripped cells, empty ones left out."""
    names = ("one", "two", "three")
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    writer.writerow(names)
    writer.writerows(table)
    stripped = ({n: c.strip() for n, c in zip(names, row, strict=True)} for row in table)
    expected = [{n: c for n, c in row.items() if c} for row in stripped]
    found = values(text.getvalue().encode(), csv_types="text")
    assert found == [row for row in expected if row]
