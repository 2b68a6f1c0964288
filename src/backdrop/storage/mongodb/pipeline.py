"""Query -> lists of stages. Pure: values and names of fields are data, nothing is built as text."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypeAlias

from bson import Int64

from backdrop.domain.period import Segment
from backdrop.domain.period_key import microseconds
from backdrop.domain.query import Equals, Filter, Query, Reduction, Sort
from backdrop.domain.values import ID, INT64_MAX, INT64_MIN, TIME_FIELDS, TIMESTAMP, Value
from backdrop.storage.mongodb.documents import SEQUENCE
from backdrop.storage.mongodb.periods import TIME_PATH, Expression, as_date, key_of
from backdrop.storage.mongodb.tally import NOTHING_KNOWN, Known

Stage: TypeAlias = dict[str, Any]
Pipeline: TypeAlias = list[Stage]
Search: TypeAlias = dict[str, Any]
"""The arguments of a `find`, which costs the server less than a pipeline of the same steps."""

TIME_INDEX = ((TIMESTAMP, 1), (SEQUENCE, 1))
"""The one index beside that of the ids: it reads short ranges, and all records by their time."""


# -- conditions ----------------------------------------------------------------------------------


def _match(query: Query, *more: Stage) -> Pipeline:
    """One stage that lets through what the query's range and filters do, and all of `more`."""
    return _all_of(*_conditions(query, *more))


def _conditions(query: Query, *more: Stage) -> list[Stage]:
    return [*_range(query), *map(_condition, query.filters), *more]


def _all_of(*conditions: Stage) -> Pipeline:
    return [{"$match": {"$and": list(conditions)}}] if conditions else []


def _range(query: Query) -> Iterator[Stage]:
    bounds = _bounds(query)
    if bounds:
        yield {TIMESTAMP: bounds}


def _bounds(query: Query) -> dict[str, Any]:
    bounds = {}
    if query.start is not None:
        bounds["$gte"] = Int64(microseconds(query.start))
    if query.end is not None:
        bounds["$lt"] = Int64(microseconds(query.end))
    return bounds


def _timed(query: Query) -> list[Stage]:
    """What lets through no record without a time, where the query's range does not: the server
    would look at each record again to know of a second bound.
    """
    return [] if _is_ranged(query) else [{TIMESTAMP: {"$gte": 0}}]


def _condition(one: Filter) -> Stage:
    if isinstance(one, Equals):
        values = (_stored(one.field, value) for value in one.values)
        return {one.field: {"$in": [value for value in values if value is not None]}}
    return {"$or": [{one.field: _prefix(prefix)} for prefix in one.prefixes]}


def _stored(field: str, value: Value) -> Any:
    """The value as the field would hold it; None of one that no record can have."""
    if isinstance(value, datetime):
        return Int64(microseconds(value)) if field in TIME_FIELDS else None
    if field in TIME_FIELDS:
        return None
    if isinstance(value, int) and not INT64_MIN <= value <= INT64_MAX:
        fits = abs(value) <= sys.float_info.max and float(value) == value
        return float(value) if fits else None
    return value


def _prefix(prefix: str) -> Stage:
    """Strings that begin with it: those from it up to the next that doesn't, by code point."""
    end = prefix.rstrip(chr(sys.maxunicode))
    if not end:
        return {"$gte": prefix, "$type": "string"}
    code = ord(end[-1]) + 1
    following = chr(0xE000) if 0xD800 <= code <= 0xDFFF else chr(code)
    return {"$gte": prefix, "$lt": end[:-1] + following}


# -- single records ------------------------------------------------------------------------------


Place: TypeAlias = tuple[int | None, int]
"""A record's time and its place in the order of storing."""


def select_timed(query: Query, *, most: int, after: Place | None = None) -> Search:
    """So many matching records that have a time, by time: the first, or those after that place.

    The index gives them in this order, from that place on.
    """
    if after is None:
        conditions = _conditions(query, *_timed(query))
    else:
        time, place = after
        ties = {TIMESTAMP: Int64(time or 0), SEQUENCE: {"$gt": place}}
        later = {TIMESTAMP: _bounds(query) | {"$gt": Int64(time or 0)}}
        later[TIMESTAMP].pop("$gte", None)
        conditions = [{"$or": [ties, later]}, *map(_condition, query.filters)]
    return {"filter": {"$and": conditions}, "sort": dict(TIME_INDEX), "limit": most}


def select_untimed(query: Query, *, most: int, after: Place | None = None) -> Search:
    """So many matching records without a time, as they were stored."""
    later = [] if after is None else [{SEQUENCE: {"$gt": after[1]}}]
    conditions = _conditions(query, {TIMESTAMP: None}, *later)
    return {"filter": {"$and": conditions}, "sort": {SEQUENCE: 1}, "limit": most}


def select_nth_latest(query: Query, number: int) -> Pipeline:
    """The time of the matching record before which there are so many later ones, less one."""
    backwards = {name: -direction for name, direction in TIME_INDEX}
    return [
        *_match(query, *_timed(query)),
        {"$sort": backwards},
        {"$skip": number - 1},
        {"$limit": 1},
        {"$project": {ID: 0, TIMESTAMP: 1}},
    ]


def select_latest(query: Query, since: int | None) -> Pipeline:
    """The matching records from that time on, the latest first, ties in the order of storing."""
    if since is None:
        match = _match(query, *_timed(query))
    else:
        bounds = _bounds(query) | {"$gte": Int64(since)}
        match = _all_of({TIMESTAMP: bounds}, *map(_condition, query.filters))
    limit = [] if query.limit is None else [{"$limit": query.limit}]
    return [*match, {"$sort": {TIMESTAMP: -1, SEQUENCE: 1}}, *limit]


def select_sorted(query: Query, by: Sort) -> Pipeline:
    """The matching records in that order, and no more than the query's limit."""
    order = _order(by.key, by.descending)
    limit = [] if query.limit is None else [{"$limit": query.limit}]
    return [*_match(query), *order, *limit, {"$unset": [_RANK, _VALUE]}]


def select_stored() -> Pipeline:
    """All records in the order of storing."""
    return [{"$sort": {SEQUENCE: 1}}]


_RANK, _VALUE = "_rank", "_value"


def _order(field: str, descending: bool) -> Pipeline:
    """Booleans, numbers, strings; last, either way, what has no value: as they were stored."""
    if field == ID:
        return [{"$sort": {ID: -1 if descending else 1}}]
    path = f"${field}"
    kind = {"$type": path}
    rank = {
        "$switch": {
            "branches": [
                {"case": {"$lte": [path, None]}, "then": -1 if descending else 3},
                {"case": {"$eq": [kind, "string"]}, "then": 2},
                {"case": {"$eq": [kind, "bool"]}, "then": 0},
            ],
            "default": 1,
        }
    }
    direction = -1 if descending else 1
    return [
        {"$set": {_RANK: rank, _VALUE: {"$ifNull": [path, None]}}},
        {"$sort": {_RANK: direction, _VALUE: direction, SEQUENCE: 1}},
    ]


def select_fields(query: Query) -> Pipeline:
    """One row for each field that any matching record has."""
    return [
        *_match(query),
        {"$project": {"field": {"$objectToArray": "$$ROOT"}}},
        {"$unwind": "$field"},
        {"$group": {"_id": "$field.k"}},
        {"$match": {"_id": {"$ne": SEQUENCE}}},
    ]


# -- groups --------------------------------------------------------------------------------------

Sums: TypeAlias = Literal["plain", "split", "exact"]

SCALE = 2.0**-64
"""What floats are scaled down by where their sum overflowed on its way: a power of two."""


def select_groups(
    query: Query,
    zone_segments: Sequence[Segment],
    *,
    most_rows: int,
    sums: Sums = "plain",
    with_sets: bool = True,
    known: Known = NOTHING_KNOWN,
) -> Pipeline:
    """A row for each group, `most_rows` and one more at the most.

    Its `_id` is, or holds where there are several, the values of `key_names`; `count` is the
    number of records. The reductions stand under the names of `cell`. What is `known` of all
    records is not asked for.
    """
    accumulators: dict[str, Any] = {"count": {"$sum": 1}}
    for place, (field, reduction) in enumerate(query.reductions):
        if with_sets or reduction != "set":
            for part, expression in _accumulated(field, reduction, sums, known).items():
                accumulators[cell(place, part)] = expression
    keys = _keys(query, zone_segments, known)
    # Records that lack a key are left out of the groups: it costs less than to look at each first.
    some = {
        (f"_id.{name}" if len(keys) > 1 else "_id"): {"$ne": None}
        for name, field in zip(keys, _key_fields(query), strict=True)
        if not known.always(field) and not (field == TIMESTAMP and _is_ranged(query))
    }
    return [
        *_match(query),
        {"$group": {"_id": keys if len(keys) > 1 else keys[key_names(query)[0]], **accumulators}},
        *([{"$match": some}] if some else []),
        {"$limit": most_rows + 1},
    ]


def select_set(
    query: Query, field: str, zone_segments: Sequence[Segment], known: Known = NOTHING_KNOWN
) -> Pipeline:
    """A row for each value of the field in each group: `_id` holds its keys, and it as `v`.

    Where the sets are too large for the documents of the groups, which are bounded by 16 MB.
    """
    present = [*_present(query), {field: {"$ne": None}}]
    return [
        *_match(query, *present),
        {"$group": {"_id": {**_keys(query, zone_segments, known), "v": f"${field}"}}},
    ]


def select_years(query: Query) -> Pipeline:
    """A row for each UTC year that the times of matching records have."""
    year = {"$year": as_date(TIME_PATH)}
    return [*_match(query, *_timed(query)), {"$group": {"_id": year}}]


def key_names(query: Query) -> list[str]:
    """Of the keys of a group: `p` is the period's, `k0`, `k1`, … the values of `group_by`."""
    periods = ["p"] if query.period else []
    return [*periods, *(f"k{place}" for place in range(len(query.group_by)))]


def cell(place: int, part: str) -> str:
    """The name under which a part of the reduction at that place stands in a row."""
    return f"r{place}_{part}"


def _present(query: Query) -> list[Stage]:
    """Records are in a group only where they have all that it is made of."""
    return [{field: {"$ne": None}} for field in _key_fields(query)]


def _key_fields(query: Query) -> list[str]:
    """The fields of which `key_names` are."""
    return [*([TIMESTAMP] if query.period else []), *query.group_by]


def _is_ranged(query: Query) -> bool:
    return query.start is not None or query.end is not None


def _keys(query: Query, zone_segments: Sequence[Segment], known: Known) -> dict[str, Expression]:
    periods = []
    if query.period:
        whole = known.times_are_milliseconds
        periods.append(key_of(query.period, zone_segments, are_milliseconds=whole))
    values = [*periods, *(f"${field}" for field in query.group_by)]
    return dict(zip(key_names(query), values, strict=True))


def _is(path: str, *types: str) -> Expression:
    kind = {"$type": path}
    return {"$eq": [kind, types[0]]} if len(types) == 1 else {"$in": [kind, list(types)]}


def _unless(path: str, *types: str) -> Expression:
    return {"$cond": [_is(path, *types), None, path]}


def _only(path: str, *types: str) -> Expression:
    """The value if it is of one of the types, else null, which every accumulator passes over."""
    return {"$cond": [_is(path, *types), path, None]}


_INTEGER = ("int", "long")


def ways_to_sum(query: Query, known: Known) -> Sequence[Sums]:
    """The ways to try, the next one where a sum shows that the one before was not enough."""
    if not known:
        return ("plain", "split", "exact")
    fields = [field for field, reduction in query.reductions if reduction == "sum"]
    is_mixed = any(
        not known.never_of(field, "integers") and not known.never_of(field, "floats")
        for field in fields
    )
    return ("split" if is_mixed else "plain", "exact")


Parts: TypeAlias = dict[str, Expression]
"""What is accumulated for a reduction, by the name of the part."""


def _accumulated(field: str, reduction: Reduction, sums: Sums, known: Known) -> Parts:
    path = f"${field}"
    if reduction == "sum":
        return _summed(field, sums, known)
    if reduction == "count" and known.always(field):
        return {}
    return _accumulate[reduction](path)


def _summed(field: str, sums: Sums, known: Known) -> Parts:
    path = f"${field}"
    parts = _sums[sums](path)
    if sums != "exact" and known.never_of(field, "floats"):
        parts = {"integers": {"$sum": path}, "most": {"$max": path}}
    elif sums != "exact" and known.never_of(field, "integers"):
        parts = {"floats": {"$sum": path}, "most": {"$max": path}}
    if known.always(field) and known.never_of(field, "others"):
        del parts["most"]  # each group has a number, and nothing else
    return parts


_accumulate: dict[Reduction, Callable[[str], Parts]] = {
    "count": lambda path: {"all": {"$sum": {"$cond": [{"$lte": [path, None]}, 0, 1]}}},
    "set": lambda path: {"values": {"$addToSet": path}},
    # BSON's order puts booleans after strings, and takes whichever of 1 and 1.0 comes first.
    "min": lambda path: {
        "any": {"$min": path},
        "integer": {"$min": _only(path, *_INTEGER)},
        "boolean": {"$min": _only(path, "bool")},
    },
    "max": lambda path: {
        "boolean": {"$max": _only(path, "bool")},
        "integer": {"$max": _only(path, *_INTEGER)},
        "other": {"$max": _unless(path, "bool")},
    },
}
"""Of each reduction but the sum: the field's path -> what is accumulated for it, by part."""

_sums: Mapping[Sums, Callable[[str], Parts]] = {
    # A double where any value is one, or where it is past 64 bits.
    "plain": lambda path: {"integers": {"$sum": path}, "most": {"$max": path}},
    "split": lambda path: {
        "integers": {"$sum": _unless(path, "double")},
        "floats": {"$sum": _only(path, "double")},
        "most": {"$max": path},  # strings and booleans come after numbers
    },
    # Decimals have 34 digits; floats scaled down don't pass the largest one on their way.
    "exact": lambda path: {
        "integers": {"$sum": {"$cond": [_is(path, *_INTEGER), {"$toDecimal": path}, None]}},
        "floats": {"$sum": _only(path, "double")},
        "scaled": {"$sum": {"$multiply": [_only(path, "double"), SCALE]}},
        "most": {"$max": path},
    },
}
"""Ways to sum, each dearer than the one before, and right where that one shows that it is not."""
