"""Rows of groups + Query -> the answer: number, fill gaps, sort, nest or flatten, limit.

The groups are numbered in the order of their keys and the periods in the order of time, so that
each row of the engine's result has a place in a grid. All else is done by columns: `picks` says
which row of the result stands in which row of the answer, and -1 stands for a gap (each measure
ends with what a gap holds). Rows are made last, page by page, as an answer may have many.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from backdrop.domain.period import Period
from backdrop.domain.query import Query, Reduction
from backdrop.domain.reduce import FINISH, MERGE, Cell
from backdrop.domain.times import format_instant
from backdrop.domain.values import Value, order_key

Row: TypeAlias = dict[str, Any]

CELLS_A_PAGE = 200_000
"""About how many cells of groups are made at once. A nested group is never parted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """What an engine answers to a grouping query: columns of equal length, in any order of rows.

    `keys`: one column for each field of `group_by`, none null, as `shown` gives them.
    `starts`: the start of each row's period, or None where the query has none.
    `counts`: how many records are in the row, at least one.
    `reduced`: of each of `query.reductions`, a column. set: a list of different values; sum: an
    exact int where all were ints, else a float, None of no value; count: an int; min and max: a
    value, an int before an equal float, None of no value.
    `version`: that of the bucket at the moment that was read; None where the engine does not say.
    """

    keys: tuple[Sequence[Value], ...] = ()
    starts: Sequence[datetime] | None = None
    counts: Sequence[int] = ()
    reduced: Mapping[tuple[str, Reduction], Sequence[Cell]]
    version: int | None = None


def shape(
    query: Query, groups: Groups, axis: Sequence[datetime] | None = None
) -> Iterator[list[Row]]:
    """The rows of the answer to `query`, in pages, at least one of them.

    `axis` holds the starts of the periods to fill, if any.
    """
    if query.period is None:
        return _by_keys(query, groups)
    line = sorted(set(groups.starts or ())) if axis is None else axis
    times = _Times(query.period, line, filled=axis is not None)
    if not query.group_by:
        return _by_time(query, groups, times)
    return (_flat if query.flatten else _nested)(query, groups, times)


class _Times:
    """The periods of an answer, numbered in order; `starts` and `ends` are their texts."""

    def __init__(self, period: Period, line: Sequence[datetime], *, filled: bool) -> None:
        self.filled = filled
        self.number = {start: place for place, start in enumerate(line)}
        self.starts = [format_instant(start) for start in line]
        # Where none is missing between, each ends where the next one begins.
        unknown = line[-1:] if filled else line
        self.ends = self.starts[1:] if filled else []
        self.ends += [format_instant(period.next(start)) for start in unknown]


def _by_keys(query: Query, groups: Groups) -> Iterator[list[Row]]:
    _, members = _numbered(groups)
    columns = _key_columns(query, groups, members)
    columns |= _picked(_measures(query, groups), members)
    return _pages(columns, _order(query, columns, len(members)))


def _by_time(query: Query, groups: Groups, times: _Times) -> Iterator[list[Row]]:
    picks = [-1] * len(times.starts)
    for row, start in enumerate(groups.starts or ()):
        picks[times.number[start]] = row
    columns: dict[str, Sequence[Any]] = {"_start_at": times.starts, "_end_at": times.ends}
    columns |= _picked(_measures(query, groups), picks)
    return _pages(columns, range(len(picks))[: query.limit])


def _flat(query: Query, groups: Groups, times: _Times) -> Iterator[list[Row]]:
    numbers, members = _numbered(groups)
    width = len(members)
    places = [
        times.number[start] * width + number
        for start, number in zip(groups.starts or (), numbers, strict=True)
    ]
    row_at = dict(zip(places, range(len(places)), strict=True))
    cells: Sequence[int] = range(len(times.starts) * width) if times.filled else sorted(places)
    measures = _measures(query, groups)
    keys = _key_columns(query, groups, members)

    def columns(chosen: Sequence[int]) -> dict[str, Sequence[Any]]:
        of_group = [place % width for place in chosen]
        of_time = [place // width for place in chosen]
        return {
            **_picked(keys, of_group),
            "_start_at": [times.starts[time] for time in of_time],
            "_end_at": [times.ends[time] for time in of_time],
            **_picked(measures, [row_at.get(place, -1) for place in chosen]),
        }

    if query.sort is not None:
        cells = [cells[place] for place in _order(query, columns(cells), len(cells))]
    cells = cells[: query.limit]
    size = _rows_a_page(len(query.columns))
    for at in range(0, max(1, len(cells)), size):
        yield _rows(columns(cells[at : at + size]))


def _nested(query: Query, groups: Groups, times: _Times) -> Iterator[list[Row]]:
    numbers, members = _numbered(groups)
    rows_of: list[dict[int, int]] = [{} for _ in members]
    for row, (start, number) in enumerate(zip(groups.starts or (), numbers, strict=True)):
        rows_of[number][times.number[start]] = row
    totals = _totals(groups, [list(rows.values()) for rows in rows_of])
    every = range(len(members))
    tops = _key_columns(query, totals, every) | _picked(_measures(query, totals), every)
    measures = _measures(query, groups)
    page: list[Row] = []
    made = 0
    for number in _order(query, tops, len(members)):
        rows = rows_of[number]
        line = range(len(times.starts)) if times.filled else sorted(rows)
        columns: dict[str, Sequence[Any]] = {
            "_start_at": [times.starts[time] for time in line],
            "_end_at": [times.ends[time] for time in line],
            **_picked(measures, [rows.get(time, -1) for time in line]),
        }
        top = {name: column[number] for name, column in tops.items()}
        head = {name: top.pop(name) for name in (*query.group_by, "_count")}
        page.append({**head, "_group_count": len(rows), **top, "values": _rows(columns)})
        made += len(line)
        if made >= _rows_a_page(len(query.columns)):
            yield page
            page, made = [], 0
    yield page


def _numbered(groups: Groups) -> tuple[Sequence[int], Sequence[int]]:
    """The number of each row's group, in the order of the keys, and one row of each group."""
    columns = [_told_apart(column) for column in groups.keys]
    identities = list(zip(*columns, strict=True)) if columns else [()] * len(groups.counts)
    one_row = dict(zip(identities, range(len(identities)), strict=True))
    members = sorted(
        one_row.values(), key=lambda row: [order_key(column[row]) for column in groups.keys]
    )
    number = {identities[row]: place for place, row in enumerate(members)}
    return [number[identity] for identity in identities], members


def _told_apart(column: Sequence[Value]) -> Sequence[Any]:
    """The column such that values are equal just where `order_key` says so: true is not 1."""
    return [order_key(value) for value in column] if bool in set(map(type, column)) else column


def _key_columns(query: Query, groups: Groups, members: Sequence[int]) -> dict[str, Sequence[Any]]:
    return _picked(dict(zip(query.group_by, groups.keys, strict=True)), members)


def _measures(query: Query, groups: Groups) -> dict[str, Sequence[Any]]:
    """The count and the collected columns by their keys, each with a gap's value at its end."""
    columns: dict[str, Sequence[Any]] = {"_count": [*groups.counts, 0]}
    for collect in query.collect:
        finish = FINISH[collect.method]
        column = [*finish(*(groups.reduced[pair] for pair in collect.reductions)), None]
        columns.update(dict.fromkeys(collect.keys, column))
    return columns


def _picked(columns: Mapping[str, Sequence[Any]], picks: Sequence[int]) -> dict[str, Sequence[Any]]:
    return {name: [column[pick] for pick in picks] for name, column in columns.items()}


def _rows(columns: Mapping[str, Sequence[Any]]) -> list[Row]:
    names = tuple(columns)
    return [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _pages(columns: Mapping[str, Sequence[Any]], order: Sequence[int]) -> Iterator[list[Row]]:
    size = _rows_a_page(len(columns))
    for at in range(0, max(1, len(order)), size):
        yield _rows(_picked(columns, order[at : at + size]))


def _rows_a_page(columns: int) -> int:
    return max(1, CELLS_A_PAGE // columns)


def _order(query: Query, columns: Mapping[str, Sequence[Any]], size: int) -> Sequence[int]:
    """The rows that the answer keeps, in its order; ties stay as they are, nulls come last."""
    if query.sort is None:
        return range(size)[: query.limit]
    column = columns[query.sort.key]
    known = [row for row in range(size) if column[row] is not None]
    known.sort(key=lambda row: _sort_key(column[row]), reverse=query.sort.descending)
    return [*known, *(row for row in range(size) if column[row] is None)][: query.limit]


def _sort_key(value: Any) -> Any:
    return [order_key(one) for one in value] if isinstance(value, list) else order_key(value)


def _totals(groups: Groups, members: Sequence[Sequence[int]]) -> Groups:
    """The groups over all their periods: each of `members` lists the rows of one group."""
    return Groups(
        keys=tuple([column[rows[0]] for rows in members] for column in groups.keys),
        counts=[sum(groups.counts[row] for row in rows) for rows in members],
        reduced={
            (field, reduction): [MERGE[reduction]([cells[row] for row in rows]) for rows in members]
            for (field, reduction), cells in groups.reduced.items()
        },
    )
