"""The DuckDB compiler's golden table: Query | SQL, side by side in `golden_sql.md`.

`python -m tests.storage.test_sql` writes the table anew, to be read in the diff.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backdrop.api.params import parse_query
from backdrop.domain.bucket import Bucket
from backdrop.domain.period import segments
from backdrop.storage.duckdb.catalogue import Table
from backdrop.storage.duckdb.slices import cuts, select_sample, select_slices, tiers
from backdrop.storage.duckdb.sql import Statement, select_groups, select_presence, select_records

GOLDEN = Path(__file__).with_name("golden_sql.md")
NOW = datetime(2013, 6, 15, tzinfo=UTC)
YEAR = datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 12, 31, tzinfo=UTC)

TABLE = Table(Bucket(name="golden"), "records_7", 7, 1_000, None).with_columns(
    [
        ("kind", "string"),
        ("fee", "integer"),
        ("fee", "float"),
        ("fee", "null"),
        ("ok", "boolean"),
        ("Kind", "string"),
        ("_end_at", "time"),
    ]
)

QUERIES = (
    "limit=10",
    "sort_by=fee:descending",
    "sort_by=never_given:ascending",
    "sort_by=_end_at:descending&limit=3",
    "filter_by=kind:a&filter_by=kind:b&filter_by=ok:true",
    "filter_by=fee:27",
    "filter_by=fee:0.5&filter_by=never_given:1",
    "filter_by=_timestamp:2013-01-01&filter_by_prefix=kind:50%25_",
    "start_at=2013-01-01&end_at=2013-02-01&filter_by=_id:x",
    "group_by=kind",
    "group_by=fee&group_by=Kind",
    "group_by=never_given",
    "group_by=ok&collect=fee:sum&collect=fee:mean&collect=kind:sum",
    "group_by=ok&collect=fee&collect=fee:count&collect=fee:min&collect=fee:max",
    "period=hour",
    "period=day",
    "period=week&collect=fee:sum",
    "period=month&group_by=kind",
    "period=quarter",
    "period=year",
    "period=hour&timezone=Europe/London",
    "period=hour&timezone=Asia/Kathmandu",
    "period=hour&timezone=Australia/Lord_Howe",
    "period=day&timezone=America/New_York",
    "period=month&timezone=America/New_York",
)


def compiled(question: str) -> str:
    """The SQL of a question to the table, its parameters after it."""
    query = parse_query(question.encode(), timezone="UTC", now=NOW).query
    if query.is_raw:
        return _shown(select_records(query, TABLE))
    zone_segments = segments(query.period.zone, *YEAR) if query.period else []
    selected = select_groups(query, TABLE, zone_segments)
    return (
        "nothing to run: no record can be in a group" if selected is None else _shown(selected[0])
    )


def _shown(statement: Statement) -> str:
    parameters = f"\n-- {statement.parameters!r}" if statement.parameters else ""
    return re.sub(r" (FROM|WHERE|GROUP BY|ORDER BY|LIMIT) ", r"\n\1 ", statement.text) + parameters


def slices(question: str) -> Iterator[str]:
    """The statements of a large answer, cut where a sample of 1 to 8, many of them 5, says."""
    query = parse_query(question.encode(), timezone="UTC", now=NOW).query
    yield _shown(select_presence(query, TABLE))
    for tier in tiers(query, TABLE):
        where = cuts([1, 2, 5, 5, 5, 5, 7, 8], 4) if tier.value else []
        if tier.value:
            yield _shown(select_sample(query, TABLE, tier))
        yield from map(_shown, select_slices(query, TABLE, tier, where))


def rendered() -> str:
    parts = ["# What queries are compiled to\n"]
    parts += [f"## `{question}`\n\n```sql\n{compiled(question)}\n```\n" for question in QUERIES]
    question = "sort_by=fee:descending&filter_by=kind:a"
    parts.append(f"# What `{question}` is read by, where the answer is large\n")
    parts += [f"```sql\n{statement}\n```\n" for statement in slices(question)]
    return "\n".join(parts)


@pytest.mark.parametrize("question", QUERIES)
def test_compiled_as_written(question: str) -> None:
    """Each question is compiled to the SQL that stands beside it."""
    assert f"## `{question}`\n\n```sql\n{compiled(question)}\n```\n" in GOLDEN.read_text()


def test_the_whole_table() -> None:
    """Nothing stands in the table that is not compiled, the slices included."""
    assert rendered() == GOLDEN.read_text()


if __name__ == "__main__":
    GOLDEN.write_text(rendered())
