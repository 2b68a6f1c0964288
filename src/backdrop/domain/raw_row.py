"""One raw row -> its fields, each checked by itself. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from backdrop.domain.times import parse_instant
from backdrop.domain.values import (
    FIELD_EXPECTED,
    INT64_MAX,
    INT64_MIN,
    MOST_ID_CHARACTERS,
    RESERVED_FIELDS,
    TIME_FIELDS,
    Record,
    Value,
    is_field_name,
)

SchemaCheck = Callable[[Mapping[str, Any]], Sequence[tuple[str | None, str]]]
"""What a bucket's schema says of one raw record: (field or None, message) for each violation."""


class Wrong(Exception):
    """One thing wrong with one record: code, message and field."""

    def __init__(self, code: str, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.field = code, message, field


def parse_fields(raw: Any) -> tuple[Record, list[Wrong]]:
    """The fields of one raw row, checked each by itself, and what is wrong with them."""
    if not isinstance(raw, dict):
        message = f'a record is a JSON object such as {{"name": "value"}}, not {_kind(raw)}'
        return {}, [Wrong("not_an_object", message)]
    if not raw:
        return {}, [Wrong("empty_record", "a record must have at least one field")]
    record: Record = {}
    wrong: list[Wrong] = []
    for name, value in raw.items():
        try:
            if name not in good_names:
                check_name(name)
            if name in RESERVED_FIELDS:
                record[name] = _parse_reserved(name, value)
            else:
                kind = type(value)
                if kind is str:
                    if not value.isascii():
                        _check_text(name, value)
                elif kind is int:
                    if not INT64_MIN <= value <= INT64_MAX:
                        message = f"{name} is past 64 bits: expected {INT64_MIN} to {INT64_MAX}"
                        raise Wrong("integer_out_of_range", message, name)
                elif kind is float:
                    if value - value != 0.0:  # only NaN and the infinities
                        message = f"{name} must be a finite number, not {value}"
                        raise Wrong("number_not_finite", message, name)
                elif kind is not bool and value is not None:
                    expected = "a string, a number, true, false or null"
                    message = f"{name} must be {expected}, not {_kind(value)}"
                    raise Wrong("invalid_value", message, name)
                record[name] = value
        except Wrong as one:
            wrong.append(one)
    return record, wrong


good_names: set[str] = set()
"""Names that were checked before: at most `_MOST_GOOD_NAMES`, only to save the work."""
_MOST_GOOD_NAMES = 10_000


def check_name(name: Any) -> None:
    if not isinstance(name, str) or not is_field_name(name):
        text = name if isinstance(name, str) else _kind(name)
        shown = text if len(text) <= 80 else f"{text[:80]}…"
        message = f"a field's name is {FIELD_EXPECTED}; not {shown!a}"
        field = shown if shown.isprintable() else ascii(shown)[1:-1]
        raise Wrong("invalid_field_name", message, field)
    if name.startswith("_") and name not in RESERVED_FIELDS:
        known = ", ".join(sorted(RESERVED_FIELDS))
        raise Wrong(
            "reserved_field", f"names that begin with _ are reserved ({known}), not {name}", name
        )
    if len(good_names) < _MOST_GOOD_NAMES:
        good_names.add(name)


def _parse_reserved(name: str, value: Any) -> Value:
    if name in TIME_FIELDS:
        if not isinstance(value, str):
            message = f"{name} must be a string that holds a time, not {_kind(value)}"
            raise Wrong("invalid_timestamp", message, name)
        try:
            return parse_instant(value)
        except ValueError as error:
            given = value if len(value) <= 80 else f"{value[:80]}…"
            raise Wrong("invalid_timestamp", f"{name} is {given!a}: {error}", name) from None
    if not isinstance(value, str):
        raise Wrong("invalid_id", f"_id must be a string, not {_kind(value)}", name)
    if not 1 <= len(value) <= MOST_ID_CHARACTERS:
        message = f"_id must have 1 to {MOST_ID_CHARACTERS} characters, not {len(value)}"
        raise Wrong("invalid_id", message, name)
    if any(map(str.isspace, value)):
        raise Wrong("invalid_id", "_id must hold no white space", name)
    _check_text(name, value)
    return value


def _check_text(name: str, value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        message = f"{name} holds half of a surrogate pair, which is not a character"
        raise Wrong("invalid_string", message, name) from None


def _kind(value: Any) -> str:
    """What a raw value is, in JSON's words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    names = {str: "a string", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), f"a {type(value).__name__}")
