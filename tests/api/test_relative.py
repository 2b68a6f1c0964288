"""Relative ranges: which periods they hold, and where a window slides that is empty at its end."""

from __future__ import annotations

import pytest

from tests.api.conftest import Desk

# Records in February, March and May of 2024; the clock stands at 1 May 2024, noon.
TIMES = ("2024-02-10T00:00:00Z", "2024-03-05T00:00:00Z", "2024-03-31T23:30:00Z")


@pytest.fixture
def filled(desk: Desk) -> Desk:
    token = desk.make("rel", raw_queries_allowed=True)
    rows = [{"_timestamp": time, "kind": kind} for time, kind in zip(TIMES, "aba", strict=True)]
    assert desk.client.post("/rel", headers=token, json=rows).status_code == 200
    return desk


def months(desk: Desk, query: str) -> list[tuple[str, int]]:
    answer = desk.client.get(f"/rel?{query}")
    assert answer.status_code == 200, answer.text
    return [(row["_start_at"][:7], row["_count"]) for row in answer.json()["data"]]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("start_at=2024-02-20&duration=2", [("2024-02", 1), ("2024-03", 2)]),
        ("end_at=2024-04-20&duration=2", [("2024-02", 1), ("2024-03", 2)]),
        # The near end is empty: the window goes to the first period that has records.
        ("start_at=2024-01-01&duration=2", [("2024-02", 1), ("2024-03", 2)]),
        ("start_at=2023-12-31&duration=3", [("2024-02", 1), ("2024-03", 2), ("2024-04", 0)]),
        ("end_at=2024-05-31&duration=2", [("2024-02", 1), ("2024-03", 2)]),
        # Up to the start of May, the month that holds now: April is empty, so one month back.
        ("duration=3", [("2024-01", 0), ("2024-02", 1), ("2024-03", 2)]),
        # Only the near end counts, and a window without records stays.
        ("start_at=2024-03-01&duration=3", [("2024-03", 2), ("2024-04", 0), ("2024-05", 0)]),
        ("start_at=2024-04-01&duration=2", [("2024-04", 0), ("2024-05", 0)]),
        ("start_at=2023-01-01&duration=2", [("2023-01", 0), ("2023-02", 0)]),
    ],
)
def test_windows_of_months(filled: Desk, query: str, expected: list[tuple[str, int]]) -> None:
    """N periods from start_at or up to end_at or now, slid once where the near end is empty."""
    assert months(filled, f"period=month&{query}") == expected


def test_groups_slide_together(filled: Desk) -> None:
    """Grouped, the window slides to the nearest period that has records over all groups."""
    answer = filled.client.get("/rel?period=month&group_by=kind&start_at=2024-01-05&duration=2")
    assert [
        (group["kind"], [(row["_start_at"][:7], row["_count"]) for row in group["values"]])
        for group in answer.json()["data"]
    ] == [("a", [("2024-02", 1), ("2024-03", 1)]), ("b", [("2024-02", 0), ("2024-03", 1)])]


@pytest.mark.parametrize("form", ["flatten=true", "format=csv"])
def test_a_flat_answer_of_groups_never_slides(filled: Desk, form: str) -> None:
    """Flat groups show the window that was asked for."""
    query = f"period=month&group_by=kind&start_at=2024-01-05&duration=2&{form}"
    text = filled.client.get(f"/rel?{query}").text
    assert "2024-01-01" in text
    assert "2024-03-05" not in text


def test_a_flat_answer_without_groups_slides(filled: Desk) -> None:
    """Flattening changes nothing where there are no groups."""
    flat = months(filled, "period=month&start_at=2024-01-01&duration=2&flatten=true")
    assert flat == [("2024-02", 1), ("2024-03", 2)]


def test_the_window_is_the_zones(filled: Desk) -> None:
    """In London 23:30 UTC on 31 March is in April, as clocks went forward that day."""
    assert months(filled, "period=month&start_at=2024-03-10&duration=2&timezone=Europe/London") == [
        ("2024-03", 1),
        ("2024-03", 1),
    ]


def test_the_window_follows_the_clock(filled: Desk) -> None:
    """Without an end the window ends with the period that holds now, and the ETag with it."""
    first = filled.client.get("/rel?period=hour&duration=1")
    filled.clock.move(60)
    same = filled.client.get("/rel?period=hour&duration=1")
    filled.clock.move(3600)
    later = filled.client.get("/rel?period=hour&duration=1")
    assert first.headers["etag"] == same.headers["etag"] != later.headers["etag"]


@pytest.mark.parametrize(
    ("query", "code", "parameter"),
    [
        ("duration=2", "missing_parameter", "period"),
        ("period=day&duration=0", "invalid_parameter", "duration"),
        ("period=day&duration=-1", "invalid_parameter", "duration"),
        ("period=day&duration=1.5", "invalid_parameter", "duration"),
        (
            "period=day&duration=2&start_at=2024-01-01&end_at=2024-01-03",
            "conflicting_parameters",
            "duration",
        ),
        ("period=year&duration=9000", "invalid_range", "duration"),
        ("period=year&duration=9000&start_at=2024-01-01", "invalid_range", "duration"),
        ("start_at=2024-01-01", "missing_parameter", "end_at"),
        ("start_at=2024-01-01&inclusive=true", "missing_parameter", "end_at"),
        ("inclusive=true", "missing_parameter", "inclusive"),
        ("inclusive=yes", "invalid_parameter", "inclusive"),
    ],
)
def test_refused_ranges(filled: Desk, query: str, code: str, parameter: str) -> None:
    """Each says which parameter, and by which code."""
    answer = filled.client.get(f"/rel?{query}")
    assert answer.status_code == 400
    errors = [(error["code"], error["parameter"]) for error in answer.json()["errors"]]
    assert (code, parameter) in errors


def test_inclusive(filled: Desk) -> None:
    """An inclusive range holds the instant of its end, and so the period that this begins."""
    range_ = "start_at=2024-02-10&end_at=2024-03-05"
    assert months(filled, f"period=month&{range_}") == [("2024-02", 1), ("2024-03", 0)]
    assert months(filled, f"period=month&{range_}&inclusive=true") == [
        ("2024-02", 1),
        ("2024-03", 1),
    ]
    whole = "start_at=2024-02-01&end_at=2024-03-01"
    assert months(filled, f"period=month&{whole}") == [("2024-02", 1)]
    assert months(filled, f"period=month&{whole}&inclusive=true") == [
        ("2024-02", 1),
        ("2024-03", 0),
    ]


def test_the_bound_on_rows(desk: Desk) -> None:
    """A request for more periods than an answer may have is refused, and told the bound."""
    desk.make("rel")
    for query in (
        "period=hour&start_at=1900-01-01&end_at=2100-01-01",
        "period=hour&duration=1000001",
    ):
        answer = desk.client.get(f"/rel?{query}")
        assert answer.status_code == 400
        assert answer.json()["errors"][0]["code"] == "too_many_rows"
        assert "1,000,000" in answer.json()["message"]
