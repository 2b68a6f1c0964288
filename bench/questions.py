"""The six standard questions: their words, their query string, and the limit's name for them."""

from __future__ import annotations

YEAR = "start_at=2013-01-01&end_at=2014-01-01"

QUESTIONS = {
    "count by week over the year": (f"period=week&{YEAR}", "weeks"),
    "200 groups by week, with a sum": (
        "period=week&group_by=authority&collect=fee:sum",
        "authorities_by_week",
    ),
    "50 groups, with a sum": ("group_by=kind&collect=fee:sum", "kinds"),
    "a filtered group": ("group_by=kind&filter_by=place:place-3", "kinds_of_a_place"),
    "a set per group": ("group_by=place&collect=kind:set", "kinds_by_place"),
    "1,000 records of a day": (
        "start_at=2013-06-01&end_at=2013-06-02&limit=1000",
        "records_of_a_day",
    ),
}
