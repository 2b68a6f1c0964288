"""Raw rows -> records, in one pass that finds every record's errors."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain
from math import isfinite
from types import NoneType
from typing import Any

from backdrop.domain.bucket import Bucket
from backdrop.domain.table import (
    ABSENT,
    Absent,
    RawRows,
    RawTable,
    Records,
    last_of_each_id,
    pivoted,
)
from backdrop.domain.times import format_instant, parse_instant, parse_instants
from backdrop.domain.values import (
    FIELD_EXPECTED,
    ID,
    INT64_MAX,
    INT64_MIN,
    MOST_FIELDS,
    RESERVED_FIELDS,
    TIME_FIELDS,
    Record,
    Value,
    is_field_name,
)
from backdrop.errors import MOST_PROBLEMS_LISTED, InvalidRecords, Problem

MOST_ID_CHARACTERS = 512

SchemaCheck = Callable[[Mapping[str, Any]], Sequence[tuple[str | None, str]]]
"""What a bucket's schema says of one raw record: (field or None, message) for each violation."""


class _Wrong(Exception):
    """One thing wrong with one record: code, message and field."""

    def __init__(self, code: str, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.field = code, message, field


def parse_records(
    raw_rows: RawRows,
    bucket: Bucket,
    *,
    new_ids: Iterator[str],
    schema_check: SchemaCheck | None = None,
    most_fields: int = MOST_FIELDS,
) -> Records:
    """Check every raw row against the rules of fields, values, times and ids, and the schema.

    Raises InvalidRecords if any row breaks one, with a Problem for each breach (the first
    `MOST_PROBLEMS_LISTED`), its `index` from 0 and its `field` where there is one.
    """
    table = _by_columns(raw_rows, most_fields)
    records = None
    if table is not None:
        records = _parse_by_columns(table, bucket, new_ids, schema_check)
    if records is None:
        return _parse_one_by_one(raw_rows, bucket, new_ids, schema_check)
    return records


def _by_columns(raw_rows: RawRows, most_fields: int) -> RawTable | None:
    """The rows by columns; None where not all of them are objects, or none has a field.

    Raises InvalidRecords where the table would be too large: with names that were never meant to be
    so many, or one that is mostly gaps.
    """
    if isinstance(raw_rows, RawTable):
        _refuse_too_large(len(raw_rows.columns), len(raw_rows), most_fields)
        return raw_rows
    rows = [row for row in raw_rows if isinstance(row, dict)]
    names = dict.fromkeys(rows[0] if rows else ())
    if len(set().union(*rows)) > len(names):  # which takes a third of the time of what follows
        names = dict.fromkeys(chain.from_iterable(rows))
    _refuse_too_large(len(names), len(raw_rows), most_fields)
    if len(rows) < len(raw_rows) or not names:
        return None
    return RawTable(pivoted(rows, names), len(rows))


def _refuse_too_large(fields: int, records: int, most_fields: int) -> None:
    if fields > most_fields + len(RESERVED_FIELDS):
        raise InvalidRecords(
            f"nothing was stored: the records have {fields:,} different fields, and a bucket "
            f"may have {most_fields:,} (max_fields): is something a field's name that should be a "
            "value?",
            code="too_many_fields",
        )
    if fields * records > MOST_CELLS:
        raise InvalidRecords(
            f"nothing was stored: {records:,} records of {fields:,} different fields are "
            "too many for one batch: send them in smaller ones",
            code="batch_too_large",
        )


MOST_CELLS = 20_000_000
"""Records times different fields of a batch: about 300 MB while it is looked at."""


def _parse_one_by_one(
    raw_rows: RawRows,
    bucket: Bucket,
    new_ids: Iterator[str],
    schema_check: SchemaCheck | None,
) -> Records:
    problems: list[Problem] = []
    count = 0
    accepted: list[Record] = []
    ids_are_new = True
    for index, raw in enumerate(raw_rows):
        record, wrong = _parse_fields(raw)
        bad = {one.field for one in wrong}
        if schema_check is not None and not wrong:
            wrong.extend(
                _Wrong("schema_violation", message, field) for field, message in schema_check(raw)
            )
        if bucket.auto_ids and bad.isdisjoint((None, *bucket.auto_ids)):
            try:
                record[ID] = _check_auto_id(record, bucket.auto_ids)
            except _Wrong as one:
                wrong.append(one)
        if wrong:
            count += len(wrong)
            room = MOST_PROBLEMS_LISTED - len(problems)
            problems.extend(_problem(one, index) for one in wrong[:room])
            continue
        if ID in record:
            ids_are_new = False
        else:
            record[ID] = next(new_ids)
        accepted.append(record)
    if count:
        records = "1 record" if len(raw_rows) == 1 else f"{len(raw_rows)} records"
        raise InvalidRecords(
            f"nothing was stored: {count} problem{'s' * (count > 1)} in {records}; "
            f"the first: {problems[0].message}",
            problems=problems,
            count=count,
        )
    return Records.of(accepted, ids_are_new=ids_are_new)


def parse_patch(
    stored: Record, raw: Any, bucket: Bucket, *, schema_check: SchemaCheck | None = None
) -> Record:
    """`stored` with the fields of `raw` merged in, under the same checks as a record.

    Neither the `_id` nor a field that makes it (`auto_ids`) can change. The merged record must
    satisfy the schema with or without its `_id`, which may have been made by the server.
    Raises InvalidRecords, with index 0.
    """
    changes, wrong = _parse_fields(raw)
    if not wrong:
        merged = stored | changes
        if merged[ID] != stored[ID]:
            wrong.append(_Wrong("id_mismatch", f"_id can't change from {stored[ID]!r}", ID))
        for name in bucket.auto_ids:
            if name in changes and (
                name not in stored
                or type(changes[name]) is not type(stored[name])
                or changes[name] != stored[name]
            ):
                message = f"{name} makes the _id of this bucket's records and can't change"
                wrong.append(_Wrong("id_mismatch", message, name))
        if schema_check is not None and not wrong:
            posted = as_posted(merged)
            violations = schema_check({k: v for k, v in posted.items() if k != ID})
            if violations:
                violations = schema_check(posted)
            wrong.extend(
                _Wrong("schema_violation", message, field) for field, message in violations
            )
    if wrong:
        raise InvalidRecords(
            f"nothing was stored: {wrong[0].message}",
            problems=[_problem(one, 0) for one in wrong[:MOST_PROBLEMS_LISTED]],
            count=len(wrong),
        )
    return merged


def as_posted(record: Record) -> dict[str, Any]:
    """The record as JSON values, its times in the form in which they are given back."""
    return {
        name: format_instant(value) if isinstance(value, datetime) else value
        for name, value in record.items()
    }


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


def _check_auto_id(record: Record, fields: Sequence[str]) -> str:
    for name in fields:
        if name not in record:
            message = f"{name} is missing, and makes the _id of this bucket's records"
            raise _Wrong("missing_field", message, name)
    made = made_id(record, fields)
    if not 1 <= len(made) <= MOST_ID_CHARACTERS:
        message = f"{', '.join(fields)} make an _id of {len(made)} characters, not of 1 to 512"
        raise _Wrong("invalid_id", message, ID)
    if record.get(ID, made) != made:
        message = f"_id is made of {', '.join(fields)} here: leave it out, or give {made!r}"
        raise _Wrong("id_mismatch", message, ID)
    return made


# -- by columns ----------------------------------------------------------------------------------
#
# Only ever a shorter way to the same end: what is accepted here would be accepted one by one, with
# the same values. What is not plainly right is left to the other way, which says what is wrong.


def _parse_by_columns(
    table: RawTable,
    bucket: Bucket,
    new_ids: Iterator[str],
    schema_check: SchemaCheck | None,
) -> Records | None:
    """The batch, if looking at its columns is enough to accept it; else None."""
    if _has_empty_row(table) or (schema_check is not None and any(map(schema_check, table))):
        return None
    columns: dict[str, Sequence[Any]] = {}
    for name, column in table.columns.items():
        parsed = _parse_column(name, column, table.kinds.get(name))
        if parsed is None:
            return None
        columns[name] = parsed
    ids = columns.get(ID, [ABSENT] * len(table))
    if bucket.auto_ids:
        made = _made_ids(columns, bucket.auto_ids)
        if made is None or any(
            given is not ABSENT and given != one for given, one in zip(ids, made, strict=True)
        ):
            return None
        ids = made
    different = set(ids)
    ids_are_new = different == {ABSENT}
    if ABSENT in different:
        ids = [next(new_ids) if one is ABSENT else one for one in ids]
    columns[ID] = ids
    if ids_are_new:
        return Records(columns, len(table), ids_are_new=True)
    return Records(last_of_each_id(columns), len(table))


def _has_empty_row(table: RawTable) -> bool:
    return all(ABSENT in column for column in table.columns.values()) and not all(table)


def _parse_column(name: str, column: Sequence[Any], kind: type | None) -> Sequence[Any] | None:
    """The column's values, if all of them are plainly right; else None. `kind`: all have that."""
    if name not in _good_names:
        try:
            _check_name(name)
        except _Wrong:
            return None
    given, kinds = column, {kind} if kind else set(map(type, column))
    if Absent in kinds:
        kinds.remove(Absent)
        given = [one for one in column if one is not ABSENT]
    if name in TIME_FIELDS:
        return _parse_times(column, given) if kinds == {str} else None
    if not (kinds <= _PLAIN_KINDS and _are_in_range(given, kinds)):
        return None
    if name == ID and not (kinds == {str} and _are_ids(given)):
        return None
    return column


_PLAIN_KINDS = {str, int, float, bool, NoneType}


def _parse_times(column: Sequence[Any], given: Sequence[str]) -> Sequence[Any] | None:
    try:
        times = parse_instants(given)
    except ValueError:
        return None
    if given is column:
        return times
    following = iter(times)
    return [one if one is ABSENT else next(following) for one in column]


def _are_in_range(given: Sequence[Any], kinds: set[type]) -> bool:
    if int in kinds:
        numbers = given if len(kinds) == 1 else [one for one in given if type(one) is int]
        if min(numbers) < INT64_MIN or max(numbers) > INT64_MAX:
            return False
    if float in kinds and not all(isfinite(one) for one in given if type(one) is float):
        return False
    if str in kinds:
        texts = given if len(kinds) == 1 else [one for one in given if type(one) is str]
        joined = "".join(texts)
        try:
            return joined.isascii() or bool(joined.encode())
        except UnicodeEncodeError:
            return False
    return True


def _are_ids(texts: Sequence[str]) -> bool:
    """Whether each has 1 to 512 characters and no white space."""
    all_fit = all(texts) and max(map(len, texts)) <= MOST_ID_CHARACTERS
    joined = "".join(texts)
    return all_fit and joined.split(maxsplit=1) == [joined]


def _made_ids(columns: Mapping[str, Sequence[Any]], fields: Sequence[str]) -> list[str] | None:
    parts = [columns.get(name, (ABSENT,)) for name in fields]
    if any(ABSENT in part for part in parts):
        return None
    rows = zip(*(map(_joined, part) for part in parts), strict=True)
    made = [base64.b64encode(".".join(row).encode()).decode() for row in rows]
    return made if all(made) and max(map(len, made)) <= MOST_ID_CHARACTERS else None


# -- one by one ----------------------------------------------------------------------------------


def _problem(wrong: _Wrong, index: int) -> Problem:
    where: dict[str, str | int] = {"index": index}
    if wrong.field is not None:
        where["field"] = wrong.field
    return Problem(wrong.code, wrong.message, where)


def _parse_fields(raw: Any) -> tuple[Record, list[_Wrong]]:
    """The fields of one raw row, checked each by itself, and what is wrong with them."""
    if not isinstance(raw, dict):
        message = f'a record is a JSON object such as {{"name": "value"}}, not {_kind(raw)}'
        return {}, [_Wrong("not_an_object", message)]
    if not raw:
        return {}, [_Wrong("empty_record", "a record must have at least one field")]
    record: Record = {}
    wrong: list[_Wrong] = []
    for name, value in raw.items():
        try:
            if name not in _good_names:
                _check_name(name)
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
                        raise _Wrong("integer_out_of_range", message, name)
                elif kind is float:
                    if value - value != 0.0:  # only NaN and the infinities
                        message = f"{name} must be a finite number, not {value}"
                        raise _Wrong("number_not_finite", message, name)
                elif kind is not bool and value is not None:
                    expected = "a string, a number, true, false or null"
                    message = f"{name} must be {expected}, not {_kind(value)}"
                    raise _Wrong("invalid_value", message, name)
                record[name] = value
        except _Wrong as one:
            wrong.append(one)
    return record, wrong


_good_names: set[str] = set()
"""Names that were checked before: at most `_MOST_GOOD_NAMES`, only to save the work."""
_MOST_GOOD_NAMES = 10_000


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or not is_field_name(name):
        text = name if isinstance(name, str) else _kind(name)
        shown = text if len(text) <= 80 else f"{text[:80]}…"
        message = f"a field's name is {FIELD_EXPECTED}; not {shown!a}"
        field = shown if shown.isprintable() else ascii(shown)[1:-1]
        raise _Wrong("invalid_field_name", message, field)
    if name.startswith("_") and name not in RESERVED_FIELDS:
        known = ", ".join(sorted(RESERVED_FIELDS))
        raise _Wrong(
            "reserved_field", f"names that begin with _ are reserved ({known}), not {name}", name
        )
    if len(_good_names) < _MOST_GOOD_NAMES:
        _good_names.add(name)


def _parse_reserved(name: str, value: Any) -> Value:
    if name in TIME_FIELDS:
        if not isinstance(value, str):
            message = f"{name} must be a string that holds a time, not {_kind(value)}"
            raise _Wrong("invalid_timestamp", message, name)
        try:
            return parse_instant(value)
        except ValueError as error:
            given = value if len(value) <= 80 else f"{value[:80]}…"
            raise _Wrong("invalid_timestamp", f"{name} is {given!a}: {error}", name) from None
    if not isinstance(value, str):
        raise _Wrong("invalid_id", f"_id must be a string, not {_kind(value)}", name)
    if not 1 <= len(value) <= MOST_ID_CHARACTERS:
        message = f"_id must have 1 to {MOST_ID_CHARACTERS} characters, not {len(value)}"
        raise _Wrong("invalid_id", message, name)
    if any(map(str.isspace, value)):
        raise _Wrong("invalid_id", "_id must hold no white space", name)
    _check_text(name, value)
    return value


def _check_text(name: str, value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        message = f"{name} holds half of a surrogate pair, which is not a character"
        raise _Wrong("invalid_string", message, name) from None


def _kind(value: Any) -> str:
    """What a raw value is, in JSON's words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    names = {str: "a string", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), f"a {type(value).__name__}")
