"""Primaries are killed and paused while many write and read: nothing is lost, halved or doubled."""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from tests.live import Server, live_server
from tests.storage import mongodb
from tests.storage.mongodb import Member, ReplicaSet

KILLS, PAUSES = 10, 5
WRITERS, READERS = 4, 2
BETWEEN_BATCHES = 0.04
"""Seconds, so that the bucket stays small enough to be read again and again."""


class Ledger:
    """What was sent, and what was said of it. Each batch has a number of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.sent: dict[int, int] = {}
        self.acknowledged: set[int] = set()
        self.refused: set[int] = set()
        self.faults: list[str] = []
        self.over = threading.Event()

    def begin(self, size: int) -> int:
        with self._lock:
            number = len(self.sent)
            self.sent[number] = size
            return number

    def wait_for_writes(self) -> None:
        """Return once some more batches have been acknowledged."""
        before = len(self.acknowledged)
        until = time.monotonic() + 60
        while len(self.acknowledged) < before + WRITERS:
            assert time.monotonic() < until, "no write is stored any more"
            time.sleep(0.02)


def write(server: Server, token: str, ledger: Ledger, chance: random.Random) -> None:
    """Post one batch after the other: with own ids or without, one record or hundreds."""
    with httpx2.Client(timeout=90, headers={"Authorization": f"Bearer {token}"}) as client:
        while not ledger.over.is_set():
            size = chance.choice((1, 1, 2, 150, 300))
            number, has_ids = ledger.begin(size), chance.random() < 0.5
            records = [
                {"batch": number, "place": place}
                | ({"_id": f"{number}-{place}"} if has_ids else {})
                for place in range(size)
            ]
            while _post(client, f"{server.url}/ledger", records, number, ledger) and has_ids:
                time.sleep(0.1)  # the same ids again replace themselves
            time.sleep(BETWEEN_BATCHES)


def _post(
    client: httpx2.Client, url: str, records: list[dict[str, Any]], number: int, ledger: Ledger
) -> bool:
    """Whether to send the batch again, if that does no harm."""
    try:
        answer = client.post(url, json=records)
    except httpx2.TransportError:
        return True
    if answer.status_code == 200:
        ledger.acknowledged.add(number)
        return False
    if answer.status_code != 503 or answer.headers["Retry-After"] != "5":
        ledger.faults.append(f"{answer.status_code} {answer.text}")
    elif answer.json()["errors"][0]["code"] == "storage_unavailable" and "_id" not in records[0]:
        ledger.refused.add(number)
    return True


def read(server: Server, ledger: Ledger) -> None:
    """Ask how many records of each batch there are: all of them, or none."""
    missed_before: set[int] = set()
    with httpx2.Client(timeout=90) as client:
        while not ledger.over.is_set():
            told = set(ledger.acknowledged)
            try:
                answer = client.get(f"{server.url}/ledger?group_by=batch")
            except httpx2.TransportError:
                continue
            if answer.status_code == 503:
                continue
            if answer.status_code != 200:
                ledger.faults.append(f"{answer.status_code} {answer.text}")
                continue
            found = {row["batch"]: row["_count"] for row in answer.json()["data"]}
            halves = {n: count for n, count in found.items() if count != ledger.sent[n]}
            if halves:
                ledger.faults.append(f"half there: {halves}")
            # A primary that was paused may, in its last moment as one, still answer from before.
            missed = (told - found.keys()) & missed_before
            if missed:
                ledger.faults.append(f"not seen: {sorted(missed)}")
            missed_before = told - found.keys()


@contextmanager
def running(*work: Callable[[], None]) -> Iterator[None]:
    threads = [threading.Thread(target=one) for one in work]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.join()


def kill(primary: Member, members: ReplicaSet) -> None:
    primary.kill()
    members.primary()
    primary.start()


def pause(primary: Member, members: ReplicaSet) -> None:
    primary.pause()
    members.primary()
    primary.resume()


def test_what_was_acknowledged_is_there_once_and_no_batch_is_half_there(tmp_path: Path) -> None:
    chance = random.Random(2013)  # noqa: S311  moments and sizes, not secrets
    harms = [kill] * KILLS + [pause] * PAUSES
    chance.shuffle(harms)
    admin = {"BACKDROP_ADMIN_TOKEN": secrets.token_urlsafe()}
    ledger = Ledger()
    with mongodb.members() as members:
        store = ("--store", mongodb.database(members.url, "ledger"))
        with (
            live_server("write", *store, cwd=tmp_path, env=admin) as writing,
            live_server("read", *store, cwd=tmp_path) as reading,
        ):
            made = writing.run("bucket", "create", "ledger", "--raw-queries-allowed")
            token = made.stdout.strip()
            writers = [
                lambda seed=n: write(writing, token, ledger, random.Random(seed))  # noqa: S311
                for n in range(WRITERS)
            ]
            readers = [lambda: read(reading, ledger) for _ in range(READERS)]
            with running(*writers, *readers):
                try:
                    for harm in harms:
                        time.sleep(chance.uniform(0, 0.5))
                        harm(members.primary(), members)
                        ledger.wait_for_writes()
                finally:
                    ledger.over.set()
            records = httpx2.get(f"{reading.url}/ledger", timeout=90).json()["data"]
    assert not ledger.faults
    stored = Counter((record["batch"], record["place"]) for record in records)
    assert set(stored.values()) == {1}
    batches = Counter(batch for batch, _ in stored)
    assert batches == {number: ledger.sent[number] for number in batches}
    assert ledger.acknowledged <= batches.keys()
    assert not ledger.refused & batches.keys(), "what was refused is not there"
