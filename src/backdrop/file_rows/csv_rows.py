"""CSV files -> raw rows."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

import msgspec

from backdrop.domain.values import ID, TIMESTAMP
from backdrop.file_rows.nature import refuse_other
from backdrop.file_rows.rows import (
    MOST_LINE_BYTES,
    NOT_UTF8,
    BadFile,
    Remark,
    Row,
    numbered_lines,
    say_nothing,
)
from backdrop.file_rows.table_rows import Complain, CsvTypes, refuse, table_rows


def csv_file_rows(
    file: io.BufferedReader, timestamp: str | None, csv_types: CsvTypes, remark: Remark
) -> Iterator[Row]:
    lines = (line for _, line in numbered_lines(file))
    return as_rows(csv_rows(lines, timestamp, csv_types, remark), timestamp)


def as_rows(found: Iterator[tuple[int, dict[str, Any]]], timestamp: str | None) -> Iterator[Row]:
    """The raw rows of a table as they are to be sent; each must have the `timestamp` asked for."""
    for line, fields in found:
        if timestamp is not None and TIMESTAMP not in fields:
            raise BadFile(f"there is no {timestamp!r} to become {TIMESTAMP}", line)
        yield Row(line, msgspec.json.encode(fields), ID in fields, TIMESTAMP in fields)


def csv_rows(
    lines: Iterator[bytes],
    timestamp: str | None,
    csv_types: CsvTypes,
    remark: Remark = say_nothing,
    complain: Complain = refuse,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each row of a CSV file as the line on which it begins and its raw row (`table_rows`).

    Lines that begin with `#` are skipped, too.
    """
    return table_rows(
        _csv_cells(lines),
        timestamp=timestamp,
        csv_types=csv_types,
        remark=remark,
        complain=complain,
    )


def _csv_cells(lines: Iterator[bytes]) -> Iterator[tuple[int, list[str]]]:
    """The stripped cells of each row that has any that is not empty, with the line it begins on."""
    begin = 0  # the line on which the row that is being read begins; 0 between two rows

    def texts() -> Iterator[str]:
        nonlocal begin
        for number, line in enumerate(lines, 1):
            if not begin and line.startswith(b"#"):
                continue
            begin = begin or number
            if number == 1:
                refuse_other("csv", line)
            try:
                yield line.decode()
            except UnicodeDecodeError:
                raise BadFile(NOT_UTF8, number) from None

    csv.field_size_limit(MOST_LINE_BYTES)  # of all readers; it would be 128 KiB
    rows = csv.reader(texts(), strict=True)
    while True:
        begin = 0
        try:
            cells = [cell.strip() for cell in next(rows)]
        except StopIteration:
            return
        except csv.Error as error:
            raise BadFile(_why_no_csv(error), begin) from None
        if any(cells):
            yield begin, cells


def _why_no_csv(error: csv.Error) -> str:
    if "new-line character" in str(error):
        return "a line ends with CR alone: save it as “CSV UTF-8”, whose lines end with LF or CRLF"
    return f"not CSV (is there a quote that is not closed?): {error}"
