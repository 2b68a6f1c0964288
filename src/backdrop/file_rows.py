"""Files -> raw rows, one at a time: NDJSON, JSON and CSV, packed with gzip or not.

A JSON value passes as the bytes it is written in, so that no type changes on the way. CSV cells
become values by the rules of uploads (`cell_value`). Spreadsheets will join `READERS`, as another
function from a file to rows.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain
from pathlib import PurePath
from typing import Any, Literal, TypeAlias, get_args

import msgspec

from backdrop.domain.values import (
    FIELD_EXPECTED,
    ID,
    INT64_MAX,
    INT64_MIN,
    RESERVED_FIELDS,
    TIMESTAMP,
    is_field_name,
)

Format: TypeAlias = Literal["ndjson", "json", "csv"]
FORMATS: tuple[Format, ...] = get_args(Format)
CsvTypes: TypeAlias = Literal["auto", "text"]

MOST_LINE_BYTES = 32 * 2**20
MOST_DOCUMENT_BYTES = 256 * 2**20
"""A JSON array is read whole; a larger one must come as NDJSON, a record a line."""

_BOM = b"\xef\xbb\xbf"
_PEEK = 64 * 1024


class BadFile(Exception):
    """The file can't be read on; `line` is where, counted from 1, if that is known."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.message, self.line = message, line


@dataclass(frozen=True, slots=True)
class Row:
    """One record as it is to be sent, and the line of the file on which it begins."""

    line: int
    json: bytes
    has_id: bool


def format_of(name: str) -> Format | None:
    """The format that a file's name tells, `.gz` or not; None where it tells none.

    Raises BadFile for a spreadsheet.
    """
    suffix = PurePath(name.lower().removesuffix(".gz")).suffix
    if suffix in (".xlsx", ".xls", ".ods"):
        raise BadFile("spreadsheets can't be imported yet: save it as CSV")
    return _SUFFIXES.get(suffix)


_SUFFIXES: Mapping[str, Format] = {
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".json": "json",
    ".csv": "csv",
}


def read_rows(
    file: io.BufferedReader,
    format: Format | None,  # noqa: A002  the word for it
    *,
    timestamp: str | None = None,
    csv_types: CsvTypes = "auto",
) -> Iterator[Row]:
    """The rows of a file, read as they are asked for. Without `format`, its first byte decides.

    `timestamp` names the field that becomes `_timestamp`; each row must have it.
    Raises BadFile, from the iterator, where the file breaks off from its format.
    """
    lines = _unpacked(file)
    try:
        _skip_bom(lines)
        yield from READERS[format or _guess(lines)](lines, timestamp, csv_types)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadFile(f"the gzip data is broken or ends too early: {error}") from None


def _unpacked(file: io.BufferedReader) -> io.BufferedReader:
    if not file.peek(2).startswith(b"\x1f\x8b"):
        return file
    return io.BufferedReader(gzip.GzipFile(fileobj=file), 2**20)


def _skip_bom(file: io.BufferedReader) -> None:
    if file.peek(3).startswith(_BOM):
        file.read(3)


def _guess(file: io.BufferedReader) -> Format:
    start = file.peek(_PEEK).lstrip()
    return "json" if start.startswith((b"[", b"{")) else "csv"


# -- JSON -------------------------------------------------------------------------------------

_decode = msgspec.json.Decoder().decode
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def _ndjson_rows(
    file: io.BufferedReader, timestamp: str | None, _csv_types: CsvTypes
) -> Iterator[Row]:
    return _line_rows(_lines(file), timestamp)


def _line_rows(lines: Iterable[tuple[int, bytes]], timestamp: str | None) -> Iterator[Row]:
    for number, line in lines:
        text = line.strip()
        if text:
            yield _row(text, number, timestamp)


def _json_rows(
    file: io.BufferedReader, timestamp: str | None, _csv_types: CsvTypes
) -> Iterator[Row]:
    """An array, one object, or NDJSON under another name, which its first line tells."""
    start = b""
    if not file.peek(_PEEK).lstrip().startswith(b"["):
        lines = _lines(file)
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
        return BadFile("not UTF-8", data.count(b"\n", 0, found.start) + 1)
    except (ValueError, RecursionError):
        pass
    return BadFile(f"not JSON: {error}")


def _lines(file: io.BufferedReader) -> Iterator[tuple[int, bytes]]:
    number = 1
    while line := file.readline(MOST_LINE_BYTES + 1):
        if len(line) > MOST_LINE_BYTES:
            most = MOST_LINE_BYTES // 2**20
            raise BadFile(f"the line has more than {most} MiB: is the file another format?", number)
        yield number, line
        number += 1


def _row(text: bytes, line: int, timestamp: str | None) -> Row:
    """The row that stands in `text`, checked to be a JSON object, its bytes as they are."""
    try:
        value = _decode(text)
    except UnicodeDecodeError:
        raise BadFile("not UTF-8", line) from None
    except RecursionError:
        raise BadFile("not JSON that can be read: it is nested too deeply", line) from None
    except msgspec.DecodeError as error:
        raise BadFile(f"not JSON: {error}", line) from None
    if not isinstance(value, dict):
        raise BadFile("not a JSON object such as {…}", line)
    if timestamp is not None:
        _refuse_rename(value, timestamp, line)
        fields = _decode_fields(text)
        text = msgspec.json.encode(
            {TIMESTAMP if name == timestamp else name: raw for name, raw in fields.items()}
        )
    return Row(line, text, ID in value)


def _refuse_rename(names: Mapping[str, Any] | Sequence[str], timestamp: str, line: int) -> None:
    if timestamp not in names:
        raise BadFile(f"there is no field {timestamp!r} to become {TIMESTAMP}", line)
    if TIMESTAMP in names and timestamp != TIMESTAMP:
        raise BadFile(f"there are both {timestamp!r} and {TIMESTAMP}", line)


# -- CSV --------------------------------------------------------------------------------------


def _csv_file_rows(
    file: io.BufferedReader, timestamp: str | None, csv_types: CsvTypes
) -> Iterator[Row]:
    for line, fields in csv_rows((line for _, line in _lines(file)), timestamp, csv_types):
        if timestamp is not None and TIMESTAMP not in fields:
            raise BadFile(f"there is no {timestamp!r} to become {TIMESTAMP}", line)
        yield Row(line, msgspec.json.encode(fields), ID in fields)


def csv_rows(
    lines: Iterator[bytes], timestamp: str | None, csv_types: CsvTypes
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each row of a CSV file as the line on which it begins and its raw row.

    The first row names the fields. Lines that begin with `#`, columns named `comment` and rows
    whose cells are all empty are skipped; cells are stripped. Raises BadFile.
    """
    found = _csv_cells(lines)
    line, names = next(found, (1, []))
    if not names:
        raise BadFile("the file is empty: its first row must name the fields")
    if timestamp is not None:
        _refuse_rename(names, timestamp, line)
        names = [TIMESTAMP if name == timestamp else name for name in names]
    _check_names(names, line)
    convert = [_text_value if name in RESERVED_FIELDS else _CELLS[csv_types] for name in names]
    columns = [at for at, name in enumerate(names) if name != "comment"]
    for line, cells in found:
        if len(cells) != len(names):
            raise BadFile(f"{len(cells)} cells, where the first row names {len(names)}", line)
        fields = {names[at]: convert[at](cells[at]) for at in columns if cells[at]}
        if fields:
            yield line, fields


def _csv_cells(lines: Iterator[bytes]) -> Iterator[tuple[int, list[str]]]:
    """The stripped cells of each row that has any that is not empty, with the line it begins on."""
    begin = 0  # the line on which the row that is being read begins; 0 between two rows

    def texts() -> Iterator[str]:
        nonlocal begin
        for number, line in enumerate(lines, 1):
            if not begin and line.startswith(b"#"):
                continue
            begin = begin or number
            try:
                yield line.decode()
            except UnicodeDecodeError:
                raise BadFile("not UTF-8", number) from None

    rows = csv.reader(texts(), strict=True)
    while True:
        begin = 0
        try:
            cells = [cell.strip() for cell in next(rows)]
        except StopIteration:
            return
        except csv.Error as error:
            raise BadFile(
                f"not CSV (is there a quote that is not closed?): {error}", begin
            ) from None
        if any(cells):
            yield begin, cells


def _check_names(names: Sequence[str], line: int) -> None:
    seen = set()
    for column, name in enumerate(names, 1):
        if name == "comment":
            continue
        if not is_field_name(name):
            raise BadFile(
                f"column {column} can't be a field: a name is {FIELD_EXPECTED}; not {name!r}", line
            )
        if name in seen:
            raise BadFile(f"two columns are named {name!r}", line)
        seen.add(name)


_is_integer = re.compile(r"0|-?[1-9]\d{0,18}", re.ASCII).fullmatch
_is_decimal = re.compile(r"-?(?:0|[1-9]\d*)\.\d+", re.ASCII).fullmatch
_WORDS = {"true": True, "false": False}


def cell_value(text: str) -> str | int | float | bool:
    """What a cell holds: a number or a boolean where it is the canonical spelling of one.

    `27`, `-1.5`, `true`; not `007`, `1_000`, `1e5`, `nan`, `+1`, `1.50`, or more digits than the
    number could give back.
    """
    if text in _WORDS:
        return _WORDS[text]
    if _is_integer(text):
        number = int(text)
        return number if INT64_MIN <= number <= INT64_MAX else text
    if _is_decimal(text) and len(text) < 400:
        real = float(text)
        if format(Decimal(repr(real)), "f") == text:
            return real
    return text


def _text_value(text: str) -> str:
    return text


_CELLS: Mapping[CsvTypes, Callable[[str], Any]] = {"auto": cell_value, "text": _text_value}

READERS: Mapping[Format, Callable[[io.BufferedReader, str | None, CsvTypes], Iterator[Row]]] = {
    "ndjson": _ndjson_rows,
    "json": _json_rows,
    "csv": _csv_file_rows,
}
