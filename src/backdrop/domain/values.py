"""Values of fields, and the one order and equality that all engines keep.

A value from outside is a JSON scalar. Inside, the three time fields hold aware UTC datetimes.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, TypeAlias

Scalar: TypeAlias = str | int | float | bool | None
Value: TypeAlias = Scalar | datetime
Record: TypeAlias = dict[str, Value]
"""One validated record: field name -> value, always with an `_id`."""

ID = "_id"
TIMESTAMP = "_timestamp"
TIME_FIELDS = frozenset({TIMESTAMP, "_start_at", "_end_at"})
RESERVED_FIELDS = TIME_FIELDS | {ID}

FIELD_EXPECTED = "2 to 64 letters, digits or underscores, the first not a digit"
_matches_field = re.compile(r"[A-Za-z_][A-Za-z0-9_]{1,63}").fullmatch


def is_field_name(name: str) -> bool:
    """Whether a field may have this name by its form; that a name with `_` is known is apart."""
    return _matches_field(name) is not None


MOST_ID_CHARACTERS = 512

MOST_FIELDS = 1_000
"""How many fields a bucket may have, beside those that begin with `_`, where no setting says."""
MOST_FIELDS_EVER = 2_000
"""How many a setting may allow: DuckDB takes memory by their square, 1 GB for so many new ones."""

INT64_MIN = -(2**63)
INT64_MAX = 2**63 - 1

_BOOLEAN, _NUMBER, _STRING, _TIME = range(4)


def order_key(value: Value) -> tuple[int, Any]:
    """A key that sorts and identifies values that are not null.

    False before true; then numbers by value, exactly (an integer past 2**53 is not rounded); then
    strings by code point. 1 and 1.0 have equal keys; 1 and true have not.
    """
    if isinstance(value, bool):
        return (_BOOLEAN, value)
    if isinstance(value, (int, float)):
        return (_NUMBER, value)
    if isinstance(value, str):
        return (_STRING, value)
    return (_TIME, value)


def shown(value: Value) -> Value:
    """How a value stands as a group's key or in a set: a float that is a 64-bit integer as that."""
    if isinstance(value, float) and value.is_integer() and INT64_MIN <= value <= INT64_MAX:
        return int(value)
    return value
