"""A table of raw rows -> records, a column at a time. Pure.

Only ever a shorter way to the same end: what is accepted here would be accepted one by one, with
the same values. What is not plainly right is left to the other way, which says what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite
from types import NoneType
from typing import Any

from backdrop.domain.bucket import Bucket
from backdrop.domain.ids import made_ids
from backdrop.domain.raw_row import SchemaCheck, Wrong, check_name, good_names
from backdrop.domain.table import ABSENT, Absent, RawTable, Records, last_of_each_id
from backdrop.domain.times import parse_instants
from backdrop.domain.values import ID, INT64_MAX, INT64_MIN, MOST_ID_CHARACTERS, TIME_FIELDS


def parse_by_columns(
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
        made = made_ids(columns, bucket.auto_ids)
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
    if name not in good_names:
        try:
            check_name(name)
        except Wrong:
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
