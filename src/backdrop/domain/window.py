"""Relative ranges: N periods from or up to an instant, and their one slide to where records are."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from datetime import datetime

from backdrop.domain.period import Period
from backdrop.domain.query import Query


def periods_from(period: Period, instant: datetime, count: int) -> tuple[datetime, datetime]:
    """The `count` periods from the one that holds `instant`, as `[start, end)`.

    Raises OverflowError past the ends of the calendar.
    """
    start = period.start(instant)
    return start, period.shift(start, count)


def periods_to(period: Period, instant: datetime, count: int) -> tuple[datetime, datetime]:
    """The `count` periods that end with the start of the one that holds `instant`.

    Raises OverflowError past the ends of the calendar.
    """
    end = period.start(instant)
    return period.shift(end, -count), end


def slid(query: Query, filled: Collection[datetime]) -> Query:
    """The query with its window moved so that its near end has records.

    `filled`: the starts of the periods, within the window, that have records. The window keeps its
    number of periods, and stays where it is if there are none, or if it may not slide.
    """
    period, start, end = query.period, query.start, query.end
    if query.slide is None or not filled or period is None or start is None or end is None:
        return query
    if query.slide == "forward":
        steps = sum(1 for _ in period.axis(start, min(filled)))
    else:
        steps = -sum(1 for _ in period.axis(period.next(max(filled)), end))
    if steps == 0:
        return query
    try:
        moved = period.shift(start, steps), period.shift(end, steps)
    except OverflowError:
        return query
    return dataclasses.replace(query, start=moved[0], end=moved[1], slide=None)
