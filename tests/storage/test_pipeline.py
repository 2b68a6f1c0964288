"""The MongoDB compiler's golden table: Query | stages, side by side in `golden_pipelines.md`.

`python -m tests.storage.test_pipeline` writes the table anew, to be read in the diff.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from backdrop.api.params import parse_query
from backdrop.domain.period import segments
from backdrop.domain.period_key import microseconds
from backdrop.domain.query import Query
from backdrop.storage.mongodb.pipeline import (
    Pipeline,
    Search,
    Sums,
    select_fields,
    select_groups,
    select_latest,
    select_nth_latest,
    select_set,
    select_sorted,
    select_timed,
    select_untimed,
    select_years,
)
from backdrop.storage.mongodb.tally import Known
from tests.storage.test_sql import NOW, QUERIES, YEAR

KNOWN = Known(
    {
        "records": 3,
        "milliseconds": 3,
        "integers": {"_timestamp": 3, "fee": 3},
        "floats": {"score": 2},
        "others": {"kind": 3},
    }
)
"""Of records that all have a time, a fee and a kind, and of which some have a score."""
SINCE = microseconds(YEAR[0])

GOLDEN = Path(__file__).with_name("golden_pipelines.md")


def compiled(question: str) -> str:
    """The pipelines of a question, in the order in which they run."""
    query = parse_query(question.encode(), timezone="UTC", now=NOW).query
    if query.is_raw:
        return "\n\n".join(map(_shown, [*_of_records(query), select_fields(query)]))
    zone_segments = segments(query.period.zone, *YEAR) if query.period else []
    pipelines = [
        select_groups(query, zone_segments, most_rows=1_000),
        select_groups(query, zone_segments, most_rows=1_000, known=KNOWN),
    ]
    pipelines += [
        select_set(query, field, zone_segments)
        for field, reduction in query.reductions
        if reduction == "set"
    ]
    if any(reduction == "sum" for _, reduction in query.reductions):
        ways: tuple[Sums, ...] = ("split", "exact")
        pipelines += [
            select_groups(query, zone_segments, most_rows=1_000, sums=way) for way in ways
        ]
    if len(zone_segments) > 1:
        pipelines.append(select_years(query))
    return "\n\n".join(map(_shown, pipelines))


def _of_records(query: Query) -> list[Pipeline | Search]:
    """Where they come in pages, the first one and those after it."""
    by = query.sort
    if by is None:
        places = (None, (SINCE, 7))
        timed = [select_timed(query, most=2_000, after=after) for after in places]
        untimed = [select_untimed(query, most=2_000, after=after) for after in places]
        return [*timed, *untimed]
    if by.key != "_timestamp":
        return [select_sorted(query, by)]
    return [select_nth_latest(query, query.limit or 1), select_latest(query, SINCE)]


def _shown(steps: Pipeline | Search) -> str:
    """A pipeline as a line for each stage, the arguments of a `find` as one."""
    lines = [steps] if isinstance(steps, dict) else steps
    return "\n".join(json.dumps(line, default=_refuse) for line in lines)


def _refuse(value: Any) -> Any:
    raise TypeError(f"{value!r} has no place in a pipeline")


def rendered() -> str:
    parts = ["# What queries are compiled to for MongoDB\n"]
    parts += [f"## `{question}`\n\n```json\n{compiled(question)}\n```\n" for question in QUERIES]
    return "\n".join(parts)


@pytest.mark.parametrize("question", QUERIES)
def test_compiled_as_written(question: str) -> None:
    """Each question is compiled to the pipelines that stand beside it."""
    assert f"## `{question}`\n\n```json\n{compiled(question)}\n```\n" in GOLDEN.read_text()


def test_the_whole_table() -> None:
    """Nothing stands in the table that is not compiled."""
    assert rendered() == GOLDEN.read_text()


if __name__ == "__main__":
    GOLDEN.write_text(rendered())
