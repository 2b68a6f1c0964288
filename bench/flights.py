"""The real flights: how they are stored and asked, beside a table that was made for them.

Their fields have gaps, and their times an offset, as records of the made-up ones have not.
"""

from __future__ import annotations

from itertools import groupby, islice
from pathlib import Path
from typing import Any, ClassVar

import msgspec
from tests.flights import flights

from bench import reading
from bench.limit import BOOLEAN, INTEGER, TEXT, TIME, Limit, Table, encoded, time_text
from bench.report import Row
from bench.server import Backdrop, backdrop

_A_BATCH = 10_000


class Flights(Table):
    fields: ClassVar = {
        "_id": TEXT,
        "_timestamp": TIME,
        "carrier": TEXT,
        "flight": INTEGER,
        "tailnum": TEXT,
        "origin": TEXT,
        "dest": TEXT,
        "distance": INTEGER,
        "dep_delay": INTEGER,
        "arr_delay": INTEGER,
        "air_time": INTEGER,
        "cancelled": BOOLEAN,
    }

    def column(self, rows: list[dict[str, Any]], name: str) -> list[Any]:
        return [row.get(name) for row in rows]

    def months(self) -> bytes:
        found = self.rows(
            "SELECT date_trunc('month', _timestamp) AS m, m + INTERVAL 1 MONTH, count(*) "
            "FROM records GROUP BY m ORDER BY m"
        )
        return encoded(
            [
                {"_start_at": time_text(start), "_end_at": time_text(end), "_count": count}
                for start, end, count in found
            ]
        )

    def delays_by_origin(self) -> bytes:
        found = self.rows(
            "SELECT origin, count(*), sum(dep_delay) / count(dep_delay), max(dep_delay) "
            "FROM records GROUP BY origin ORDER BY origin"
        )
        return encoded(
            [
                {"origin": origin, "_count": count, "dep_delay:mean": mean, "dep_delay:max": most}
                for origin, count, mean, most in found
            ]
        )

    def carriers_by_month(self) -> bytes:
        found = self.rows(
            "SELECT carrier, date_trunc('month', _timestamp) AS m, m + INTERVAL 1 MONTH, count(*), "
            "sum(distance)::BIGINT FROM records GROUP BY carrier, m ORDER BY carrier, m"
        )
        answer = []
        for carrier, group in groupby(found, key=lambda row: row[0]):
            rows = list(group)
            answer.append(
                {
                    "carrier": carrier,
                    "_count": sum(row[3] for row in rows),
                    "_group_count": len(rows),
                    "distance:sum": sum(row[4] for row in rows),
                    "values": [
                        {
                            "_start_at": time_text(start),
                            "_end_at": time_text(end),
                            "_count": count,
                            "distance:sum": distance,
                        }
                        for _, start, end, count, distance in rows
                    ],
                }
            )
        return encoded(answer)

    def planes_to_boston(self) -> bytes:
        found = self.rows(
            "SELECT tailnum, count(*) FROM records WHERE dest = 'BOS' AND tailnum IS NOT NULL "
            "GROUP BY tailnum ORDER BY tailnum"
        )
        return encoded([{"tailnum": tailnum, "_count": count} for tailnum, count in found])


QUESTIONS = {
    "flights by month": ("period=month", "months"),
    "delays by airport": (
        "group_by=origin&collect=dep_delay:mean&collect=dep_delay:max",
        "delays_by_origin",
    ),
    "distances by carrier and month": (
        "period=month&group_by=carrier&collect=distance:sum",
        "carriers_by_month",
    ),
    "planes to Boston": ("group_by=tailnum&filter_by=dest:BOS", "planes_to_boston"),
}


def title() -> str:
    return f"{len(flights()):,} real flights"


def measure(folder: Path) -> list[Row]:
    sent = _bodies()
    with backdrop(folder) as server:
        limit = Limit(folder / "limit.duckdb", Flights)
        rows = [_loading(server, limit, sent)]
        rows += reading.measure_questions(server, limit, "flights", QUESTIONS)
        limit.close()
    return rows


def _loading(server: Backdrop, limit: Limit, sent: list[bytes]) -> Row:
    token = server.make_bucket("flights")
    ours = best = 0.0
    for body in sent:
        ours += server.post_all("flights", token, [body], connections=1).seconds
        best += limit.insert_all([body])
    count = len(flights())
    return Row(
        "loading, batches of 10,000, 1 connection",
        f"{count / ours:,.0f}/s",
        f"{count / best:,.0f}/s",
        best / ours,
        "≥ 0.6",
        best / ours >= 0.6,
    )


def _bodies() -> list[bytes]:
    rows = (
        {"_id": f"flight-{number}"} | {name: row[name] for name in row if name != "time"}
        for number, row in enumerate(flights())
    )
    bodies = []
    while batch := list(islice(rows, _A_BATCH)):
        bodies.append(msgspec.json.encode(batch))
    return bodies
