"""Spreadsheets -> raw rows: of the first sheet that is shown, by the rules of uploads.

A cell counts as it would in CSV, but that a spreadsheet knows which cells are numbers and dates.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import partial
from typing import Any, Literal, TypeAlias

import python_calamine
import xlrd

from backdrop.domain.values import INT64_MAX, INT64_MIN
from backdrop.domain.words import counted
from backdrop.file_rows.csv_rows import as_rows
from backdrop.file_rows.error_cells import ErrorCells, error_cells_of_ods, error_cells_of_xlsx
from backdrop.file_rows.nature import refuse_other
from backdrop.file_rows.rows import BadFile, Remark, Row
from backdrop.file_rows.table_rows import Cell, Complain, CsvTypes, refuse, table_rows
from backdrop.file_rows.zipped import refuse_bomb

SheetFormat: TypeAlias = Literal["xlsx", "xls", "ods"]

MOST_SHEET_BYTES = 256 * 2**20
"""A spreadsheet is read whole."""

_MOST_CELLS = 30_000_000
"""Of a sheet's square, its empty cells included."""

_Rows: TypeAlias = Iterator[tuple[int, list[Any]]]


def sheet_file_rows(
    format_: SheetFormat,
    file: io.BufferedReader,
    timestamp: str | None,
    csv_types: CsvTypes,
    remark: Remark,
) -> Iterator[Row]:
    return as_rows(sheet_rows(format_, file, timestamp, csv_types, remark), timestamp)


def sheet_rows(
    format_: SheetFormat,
    file: io.BufferedIOBase,
    timestamp: str | None,
    csv_types: CsvTypes,
    remark: Remark,
    complain: Complain = refuse,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each row of the sheet as its number there and its raw row (`table_rows`).

    `complain` is told of each cell that holds an error, too; `remark` of sheets and rows left out.
    """
    data = file.read(MOST_SHEET_BYTES + 1)
    if len(data) > MOST_SHEET_BYTES:
        raise BadFile(f"a spreadsheet may have {MOST_SHEET_BYTES // 2**20} MiB: save it as CSV")
    if not data:
        raise BadFile("the file is empty: its first row must name the fields")
    refuse_other(format_, data)
    rows = _SHEETS[format_](data, remark)
    return table_rows(
        _squared(_cells(rows, complain, remark)),
        timestamp=timestamp,
        csv_types=csv_types,
        remark=remark,
        complain=complain,
    )


@dataclass(frozen=True, slots=True)
class _Error:
    """Stands where a cell holds an error."""

    words: str


# -- what the libraries give ---------------------------------------------------------------------


def _calamine_rows(
    data: bytes, remark: Remark, *, name: str, error_cells: Callable[[bytes, int], ErrorCells]
) -> _Rows:
    refuse_bomb(data, name)
    try:
        book = python_calamine.load_workbook(io.BytesIO(data))
        at = _first_shown(book.sheets_metadata)
        sheet = book.get_sheet_by_index(at)
    except python_calamine.PasswordError:
        raise BadFile(_LOCKED) from None
    except Exception as error:  # noqa: BLE001  of a broken file it may be anything
        raise _unreadable(name, error) from None
    _remark_others(book.sheet_names, at, remark)
    if sheet.end is None or sheet.start is None:
        return
    _refuse_vast(sheet.end[0] + 1, sheet.end[1] + 1)
    errors = error_cells(data, at)
    for number, row in enumerate(sheet.iter_rows(), 1):
        cells: list[Any] = [*[""] * sheet.start[1], *row]
        for column, words in errors.get(number, {}).items():
            cells[len(cells) :] = [""] * (column + 1 - len(cells))
            cells[column] = _Error(words)
        yield number, cells


def _first_shown(sheets: Sequence[python_calamine.SheetMetadata]) -> int:
    for at, sheet in enumerate(sheets):
        is_table = sheet.typ == python_calamine.SheetTypeEnum.WorkSheet
        if is_table and sheet.visible == python_calamine.SheetVisibleEnum.Visible:
            return at
    return 0


def _xlrd_rows(data: bytes, remark: Remark) -> _Rows:
    """The rows of an XLS: calamine makes no difference between its errors and nothing."""
    try:
        book = xlrd.open_workbook(file_contents=data, on_demand=True, logfile=io.StringIO())
        at = next((at for at in range(book.nsheets) if not _is_hidden(book, at)), 0)
        sheet = book.sheet_by_index(at)
    except Exception as error:  # noqa: BLE001  of a broken file it may be anything
        encrypted = "encrypted" in str(error)
        raise (BadFile(_LOCKED) if encrypted else _unreadable("an XLS file", error)) from None
    _remark_others(book.sheet_names(), at, remark)
    _refuse_vast(sheet.nrows, sheet.ncols)
    for number in range(sheet.nrows):
        yield number + 1, [_of_xls(cell, book.datemode) for cell in sheet.row(number)]


def _is_hidden(book: Any, at: int) -> bool:
    return bool(book.sheet_by_index(at).visibility)


def _of_xls(cell: Any, datemode: int) -> Any:
    if cell.ctype == xlrd.XL_CELL_ERROR:
        return _Error(f"holds the error {xlrd.error_text_from_code.get(cell.value, '')}")
    if cell.ctype == xlrd.XL_CELL_BOOLEAN:
        return bool(cell.value)
    if cell.ctype == xlrd.XL_CELL_DATE:
        if 0 <= cell.value < 1:
            return timedelta(seconds=round(cell.value * 86_400))
        try:
            return xlrd.xldate_as_datetime(cell.value, datemode)
        except (ValueError, OverflowError, xlrd.xldate.XLDateError):
            return cell.value
    return cell.value


_LOCKED = "it is protected by a password: save it without one"


def _unreadable(name: str, error: Exception) -> BadFile:
    if isinstance(error, MemoryError):
        raise error
    return BadFile(f"{name} can't be read: it is broken, or something else in truth ({error})")


def _remark_others(names: Sequence[str], at: int, remark: Remark) -> None:
    others = [repr(name) for place, name in enumerate(names) if place != at]
    if others:
        shown = ", ".join(others[:10]) + (", …" if len(others) > 10 else "")
        are = "sheet is" if len(others) == 1 else "sheets are"
        remark(f"only the sheet {names[at]!r} is read; {len(others)} {are} left out: {shown}")


def _refuse_vast(rows: int, columns: int) -> None:
    if rows * columns > _MOST_CELLS:
        raise BadFile(
            f"the sheet reaches over {rows:,} rows and {columns:,} columns, which is too much: "
            "is there something far below the table, or far to its right?"
        )


_SHEETS: Mapping[SheetFormat, Callable[[bytes, Remark], _Rows]] = {
    "xlsx": partial(_calamine_rows, name="an XLSX file", error_cells=error_cells_of_xlsx),
    "xls": _xlrd_rows,
    "ods": partial(_calamine_rows, name="an ODS file", error_cells=error_cells_of_ods),
}


# -- cells ---------------------------------------------------------------------------------------


def _cells(rows: _Rows, complain: Complain, remark: Remark) -> Iterator[tuple[int, list[Cell]]]:
    """The cells of the rows that have any, without an error, and not just a text that begins with
    `#`: of such rows `remark` is told in the end.
    """
    left_out = 0
    for number, row in rows:
        bad = [at for at, cell in enumerate(row) if isinstance(cell, _Error)]
        for at in bad:
            words = f"the cell {column_letters(at)}{number} {row[at].words}"
            complain(BadFile(words, number, column=column_letters(at)))
        if not bad:
            cells = [_cell(cell) for cell in row]
            while cells and cells[-1] == "":
                cells.pop()
            if len(cells) == 1 and str(cells[0]).startswith("#"):
                left_out += 1
            elif cells:
                yield number, cells
    if left_out:
        remark(f"{counted(left_out, 'row')} left out: nothing but a text that begins with #")


def _squared(rows: Iterator[tuple[int, list[Cell]]]) -> Iterator[tuple[int, list[Cell]]]:
    """The rows with as many cells as the first one, or more."""
    width = 0
    for number, cells in rows:
        width = width or len(cells)
        cells += [""] * (width - len(cells))
        yield number, cells


def _cell(value: Any) -> Cell:
    """A cell as it would stand in CSV, but for numbers and booleans.

    Dates as `2013-01-31`, those with a time of day as `2013-01-31T09:30:00`, times of day and
    durations as `09:30:00`, hours past 24 counted on.
    """
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, float):
        whole = value.is_integer() and INT64_MIN <= value <= INT64_MAX and abs(value) < 2**63
        return int(value) if whole else _finite(value)
    if isinstance(value, datetime):
        is_date = value.time() == time()
        return value.date().isoformat() if is_date else value.isoformat()
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return _duration(value)
    return value  # type: ignore[no-any-return]  # an integer or a boolean


def _finite(value: float) -> Cell:
    return value if math.isfinite(value) else str(value)


def _duration(value: timedelta) -> str:
    seconds = abs(value) // timedelta(seconds=1)
    sign = "-" if value < timedelta() else ""
    return f"{sign}{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def column_letters(at: int) -> str:
    """How a spreadsheet calls its column, counted from 0: A, …, Z, AA, …"""
    letters = ""
    at += 1
    while at:
        at, place = divmod(at - 1, 26)
        letters = chr(ord("A") + place) + letters
    return letters
