"""Storing: records a second over HTTP, beside the limit's."""

from __future__ import annotations

import time
from collections.abc import Sequence

from bench.data import bodies
from bench.limit import Limit
from bench.report import Row
from bench.server import Backdrop


def measure_batches(server: Backdrop, records: int) -> list[Row]:
    """New records, in batches of 10,000 and 1,000, over 1 and 4 connections."""
    rows = []
    for batch in (10_000, 1_000):
        sent = list(bodies(records, batch=batch))
        for connections in (1, 4):
            ratios = [_one_round(server, sent, connections, records) for _ in range(3)]
            ours, limit = sorted(ratios, key=lambda pair: pair[0] / pair[1])[1]
            what = f"batches of {batch:,}, {connections} connection{'s' * (connections > 1)}"
            rows.append(_row(what, ours, limit, 0.6, "the limit's records a second"))
    return rows


def _one_round(
    server: Backdrop, sent: Sequence[bytes], connections: int, records: int
) -> tuple[float, float]:
    """Our records a second and the limit's, into a new bucket and a new table."""
    name = f"batches-{time.time_ns()}"
    token = server.make_bucket(name)
    took = server.post_all(name, token, sent, connections=connections).seconds
    path = server.folder / f"{name}.limit.duckdb"
    limit = Limit(path)
    seconds = limit.insert_all(sent)
    limit.close()
    path.unlink()
    return records / took, records / seconds


def measure_again(server: Backdrop, name: str, token: str, records: int, first: float) -> Row:
    """The same records once more: `records` of them, where every id exists."""
    sent = list(bodies(records, batch=10_000))
    load = server.post_all(name, token, sent, connections=1)
    rate = records / load.seconds
    return _row("the same records posted again", rate, first, 0.5, "the first time's")


def measure_single(server: Backdrop) -> list[Row]:
    """Single records, durable: 32 connections beside one, with a p99 under 50 ms."""
    token = server.make_bucket("singles")
    alone = server.post_all("singles", token, bodies(500, batch=1), connections=1)
    many = server.post_all(
        "singles", token, bodies(20_000, batch=1, first=1_000_000), connections=32
    )
    ours, limit = many.requests_a_second, alone.requests_a_second
    return [
        Row(
            f"single records, 32 connections (p99 {many.p99 * 1e3:.0f} ms)",
            f"{ours:,.0f}/s",
            f"{limit:,.0f}/s over one",
            ours / limit,
            "20, p99 under 50 ms",
            ours / limit >= 20 and many.p99 < 0.05,
        )
    ]


def _row(what: str, ours: float, limit: float, target: float, of: str) -> Row:
    ratio = ours / limit
    return Row(
        what, f"{ours:,.0f}/s", f"{limit:,.0f}/s", ratio, f"≥ {target} of {of}", ratio >= target
    )
