"""Where a spreadsheet holds errors: calamine gives such cells as empty ones.

Also where it holds formulas whose values were never worked out, which would pass for nothing. The
text of the sheet is searched for what such cells look like; only where there is any, it is parsed.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Mapping
from itertools import takewhile
from typing import Any, TypeAlias
from xml.parsers import expat
from zipfile import ZipFile, ZipInfo

from backdrop.file_rows.rows import BadFile
from backdrop.file_rows.zipped import pieces

ErrorCells: TypeAlias = Mapping[int, Mapping[int, str]]
"""Row, from 1 -> column, from 0 -> what is wrong there, in words."""

_MOST_FOUND = 1_000
_OVERLAP = 200
_NOT_WORKED_OUT = (
    "holds a formula without its value: open the file in a spreadsheet program and save it again"
)


def error_cells_of_xlsx(data: bytes, at: int) -> ErrorCells:
    """Of the sheet at that place, from 0. Raises BadFile for what is no XML."""
    with ZipFile(io.BytesIO(data)) as archive:
        part = _sheet_part(archive, at)
        if part is None or not _occurs(_SUSPECT_IN_XLSX, pieces(archive, part)):
            return {}
        return _XlsxCells().found_in(pieces(archive, part))


def error_cells_of_ods(data: bytes, at: int) -> ErrorCells:
    """Of the sheet at that place, from 0. Raises BadFile for what is no XML."""
    with ZipFile(io.BytesIO(data)) as archive:
        part = archive.getinfo("content.xml")
        if not _occurs(_SUSPECT_IN_ODS, pieces(archive, part)):
            return {}
        return _OdsCells(at).found_in(pieces(archive, part))


_SUSPECT_IN_XLSX = re.compile(
    rb"""\bt\s*=\s*["']e["']"""
    rb"|(?:</(?:\w+:)?f>|<(?:\w+:)?f(?:\s[^<>]*)?/>)\s*(?:<(?:\w+:)?v\s*/>|<(?:\w+:)?v></|</)"
)
_SUSPECT_IN_ODS = re.compile(rb"""value-type\s*=\s*["']error|:formula\s*=""")
_ERROR_TEXT = re.compile(
    r"#(?:NULL!|DIV/0!|VALUE!|REF!|NAME\?|NUM!|N/A|SPILL!|CALC!)|Err:\d{3}"
).fullmatch


def _occurs(pattern: re.Pattern[bytes], found: Iterable[bytes]) -> bool:
    before = b""
    for piece in found:
        if pattern.search(before + piece):
            return True
        before = piece[-_OVERLAP:]
    return False


class _Cells:
    """What all formats share: an XML parser, and what was found so far."""

    def __init__(self) -> None:
        self.errors: dict[int, dict[int, str]] = {}
        self.row, self.column, self.count = 0, -1, 0
        self.text: list[str] | None = None

    def found_in(self, xml: Iterable[bytes]) -> ErrorCells:
        parser = _parser(self.start)
        parser.buffer_text = True
        parser.EndElementHandler = lambda name: self.end(_local(name))
        parser.CharacterDataHandler = self.add_text
        _parse(parser, takewhile(lambda _: self.count < _MOST_FOUND, xml))
        return self.errors

    def start(self, name: str, given: dict[str, str]) -> None:
        raise NotImplementedError

    def end(self, name: str) -> None:
        raise NotImplementedError

    def add_text(self, text: str) -> None:
        if self.text is not None:
            self.text.append(text)

    def add(self, words: str) -> None:
        self.errors.setdefault(self.row, {})[self.column] = words
        self.count += 1


class _XlsxCells(_Cells):
    kind, has_formula, value = "n", False, ""

    def start(self, name: str, given: dict[str, str]) -> None:
        if name == "row":
            self.row = int(given["r"]) if "r" in given else self.row + 1
            self.column = -1
        elif name == "c":
            place = given.get("r")
            self.column = _column_of(place) if place else self.column + 1
            self.kind, self.has_formula, self.value = given.get("t", "n"), False, ""
        elif name == "f":
            self.has_formula = True
        elif name == "v":
            self.text = []

    def end(self, name: str) -> None:
        if name == "v":
            self.value, self.text = "".join(self.text or ()), None
        elif name == "c" and self.kind == "e":
            self.add(f"holds the error {self.value[:20] or 'of a formula'}")
        elif name == "c" and self.has_formula and not self.value and self.kind != "str":
            self.add(_NOT_WORKED_OUT)


class _OdsCells(_Cells):
    repeated, rows_repeated, suspect, declared = 1, 1, False, False

    def __init__(self, at: int) -> None:
        super().__init__()
        self.sheets_before = at + 1

    @property
    def is_there(self) -> bool:
        return self.sheets_before == 0

    def start(self, name: str, given: dict[str, str]) -> None:
        if name == "table":
            self.sheets_before -= 1
        elif self.is_there and name == "table-row":
            self.row += self.rows_repeated
            self.rows_repeated = _repeated(given, "table:number-rows-repeated")
            self.column, self.repeated = -1, 1
        elif self.is_there and name in ("table-cell", "covered-table-cell"):
            self.column += self.repeated
            self.repeated = _repeated(given, "table:number-columns-repeated")
            self.declared = given.get("calcext:value-type") == "error"
            self.suspect = self.declared or "table:formula" in given
            self.text = []

    def end(self, name: str) -> None:
        if self.is_there and name in ("table-cell", "covered-table-cell"):
            text = "".join(self.text or ()).strip()
            if self.declared or (self.suspect and _ERROR_TEXT(text)):
                self.add(f"holds the error {text[:20]}")
            self.text = None


def _repeated(given: Mapping[str, str], name: str) -> int:
    number = given.get(name, "1")
    return int(number) if number.isdecimal() and len(number) < 9 else 1


def _column_of(place: str) -> int:
    column = 0
    for letter in place:
        if not letter.isalpha():
            break
        column = column * 26 + ord(letter.upper()) - ord("A") + 1
    return column - 1


def _local(name: str) -> str:
    return name.rpartition(":")[2]


def _sheet_part(archive: ZipFile, at: int) -> ZipInfo | None:
    """The part of the sheet at that place, as the workbook and its relations name it."""
    sheets: list[str] = []
    targets: dict[str, str] = {}

    def sheet(name: str, given: dict[str, str]) -> None:
        if name == "sheet":
            sheets.append(next((value for key, value in given.items() if _local(key) == "id"), ""))

    def relation(name: str, given: dict[str, str]) -> None:
        if name == "Relationship":
            targets[given.get("Id", "")] = given.get("Target", "").lower()

    names = {part.filename.lower(): part for part in archive.infolist()}
    for path, start in (("xl/workbook.xml", sheet), ("xl/_rels/workbook.xml.rels", relation)):
        if path in names:
            _parse(_parser(start), pieces(archive, names[path]))
    target = targets.get(sheets[at], "") if at < len(sheets) else ""
    return names.get(target.lstrip("/") if target.startswith("/") else f"xl/{target}")


def _parser(start: Callable[[str, dict[str, str]], Any]) -> expat.XMLParserType:
    """`start` is called with the local name and the attributes of each element."""
    parser = expat.ParserCreate()
    parser.StartElementHandler = lambda name, given: start(_local(name), given)
    return parser


def _parse(parser: expat.XMLParserType, xml: Iterable[bytes]) -> None:
    """Raises BadFile for what is no XML, or numbers its rows and columns by no number."""
    try:
        for piece in xml:
            parser.Parse(piece)
    except (expat.ExpatError, OverflowError, ValueError) as error:
        raise BadFile(f"the sheet can't be read: {error}") from None
