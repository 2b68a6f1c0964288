"""Raw rows -> records, in one pass that finds every record's errors."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import chain
from typing import Any

from backdrop.domain.bucket import Bucket
from backdrop.domain.ids import checked_auto_id, made_id
from backdrop.domain.raw_row import SchemaCheck, Wrong, parse_fields
from backdrop.domain.record_columns import parse_by_columns
from backdrop.domain.table import RawRows, RawTable, Records, pivoted
from backdrop.domain.times import format_instant
from backdrop.domain.values import ID, MOST_FIELDS, RESERVED_FIELDS, Record
from backdrop.errors import MOST_PROBLEMS_LISTED, InvalidRecords, Problem


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
        records = parse_by_columns(table, bucket, new_ids, schema_check)
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
        record, wrong = parse_fields(raw)
        bad = {one.field for one in wrong}
        if schema_check is not None and not wrong:
            wrong.extend(
                Wrong("schema_violation", message, field) for field, message in schema_check(raw)
            )
        if bucket.auto_ids and bad.isdisjoint((None, *bucket.auto_ids)):
            try:
                record[ID] = checked_auto_id(record, bucket.auto_ids)
            except Wrong as one:
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
    changes, wrong = parse_fields(raw)
    if not wrong:
        merged = stored | changes
        if merged[ID] != stored[ID]:
            wrong.append(Wrong("id_mismatch", f"_id can't change from {stored[ID]!r}", ID))
        for name in bucket.auto_ids:
            if name in changes and (
                name not in stored
                or type(changes[name]) is not type(stored[name])
                or made_id(changes, [name]) != made_id(stored, [name])
            ):
                message = f"{name} makes the _id of this bucket's records and can't change"
                wrong.append(Wrong("id_mismatch", message, name))
        if schema_check is not None and not wrong:
            posted = as_posted(merged)
            violations = schema_check({k: v for k, v in posted.items() if k != ID})
            if violations:
                violations = schema_check(posted)
            wrong.extend(Wrong("schema_violation", message, field) for field, message in violations)
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


def _problem(wrong: Wrong, index: int) -> Problem:
    where: dict[str, str | int] = {"index": index}
    if wrong.field is not None:
        where["field"] = wrong.field
    return Problem(wrong.code, wrong.message, where)
