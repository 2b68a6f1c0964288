"""What was acknowledged is there after `kill -9`, and no batch is half there."""

from __future__ import annotations

import random
import secrets
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
import msgspec
import pytest

from tests.live import BACKDROP, Server, live_server
from tests.storage import mongodb as mongodb_server

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


RECORDS = 20_000


@pytest.fixture(params=["duckdb", "mongodb"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "duckdb":
        return f"duckdb://{tmp_path}/store.duckdb"
    return mongodb_server.database(request.getfixturevalue("mongodb"))


def test_an_import_that_is_cut_off_stores_each_record_once(store: str, tmp_path: Path) -> None:
    """Records without ids: the command is killed and begun again, and the server under it too."""
    lines = [msgspec.json.encode({"place": place, "part": place % 7}) for place in range(RECORDS)]
    (tmp_path / "some.ndjson").write_bytes(b"\n".join(lines))
    admin_token = secrets.token_urlsafe(16)
    env = {"BACKDROP_STORE": store, "BACKDROP_ADMIN_TOKEN": admin_token}
    with ExitStack() as stack:
        with live_server("serve", cwd=tmp_path, env=env) as server:
            admin = {"Authorization": f"Bearer {admin_token}"}
            settings = {"raw_queries_allowed": True}
            httpx2.put(f"{server.url}/_buckets/crash", headers=admin, json=settings, timeout=30)
            for share in (0.2, 0.4):
                with importing(server) as command:
                    cut_after(share, server, command, command)
            command = stack.enter_context(importing(server))
            cut_after(0.6, server, server.process, command)
        again = ("serve", "--port", server.url.rpartition(":")[2])
        with live_server(*again, cwd=tmp_path, env=env) as server:
            cut_after(0.8, server, server.process, command)
        with live_server(*again, cwd=tmp_path, env=env) as server:
            _, said = command.communicate(timeout=120)
            answer = httpx2.get(f"{server.url}/crash", timeout=60)
            once_more = server.run("import", "crash", "some.ndjson", "--batch=100")
            rows = httpx2.get(f"{server.url}/crash?group_by=part", timeout=60).json()["data"]
    assert command.returncode == 0, said
    assert "trying again" in said
    assert sorted(record["place"] for record in answer.json()["data"]) == list(range(RECORDS))
    assert f"{RECORDS:,} of them were stored before" in once_more.stderr
    assert sum(row["_count"] for row in rows) == RECORDS


@contextmanager
def importing(server: Server) -> Iterator[subprocess.Popen[str]]:
    """The command that imports the file, under way."""
    with subprocess.Popen(
        [BACKDROP, "import", "crash", "some.ndjson", "--batch=100"],
        cwd=server.folder,
        env=server.env,
        stderr=subprocess.PIPE,
        text=True,
    ) as command:
        try:
            yield command
        finally:
            command.kill()


def cut_after(
    share: float,
    server: Server,
    victim: subprocess.Popen[str],
    command: subprocess.Popen[str],
) -> None:
    """Kill the process once so much is stored, and the command is not done."""
    until = time.monotonic() + 150  # MongoDB takes a minute to end a dead process's transaction
    stored = 0
    while stored < share * RECORDS and time.monotonic() < until:
        rows = httpx2.get(f"{server.url}/crash?group_by=part", timeout=30).json()["data"]
        stored = sum(row["_count"] for row in rows)
    assert command.poll() is None
    victim.kill()
    victim.wait()
    assert share * RECORDS <= stored < RECORDS
