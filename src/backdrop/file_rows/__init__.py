"""Files -> raw rows, one at a time: NDJSON, JSON, CSV and spreadsheets, packed with gzip or not.

A JSON value passes as the bytes it is written in, so that no type changes on the way. The cells of
tables become values by the rules of uploads (`table_rows`).
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain
from pathlib import PurePath
from typing import Literal, TypeAlias, get_args

import msgspec

from backdrop.domain.values import ID, TIMESTAMP
from backdrop.file_rows.csv_rows import csv_file_rows, csv_rows
from backdrop.file_rows.rows import (
    NOT_UTF8,
    BadFile,
    Remark,
    Row,
    numbered_lines,
    refuse_rename,
    say_nothing,
)
from backdrop.file_rows.sheet_rows import SheetFormat, sheet_file_rows, sheet_rows
from backdrop.file_rows.table_rows import CsvTypes, cell_value

__all__ = [
    "FORMATS",
    "BadFile",
    "CsvTypes",
    "Format",
    "Remark",
    "Row",
    "SheetFormat",
    "cell_value",
    "csv_rows",
    "format_of",
    "read_rows",
    "sheet_rows",
]

Format: TypeAlias = Literal["ndjson", "json", "csv", "xlsx", "xls", "ods"]
FORMATS: tuple[Format, ...] = get_args(Format)

MOST_DOCUMENT_BYTES = 256 * 2**20
"""A JSON array is read whole; a larger one must come as NDJSON, a record a line."""

_BOM = b"\xef\xbb\xbf"
_PEEK = 64 * 1024


def format_of(name: str) -> Format | None:
    """The format that a file's name tells, `.gz` or not; None where it tells none."""
    return _SUFFIXES.get(PurePath(name.lower().removesuffix(".gz")).suffix)


_SUFFIXES: Mapping[str, Format] = {
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".json": "json",
    ".csv": "csv",
    ".xlsx": "xlsx",
    ".xls": "xls",
    ".ods": "ods",
}


def read_rows(
    file: io.BufferedReader,
    format: Format | None,  # noqa: A002  the word for it
    *,
    timestamp: str | None = None,
    csv_types: CsvTypes = "auto",
    fallback: Format | None = "csv",
    remark: Remark = say_nothing,
) -> Iterator[Row]:
    """The rows of a file, read as they are asked for.

    Without `format` a first byte as JSON has it decides, else it is `fallback`; None refuses.
    `timestamp` names the field that becomes `_timestamp`; each row must have it.
    Raises BadFile, from the iterator, where the file breaks off from its format; calls `remark`
    with what is no error, but may not be what was meant.
    """
    lines = _unpacked(file)
    try:
        _skip_bom(lines)
        known = format or _guess(lines, fallback)
        yield from READERS[known](lines, timestamp, csv_types, remark)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadFile(f"the gzip data is broken or ends too early: {error}") from None


def _unpacked(file: io.BufferedReader) -> io.BufferedReader:
    if not file.peek(2).startswith(b"\x1f\x8b"):
        return file
    return io.BufferedReader(gzip.GzipFile(fileobj=file), 2**20)


def _skip_bom(file: io.BufferedReader) -> None:
    if file.peek(3).startswith(_BOM):
        file.read(3)


def _guess(file: io.BufferedReader, fallback: Format | None) -> Format:
    if file.peek(_PEEK).lstrip().startswith((b"[", b"{")):
        return "json"
    if fallback is None:
        expected = f"--format {', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        raise BadFile(
            f"neither its name nor its beginning tells the format: say {expected}", option="format"
        )
    return fallback


# -- JSON -------------------------------------------------------------------------------------

_decode = msgspec.json.Decoder().decode
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def _ndjson_rows(
    file: io.BufferedReader, timestamp: str | None, _csv_types: CsvTypes, _remark: Remark
) -> Iterator[Row]:
    return _line_rows(numbered_lines(file), timestamp)


def _line_rows(lines: Iterable[tuple[int, bytes]], timestamp: str | None) -> Iterator[Row]:
    for number, line in lines:
        text = line.strip()
        if text:
            yield _row(text, number, timestamp)


def _json_rows(
    file: io.BufferedReader, timestamp: str | None, _csv_types: CsvTypes, _remark: Remark
) -> Iterator[Row]:
    """An array, one object, or NDJSON under another name, which its first line tells."""
    start = b""
    if not file.peek(_PEEK).lstrip().startswith(b"["):
        lines = numbered_lines(file)
        number, start = next((one for one in lines if one[1].strip()), (1, b""))
        if not start or _is_json(start):
            return _line_rows(chain([(number, start)], lines), timestamp)
        start = b"\n" * (number - 1) + start
    return _document_rows(start + file.read(MOST_DOCUMENT_BYTES + 1), timestamp)


def _is_json(text: bytes) -> bool:
    try:
        _decode(text)
    except _NOT_JSON:
        return False
    return True


def _document_rows(data: bytes, timestamp: str | None) -> Iterator[Row]:
    if len(data) > MOST_DOCUMENT_BYTES:
        most = MOST_DOCUMENT_BYTES // 2**20
        raise BadFile(
            f"a JSON document is read whole, and this one has more than {most} MiB: "
            "make it NDJSON, one record a line (jq -c '.[]')"
        )
    text = data.strip()
    try:
        items = _decode_items(text) if text.startswith(b"[") else [msgspec.Raw(text)]
        if not text.startswith(b"["):
            _decode(text)
    except _NOT_JSON as error:
        raise _broken_document(data, error) from None
    place, line = 0, 1
    for item in items:
        # Between two items stand only a comma and blanks, so the first place that is equal is its.
        raw = bytes(item)
        begin = data.find(raw, place)
        line += data.count(b"\n", place, begin)
        yield _row(raw, line, timestamp)
        place = begin + len(raw)
        line += raw.count(b"\n")


def _broken_document(data: bytes, error: Exception) -> BadFile:
    """Where a document breaks off: the standard library's parser says it, the quick one doesn't."""
    try:
        json.loads(data)
    except json.JSONDecodeError as found:
        return BadFile(f"not JSON at column {found.colno}: {found.msg}", found.lineno)
    except UnicodeDecodeError as found:
        return BadFile(NOT_UTF8, data.count(b"\n", 0, found.start) + 1)
    except (ValueError, RecursionError):
        pass
    return BadFile(f"not JSON: {error}")


def _row(text: bytes, line: int, timestamp: str | None) -> Row:
    """The row that stands in `text`, checked to be a JSON object, its bytes as they are."""
    try:
        value = _decode(text)
    except UnicodeDecodeError:
        raise BadFile(NOT_UTF8, line) from None
    except RecursionError:
        raise BadFile("not JSON that can be read: it is nested too deeply", line) from None
    except msgspec.DecodeError as error:
        raise BadFile(f"not JSON: {error}", line) from None
    if not isinstance(value, dict):
        raise BadFile("not a JSON object such as {…}", line)
    if timestamp is not None:
        refuse_rename(value, timestamp, line)
        fields = _decode_fields(text)
        text = msgspec.json.encode(
            {TIMESTAMP if name == timestamp else name: raw for name, raw in fields.items()}
        )
    return Row(line, text, ID in value, timestamp is not None or TIMESTAMP in value)


Reader: TypeAlias = Callable[[io.BufferedReader, str | None, CsvTypes, Remark], Iterator[Row]]
READERS: Mapping[Format, Reader] = {
    "ndjson": _ndjson_rows,
    "json": _json_rows,
    "csv": csv_file_rows,
    "xlsx": partial(sheet_file_rows, "xlsx"),
    "xls": partial(sheet_file_rows, "xls"),
    "ods": partial(sheet_file_rows, "ods"),
}
