"""What is fuzzed: each target takes any bytes, and raises only where Backdrop is wrong.

Backdrop's own errors are answers; anything else that comes out, or a broken promise, is a fault.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import re
import zipfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache, partial
from itertools import count
from math import isfinite
from typing import Any

import msgspec
import zstandard

from backdrop.answer import answer
from backdrop.api.body import Encoding, Limits, SentBody, unpack
from backdrop.api.caching import etag_of
from backdrop.api.decode import parse_row, parse_rows, parse_settings
from backdrop.api.encode import csv_form, encode_rows
from backdrop.api.params import parse_query
from backdrop.domain.bucket import Bucket
from backdrop.domain.ids import made_id
from backdrop.domain.record import parse_records
from backdrop.domain.times import format_instant, parse_instant, parse_instants
from backdrop.domain.values import ID, TIMESTAMP
from backdrop.errors import BodyTooLarge, InvalidBody, InvalidQuery, InvalidRecords
from backdrop.file_rows import FORMATS, BadFile, read_rows
from backdrop.storage.memory import MemoryStorage
from backdrop.uploads.understand import understand

Target = Callable[[bytes], None]

_NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)
_BUCKET = Bucket(name="things", raw_queries_allowed=True)


# -- the query string ------------------------------------------------------------------------------


def query_string(data: bytes) -> None:
    """A query string is refused, or answered; what is answered can be written as JSON and CSV."""
    storage = _filled()
    try:
        asked = parse_query(data, timezone="Europe/London", now=_NOW, most_rows=1_000)
        assert asked == parse_query(data, timezone="Europe/London", now=_NOW, most_rows=1_000)
        assert etag_of(asked, storage.state("things")).startswith('"')
        with answer(storage, _BUCKET, asked.query, with_fields=True, most_rows=1_000) as reading:
            columns = sorted(reading.fields)
            rows = [row for page in reading for row in page]
    except InvalidQuery as error:
        assert error.problems
        json.dumps([problem.as_json() for problem in error.problems]).encode()
        return
    assert len(json.loads(b"[" + encode_rows(rows) + b"]")) == len(rows)
    csv_form(columns).encode(rows)


@cache
def _filled() -> MemoryStorage:
    storage = MemoryStorage(clock=lambda: _NOW)
    storage.put_bucket(_BUCKET)
    rows = [
        {TIMESTAMP: f"2024-0{1 + n % 5}-1{n % 9}T0{n % 10}:00", "aa": n % 3, "bb": value}
        for n, value in enumerate(["x", 1, 1.5, True, None, "", "1", "true", -(2**63), "é"] * 2)
    ]
    storage.save("things", parse_records(rows, _BUCKET, new_ids=map(str, count())))
    return storage


# -- records as JSON -------------------------------------------------------------------------------


def json_rows(data: bytes) -> None:
    """A body is refused, or its records come back as they are: in JSON, and when sent again."""
    for parse in (parse_row, parse_settings):
        try:
            parse(data)
        except InvalidBody as error:
            _is_written(error.problems)
    try:
        rows = parse_rows(data)
        records = parse_records(rows, _BUCKET, new_ids=map(str, count()))
    except (InvalidBody, InvalidRecords) as error:
        _is_written(error.problems)
        return
    assert records.received == len(rows)
    again = parse_rows(b"[" + encode_rows(records.rows) + b"]")
    stored = parse_records(again, _BUCKET, new_ids=map(str, count())).rows
    assert list(map(_in_full, stored)) == list(map(_in_full, records.rows))


def _in_full(row: Mapping[str, Any]) -> list[str]:
    """A row so that 1, 1.0 and true differ."""
    return sorted(map(repr, row.items()))


def _is_written(problems: Any) -> None:
    msgspec.json.encode([problem.as_json() for problem in problems])


# -- files -----------------------------------------------------------------------------------------


def csv_file(data: bytes) -> None:
    """A CSV file is understood, or its faults are named: uploaded, and imported."""
    for bucket in (_BUCKET, Bucket(name="texts", csv_types="text", auto_ids=("aa",))):
        _understood("a.csv", data, bucket)
    for format_ in FORMATS[:3]:
        try:
            for row in read_rows(_buffered(data), format_):
                assert isinstance(msgspec.json.decode(row.json), dict)
        except BadFile as bad:
            assert bad.message


def spreadsheet(data: bytes) -> None:
    """A spreadsheet is understood, or its faults are named; its parts are fuzzed one by one."""
    make = _SHEETS[data[0] % len(_SHEETS)] if data else _SHEETS[0]
    name, file = make(data[1:])
    _understood(name, file, _BUCKET)


def _understood(name: str, data: bytes, bucket: Bucket) -> None:
    kept: list[dict[str, Any]] = []

    def put(rows: list[dict[str, Any]], ids: list[str]) -> None:
        assert all(isinstance(one, str) for one in ids)
        kept.extend(rows)

    try:
        found = understand(_buffered(data), name, bucket, put)
    except MemoryError:
        return  # the process that reads an upload ends with it, and says so
    except BaseException as error:
        if type(error).__name__ == "PanicException":
            return  # of a library in Rust, as is known there (`backdrop.uploads.child`)
        raise
    assert found.faults or len(kept) == found.records > 0
    assert found.fault_count >= len(found.faults)
    msgspec.json.encode(found)
    if not found.faults:
        parse_records(kept, bucket, new_ids=map(str, count()))


def _buffered(data: bytes) -> io.BufferedReader:
    return io.BufferedReader(io.BytesIO(data))  # type: ignore[arg-type]  # it reads as a raw file


def _with_part(format_: str, part: str) -> Callable[[bytes], tuple[str, bytes]]:
    """A sound file of the format, of which one part is the bytes: their checksum is right."""

    def make(content: bytes) -> tuple[str, bytes]:
        parts = {**_PARTS[format_], part: content}
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for name, text in parts.items():
                archive.writestr(zipfile.ZipInfo(name), text)
        return f"a.{format_}", file.getvalue()

    return make


_TYPES = "application/vnd.openxmlformats-officedocument.spreadsheetml"
_RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_PARTS: Mapping[str, Mapping[str, str | bytes]] = {
    "xlsx": {
        "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types">'
        '<Default Extension="xml" ContentType="application/xml"/>'
        f'<Override PartName="/xl/workbook.xml" ContentType="{_TYPES}.sheet.main+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="r1" '
        f'Type="{_RELATIONS}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{_PACKAGE}/relationships">'
        f'<Relationship Id="r1" Type="{_RELATIONS}/worksheet" Target="worksheets/sheet1.xml"/>'
        f'<Relationship Id="r2" Type="{_RELATIONS}/styles" Target="styles.xml"/>'
        f'<Relationship Id="r3" Type="{_RELATIONS}/sharedStrings" Target="sharedStrings.xml"/>'
        "</Relationships>",
        "xl/workbook.xml": f'<workbook xmlns="{_MAIN}" xmlns:r="{_RELATIONS}"><sheets>'
        '<sheet name="one" sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/styles.xml": f'<styleSheet xmlns="{_MAIN}"><cellXfs count="2"><xf numFmtId="0"/>'
        '<xf numFmtId="14"/></cellXfs></styleSheet>',
        "xl/sharedStrings.xml": f'<sst xmlns="{_MAIN}"><si><t>aa</t></si><si><t>bb</t></si></sst>',
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{_MAIN}"><sheetData><row r="1">'
        '<c r="A1" t="s"><v>0</v></c><c r="B1" t="s"><v>1</v></c></row><row r="2"><c r="A2"><v>1'
        '</v></c><c r="B2" s="1"><v>45000</v></c></row></sheetData></worksheet>',
    },
    "ods": {
        "mimetype": "application/vnd.oasis.opendocument.spreadsheet",
        "content.xml": "",
    },
}

_SHEETS: tuple[Callable[[bytes], tuple[str, bytes]], ...] = (
    lambda data: ("a.xls", data),
    lambda data: ("a.xlsx", data),
    lambda data: ("a.ods", data),
    _with_part("xlsx", "xl/worksheets/sheet1.xml"),
    _with_part("xlsx", "xl/sharedStrings.xml"),
    _with_part("xlsx", "xl/styles.xml"),
    _with_part("xlsx", "xl/workbook.xml"),
    _with_part("ods", "content.xml"),
)


# -- times -----------------------------------------------------------------------------------------


def time(data: bytes) -> None:
    """A time is one of the grammar, and then the instant that the standard library reads."""
    text = data.decode(errors="surrogateescape")
    try:
        instant = parse_instant(text)
    except ValueError:
        if _grammar(text):
            _refuse_calendar(text)
        return
    assert _grammar(text)
    assert instant.tzinfo is UTC
    shown = format_instant(instant)
    assert parse_instant(shown) == instant
    assert format_instant(parse_instant(shown)) == shown
    assert parse_instants([text, shown]) == [instant, instant]


_grammar = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?"
    r"(Z|[+-][0-9]{2}:?[0-9]{2})?)?"
).fullmatch
"""That of the documentation, word for word."""


def _refuse_calendar(text: str) -> None:
    """What is in the grammar and refused is no time of the calendar: no other reason counts."""
    try:
        read = datetime.fromisoformat(text)
        aware = read if read.tzinfo else read.replace(tzinfo=UTC)
        aware.astimezone(UTC)
    except (ValueError, OverflowError):
        return
    offset = re.search(r"[+-]([0-9]{2}):?([0-9]{2})$", text[10:])
    hour = text[11:13]
    assert hour == "24" or (offset and int(offset[2]) > 59), text


# -- ids -------------------------------------------------------------------------------------------


def ids(data: bytes) -> None:
    """An `_id` that fields make says what they were, so that no two keys share one."""
    try:
        given = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        _single_id(data.decode(errors="surrogateescape"))
        return
    values = given if isinstance(given, list) else [given]
    names = [f"f{n}" for n in range(len(values))]
    bucket = Bucket(name="things", auto_ids=tuple(names))
    row = dict(zip(names, values, strict=True))
    try:
        (record,) = parse_records([row], bucket, new_ids=iter(())).rows
    except InvalidRecords as error:
        _is_written(error.problems)
        assert not all(map(_is_value, values)) or not _makes_an_id(row)
        return
    made = record[ID]
    assert made == made_id(record, names)
    joined = base64.b64decode(str(made), validate=True).decode()
    if not any(isinstance(value, float) for value in values):  # whose `.` stands as it is
        assert _split(joined) == [_spelled(value) for value in values]
    (same,) = parse_records([row | {ID: made}], bucket, new_ids=iter(())).rows
    assert same == record


def _single_id(text: str) -> None:
    """An `_id` of one's own is taken as it is, or refused."""
    try:
        (record,) = parse_records([{ID: text}], _BUCKET, new_ids=iter(())).rows
    except InvalidRecords:
        fits = 1 <= len(text) <= 512 and not any(map(str.isspace, text))
        assert not fits or any("\ud800" <= one <= "\udfff" for one in text)
        return
    assert record == {ID: text}
    assert text.encode()


def _is_value(value: Any) -> bool:
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return True
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    return isinstance(value, float) and isfinite(value)


def _spelled(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _makes_an_id(row: Mapping[str, Any]) -> bool:
    return 1 <= len(made_id(row, list(row))) <= 512 and len(row) <= 1_000


def _split(joined: str) -> list[str]:
    r"""The parts of a key, between which stands `.`; within one it is `\.`, as `\` is `\\`."""
    return [re.sub(r"\\(.)", r"\1", part, flags=re.S) for part in _parts_of_key(joined + ".")]


_parts_of_key = re.compile(r"((?:[^.\\]|\\.)*)\.", re.S).findall


# -- packed bodies ---------------------------------------------------------------------------------

_MOST_UNPACKED = 100_000


def packed(data: bytes) -> None:
    """A packed body is refused, or unpacks to what other programs make of it."""
    limits = Limits(body_unpacked=_MOST_UNPACKED)
    for encoding, (pack, other) in _OTHERS.items():
        try:
            found = unpack(SentBody(data, encoding), limits)
        except (InvalidBody, BodyTooLarge) as error:
            assert error.message
        else:
            assert len(found) <= _MOST_UNPACKED
            assert found == other(data)
        half = len(data) // 2
        parts = pack(data[:half]) + pack(data[half:])
        assert unpack(SentBody(parts, encoding), limits) == data


def _unzstd(data: bytes) -> bytes:
    unpacker = zstandard.ZstdDecompressor(max_window_size=2**23)
    with unpacker.stream_reader(data, read_across_frames=True) as reader:
        return reader.read(_MOST_UNPACKED * 4)


_Packing = Callable[[bytes], bytes]
_OTHERS: Mapping[Encoding, tuple[_Packing, _Packing]] = {
    "gzip": (partial(gzip.compress, compresslevel=1), gzip.decompress),
    "zstd": (zstandard.compress, _unzstd),
}


TARGETS: Mapping[str, Target] = {
    "query_string": query_string,
    "json_rows": json_rows,
    "csv_file": csv_file,
    "spreadsheet": spreadsheet,
    "time": time,
    "ids": ids,
    "packed": packed,
}
