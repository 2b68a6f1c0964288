"""What was acknowledged is there after `kill -9`, and no batch is half there."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import httpx2
import msgspec

from tests.live import Server, live_server

ROUNDS = 20
A_BATCH = 500
SECONDS_UNTIL_KILLED = (0.05, 0.6)


class Importer(threading.Thread):
    """Posts one batch after the other until the server is gone; keeps a ledger of the answers."""

    def __init__(self, server: Server, token: str, first: int) -> None:
        super().__init__()
        self.server, self.token, self.number = server, token, first
        self.acknowledged: set[int] = set()

    def run(self) -> None:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        with httpx2.Client(timeout=30, headers=headers) as client:
            for _ in range(10_000):
                self.number += 1
                try:
                    answer = client.post(f"{self.server.url}/crash", content=batch(self.number))
                except httpx2.TransportError:
                    return
                assert answer.status_code == 200, answer.text
                self.acknowledged.add(self.number)


def batch(number: int) -> bytes:
    """Records of which every third has an `_id` of its own, and a field that no other batch has."""
    records = [
        {"batch": number, "place": place, f"only_{number % 7}": place * 0.5}
        | ({"_id": f"{number}-{place}"} if place % 3 == 0 else {})
        for place in range(A_BATCH)
    ]
    return msgspec.json.encode(records)


def test_killed_in_the_middle_of_an_import(tmp_path: Path) -> None:
    """Twenty times: every batch that was answered is there whole, any other whole or not at all."""
    chance = random.Random(2013)  # noqa: S311  moments, not secrets
    acknowledged: set[int] = set()
    sent = 0
    for _ in range(ROUNDS):
        with live_server("serve", cwd=tmp_path) as server:
            if not sent:
                made = server.run("bucket", "create", "crash")
                token = made.stdout.strip()
            importer = Importer(server, token, sent)
            importer.start()
            importer.join(chance.uniform(*SECONDS_UNTIL_KILLED))
            server.process.kill()
            importer.join()
            acknowledged |= importer.acknowledged
            sent = importer.number
    with live_server("serve", cwd=tmp_path) as server:
        rows = httpx2.get(f"{server.url}/crash?group_by=batch", timeout=60).json()["data"]
    stored = {row["batch"]: row["_count"] for row in rows}
    assert acknowledged
    assert acknowledged <= stored.keys()
    assert set(stored.values()) == {A_BATCH}
