"""What Backdrop costs beside the limit, in one run.

    python -m bench [--long] [--json FILE]

Prints a table of Markdown for each size. The limit is what the engine and the codec do by hand
(bench/limit.py); every ratio is of two measurements taken in turns.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from bench import flights, ingest, reading
from bench.data import bodies
from bench.limit import Limit
from bench.questions import QUESTIONS
from bench.report import Row, as_json, markdown
from bench.server import backdrop, file_bytes, resident_bytes

MILLION = 1_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m bench")
    parser.add_argument("--long", action="store_true", help="10 and 20 million records too")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument("--size", type=int, action="append", help="records, instead of 1 and 5 M")
    options = parser.parse_args()
    sizes = options.size or [MILLION, 5 * MILLION, *([10 * MILLION, 20 * MILLION] * options.long)]
    print(f"{_machine()}\n")
    found: dict[str, list[Row]] = {}
    sizes_seen: dict[int, _Size] = {}
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="backdrop-bench-") as folder:
            sizes_seen[size] = _measure_size(Path(folder), size, first=size == sizes[0])
        title = f"{size:,} records"
        found[title] = sizes_seen[size].rows
        print(markdown(title, found[title]), flush=True)
    with tempfile.TemporaryDirectory(prefix="backdrop-bench-") as folder:
        title = flights.title()
        found[title] = flights.measure(Path(folder))
        print(markdown(title, found[title]), flush=True)
    if len(sizes) > 1:
        title = f"From {sizes[0]:,} to {sizes[-1]:,} records"
        found[title] = _growth(sizes_seen[sizes[0]], sizes_seen[sizes[-1]], sizes[-1] / sizes[0])
        print(markdown(title, found[title]))
    if options.json:
        rows = {title: as_json(rows) for title, rows in found.items()}
        text = json.dumps({"machine": _machine(), "rows": rows}, indent=1)
        options.json.write_text(text, encoding="utf-8")


class _Size:
    """What one size came to: its rows, and what is compared with another size's."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.ingest_rate = 0.0
        self.question_seconds: dict[str, float] = {}
        self.opening_seconds = 0.0


def _measure_size(folder: Path, size: int, *, first: bool) -> _Size:
    result = _Size()
    limit_path = folder / "limit.duckdb"
    with backdrop(folder) as server:
        limit = Limit(limit_path)
        token = server.make_bucket("records")
        ours = best = 0.0
        for part in _in_parts(size):  # by turns, so that both meet the same machine
            sent = list(bodies(part.stop - part.start, batch=10_000, first=part.start))
            ours += server.post_all("records", token, sent, connections=1).seconds
            best += limit.insert_all(sent)
        result.ingest_rate = size / ours
        result.rows.append(
            Row(
                "loading, batches of 10,000, 1 connection",
                f"{size / ours:,.0f}/s",
                f"{size / best:,.0f}/s",
                best / ours,
                "≥ 0.6",
                best / ours >= 0.6,
            )
        )
        limit.close()
    result.rows.append(_disk_row(folder, limit_path, size))
    begun = time.perf_counter()
    with backdrop(folder) as server:
        result.opening_seconds = time.perf_counter() - begun
        limit = Limit(limit_path)
        result.rows += reading.measure_questions(server, limit, "records")
        for what, (query, _) in QUESTIONS.items():
            result.question_seconds[what] = server.get_all(f"/records?{query}", times=5).p50
        memory, limit_memory = resident_bytes(server.pid), resident_bytes(limit.pid)
        result.rows.append(
            Row(
                "memory after loading and the questions",
                f"{memory / 2**20:,.0f} MB",
                f"{limit_memory / 2**20:,.0f} MB",
                memory / limit_memory,
                "≤ 1.5",
                memory <= 1.5 * limit_memory,
            )
        )
        result.rows += reading.measure_streams(server, limit, "records")
        if first:
            result.rows += reading.measure_small_answers(server, "records")
            result.rows += ingest.measure_single(server)
            result.rows += ingest.measure_batches(server, 300_000)
        result.rows.append(reading.measure_beside_a_writer(server, "records"))
        again = min(size, 200_000)
        result.rows.append(
            ingest.measure_again(server, "records", token, again, result.ingest_rate)
        )
        limit.close()
    return result


def _in_parts(size: int) -> list[range]:
    step = max(10_000, min(size // 10, 500_000))
    return [range(at, min(at + step, size)) for at in range(0, size, step)]


def _disk_row(folder: Path, limit_path: Path, size: int) -> Row:
    """Both closed, so that each has put its log into its file."""
    ours, limit = file_bytes(folder / "backdrop.duckdb") / size, file_bytes(limit_path) / size
    return Row(
        "disk, each record",
        f"{ours:.1f} B",
        f"{limit:.1f} B",
        ours / limit,
        "≤ 1.2",
        ours <= 1.2 * limit,
    )


def _growth(small: _Size, large: _Size, times: float) -> list[Row]:
    rows = []
    for what, seconds in large.question_seconds.items():
        before = small.question_seconds[what]
        ratio = seconds / before
        rows.append(
            Row(
                what,
                f"{seconds * 1e3:,.1f} ms",
                f"{before * 1e3:,.1f} ms",
                ratio,
                f"≤ {times:.0f}",
                ratio <= times,
            )
        )
    kept = large.ingest_rate / small.ingest_rate
    rates = (f"{large.ingest_rate:,.0f}/s", f"{small.ingest_rate:,.0f}/s")
    rows.append(Row("loading", *rates, kept, "≥ 0.8", kept >= 0.8))
    opening = large.opening_seconds
    rows.append(Row("opening", f"{opening:.2f} s", "2 s", opening / 2, "under 2 s", opening < 2))
    return rows


def _machine() -> str:
    cores = os.cpu_count()
    names = ", ".join(f"{name} {version(name)}" for name in ("duckdb", "granian", "msgspec"))
    load = os.getloadavg()[0]
    system = f"{platform.system()} {platform.machine()}, {cores} cores, load {load:.1f}"
    return f"{system}; Python {platform.python_version()}, {names}"


if __name__ == "__main__":
    sys.exit(main())
