"""The ids that a bucket's `auto_ids` make of a record. Pure."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from backdrop.domain.raw_row import Wrong
from backdrop.domain.table import ABSENT
from backdrop.domain.times import format_instant
from backdrop.domain.values import ID, MOST_ID_CHARACTERS, Record, Value


def made_id(record: Mapping[str, Value], fields: Sequence[str]) -> str:
    r"""The `_id` that `fields` make: base64 of their values joined by `.`.

    Strings stand as they are, with `.` and `\` written `\.` and `\\`; times in the form in which
    they are given back; other values as their JSON.
    """
    return base64.b64encode(".".join(_joined(record[name]) for name in fields).encode()).decode()


def _joined(value: Value) -> str:
    if isinstance(value, str):
        return value.replace("\\", "\\\\").replace(".", "\\.")
    if isinstance(value, datetime):
        return format_instant(value)
    return json.dumps(value)


def checked_auto_id(record: Record, fields: Sequence[str]) -> str:
    """The `_id` that the record gets. Raises Wrong where it can't have one, or has another."""
    for name in fields:
        if name not in record:
            message = f"{name} is missing, and makes the _id of this bucket's records"
            raise Wrong("missing_field", message, name)
    made = made_id(record, fields)
    if not 1 <= len(made) <= MOST_ID_CHARACTERS:
        message = f"{', '.join(fields)} make an _id of {len(made)} characters, not of 1 to 512"
        raise Wrong("invalid_id", message, ID)
    if record.get(ID, made) != made:
        message = f"_id is made of {', '.join(fields)} here: leave it out, or give {made!r}"
        raise Wrong("id_mismatch", message, ID)
    return made


def made_ids(columns: Mapping[str, Sequence[Any]], fields: Sequence[str]) -> list[str] | None:
    """What `made_id` makes of each row of the columns; None where not every row can have one."""
    parts = [columns.get(name, (ABSENT,)) for name in fields]
    if any(ABSENT in part for part in parts):
        return None
    rows = zip(*(map(_joined, part) for part in parts), strict=True)
    made = [base64.b64encode(".".join(row).encode()).decode() for row in rows]
    return made if all(made) and max(map(len, made)) <= MOST_ID_CHARACTERS else None
