"""An answer that the client has already, beside `/_status`: does If-None-Match cost a query?

    python -m bench.not_modified [ROUNDS]

Real flights are imported; then rounds of the same number of requests are interleaved.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import httpx2
from tests.flights import FILE
from tests.live import live_server

from bench.load import request_bytes, run

QUESTION = "period=week&group_by=origin&collect=dep_delay:mean"
CONNECTIONS, REQUESTS = 16, 250


def main(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder, live_server("serve", cwd=Path(folder)) as server:
        server.run("bucket", "create", "flights")
        done = server.run("import", "flights", str(FILE))
        if done.returncode:
            raise SystemExit(done.stderr)
        status_url = f"{server.url}/_status"
        question_url = f"{server.url}/flights?{QUESTION}"
        etag = httpx2.get(question_url).headers["etag"]
        cases = {
            "`/_status`": (status_url, request_bytes(status_url), 200),
            "304": (question_url, request_bytes(question_url, {"If-None-Match": etag}), 304),
            "200 from the cache": (question_url, request_bytes(question_url), 200),
        }
        rates: dict[str, list[float]] = defaultdict(list)
        for _ in range(rounds + 1):
            for name, (url, request, status) in cases.items():
                load = run(url, request, status, connections=CONNECTIONS, requests=REQUESTS)
                rates[name].append(load.requests_a_second)
    base = statistics.median(rates["`/_status`"][1:])
    print(f"\n{FILE.name}, {CONNECTIONS} connections, medians of {rounds} rounds\n")
    print("| what | requests a second | of `/_status` |\n|---|---|---|")
    for name, found in rates.items():
        rate = statistics.median(found[1:])  # the first round warms up
        print(f"| {name} | {rate:,.0f} | {rate / base:.2f} |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
