"""What rows show of themselves: for hints about an import that may not be what was meant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import msgspec

from backdrop.domain.times import parse_instant
from backdrop.file_rows import Row

_LOOKED_AT = 100


def time_fields(rows: Sequence[Row]) -> dict[str, str]:
    """The fields whose values all look like times, each with its first one.

    Only the first rows are looked at, and none where one of `rows` has a `_timestamp`.
    """
    if any(row.has_timestamp for row in rows):
        return {}
    seen: dict[str, list[Any]] = {}
    for row in islice(rows, _LOOKED_AT):
        for name, value in _fields(row):
            seen.setdefault(name, []).append(value)
    return {name: values[0] for name, values in seen.items() if all(map(_is_time, values))}


def _fields(row: Row) -> Iterator[tuple[str, Any]]:
    """The row's own fields, without those that Backdrop gives a meaning."""
    fields: dict[str, Any] = msgspec.json.decode(row.json)
    return ((name, value) for name, value in fields.items() if not name.startswith("_"))


def _is_time(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(parse_instant(value))
    except ValueError:
        return False
