"""CSV files -> raw rows: cells become values by the rules of uploads (`cell_value`)."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal, TypeAlias

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
from backdrop.file_rows.rows import (
    NOT_UTF8,
    BadFile,
    Remark,
    Row,
    numbered_lines,
    refuse_rename,
    say_nothing,
)

CsvTypes: TypeAlias = Literal["auto", "text"]


def csv_file_rows(
    file: io.BufferedReader, timestamp: str | None, csv_types: CsvTypes, remark: Remark
) -> Iterator[Row]:
    lines = (line for _, line in numbered_lines(file))
    for line, fields in csv_rows(lines, timestamp, csv_types, remark):
        if timestamp is not None and TIMESTAMP not in fields:
            raise BadFile(f"there is no {timestamp!r} to become {TIMESTAMP}", line)
        yield Row(line, msgspec.json.encode(fields), ID in fields, TIMESTAMP in fields)


def csv_rows(
    lines: Iterator[bytes],
    timestamp: str | None,
    csv_types: CsvTypes,
    remark: Remark = say_nothing,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each row of a CSV file as the line on which it begins and its raw row.

    The first row names the fields. Lines that begin with `#`, columns named `comment` and rows
    whose cells are all empty are skipped; cells are stripped. Raises BadFile. At the end `remark`
    is told of each column that holds both numbers and texts that look like numbers.
    """
    found = _csv_cells(lines)
    line, names = next(found, (1, []))
    if not names:
        raise BadFile("the file is empty: its first row must name the fields")
    _refuse_other_separators(names, line)
    if timestamp is not None:
        refuse_rename(names, timestamp, line)
        names = [TIMESTAMP if name == timestamp else name for name in names]
    _check_names(names, line)
    columns = [
        (at, _Column(name, _text_value if name in RESERVED_FIELDS else _CELLS[csv_types]))
        for at, name in enumerate(names)
        if name != "comment"
    ]
    for line, cells in found:
        if len(cells) != len(names):
            raise BadFile(f"{len(cells)} cells, where the first row names {len(names)}", line)
        fields = {column.name: column.value(cells[at]) for at, column in columns if cells[at]}
        if fields:
            yield line, fields
    for _, column in columns:
        if column.numbers and column.texts:
            remark(column.in_words)


class _Column:
    """A column of a CSV file: its cells become values, and those like numbers are counted."""

    __slots__ = ("_convert", "name", "numbers", "sample", "texts")

    def __init__(self, name: str, convert: Callable[[str], Any]) -> None:
        self.name = name
        self._convert = convert
        self.numbers = self.texts = 0
        self.sample = ""
        """One of the texts that look like numbers."""

    def value(self, cell: str) -> Any:
        value = self._convert(cell)
        if type(value) is not str:
            self.numbers += type(value) is not bool
        elif _looks_like_number(cell):
            self.texts += 1
            self.sample = self.sample or cell
        return value

    @property
    def in_words(self) -> str:
        numbers = f"{self.numbers:,} number{'s' if self.numbers > 1 else ''}"
        texts = f"{self.texts:,} text{'s' if self.texts > 1 else ''}"
        return (
            f"column {self.name}: {numbers}, and {texts} such as {self.sample!r}: "
            "a sum needs numbers only"
        )


def _refuse_other_separators(names: Sequence[str], line: int) -> None:
    for character, words in ((";", "`;`"), ("\t", "tabs")):
        if len(names) == 1 and character in names[0]:
            raise BadFile(f"it seems to be separated by {words}; commas are expected", line)


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
                raise BadFile(NOT_UTF8, number) from None

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
_looks_like_number = re.compile(
    r"[-+]?(?=[.,]?\d)(?:\d{1,3}(?:[,_ ']\d{3})+|\d*)(?:[.,]\d*)?(?:[eE][-+]?\d+)?", re.ASCII
).fullmatch
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
