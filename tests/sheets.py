"""Spreadsheets made by other programs' libraries: rows of cells -> the bytes of a file."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time
from typing import Any

import openpyxl
import xlwt
from odf.opendocument import OpenDocumentSpreadsheet
from odf.style import Style, TableProperties
from odf.table import Table, TableCell, TableRow
from odf.text import P

Rows = Sequence[Sequence[Any]]


class Wrong:
    """An error in a cell, such as that of a division by zero."""


def xlsx(rows: Rows, *more: tuple[str, Rows], hidden: bool = False) -> bytes:
    """`more`: further sheets, with their names. `hidden`: the first one is."""
    book = openpyxl.Workbook()
    first = book.active
    assert first is not None
    for sheet, content in [(first, rows), *((book.create_sheet(n), r) for n, r in more)]:
        for line, row in enumerate(rows if sheet is first else content, 1):
            for column, value in enumerate(row, 1):
                if isinstance(value, Wrong):
                    sheet.cell(line, column).value = "#DIV/0!"
                    sheet.cell(line, column).data_type = "e"
                elif value is not None:
                    cell = sheet.cell(line, column)
                    cell.value = value
                    if isinstance(value, str) and value.startswith("=") and len(value) < 2:
                        cell.data_type = "s"
    first.sheet_state = "hidden" if hidden else "visible"
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


_FORMATS: Mapping[type, str] = {
    date: "YYYY-MM-DD",
    datetime: "YYYY-MM-DD HH:MM:SS",
    time: "HH:MM:SS",
}


def xls(rows: Rows, *more: tuple[str, Rows], hidden: bool = False) -> bytes:
    book = xlwt.Workbook()
    for name, content in [("Sheet", rows), *more]:
        sheet = book.add_sheet(name)
        sheet.visibility = int(hidden and content is rows)
        for line, row in enumerate(content):
            for column, value in enumerate(row):
                if isinstance(value, Wrong):
                    sheet.row(line).set_cell_error(column, "#DIV/0!")
                elif type(value) in _FORMATS:
                    style = xlwt.easyxf(num_format_str=_FORMATS[type(value)])
                    sheet.write(line, column, value, style)
                elif value is not None:
                    sheet.write(line, column, value)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def ods(rows: Rows, *more: tuple[str, Rows], hidden: bool = False) -> bytes:
    book = OpenDocumentSpreadsheet()
    unseen = Style(name="unseen", family="table")
    unseen.addElement(TableProperties(display="false"))
    book.automaticstyles.addElement(unseen)
    for name, content in [("Sheet", rows), *more]:
        table = Table(name=name, **({"stylename": unseen} if hidden and content is rows else {}))
        for row in content:
            line = TableRow()
            for value in row:
                line.addElement(_ods_cell(value))
            table.addElement(line)
        book.spreadsheet.addElement(table)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def _ods_cell(value: Any) -> Any:
    if isinstance(value, Wrong):
        cell = TableCell(valuetype="string", stringvalue="", formula="of:=1/0")
        cell.addElement(P(text="#DIV/0!"))
        return cell
    if value is None:
        return TableCell()
    if isinstance(value, bool):
        return TableCell(valuetype="boolean", booleanvalue="true" if value else "false")
    if isinstance(value, (int, float)):
        return TableCell(valuetype="float", value=repr(value))
    if isinstance(value, time):
        return TableCell(valuetype="time", timevalue=value.strftime("PT%HH%MM%SS"))
    if isinstance(value, (date, datetime)):
        return TableCell(valuetype="date", datevalue=value.isoformat())
    cell = TableCell(valuetype="string")
    cell.addElement(P(text=value))
    return cell


MAKERS: Mapping[str, Callable[..., bytes]] = {"xlsx": xlsx, "xls": xls, "ods": ods}


def bomb(size: int, *, declared: int | None = None) -> bytes:
    """An XLSX whose sheet unpacks to `size` zeros, or says that it has `declared`."""
    file = io.BytesIO(xlsx([["aa"], [1]]))
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("xl/worksheets/sheet9.xml", "w", force_zip64=True) as part:
            for _ in range(size // 2**20):
                part.write(bytes(2**20))
        if declared is not None:
            archive.getinfo("xl/worksheets/sheet9.xml").file_size = declared
    return file.getvalue()


def repeated_ods(rows: int) -> bytes:
    """An ODS of a few bytes whose one row of 1,000 cells is repeated so often."""
    data = ods([["aa"], [1]])
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as before, zipfile.ZipFile(file, "w") as after:
        for part in before.infolist():
            content = before.read(part)
            if part.filename == "content.xml":
                more = (
                    f'<table:table-row table:number-rows-repeated="{rows}"><table:table-cell '
                    'table:number-columns-repeated="1000" office:value-type="float" '
                    'office:value="1"/></table:table-row></table:table>'
                )
                content = content.replace(b"</table:table>", more.encode())
            after.writestr(part.filename, content)
    return file.getvalue()


PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(1_000)
