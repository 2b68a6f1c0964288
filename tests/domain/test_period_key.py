"""Which offsets of a zone a query needs, and what is asked to know."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from backdrop.domain.period import Period
from backdrop.domain.period_key import NO_OFFSET, offsets
from backdrop.domain.query import Query
from tests.strategies import zone

WEEK = Period("week", zone("Europe/London"))
FIRST, LAST = datetime(2013, 6, 1, tzinfo=UTC), datetime(2013, 6, 30, tzinfo=UTC)


def _nobody_asks() -> tuple[datetime, datetime]:
    raise AssertionError("the range says it")


def test_a_range_with_two_near_ends_says_the_times_itself() -> None:
    """From the start of the first week on, which may lie in another offset."""
    start, end = datetime(2013, 4, 2, tzinfo=UTC), datetime(2014, 1, 1, tzinfo=UTC)
    found = offsets(WEEK, Query(period=WEEK, start=start, end=end), _nobody_asks, list)
    assert [segment.offset for segment in found] == [timedelta(hours=1), timedelta(0)]


@pytest.mark.parametrize(
    ("start", "end"),
    [(None, None), (FIRST, None), (None, LAST), (datetime(1990, 1, 1, tzinfo=UTC), LAST)],
)
def test_any_other_is_bound_by_the_times_that_there_are(
    start: datetime | None, end: datetime | None
) -> None:
    query = Query(period=WEEK, start=start, end=end)
    found = offsets(WEEK, query, lambda: (FIRST, LAST), list)
    assert [segment.offset for segment in found] == [timedelta(hours=1)]
    assert offsets(WEEK, query, lambda: None, list) == NO_OFFSET
