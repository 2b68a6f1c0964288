"""What was acknowledged is there after `kill -9`, and no batch is half there."""

from __future__ import annotations

import random
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
import msgspec
import pytest

from tests.live import BACKDROP, Server, live_server
from tests.storage import mongodb as mongodb_server
from tests.strategies import LONG
from tests.system.ledger import WRITERS, Ledger, Writer

ROUNDS = 1_000 if LONG else 50
LANES = {"duckdb": 2, "mongodb": 3}
"""How many stores are treated so side by side, of which each has its share of the rounds."""
BUCKETS = 4
"""Of each: a round writes to the next, as on MongoDB a killed process blocks one for a while."""
SECONDS_UNTIL_KILLED = (0.05, 0.4)


class Lane:
    """One store, whose server is killed in each round, and what it has acknowledged."""

    def __init__(self, folder: Path, env: dict[str, str], command: str, seed: str) -> None:
        self.folder, self.command, self.seed = folder, command, seed
        self.env = env | {"BACKDROP_ADMIN_TOKEN": secrets.token_urlsafe()}
        self.chance = random.Random(seed)  # noqa: S311  moments, not secrets
        self.ledgers = {f"crash-{number}": Ledger() for number in range(BUCKETS)}
        self.tokens: dict[str, str] = {}

    @contextmanager
    def server(self) -> Iterator[Server]:
        with live_server(self.command, cwd=self.folder, env=self.env) as server:
            yield server

    def make_buckets(self) -> None:
        headers = {"Authorization": f"Bearer {self.env['BACKDROP_ADMIN_TOKEN']}"}
        with self.server() as server, httpx2.Client(base_url=server.url, headers=headers) as admin:
            for name in self.ledgers:
                made = admin.put(f"/_buckets/{name}", json={"raw_queries_allowed": True})
                assert made.status_code == 201, made.text
                self.tokens[name] = made.json()["token"]

    def write_and_kill(self, server: Server, round_: int) -> str:
        """The bucket that was written to, up to some moment."""
        name = f"crash-{round_ % BUCKETS}"
        ledger, seed = self.ledgers[name], f"{self.seed}-{round_}"
        before = ledger.acknowledged
        writers = [
            Writer(f"{server.url}/{name}", self.tokens[name], number, round_, ledger, seed)
            for number in range(WRITERS)
        ]
        for writer in writers:
            writer.start()
        until = time.monotonic() + 60
        while ledger.acknowledged == before and not ledger.faults and time.monotonic() < until:
            time.sleep(0.005)
        time.sleep(self.chance.uniform(*SECONDS_UNTIL_KILLED))
        server.process.kill()
        for writer in writers:
            writer.join()
        return name

    def check(self, url: str, name: str, round_: int) -> None:
        with httpx2.Client(base_url=url, timeout=60) as client:
            try:
                self.ledgers[name].check(client, f"/{name}", round_)
            except AssertionError as error:
                error.add_note(f"seed {self.seed}, round {round_}, bucket {name}")
                raise

    def check_everything(self, url: str) -> None:
        with httpx2.Client(base_url=url, timeout=300) as client:
            for name, ledger in self.ledgers.items():
                ledger.check_everything(client, f"/{name}")

    @property
    def acknowledged(self) -> int:
        return sum(ledger.acknowledged for ledger in self.ledgers.values())


def in_lanes(work: Callable[[Lane], None], lanes: Sequence[Lane]) -> None:
    """Do it to all of them at once; say what it came to."""
    with ThreadPoolExecutor(len(lanes)) as pool:
        for done in [pool.submit(work, lane) for lane in lanes]:
            done.result()
    total = sum(lane.acknowledged for lane in lanes)
    seeds = ", ".join(lane.seed for lane in lanes)
    sys.stdout.write(f"{ROUNDS} rounds, seeds {seeds}: {total:,} writes acknowledged\n")
    assert total > ROUNDS


def seed_of(lane: int) -> str:
    """The same each time in the short run, and in the long one another."""
    return f"{secrets.randbelow(10**6) if LONG else 2013}-{lane}"


def test_killed_at_any_moment(tmp_path: Path) -> None:
    """Every answered write is there once, any other whole or not at all; the next start is enough.

    The server of a round is the one that is asked about the round before it.
    """

    def work(lane: Lane) -> None:
        lane.make_buckets()
        written = None
        for round_ in range(-(-ROUNDS // LANES["duckdb"])):
            with lane.server() as server:
                if written is not None:
                    lane.check(server.url, written, round_ - 1)
                written = lane.write_and_kill(server, round_)
        with lane.server() as server:
            lane.check_everything(server.url)

    lanes = []
    for number in range(LANES["duckdb"]):
        folder = tmp_path / str(number)
        folder.mkdir()
        lanes.append(Lane(folder, {}, "serve", seed_of(number)))
    in_lanes(work, lanes)


def test_a_writing_process_killed_on_mongodb(tmp_path: Path) -> None:
    """The same of `backdrop write`, beside a `backdrop read` that lives on."""

    def work(lane: Lane) -> None:
        lane.make_buckets()
        with live_server("read", cwd=lane.folder, env=lane.env) as reader:
            for round_ in range(-(-ROUNDS // LANES["mongodb"])):
                with lane.server() as server:
                    written = lane.write_and_kill(server, round_)
                lane.check(reader.url, written, round_)
            lane.check_everything(reader.url)

    with mongodb_server.members() as members:
        members.end_transactions_after(seconds=1)
        lanes = []
        for number in range(LANES["mongodb"]):
            env = {"BACKDROP_STORE": mongodb_server.database(members.url)}
            lanes.append(Lane(tmp_path, env, "write", seed_of(number)))
        in_lanes(work, lanes)


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
