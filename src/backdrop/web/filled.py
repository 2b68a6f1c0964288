"""A form as it is shown, and what is wrong with its fields, in the form's own words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from backdrop.errors import BackdropError


@dataclass(slots=True)
class Filled:
    """A form as it is shown: what stands in its fields, and what is wrong with them."""

    values: dict[str, Any]
    problems: dict[str, str] = field(default_factory=dict)
    """By field; under `""` what is about none of them."""

    @classmethod
    def refused(cls, values: dict[str, Any], error: BackdropError) -> Filled:
        problems: dict[str, str] = {}
        for problem in error.problems:
            name = str(problem.where.get("setting", ""))
            words = _WORDS.get(name) if problem.code == "invalid_setting" else None
            problems.setdefault(name if name in values else "", words or problem.message)
        if values.get("schema") and "schema" in problems:
            problems["schema"] = _not_json(values["schema"]) or problems["schema"]
        return cls(values, problems)


_ADDRESS = "letters, digits, _ or -, at most 64; give both Group and Type, or neither"
_WORDS: Mapping[str, str] = {
    "auto_ids": "expected names of different fields, such as _timestamp, office; but not _id",
    "timezone": "expected a time zone such as Europe/London or UTC",
    "max_age_expected": "expected a whole number of seconds above 0, or nothing",
    "schema": "expected a JSON Schema in {…}, or nothing",
    "data_group": f"expected {_ADDRESS}",
    "data_type": f"expected {_ADDRESS}",
}
"""What the form says of a setting that is not as expected."""


def _not_json(text: str) -> str | None:
    """Where a text breaks off from JSON, in words; None if it doesn't."""
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return f"this is not JSON: {error.msg} in line {error.lineno}, column {error.colno}"
    except RecursionError:
        return "this is not JSON that can be read: it is nested too deeply"
    return None
