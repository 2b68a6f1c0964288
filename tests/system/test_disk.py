"""A disk that fills up or breaks, under a real server: at every single one of its writes.

No answer of 2xx is taken back, and nothing that was refused is stored, not even in part.
"""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import httpx2
import pytest

from backdrop.domain.bucket import Bucket
from backdrop.storage.duckdb import guard
from backdrop.storage.duckdb.commit_log import HEADER_BYTES, commit_log_of
from backdrop.storage.duckdb.disk import sync
from backdrop.storage.duckdb.engine import DuckDBStorage
from backdrop.storage.duckdb.repair import repair
from backdrop.storage.repaired import BeyondRepair
from tests.live import BACKDROP, Server, clean_environment, live_server, run
from tests.storage.damage import Files, blocks, files
from tests.storage.exact import batch
from tests.strategies import LONG
from tests.system.faults import BROKEN, FULL, RESIZE, SYNC, WRITE, Disk, compiled

BUCKET = "ledger"
A_BATCH = 300
_STEP = 1 if LONG else 3
"""How far the places at which a session fails are apart, where each takes a server of its own."""
_PATIENCE = 30.0
"""Seconds within which reading must go on, after the file had to be opened again."""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("library"))


@pytest.fixture
def disk(library: Path, tmp_path: Path) -> Iterator[Disk]:
    with Disk(library, tmp_path, tmp_path / "backdrop.duckdb") as found:
        yield found


class Ledger:
    """What a server has acknowledged, and so must hold: no less, and no more."""

    def __init__(self) -> None:
        self.admin = secrets.token_urlsafe(16)
        self.records: dict[str, dict[str, Any]] = {}
        self.whole: list[str] = []
        self.buckets: set[str] = set()
        self.description = ""
        self.tokens = 0
        self.acts: Counter[str] = Counter()
        self.numbers = count()
        self.refused: list[httpx2.Response] = []
        self._client = httpx2.Client(timeout=60, headers={"Authorization": f"Bearer {self.admin}"})
        self._writing: dict[str, str] = {}
        self._to_send: dict[str, list[dict[str, Any]]] = {}

    def close(self) -> None:
        self._client.close()

    @property
    def token(self) -> str:
        """What writes to the bucket."""
        return self._writing[BUCKET]

    def attempt(
        self, method: str, url: str, token: str | None = None, key: str | None = None, **body: Any
    ) -> bool:
        """Whether it was acknowledged. What is not is refused with a 507, as JSON."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if key is not None:
            headers["Idempotency-Key"] = f'"{key}"'
        answer = self._client.request(method, url, headers=headers, **body)
        if answer.is_success:
            return True
        self.refused.append(answer)
        return False

    def make(self, server: Server) -> None:
        """The buckets that sessions work on, with a disk that is well."""
        for name in (BUCKET, "whole"):
            made = self._client.put(
                f"{server.url}/_buckets/{name}", json={"raw_queries_allowed": True}
            )
            assert made.status_code == 201, made.text
            self._writing[name] = made.json()["token"]
            self.buckets.add(name)
            self.acts["bucket_created"] += 1

    def session(self, server: Server) -> None:
        """Every kind of write, one after the other."""
        url, number = server.url, next(self.numbers)
        self._to_send[f"key-{number}"] = [{"_id": f"{number}-once", "kind": "once"}]
        for key, once in list(self._to_send.items()):  # what was refused, under its key once more
            if self.attempt("POST", f"{url}/{BUCKET}", self.token, key, json=once):
                self._stored(self._to_send.pop(key))
        batch = [
            {"_id": f"{number}-{place}", "kind": "batch", "place": place, f"of_{number % 5}": 0.5}
            for place in range(A_BATCH)
        ]
        if self.attempt("POST", f"{url}/{BUCKET}", self.token, json=batch):
            self._stored(batch)
            if self.attempt(
                "PATCH", f"{url}/{BUCKET}/{number}-0", self.token, json={"kind": "changed"}
            ):
                self.records[f"{number}-0"]["kind"] = "changed"
                self.acts["record_changed"] += 1
            if self.attempt("DELETE", f"{url}/{BUCKET}/{number}-1", self.token):
                del self.records[f"{number}-1"]
                self.acts["record_removed"] += 1
        whole = [{"_id": f"{number}-{place}", "aa": place} for place in range(20)]
        if self.attempt("PUT", f"{url}/whole", self._writing["whole"], json=whole):
            self.whole = [f"{number}-{place}" for place in range(20)]
            self.acts["records_replaced"] += 1
        told = {"description": f"the {number}th"}
        if self.attempt("PATCH", f"{url}/_buckets/{BUCKET}", json=told):
            self.description = told["description"]
            self.acts["settings_changed"] += 1
        if self.attempt("POST", f"{url}/_buckets/{BUCKET}/tokens", json={"scope": "read"}):
            self.tokens += 1
            self.acts["token_made"] += 1
        if self.attempt("PUT", f"{url}/_buckets/made-{number}", json={}):
            self.buckets.add(f"made-{number}")
            self.acts["bucket_created"] += 1

    def _stored(self, records: list[dict[str, Any]]) -> None:
        self.records |= {record["_id"]: dict(record) for record in records}
        self.acts["records_stored"] += 1

    def check(self, server: Server) -> None:
        """The server holds all that was acknowledged, and nothing else."""
        self._patiently(lambda: self._client.get(f"{server.url}/_status"))
        records = self._get(f"{server.url}/{BUCKET}")["data"]
        assert {one["_id"]: one for one in records} == self.records
        assert len(records) == len(self.records)
        assert sorted(one["_id"] for one in self._get(f"{server.url}/whole")["data"]) == sorted(
            self.whole
        )
        buckets = {one["name"]: one for one in self._get(f"{server.url}/_buckets")["buckets"]}
        assert buckets.keys() == self.buckets
        assert buckets[BUCKET]["description"] == self.description
        tokens = self._get(f"{server.url}/_buckets/{BUCKET}/tokens")["tokens"]
        assert len(tokens) == 1 + self.tokens
        entries = self._get(f"{server.url}/_audit?limit=1000")["entries"]
        if len(entries) < 1000:
            assert Counter(one["action"] for one in entries) == +self.acts

    def _get(self, url: str) -> Any:
        return self._patiently(lambda: self._client.get(url)).json()

    def _patiently(self, get: Callable[[], httpx2.Response]) -> httpx2.Response:
        """The answer; for a moment it may be that the file is being opened again."""
        until = time.monotonic() + _PATIENCE
        while True:
            answer = get()
            if answer.status_code == 200 or time.monotonic() > until:
                assert answer.status_code == 200, answer.text
                return answer
            assert answer.status_code in (503, 507), answer.text
            time.sleep(0.02)

    def check_refusals(self, *codes: str) -> None:
        """Each was a 507 in the form of all errors; then they are forgotten."""
        for answer in self.refused:
            body = answer.json()
            assert answer.status_code == 507, answer.text
            assert body["status"] == "error"
            assert [one["code"] for one in body["errors"]] in [[code] for code in codes]
            assert "Retry-After" in answer.headers
        self.refused.clear()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    ledger = Ledger()
    yield ledger
    ledger.close()


@contextmanager
def serving(ledger: Ledger, disk: Disk, folder: Path) -> Iterator[Server]:
    env = disk.env | {"BACKDROP_ADMIN_TOKEN": ledger.admin}
    with live_server("serve", cwd=folder, env=env) as server:
        yield server


@pytest.mark.parametrize(
    ("error", "code"),
    [
        pytest.param(FULL, "storage_full", id="full"),
        pytest.param(BROKEN, "storage_write_failed", id="broken"),
    ],
)
def test_a_disk_that_refuses_at_the_nth_write(
    error: int, code: str, ledger: Ledger, disk: Disk, tmp_path: Path
) -> None:
    """Refused with 507, while reading goes on; stored as soon as there is room; there after all."""
    with serving(ledger, disk, tmp_path) as server:
        ledger.make(server)
        for first in range(1, 100):
            disk.fail(first, error=error)
            ledger.session(server)
            ledger.check(server)
            failed = disk.failed
            ledger.check_refusals(code)
            disk.heal()
            if not failed:
                break
            ledger.session(server)
            ledger.check_refusals()
            ledger.check(server)
        server.process.kill()
    assert 10 < first < 99
    with serving(ledger, disk, tmp_path) as server:
        ledger.check(server)


def test_a_disk_that_is_full_when_the_log_is_taken_into_the_file(
    ledger: Ledger, disk: Disk, tmp_path: Path
) -> None:
    """The database is unusable then, and is opened again: nobody needs to restart the server."""
    with serving(ledger, disk, tmp_path) as server:
        ledger.make(server)
    opened_again = 0
    for first in range(1, 100, _STEP):
        disk.fail(first)
        with serving(ledger, disk, tmp_path) as server:  # which takes it in after its first write
            ledger.session(server)
            ledger.check(server)
            failed = disk.failed
            ledger.check_refusals("storage_full")
            disk.heal()
            ledger.session(server)
            ledger.check_refusals()
            ledger.check(server)
            opened_again += "Opening" in server.log
            server.process.kill()
        if not failed:
            break
    assert opened_again > 1
    with serving(ledger, disk, tmp_path) as server:
        ledger.check(server)


def test_a_disk_that_does_not_take_back_either(ledger: Ledger, disk: Disk, tmp_path: Path) -> None:
    """Where a part of a refused write stays in the log, nothing that comes after it is lost."""
    with serving(ledger, disk, tmp_path) as server:
        ledger.make(server)
        for first in range(1, 40, _STEP):
            disk.fail(first, error=BROKEN, kinds=WRITE | RESIZE)
            ledger.session(server)
            failed = disk.failed
            assert {answer.status_code for answer in ledger.refused} <= {503, 507}
            ledger.refused.clear()
            disk.heal()
            ledger.check(server)
            ledger.session(server)
            ledger.check_refusals()
            if not failed:
                break
        server.process.kill()
    with serving(ledger, disk, tmp_path) as server:
        ledger.check(server)


def test_what_a_killed_process_did_not_sync_is_synced_first(
    ledger: Ledger, disk: Disk, tmp_path: Path
) -> None:
    """Before anybody is told of it: where it can't be, there is no start."""
    with serving(ledger, disk, tmp_path) as server:
        ledger.make(server)
    with serving(ledger, disk, tmp_path) as server:
        ledger.session(server)
        server.process.kill()
    log = tmp_path / "backdrop.duckdb.commits"
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:-1]))
    disk.fail(1, kinds=SYNC)
    refused = run("serve", "--port", "0", cwd=tmp_path, env=clean_environment(**disk.env))
    assert refused.returncode == 1
    assert "can't open" in refused.stderr
    assert "fsync" in refused.stderr
    disk.heal()
    with serving(ledger, disk, tmp_path) as server:
        ledger.check(server)


CHECKPOINT = """
import os, sys
from pathlib import Path
from backdrop.storage.duckdb.engine import DuckDBStorage

storage = DuckDBStorage(Path(sys.argv[1]))
print("opened", flush=True)
sys.stdin.readline()
try:
    storage._file.open.connection.execute("CHECKPOINT")
finally:
    os._exit(3)
"""


@pytest.fixture
def half_checkpoint(disk: Disk, tmp_path: Path) -> Path:
    """A store with ten records, whose process ended where a checkpoint's header was written, and
    not synced yet.
    """
    path = tmp_path / "backdrop.duckdb"
    with closing(DuckDBStorage(path)) as storage:
        storage.put_bucket(Bucket(name="things"))
        for number in range(10):
            storage.save("things", batch({"_id": f"{number}"}))
        store = files(path)
    for first in range(1, 9):
        for name, content in store.items():
            path.with_name(path.name + name).write_bytes(content)
        with subprocess.Popen(
            [sys.executable, "-c", CHECKPOINT, path],
            env=clean_environment(**disk.env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"opened\n"
            before = path.read_bytes()[:HEADER_BYTES]
            disk.fail(first, kinds=SYNC)
            process.communicate(b"\n", timeout=30)
        disk.heal()
        if path.read_bytes()[:HEADER_BYTES] != before:
            assert ".wal" in files(path)
            return path
    raise AssertionError("no sync was that of the header")


def test_a_header_that_was_not_synced_is_so_before_it_is_trusted(
    half_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DuckDB removes the WAL then, which would do without it."""
    synced: list[tuple[Path, bool]] = []

    def sync_seen(descriptor: int, file: Path) -> None:
        sync(descriptor, file)
        synced.append((file, ".wal" in files(half_checkpoint)))

    monkeypatch.setattr(guard, "sync", sync_seen)
    with closing(DuckDBStorage(half_checkpoint)) as storage:
        assert synced == [(half_checkpoint, True)]
        assert storage.state("things").records == 10


def test_a_damaged_commit_log_makes_no_copy_of_a_store(half_checkpoint: Path) -> None:
    """All is in the file, and its WAL is there, if DuckDB has no use for it any more."""
    commit_log_of(half_checkpoint).write_bytes(b"damaged")
    with closing(DuckDBStorage(half_checkpoint)) as storage:
        assert storage.state("things").records == 10


@pytest.mark.parametrize("error", [FULL, BROKEN])
def test_a_failed_fsync_at_the_stop_is_said(
    error: int, ledger: Ledger, disk: Disk, tmp_path: Path
) -> None:
    with serving(ledger, disk, tmp_path) as server:
        ledger.make(server)
        ledger.session(server)
        disk.fail(2, error=error, kinds=SYNC)
        server.process.terminate()
        assert server.process.wait(30) == os.EX_IOERR
        disk.heal()
    assert "fsync failed" in server.log
    with serving(ledger, disk, tmp_path) as server:
        ledger.check(server)


@pytest.mark.parametrize("error", [FULL, BROKEN])
def test_a_failed_fsync_ends_the_process(
    error: int, ledger: Ledger, disk: Disk, tmp_path: Path
) -> None:
    """It says why, asks for none again, and what was acknowledged is there at the next start."""
    acknowledged: set[int] = set()
    with serving(ledger, disk, tmp_path) as server:
        ledger.make(server)
    for first in range(1, 8 if LONG else 4):
        with serving(ledger, disk, tmp_path) as server:
            disk.fail(first, error=error, kinds=SYNC)
            for number in range(first * 100, first * 100 + 50):
                records = [{"batch": number, "place": place} for place in range(A_BATCH)]
                try:
                    done = ledger.attempt(
                        "POST", f"{server.url}/{BUCKET}", ledger.token, json=records
                    )
                except httpx2.TransportError:
                    break
                assert done, ledger.refused[-1].text
                acknowledged.add(number)
            assert server.process.wait(20) == os.EX_IOERR
            assert disk.failed == 1
            disk.heal()
        assert "fsync failed" in server.log
    with serving(ledger, disk, tmp_path) as server:
        rows = httpx2.get(f"{server.url}/{BUCKET}?group_by=batch", timeout=60).json()["data"]
    stored = {row["batch"]: row["_count"] for row in rows}
    assert acknowledged
    assert acknowledged <= stored.keys()
    assert set(stored.values()) == {A_BATCH}


def test_a_repair_that_finds_no_room_gives_nothing_up(disk: Disk, tmp_path: Path) -> None:
    """Wherever it breaks off, it says so, and where there is room again it saves all it can."""
    path = tmp_path / "backdrop.duckdb"
    with closing(DuckDBStorage(path)) as storage:
        for name in ("large", "small"):
            storage.put_bucket(Bucket(name=name))
        rows = [{"_id": f"{number}", "number": number} for number in range(150_000)]
        storage.save("large", batch(*rows))
    with closing(DuckDBStorage(path)) as storage:
        for number in range(10):
            storage.save("small", batch({"_id": f"{number}"}))
        store = files(path)
    store[".wal"] = store[".wal"][:-1]  # the last commit is cut short

    def put_back(damaged: Files) -> None:
        for one in path.parent.glob("backdrop.duckdb*"):
            one.unlink()
        for name, content in damaged.items():
            path.with_name(path.name + name).write_bytes(content)

    def is_saved_in_part(damaged: Files) -> bool:
        put_back(damaged)
        with suppress(BeyondRepair):
            return lost() == {"large": 122_880, "small": 1}
        return False

    def lost() -> dict[str, int | None]:
        return {one.name: one.lost for one in repair(path).buckets}

    damaged = next(filter(is_saved_in_part, blocks(store)))
    command = ("repair", f"duckdb:{path}")
    env = clean_environment(**disk.env)
    put_back(damaged)
    disk.fail(1_000_000, kinds=WRITE | SYNC | RESIZE)
    done = run(*command, cwd=tmp_path, env=env)
    assert done.returncode == 3, done.stderr
    calls = disk.calls
    broke_off = 0
    for first in range(1, calls + 1, 1 if LONG else calls // 8):
        put_back(damaged)
        disk.fail(first, kinds=WRITE | SYNC | RESIZE)
        done = run(*command, cwd=tmp_path, env=env)
        disk.heal()
        for kept in tmp_path.glob("*.cut-at-*"):
            assert f" bytes are in {kept.name}" in done.stderr
        assert not list(tmp_path.glob("*.salvaged*"))
        broke_off += done.returncode == 1
        if done.returncode == 1:
            assert len(done.stderr.splitlines()) == 1, done.stderr
            assert "broke off" in done.stderr
            assert "large" in lost()
        else:  # what failed was the tidying up after it
            assert done.returncode == 3, done.stderr
        with closing(DuckDBStorage(path)) as storage:
            there = {name: storage.state(name).records for name in ("large", "small")}
        assert there == {"large": 150_000 - 122_880, "small": 9}
    assert broke_off > 4


def test_a_log_on_a_full_disk_stops_nothing(tmp_path: Path) -> None:
    """What the server has to say is lost; what it has to do is done, and it stops as it should."""
    port = free_port()
    admin = secrets.token_urlsafe(16)
    with (
        Path("/dev/full").open("w") as full,
        subprocess.Popen(
            [BACKDROP, "serve", "--port", str(port)],
            cwd=tmp_path,
            env=clean_environment(BACKDROP_ADMIN_TOKEN=admin),
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=full,
        ) as process,
    ):
        url = f"http://127.0.0.1:{port}"
        with httpx2.Client(headers={"Authorization": f"Bearer {admin}"}, timeout=30) as client:
            until = time.monotonic() + 30
            while True:
                try:
                    client.get(f"{url}/_status")
                    break
                except httpx2.TransportError:
                    assert process.poll() is None
                    assert time.monotonic() < until
            for number in range(200):
                made = client.put(f"{url}/_buckets/made-{number}", json={})
                assert made.status_code == 201
        process.terminate()
        assert process.wait(30) == 0
