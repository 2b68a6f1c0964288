"""`format=csv`: always flat, sorted columns, RFC 4180."""

from __future__ import annotations

import csv
import io

import pytest

from tests.api.conftest import Desk

ROWS = [
    {"_id": "a", "_timestamp": "2024-01-01T10:00:00Z", "kind": 'quote " comma ,', "size": 1},
    {"_id": "b", "_timestamp": "2024-02-01", "kind": "line\nbreak", "size": 2.5, "Size": None},
    {"_id": "c", "kind": "é😀", "ok": True},
]


@pytest.fixture
def filled(desk: Desk) -> Desk:
    token = desk.make("table", raw_queries_allowed=True)
    assert desk.client.post("/table", headers=token, json=ROWS).status_code == 200
    return desk


def table(desk: Desk, query: str) -> list[list[str]]:
    answer = desk.client.get(f"/table?format=csv&{query}")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["content-disposition"] == 'attachment; filename="table.csv"'
    text = answer.content.decode()
    assert text.endswith("\r\n")
    return list(csv.reader(io.StringIO(text, newline="")))


def test_records(filled: Desk) -> None:
    """A column for each field that occurs, sorted; null and absence are empty cells."""
    assert table(filled, "") == [
        ["Size", "_id", "_timestamp", "kind", "ok", "size"],
        ["", "a", "2024-01-01T10:00:00+00:00", 'quote " comma ,', "", "1"],
        ["", "b", "2024-02-01T00:00:00+00:00", "line\nbreak", "", "2.5"],
        ["", "c", "", "é😀", "true", ""],
    ]


def test_only_the_fields_that_matching_records_have(filled: Desk) -> None:
    """A field that no matching record has makes no column; the limit takes none away."""
    assert table(filled, "filter_by=_id:c") == [["_id", "kind", "ok"], ["c", "é😀", "true"]]
    assert table(filled, "limit=1")[0] == ["Size", "_id", "_timestamp", "kind", "ok", "size"]


def test_groups(filled: Desk) -> None:
    """A set's cell is a JSON list, and no value is an empty cell."""
    query = "group_by=kind&collect=size:sum&collect=ok&sort_by=kind:ascending"
    assert table(filled, query) == [
        ["_count", "kind", "ok", "ok:set", "size:sum"],
        ["1", "line\nbreak", "[]", "[]", "2.5"],
        ["1", 'quote " comma ,', "[]", "[]", "1"],
        ["1", "é😀", "[true]", "[true]", ""],
    ]


def test_periods_and_groups_are_flat(filled: Desk) -> None:
    """Nested never: a row for each period and group, gaps filled, by period and then by key."""
    rows = table(
        filled, "period=month&group_by=kind&start_at=2024-01-01&end_at=2024-03-01&collect=size:sum"
    )
    assert rows[0] == ["_count", "_end_at", "_start_at", "kind", "size:sum"]
    assert [(row[2][:7], row[3], row[0], row[4]) for row in rows[1:]] == [
        ("2024-01", "line\nbreak", "0", ""),
        ("2024-01", 'quote " comma ,', "1", "1"),
        ("2024-02", "line\nbreak", "1", "2.5"),
        ("2024-02", 'quote " comma ,', "0", ""),
    ]


def test_no_rows(filled: Desk) -> None:
    """Groups keep their header; records without any field have none."""
    assert table(filled, "group_by=kind&filter_by=kind:none") == [["_count", "kind"]]
    assert filled.client.get("/table?format=csv&filter_by=kind:none").content == b""


def test_an_unpublished_table_warns_in_a_header(desk: Desk) -> None:
    """There is no place for a warning among the rows."""
    desk.make("table", published=False)
    answer = desk.client.get("/table?format=csv&group_by=kind")
    assert "unpublished" in answer.headers["warning"]


def test_an_unknown_format_is_refused(filled: Desk) -> None:
    """And told of those there are."""
    answer = filled.client.get("/table?format=xml")
    assert answer.status_code == 400
    assert "json, csv" in answer.json()["message"]
