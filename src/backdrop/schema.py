"""JSON Schema: checking that a bucket's schema is one, and records against it (jsonschema-rs)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import jsonschema_rs
import msgspec

from backdrop.domain.bucket import Bucket
from backdrop.domain.raw_row import SchemaCheck
from backdrop.errors import InvalidSettings, Problem


def refuse_bad_schema(bucket: Bucket) -> None:
    """Raise InvalidSettings if the bucket's `schema` is not a JSON Schema that can be used here."""
    try:
        schema_check(bucket)
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "message", None) or str(error)
        message = f"schema is not a JSON Schema that can be used: {reason}"
        problem = Problem("invalid_schema", message, {"setting": "schema"})
        raise InvalidSettings(message, problems=[problem]) from None


def schema_check(bucket: Bucket) -> SchemaCheck | None:
    """What checks raw records against the bucket's schema; None where it has none."""
    if bucket.schema is None:
        return None
    return _compiled(msgspec.json.encode(bucket.schema))


_MOST_CHARACTERS = 300


def _short(message: str) -> str:
    """The message, which repeats the value that it is about: however long that is."""
    if len(message) <= _MOST_CHARACTERS:
        return message
    half = _MOST_CHARACTERS // 2
    return f"{message[:half]} … {message[-half:]}"


def _refuse(address: str) -> None:
    """Schemas stand alone: nothing is fetched for one, from the network or from a file."""
    raise ValueError(f"{address} is outside the schema; put it under $defs")


@lru_cache(maxsize=256)
def _compiled(schema: bytes) -> SchemaCheck:
    validator = jsonschema_rs.validator_for(msgspec.json.decode(schema), retriever=_refuse)

    def check(record: Mapping[str, Any]) -> Sequence[tuple[str | None, str]]:
        if validator.is_valid(record):
            return ()
        return [
            (str(error.instance_path[0]) if error.instance_path else None, _short(error.message))
            for error in validator.iter_errors(record)
        ]

    return check
