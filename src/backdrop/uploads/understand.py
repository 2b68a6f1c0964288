"""A file -> what was understood of it, and its raw rows, checked as a batch of records is."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count, islice
from typing import Any

from backdrop.domain.bucket import Bucket
from backdrop.domain.record import MOST_CELLS, parse_records
from backdrop.domain.values import ID, TIME_FIELDS, TIMESTAMP
from backdrop.errors import MOST_PROBLEMS_LISTED, InvalidRecords
from backdrop.file_rows import BadFile, Format, csv_rows, format_of, sheet_rows
from backdrop.file_rows.rows import NOT_UTF8, numbered_lines
from backdrop.schema import schema_check

EXPECTED = "a file that ends in .csv, .xlsx, .xls or .ods"
ROWS_SHOWN = 8
_COLUMNS_SHOWN = 200
_SHOWN = 80
"""Characters of a text."""
_MOST_MESSAGE = 400
_ROWS_A_BATCH = 5_000
_MOST_RECORDS = 2_000_000
_MOST_REMARKS = 20


@dataclass(slots=True)
class Fault:
    """One thing that is wrong: where, as people count it, and what."""

    message: str
    row: int | None = None
    column: str | None = None


@dataclass(slots=True)
class ColumnSeen:
    """One column: how many of its cells hold what."""

    name: str
    kinds: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Understood:
    """What was understood of a file. Nothing of it may be stored where there are `faults`."""

    records: int = 0
    columns: list[ColumnSeen] = field(default_factory=list)
    first: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    """The first rows, each with its number in the file."""
    faults: list[Fault] = field(default_factory=list)
    """The first ones; `fault_count` has the number of all."""
    fault_count: int = 0
    remarks: list[str] = field(default_factory=list)
    ids: int = 0
    """How many records bring an id along, and so may replace others."""
    repeated_ids: int = 0
    """How many of those have the id of a record further down, which replaces them."""

    def add(self, fault: Fault) -> None:
        self.fault_count += 1
        if len(self.faults) < MOST_PROBLEMS_LISTED:
            self.faults.append(Fault(_shortened(fault.message), fault.row, fault.column))


def _shortened(message: str) -> str:
    return message if len(message) <= _MOST_MESSAGE else f"{message[:_MOST_MESSAGE]}…"


Put = Callable[[list[dict[str, Any]], list[str]], object]
"""Called with each batch of raw rows that are in order, and with their ids where they have any."""


def understand(file: io.BufferedReader, name: str, bucket: Bucket, put: Put) -> Understood:
    """What the file of that name would make of the bucket. It is read once, batch by batch."""
    found = Understood()
    seen: dict[str, ColumnSeen] = {}
    try:
        rows = _rows(file, name, bucket, found)
        while batch := list(islice(rows, _ROWS_A_BATCH)):
            _take(batch, bucket, found, seen, put)
            _refuse_many(found.records, len(seen))
    except BadFile as bad:
        found.add(_fault(bad))
    found.columns = list(seen.values())
    found.faults.sort(key=lambda fault: fault.row or 0)
    if not found.records and not found.faults:
        found.add(Fault("the file has names of fields, but no record below them"))
    elif TIMESTAMP not in seen and not found.faults:
        found.remarks.append(
            "no column is named _timestamp, so these records will be in no period: no chart by day "
            "or month can show them"
        )
    return found


def _rows(
    file: io.BufferedReader, name: str, bucket: Bucket, found: Understood
) -> Iterator[tuple[int, dict[str, Any]]]:
    def remark(text: str) -> None:
        if len(found.remarks) < _MOST_REMARKS:
            found.remarks.append(_shortened(text))

    def complain(bad: BadFile) -> None:
        found.add(_fault(bad))

    format_ = _format(name)
    if format_ == "csv":
        if not file.peek(1):
            raise BadFile("the file is empty: its first row must name the fields")
        lines = (line for _, line in numbered_lines(_without_mark(file)))
        return csv_rows(lines, None, bucket.csv_types, remark, complain)
    return sheet_rows(format_, file, None, bucket.csv_types, remark, complain)  # type: ignore[arg-type]  # of the four


def _format(name: str) -> Format:
    format_ = None if name.lower().endswith(".gz") else format_of(name)
    if format_ not in ("csv", "xlsx", "xls", "ods"):
        raise BadFile(f"this file can't be read: expected {EXPECTED}")
    return format_


def _without_mark(file: io.BufferedReader) -> io.BufferedReader:
    if file.peek(3).startswith(b"\xef\xbb\xbf"):
        file.read(3)
    return file


def _fault(bad: BadFile) -> Fault:
    message = bad.message
    if message == NOT_UTF8:
        message = "not UTF-8: save the file anew as “CSV UTF-8”, which spreadsheet programs offer"
    return Fault(message, bad.line, bad.column)


def _refuse_many(records: int, columns: int) -> None:
    if records * (columns + 1) > MOST_CELLS or records > _MOST_RECORDS:
        most = min(MOST_CELLS // (columns + 1), _MOST_RECORDS)
        raise BadFile(
            f"with {columns:,} columns, {most:,} rows can be stored at once: split the file"
        )


# -- a batch --------------------------------------------------------------------------------------


def _take(
    batch: list[tuple[int, dict[str, Any]]],
    bucket: Bucket,
    found: Understood,
    seen: dict[str, ColumnSeen],
    put: Put,
) -> None:
    rows = [row for _, row in batch]
    found.first += [(n, _cut(row)) for n, row in batch[: ROWS_SHOWN - len(found.first)]]
    found.records += len(rows)
    ids: list[str] = []
    try:
        ids = _checked_ids(rows, bucket)
    except InvalidRecords as error:
        for problem in error.problems:
            index = problem.where.get("index")
            row = batch[int(index)][0] if index is not None else None
            named = problem.where.get("field")
            found.add(Fault(problem.message, row, None if named is None else str(named)))
        found.fault_count += error.count - len(error.problems)
    _count_kinds(rows, seen)
    found.ids += len(rows) if bucket.auto_ids else len(ids)
    if not found.fault_count:
        put(rows, ids)


def _cut(row: dict[str, Any]) -> dict[str, Any]:
    """The row as it is shown: no text is longer than one looks at."""
    return {
        name: f"{value[:_SHOWN]}…" if isinstance(value, str) and len(value) > _SHOWN else value
        for name, value in islice(row.items(), _COLUMNS_SHOWN)
    }


def _checked_ids(rows: list[dict[str, Any]], bucket: Bucket) -> list[str]:
    """The ids that the rows bring along. Raises InvalidRecords as storing them would."""
    numbers = map(str, count())
    parsed = parse_records(rows, bucket, new_ids=numbers, schema_check=schema_check(bucket))
    return list(parsed.ids) if bucket.auto_ids else [row[ID] for row in rows if ID in row]


_KINDS = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    type(None): "null",
}


def kind_of(name: str, value: object) -> str:
    """What people call what a field holds."""
    return "time" if name in TIME_FIELDS else _KINDS[type(value)]


def _count_kinds(rows: list[dict[str, Any]], seen: dict[str, ColumnSeen]) -> None:
    for row in rows:
        for name, value in row.items():
            if name not in seen:
                seen[name] = ColumnSeen(name)
            kinds = seen[name].kinds
            kind = kind_of(name, value)
            kinds[kind] = kinds.get(kind, 0) + 1
