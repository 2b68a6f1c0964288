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
from backdrop.storage.mongodb.pipeline import (
    Pipeline,
    Sums,
    select_fields,
    select_groups,
    select_records,
    select_set,
    select_years,
)
from tests.storage.test_sql import NOW, QUERIES, YEAR

GOLDEN = Path(__file__).with_name("golden_pipelines.md")


def compiled(question: str) -> str:
    """The pipelines of a question, in the order in which they run."""
    query = parse_query(question.encode(), timezone="UTC", now=NOW).query
    if query.is_raw:
        return "\n\n".join(map(_shown, [*select_records(query), select_fields(query)]))
    zone_segments = segments(query.period.zone, *YEAR) if query.period else []
    pipelines = [select_groups(query, zone_segments, most_rows=1_000)]
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


def _shown(pipeline: Pipeline) -> str:
    return "\n".join(json.dumps(stage, default=_refuse) for stage in pipeline)


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
