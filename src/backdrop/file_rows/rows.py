"""What a file is made of, whatever its format: lines, rows, and what can be wrong with them."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from backdrop.domain.values import TIMESTAMP

MOST_LINE_BYTES = 32 * 2**20

NOT_UTF8 = "not UTF-8; if it is Latin-1, convert it: iconv -f latin1 -t utf-8"

Remark: TypeAlias = Callable[[str], object]
"""Called with what is no error, but may not be what was meant."""


def say_nothing(_: str) -> None:
    pass


class BadFile(Exception):
    """The file can't be read on; `line` is where, counted from 1, if that is known.

    `column` is the letters of a spreadsheet's column, or a field. `option` is the option of
    `backdrop import` that would mend it, if one would.
    """

    def __init__(
        self,
        message: str,
        line: int | None = None,
        *,
        column: str | None = None,
        option: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message, self.line, self.column, self.option = message, line, column, option


@dataclass(frozen=True, slots=True)
class Row:
    """One record as it is to be sent, and the line of the file on which it begins."""

    line: int
    json: bytes
    has_id: bool
    has_timestamp: bool


def numbered_lines(file: io.BufferedReader) -> Iterator[tuple[int, bytes]]:
    number = 1
    while line := file.readline(MOST_LINE_BYTES + 1):
        if len(line) > MOST_LINE_BYTES:
            most = MOST_LINE_BYTES // 2**20
            raise BadFile(f"the line has more than {most} MiB: is the file another format?", number)
        yield number, line
        number += 1


def refuse_rename(names: Mapping[str, Any] | Sequence[str], timestamp: str, line: int) -> None:
    if timestamp not in names:
        raise BadFile(
            f"there is no field {timestamp!r} to become {TIMESTAMP}; there are {', '.join(names)}",
            line,
            option="timestamp",
        )
    if TIMESTAMP in names and timestamp != TIMESTAMP:
        raise BadFile(f"there are both {timestamp!r} and {TIMESTAMP}", line, option="timestamp")
