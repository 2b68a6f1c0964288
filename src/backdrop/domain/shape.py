"""Rows of groups + Query -> the answer: finish, fill gaps, sort, nest or flatten, limit.

The work is done by columns: `picks` says which row of the engine's result stands in which row of
the answer, and -1 stands for a gap (each column ends with what a gap holds).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from itertools import chain, groupby
from typing import Any

from backdrop.domain.period import Period
from backdrop.domain.query import Query, Reduction
from backdrop.domain.times import format_instant
from backdrop.domain.values import INT64_MAX, INT64_MIN, Value, order_key, shown

Cell = Any
"""A reduced value: a list (set), a number or None (sum), an int (count), a value or None."""
Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """What an engine answers to a grouping query: columns of equal length, in any order of rows.

    `keys`: one column for each field of `group_by`, none null, as `shown` gives them.
    `starts`: the start of each row's period, or None where the query has none.
    `counts`: how many records are in the row, at least one.
    `reduced`: of each of `query.reductions`, a column. set: a list of different values; sum: an
    exact int where all were ints, else a float, None of no value; count: an int; min and max: a
    value, an int before an equal float, None of no value.
    """

    keys: tuple[Sequence[Value], ...] = ()
    starts: Sequence[datetime] | None = None
    counts: Sequence[int] = ()
    reduced: Mapping[tuple[str, Reduction], Sequence[Cell]]


def shape(query: Query, groups: Groups, axis: Sequence[datetime] | None = None) -> list[Row]:
    """The rows of the answer to `query`; `axis` holds the starts of the periods to fill, if any."""
    if query.period is None:
        return _by_keys(query, groups)
    if not query.group_by:
        return _by_time(query, query.period, groups, axis)
    if query.flatten:
        return _flat(query, query.period, groups, axis)
    return _nested(query, query.period, groups, axis)


def _by_keys(query: Query, groups: Groups) -> list[Row]:
    identities = _identities(groups)
    picks = sorted(range(len(identities)), key=identities.__getitem__)
    columns = _key_columns(query, groups) | _measures(query, groups)
    return _sorted_and_cut(query, _rows(columns, picks))


def _by_time(
    query: Query, period: Period, groups: Groups, axis: Sequence[datetime] | None
) -> list[Row]:
    starts = groups.starts or ()
    row_of = {start: row for row, start in enumerate(starts)}
    line = sorted(row_of) if axis is None else axis
    times = _time_columns(period, line, filled=axis is not None)
    picks = [row_of.get(start, -1) for start in line]
    rows = _rows(_measures(query, groups), picks)
    answer = [
        {"_start_at": start, "_end_at": end, **row}
        for start, end, row in zip(times["_start_at"], times["_end_at"], rows, strict=True)
    ]
    return answer[: query.limit]


def _flat(
    query: Query, period: Period, groups: Groups, axis: Sequence[datetime] | None
) -> list[Row]:
    identities, starts = _identities(groups), groups.starts or ()
    if axis is None:
        places = sorted(zip(starts, identities, strict=True))
        line: Sequence[datetime] = sorted(set(starts))
    else:
        line = axis
        combinations = sorted(set(identities))
        places = [(start, identity) for start in line for identity in combinations]
    times = _time_columns(period, line, filled=axis is not None)
    rows = _cells(query, groups, places, line, times)
    return _sorted_and_cut(query, rows)


def _nested(
    query: Query, period: Period, groups: Groups, axis: Sequence[datetime] | None
) -> list[Row]:
    identities, starts = _identities(groups), groups.starts or ()
    order = sorted(range(len(starts)), key=lambda row: (identities[row], starts[row]))
    members = [list(rows) for _, rows in groupby(order, key=identities.__getitem__)]
    totals = _totals(groups, members)
    tops = _rows(_key_columns(query, totals) | _measures(query, totals), range(len(members)))
    measures = _measures(query, groups)
    line = sorted(set(starts)) if axis is None else axis
    times = _time_columns(period, line, filled=axis is not None)
    texts = dict(zip(line, zip(times["_start_at"], times["_end_at"], strict=True), strict=True))
    answer = []
    for top, rows in zip(tops, members, strict=True):
        row_of = {starts[row]: row for row in rows}
        own_line = list(row_of) if axis is None else axis
        cells = _rows(measures, [row_of.get(start, -1) for start in own_line])
        values = [
            {"_start_at": texts[start][0], "_end_at": texts[start][1], **cell}
            for start, cell in zip(own_line, cells, strict=True)
        ]
        keys = {name: top.pop(name) for name in query.group_by}
        count = top.pop("_count")
        answer.append({**keys, "_count": count, "_group_count": len(rows), **top, "values": values})
    return _sorted_and_cut(query, answer)


def _cells(
    query: Query,
    groups: Groups,
    places: Sequence[tuple[datetime, tuple[Any, ...]]],
    line: Sequence[datetime],
    times: Mapping[str, Sequence[str]],
) -> list[Row]:
    """One row for each (start, group) of `places`, with the group's keys and the period's ends."""
    identities, starts = _identities(groups), groups.starts or ()
    row_of = {place: row for row, place in enumerate(zip(starts, identities, strict=True))}
    of_group = {identity: row for row, identity in enumerate(identities)}
    picks = [row_of.get(place, -1) for place in places]
    representatives = [of_group[identity] for _, identity in places]
    begin = dict(zip(line, times["_start_at"], strict=True))
    end = dict(zip(line, times["_end_at"], strict=True))
    columns: dict[str, list[Any]] = {
        name: [column[row] for row in representatives]
        for name, column in _key_columns(query, groups).items()
    }
    columns["_start_at"] = [begin[start] for start, _ in places]
    columns["_end_at"] = [end[start] for start, _ in places]
    for name, column in _measures(query, groups).items():
        columns[name] = [column[pick] for pick in picks]
    return _rows(columns, range(len(places)))


def _identities(groups: Groups) -> list[tuple[Any, ...]]:
    """For each row, what tells its group from others and sorts it among them."""
    if not groups.keys:
        return [() for _ in groups.counts]
    return list(
        zip(*([order_key(value) for value in column] for column in groups.keys), strict=True)
    )


def _key_columns(query: Query, groups: Groups) -> dict[str, Sequence[Any]]:
    return dict(zip(query.group_by, groups.keys, strict=True))


def _measures(query: Query, groups: Groups) -> dict[str, Sequence[Any]]:
    """The count and the collected columns by their keys, each with a gap's value at its end."""
    columns: dict[str, Sequence[Any]] = {"_count": [*groups.counts, 0]}
    for collect in query.collect:
        finish = _finish[collect.method]
        column = [*finish(*(groups.reduced[pair] for pair in collect.reductions)), None]
        columns.update(dict.fromkeys(collect.keys, column))
    return columns


def _time_columns(
    period: Period, line: Sequence[datetime], *, filled: bool
) -> dict[str, list[str]]:
    """The texts of the starts and ends of the periods that begin at `line`.

    `filled`: none is missing between, so that each ends where the next one begins.
    """
    starts = [format_instant(start) for start in line]
    unknown = line[-1:] if filled else line
    ends = starts[1:] if filled else []
    ends += [format_instant(period.next(start)) for start in unknown]
    return {"_start_at": starts, "_end_at": ends}


def _rows(columns: Mapping[str, Sequence[Any]], picks: Iterable[int]) -> list[Row]:
    names = list(columns)
    places = list(picks)
    picked = ([column[place] for place in places] for column in columns.values())
    return [dict(zip(names, row, strict=True)) for row in zip(*picked, strict=True)]


def _sorted_and_cut(query: Query, rows: list[Row]) -> list[Row]:
    if query.sort is not None:
        key = query.sort.key
        known = [row for row in rows if row[key] is not None]
        known.sort(key=lambda row: _sort_key(row[key]), reverse=query.sort.descending)
        rows = [*known, *(row for row in rows if row[key] is None)]
    return rows[: query.limit]


def _sort_key(value: Any) -> Any:
    return [order_key(one) for one in value] if isinstance(value, list) else order_key(value)


def _totals(groups: Groups, members: Sequence[Sequence[int]]) -> Groups:
    """The groups over all their periods: each of `members` lists the rows of one group."""
    return Groups(
        keys=tuple([column[rows[0]] for rows in members] for column in groups.keys),
        counts=[sum(groups.counts[row] for row in rows) for rows in members],
        reduced={
            (field, reduction): [
                _merge[reduction]([cells[row] for row in rows]) for rows in members
            ]
            for (field, reduction), cells in groups.reduced.items()
        },
    )


def add(numbers: Iterable[int | float]) -> int | float | None:
    """The sum: exact while all are ints; else the ints' exact sum, as a float, and the floats'.

    None of no number. A sum past the largest float is the largest float.
    """
    whole, broken, some = 0, [], False
    for number in numbers:
        some = True
        if isinstance(number, int):
            whole += number
        else:
            broken.append(number)
    if not broken:
        return whole if some else None
    return finite(float(whole) + finite(_fsum(broken)))


def _fsum(numbers: Sequence[float]) -> float:
    try:
        return math.fsum(numbers)
    except OverflowError:  # on the way, though the sum itself may not be past the largest float
        total = sum(map(Fraction, numbers))
    try:
        return float(total)
    except OverflowError:
        return math.inf if total > 0 else -math.inf


def finite(number: float) -> float:
    """`number`, an infinity as the largest float, and minus zero as zero."""
    return max(-_LARGEST, min(_LARGEST, number)) + 0.0


_LARGEST = float.fromhex("0x1.fffffffffffffp+1023")


def distinct(values: Iterable[Value]) -> list[Value]:
    """The different values that are not null, sorted, as `shown`."""
    return [
        value for _, value in sorted({order_key(value): shown(value) for value in values}.items())
    ]


def least(values: Iterable[Value]) -> Value:
    """The first in order, an int before an equal float, None of no value."""
    return min(values, key=_int_first, default=None)


def greatest(values: Iterable[Value]) -> Value:
    """The last in order, an int before an equal float, None of no value."""
    return max(values, key=_int_last, default=None)


def _int_first(value: Value) -> tuple[Any, ...]:
    return (*order_key(value), isinstance(value, float))


def _int_last(value: Value) -> tuple[Any, ...]:
    return (*order_key(value), not isinstance(value, float))


def _present(cells: Iterable[Cell]) -> list[Cell]:
    return [cell for cell in cells if cell is not None]


_merge: Mapping[Reduction, Callable[[list[Cell]], Cell]] = {
    "set": lambda cells: list(chain.from_iterable(cells)),
    "sum": lambda cells: add(_present(cells)),
    "count": sum,
    "min": lambda cells: least(_present(cells)),
    "max": lambda cells: greatest(_present(cells)),
}


def _whole_or_nearest(total: int | float | None) -> int | float | None:
    if isinstance(total, int) and not INT64_MIN <= total <= INT64_MAX:
        return finite(float(total))
    return total


def _mean(total: int | float | None, count: int) -> float | None:
    return None if total is None else total / count


def _unchanged(column: Sequence[Cell]) -> Sequence[Cell]:
    return column


_finish: Mapping[str, Callable[..., Sequence[Cell]]] = {
    "set": lambda sets: [distinct(values) for values in sets],
    "sum": lambda sums: [_whole_or_nearest(total) for total in sums],
    "mean": lambda sums, counts: [_mean(*pair) for pair in zip(sums, counts, strict=True)],
    "count": _unchanged,
    "min": _unchanged,
    "max": _unchanged,
}
"""Of each method: the columns of its reductions -> the column of the answer."""
