"""Rows of cells -> raw rows, by the rules of uploads: the same for CSV and for spreadsheets."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal, TypeAlias

from backdrop.domain.values import (
    FIELD_EXPECTED,
    INT64_MAX,
    INT64_MIN,
    MOST_FIELDS,
    RESERVED_FIELDS,
    TIMESTAMP,
    is_field_name,
)
from backdrop.file_rows.rows import BadFile, Remark, refuse_rename

CsvTypes: TypeAlias = Literal["auto", "text"]
Complain: TypeAlias = Callable[[BadFile], object]
"""Called with a row that is bad, after which the next one is read; or it raises."""


Cell: TypeAlias = str | int | float | bool
"""What stands in a cell: a text without surrounding white space (empty for nothing), or what a
spreadsheet knows to be a number or a boolean."""


def refuse(bad: BadFile) -> None:
    raise bad


def table_rows(
    found: Iterator[tuple[int, Sequence[Cell]]],
    *,
    timestamp: str | None,
    csv_types: CsvTypes,
    remark: Remark,
    complain: Complain = refuse,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each row of a table as its number and its raw row.

    `found`: the numbers and the cells of the rows that are not empty. The first one names the
    fields; columns named `comment`, and rows that have nothing beside them, are skipped. Raises
    BadFile for what is wrong with the whole table; `complain` gets it for one row. At the end
    `remark` is told of each column that holds both numbers and texts that look like numbers.
    """
    line, first = next(found, (1, ()))
    names = list(map(str, first))
    if not names:
        raise BadFile("the file is empty: its first row must name the fields")
    _refuse_other_separators(names, line)
    if timestamp is not None:
        refuse_rename(names, timestamp, line)
        names = [TIMESTAMP if name == timestamp else name for name in names]
    _check_names(names, line)
    columns = [
        (at, _Column(name, _text if name in RESERVED_FIELDS else _CELLS[csv_types]))
        for at, name in enumerate(names)
        if name != "comment"
    ]
    for line, cells in found:
        if len(cells) != len(names):
            count = "1 cell" if len(cells) == 1 else f"{len(cells)} cells"
            complain(BadFile(f"{count}, where the first row names {len(names)}", line))
            continue
        fields = {column.name: column.value(cells[at]) for at, column in columns if cells[at] != ""}
        if fields:
            yield line, fields
    for _, column in columns:
        if column.numbers and column.texts:
            remark(column.in_words)


class _Column:
    """A column of a table: its cells become values, and those like numbers are counted."""

    __slots__ = ("_convert", "name", "numbers", "sample", "texts")

    def __init__(self, name: str, convert: Callable[[Cell], Cell]) -> None:
        self.name = name
        self._convert = convert
        self.numbers = self.texts = 0
        self.sample = ""
        """One of the texts that look like numbers."""

    def value(self, cell: Cell) -> Cell:
        value = self._convert(cell)
        if not isinstance(value, str):
            self.numbers += type(value) is not bool
        elif _looks_like_number(value):
            self.texts += 1
            self.sample = self.sample or value
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


_MOST_COLUMNS = MOST_FIELDS + 100
"""Room for fields, for those that begin with `_` and for comments."""


def _check_names(names: Sequence[str], line: int) -> None:
    if len(names) > _MOST_COLUMNS:
        raise BadFile(
            f"there are {len(names):,} columns, and a bucket has at most {MOST_FIELDS:,} fields: "
            "is the table on its side?",
            line,
        )
    seen = set()
    for column, name in enumerate(names, 1):
        if name == "comment":
            continue
        if not is_field_name(name):
            given = name if len(name) <= _SHOWN else f"{name[:_SHOWN]}…"
            raise BadFile(
                f"column {column} can't be a field: a name is {FIELD_EXPECTED}; not {given!r}", line
            )
        if name in seen:
            raise BadFile(f"two columns are named {name!r}", line)
        seen.add(name)


_SHOWN = 80
"""Characters of a cell in a message."""

_is_integer = re.compile(r"0|-?[1-9]\d{0,18}", re.ASCII).fullmatch
_is_decimal = re.compile(r"-?(?:0|[1-9]\d*)\.\d+", re.ASCII).fullmatch
_looks_like_number = re.compile(
    r"[-+]?(?=[.,]?\d)(?:\d{1,3}(?:[,_ ']\d{3})+|\d*)(?:[.,]\d*)?(?:[eE][-+]?\d+)?", re.ASCII
).fullmatch
_WORDS = {"true": True, "false": False}


def cell_value(text: str) -> Cell:
    """What a cell of text holds: a number or a boolean where it is the canonical spelling of one.

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


def _value(cell: Cell) -> Cell:
    return cell_value(cell) if isinstance(cell, str) else cell


def _text(cell: Cell) -> str:
    """The cell as it would stand in CSV."""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    return str(cell)


_CELLS: Mapping[CsvTypes, Callable[[Cell], Cell]] = {"auto": _value, "text": _text}
