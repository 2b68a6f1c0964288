"""The bytes of a body -> raw rows or settings, in a worker thread unless they are few. Pure.

A byte order mark before the JSON is skipped: it is not data, and some tools can't help sending it.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import msgspec

from backdrop.api.alike import decode_alike
from backdrop.domain.table import RawRows, RawTable
from backdrop.domain.values import INT64_MAX, INT64_MIN
from backdrop.domain.words import counted
from backdrop.errors import InvalidBody, InvalidRecords, Problem

_ROWS_EXPECTED = "one JSON object, or an array of them"
_OBJECT_EXPECTED = "one JSON object"


def parse_rows(data: bytes, *, most: int = 2_000_000) -> RawRows:
    """The raw rows of a body: an array's items, or one object as an array of one.

    Raises InvalidRecords for more than `most`, before any is made.

    What `parse_records` names by index and field (NaN, numbers past their range, halves of
    surrogate pairs) passes, and is sure to be refused there; anything else that is not JSON raises
    InvalidBody.
    """
    could_be_more = len(data) > 2 * most  # `{}` is the smallest, and a comma goes with it
    if (
        could_be_more
        and _brackets(data) > most + 1
        and _brackets(_strings.sub(b"", data)) > most + 1
    ):
        raise _too_many_records(most)
    alike = decode_alike(data) if len(data) >= _MANY else None
    value = _decode(data, _ROWS_EXPECTED, lenient=True) if alike is None else alike
    if isinstance(value, dict):
        return [value]
    if not isinstance(value, (list, RawTable)):
        raise InvalidBody(f"the body must be {_ROWS_EXPECTED}")
    if len(value) > most:
        raise _too_many_records(most)
    return value


_MANY = 4096
"""Bytes of a body from which on its rows are worth a look at whether they are alike."""


def _brackets(data: bytes) -> int:
    """How many objects and lists begin, those that stand in strings included."""
    return data.count(b"{") + data.count(b"[")


_strings = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
"""Also one that has no end: to look for it again from each quote within would take for ever."""


def _too_many_records(most: int) -> InvalidRecords:
    return InvalidRecords(
        f"nothing was stored: the batch has more than {counted(most, 'record')} (max_records): "
        "send it in smaller ones",
        code="batch_too_large",
    )


def parse_row(data: bytes) -> dict[str, Any]:
    """The one raw row of a body, on the terms of `parse_rows`."""
    return _object(_decode(data, _OBJECT_EXPECTED, lenient=True))


def parse_settings(data: bytes) -> dict[str, Any]:
    """The object of a body, which may be empty. Raises InvalidBody for all that is not JSON."""
    if not data.strip():
        return {}
    return _object(_decode(data, _OBJECT_EXPECTED, lenient=False))


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidBody(f"the body must be {_OBJECT_EXPECTED}")
    return value


def _decode(data: bytes, expected: str, *, lenient: bool) -> Any:
    data = data.removeprefix(b"\xef\xbb\xbf")
    if not data.strip():
        raise InvalidBody(f"the body is empty; expected {expected}")
    try:
        return msgspec.json.decode(data)
    except RecursionError:
        raise _too_deep(expected) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        reason = str(error)
    value = _decode_again(data, expected)
    if lenient and _is_refused_as_rows(value):
        return value
    message = (
        "the body is not JSON: NaN, infinities, numbers out of range and halves of surrogate "
        f"pairs can't stand in it ({reason})"
    )
    raise InvalidBody(message)


def _too_deep(expected: str) -> InvalidBody:
    return InvalidBody(f"the body is nested too deeply to be read: expected {expected}")


def _decode_again(data: bytes, expected: str) -> Any:
    """What the standard library reads, which takes some things that JSON has not.

    It says where a text breaks off from JSON; the quick decoder does not.
    """
    try:
        return json.loads(data.decode())
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        begin = data.rfind(b"\n", 0, error.start) + 1
        column = len(data[begin : error.start].decode()) + 1
        raise _broken(line, column, "a byte that is not UTF-8", expected) from None
    except json.JSONDecodeError as error:
        raise _broken(error.lineno, error.colno, error.msg, expected) from None
    except RecursionError:
        raise _too_deep(expected) from None
    except ValueError:  # CPython reads no integer of more than 4,300 digits
        raise InvalidBody("the body holds an integer of thousands of digits") from None


def _broken(line: int, column: int, reason: str, expected: str) -> InvalidBody:
    reason = re.sub(r"^Expecting", "expecting", reason)
    message = (
        f"the body is not JSON, at line {line}, column {column}: {reason}; expected {expected}"
    )
    problem = Problem("invalid_json", message, {"line": line, "column": column})
    return InvalidBody(message, problems=[problem])


def _is_refused_as_rows(value: Any) -> bool:
    """Whether a row holds, as a name or a value, something that `parse_records` refuses.

    Not so where a good value took the bad one's place: `{"fee": NaN, "fee": 1}`.
    """
    rows = value if isinstance(value, list) else [value]
    return any(
        _is_refused(name) or _is_refused(field)
        for row in rows
        if isinstance(row, dict)
        for name, field in row.items()
    )


def _is_refused(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, int):
        return not INT64_MIN <= value <= INT64_MAX
    if isinstance(value, str):
        return any("\ud800" <= character <= "\udfff" for character in value)
    return isinstance(value, (list, dict))
