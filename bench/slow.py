"""What others wait while clients stand still: `python -m bench.slow [CLIENTS]`.

A third of them send no whole head, a third no whole body, a third take nothing of a large answer.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from tests.hostile.test_slow import fill, serving, slow_clients

from bench.load import Load, request_bytes, send_all

REQUESTS = 1_000
SETTLING = 5
"""Seconds until the first pages of the large answers are made, which takes the CPU of all."""


def main(clients: int) -> None:
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as target:
        fill(target, 20_000)
        url = target.server.url
        asked = {
            "status": [request_bytes(f"{url}/_status")] * REQUESTS,
            "group": [
                request_bytes(f"{url}/things?group_by=aa&filter_by=aa:{n}") for n in range(REQUESTS)
            ],
        }
        quiet = {
            name: send_all(url, requests, 200, connections=4) for name, requests in asked.items()
        }
        with slow_clients(target, clients):
            time.sleep(SETTLING)
            # Other values, so that no answer is one that was kept.
            asked["group"] = [
                request_bytes(f"{url}/things?group_by=aa&filter_by=aa:{n + REQUESTS}")
                for n in range(REQUESTS)
            ]
            beside = {
                name: send_all(url, requests, 200, connections=4)
                for name, requests in asked.items()
            }
    for name in asked:
        print(f"{name}: quiet {_shown(quiet[name])}; beside {clients} {_shown(beside[name])}")


def _shown(load: Load) -> str:
    return f"p50 {load.p50 * 1_000:.1f} ms, p99 {load.p99 * 1_000:.1f} ms"


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500)
