"""`backdrop backup` and `backdrop restore`, as they are typed."""

from __future__ import annotations

import random
import subprocess
import threading
import time
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

import duckdb
import httpx2
import pytest

from backdrop.domain.audit import Act
from backdrop.domain.bucket import Bucket
from backdrop.domain.entry import Entry
from backdrop.domain.times import format_instant
from backdrop.errors import StorageUnavailable
from backdrop.storage.duckdb.engine import DuckDBStorage
from backdrop.storage.open import open_storage
from backdrop.storage.port import Storage
from tests.eventually import eventually
from tests.live import BACKDROP, Server, live_server, run
from tests.storage.contract import kept, token
from tests.storage.damage import blocks, files, put
from tests.storage.exact import batch, exact, stored
from tests.strategies import LONG

A_BATCH = 200
BUCKETS = ("odd", "even")
FLIPPED = 200 if LONG else 8
KILLED = 10 if LONG else 2
SERVERS = ".backdrop.duckdb.backup-*"
"""Where a server makes a backup, beside its store."""


class Writer(threading.Thread):
    """Posts one batch after the other, to the buckets in turn; counts those acknowledged."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self.server = server
        self.tokens = [server.run("bucket", "create", name).stdout.strip() for name in BUCKETS]
        self.acknowledged = 0
        self.stopped = threading.Event()

    def run(self) -> None:
        with httpx2.Client(timeout=60) as client:
            while not self.stopped.is_set():
                number = self.acknowledged + 1
                turn = number % len(BUCKETS)
                answer = client.post(
                    f"{self.server.url}/{BUCKETS[turn]}",
                    headers={"Authorization": f"Bearer {self.tokens[turn]}"},
                    json=[{"batch": number, "place": place} for place in range(A_BATCH)],
                )
                assert answer.status_code == 200, answer.text
                self.acknowledged = number


def backing_up(server: Server) -> subprocess.Popen[str]:
    """The command, under way."""
    return subprocess.Popen(
        [BACKDROP, "backup", "one.backup"],
        cwd=server.folder,
        env=server.env,
        stderr=subprocess.PIPE,
        text=True,
    )


def batches_in(path: Path) -> list[int]:
    """The numbers of the batches that a store holds, each of which must be whole."""
    with closing(open_storage(f"duckdb://{path}")) as storage:
        counts = Counter(record["batch"] for name in BUCKETS for record in stored(storage, name))
    assert set(counts.values()) <= {A_BATCH}
    return sorted(int(str(number)) for number in counts)


def test_a_backup_under_writes_is_all_that_was_there_at_one_moment(tmp_path: Path) -> None:
    """Over all buckets: whole batches, without a gap, and each that was acknowledged before."""
    bounds = []
    with live_server("serve", cwd=tmp_path) as server:
        writer = Writer(server)
        writer.start()
        try:
            for number in range(2):
                least = writer.acknowledged
                done = server.run("backup", f"{number}.backup")
                assert done.returncode == 0, done.stderr
                bounds.append((least, writer.acknowledged + 1))
                assert (tmp_path / f"{number}.backup").stat().st_mode & 0o777 == 0o600
        finally:
            writer.stopped.set()
            writer.join()
    for number, (least, most) in enumerate(bounds):
        store = f"restored-{number}.duckdb"
        done = run("restore", f"{number}.backup", "--store", f"duckdb:{store}", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        found = batches_in(tmp_path / store)
        assert found == list(range(1, len(found) + 1))
        assert least <= len(found) <= most
    assert bounds[-1][0] > 0


def fill(path: Path) -> None:
    """Make a store of all that one can hold."""
    with closing(DuckDBStorage(path)) as storage:
        act = Act(by="admin", action="bucket_created", bucket="things")
        storage.put_bucket(Bucket(name="things"), first_token=token("first"), act=act)
        storage.put_bucket(Bucket(name="empty"))
        storage.save("things", batch({"_id": "x", "aa": 1}), once=kept("a-key"))
        storage.save("things", batch({"_id": "y", "aa": 1.0, "bb": None, "Bb": "2"}))
        storage.save("things", batch({"_id": "x", "_timestamp": "2024-01-01", "aa": True}))
        storage.put_entry(Entry("user", "a@b.example", b"\x00\xff"))


Held: TypeAlias = tuple[object, ...]


def held(storage: Storage) -> Held:
    """All that a store tells, the audit log last."""
    names = [bucket.name for bucket in storage.buckets()]
    return (
        [storage.state(name) for name in names],
        [storage.tokens(name) for name in names],
        [exact(stored(storage, name)) for name in names],
        storage.lasting_entries(),
        storage.done("things", "a-key"),
        storage.audit(limit=100),
    )


def held_in(path: Path) -> Held:
    with closing(DuckDBStorage(path)) as storage:
        return held(storage)


def restored_in(path: Path, made_at: datetime) -> Held:
    """What is held in a store that was restored since, its last entry in the audit log apart."""
    *others, entries = held_in(path)
    assert isinstance(entries, list)
    restored, *before = entries
    assert restored.at > made_at
    assert (restored.act.by, restored.act.action) == ("host", "store_restored")
    assert restored.act.details["backup_made_at"] < format_instant(restored.at)
    return (*others, before)


def test_a_restored_store_is_what_was_backed_up(tmp_path: Path) -> None:
    """Records with their types, in order; settings, tokens, users, keys of writes, the log."""
    begun = datetime.now(UTC)
    fill(tmp_path / "store.duckdb")
    offline = ("--store", "duckdb:store.duckdb", "--url", "http://127.0.0.1:9")
    made = run("backup", "one.backup", *offline, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert "things" in made.stdout
    done = run("restore", "one.backup", "--store", "duckdb:other.duckdb", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert restored_in(tmp_path / "other.duckdb", begun) == held_in(tmp_path / "store.duckdb")
    assert sorted(path.name for path in tmp_path.glob("*.part-*")) == []


def test_neither_a_backup_nor_a_store_is_overwritten(tmp_path: Path) -> None:
    """Where there is one already, or a server has it open, nothing is done."""
    fill(tmp_path / "backdrop.duckdb")
    with live_server("serve", cwd=tmp_path) as server:
        assert server.run("backup", "one.backup").returncode == 0
        before = (tmp_path / "one.backup").read_bytes()
        again = server.run("backup", "one.backup")
        assert (again.returncode, "already" in again.stderr) == (1, True)
        assert (tmp_path / "one.backup").read_bytes() == before
        held_open = server.run("restore", "one.backup", "--replace")
        assert (held_open.returncode, "stop the server" in held_open.stderr) == (1, True)
    there = server.run("restore", "one.backup")
    assert (there.returncode, "--replace" in there.stderr) == (1, True)
    with closing(DuckDBStorage(tmp_path / "backdrop.duckdb")) as storage:
        storage.save("things", batch({"_id": "later"}))
        later = held(storage)
    (tmp_path / "backdrop.duckdb.repairing").write_bytes(b"{}")  # a repair that was cut off
    replaced = server.run("restore", "one.backup", "--replace")
    assert replaced.returncode == 0, replaced.stderr
    (aside,) = tmp_path.glob("backdrop.duckdb.replaced-*")
    assert held_in(aside) == later
    assert held_in(tmp_path / "backdrop.duckdb") != later


def test_no_version_comes_again_after_a_restore(tmp_path: Path) -> None:
    """An ETag that was seen before stands for what it stood for, or for nothing any more."""
    path = tmp_path / "backdrop.duckdb"
    offline = ("--url", "http://127.0.0.1:9")
    fill(path)
    assert run("backup", "one.backup", *offline, cwd=tmp_path).returncode == 0
    with closing(DuckDBStorage(path)) as storage:
        seen = [storage.state("things").version]
        for number in range(5):
            storage.save("things", batch({"_id": f"later-{number}"}))
            seen.append(storage.state("things").version)
    assert run("restore", "one.backup", "--replace", cwd=tmp_path).returncode == 0
    with closing(DuckDBStorage(path)) as storage:
        assert storage.state("things").version == seen[0]
        storage.save("things", batch({"_id": "another"}))
        assert storage.state("things").version > max(seen)


def test_a_flipped_byte_is_found_or_was_of_no_use(tmp_path: Path) -> None:
    """No store is ever made of a damaged backup that differs from what was backed up."""
    chance = random.Random(2013)  # noqa: S311  places, not secrets
    begun = datetime.now(UTC)
    with closing(DuckDBStorage(tmp_path / "backdrop.duckdb")) as storage:
        storage.put_bucket(Bucket(name="things"))
        for number in range(20):
            ids = ({"_id": f"{number}-{place}", "aa": chance.random()} for place in range(2_000))
            storage.save("things", batch(*ids))
    assert run("backup", "good", "--url", "http://127.0.0.1:9", cwd=tmp_path).returncode == 0
    good = (tmp_path / "good").read_bytes()
    expected = held_in(tmp_path / "backdrop.duckdb")
    refused = 0
    for number in range(FLIPPED):
        place = chance.randrange(len(good))
        flipped = good[place] ^ (1 << chance.randrange(8))
        (tmp_path / "bad").write_bytes(good[:place] + bytes([flipped]) + good[place + 1 :])
        store = f"of-{number}.duckdb"
        done = run("restore", "bad", "--store", f"duckdb:{store}", cwd=tmp_path)
        if done.returncode:
            refused += 1
            assert done.stderr.startswith("Error: "), done.stderr
            assert list(tmp_path.glob(f"{store}*")) == []
        else:
            assert restored_in(tmp_path / store, begun) == expected
    assert refused > FLIPPED / 2


def test_killed_in_the_middle_it_leaves_no_half_backup(tmp_path: Path) -> None:
    """The command, and then the server: no file has the name, and the next one is made."""
    with live_server("serve", cwd=tmp_path) as server:
        writer = Writer(server)
        writer.start()
        while writer.acknowledged < 60:
            time.sleep(0.01)
        writer.stopped.set()
        writer.join()
        for number in range(KILLED):
            with backing_up(server) as command:
                wait_for_a_file(tmp_path, SERVERS if number % 2 else "one.backup.part-*")
                command.kill()
            assert not (tmp_path / "one.backup").exists()
        eventually(lambda: not list(tmp_path.glob(SERVERS)))  # what the server made for nobody
        with backing_up(server) as command:
            wait_for_a_file(tmp_path, SERVERS)
            server.process.kill()
            _, said = command.communicate(timeout=60)
        assert command.returncode == 1
        assert said.splitlines()[-1].startswith("Error: ")
        assert not (tmp_path / "one.backup").exists()
    with live_server("serve", cwd=tmp_path) as server:
        done = server.run("backup", "one.backup")
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob(SERVERS)) == []
    assert (
        run("restore", "one.backup", "--store", "duckdb:new.duckdb", cwd=tmp_path).returncode == 0
    )
    assert batches_in(tmp_path / "new.duckdb") == list(range(1, writer.acknowledged + 1))


def wait_for_a_file(folder: Path, pattern: str) -> None:
    eventually(lambda: list(folder.glob(pattern)), every=0.001)


def test_a_damaged_store_is_named_with_its_repair(tmp_path: Path) -> None:
    """By the command itself and by the server's; no backup is made of half of it."""
    with closing(DuckDBStorage(tmp_path / "made.duckdb")) as storage:
        storage.put_bucket(Bucket(name="things"))
        rows = [{"_id": f"{number}", "aa": number / 7} for number in range(40_000)]
        storage.save("things", batch(*rows))
    whole = files(tmp_path / "made.duckdb")
    path = next(
        path
        for number, block in enumerate(blocks(whole))
        if opens_and_breaks(path := put(tmp_path / f"{number}", block))
    )
    alone = ("--store", f"duckdb:{path.name}", "--url", "http://127.0.0.1:9")
    done = run("backup", "one.backup", *alone, cwd=path.parent)
    assert (done.returncode, "`backdrop repair`" in done.stderr) == (1, True), done.stderr
    assert f"Error: {path.name}: the store's file is damaged" in done.stderr
    with live_server("serve", "--store", f"duckdb:{path.name}", cwd=path.parent) as server:
        done = server.run("backup", "one.backup", "--store", f"duckdb:{path.name}")
    assert (done.returncode, "`backdrop repair`" in done.stderr) == (1, True), done.stderr
    assert list(path.parent.glob("*.backup*")) == []


def opens_and_breaks(path: Path) -> bool:
    """Whether the store can be opened, and its records can't be read."""
    try:
        storage = DuckDBStorage(path)
    except StorageUnavailable:
        return False
    with closing(storage):
        try:
            stored(storage, "things")
        except StorageUnavailable:
            return True
    return False


def test_what_is_no_backup_is_called_so(tmp_path: Path) -> None:
    """By its own name, whatever it is: no file of DuckDB's, one of something else, a store."""
    (tmp_path / "junk").write_bytes(b"hello" * 10_000)
    (tmp_path / "empty").touch()
    with closing(duckdb.connect(str(tmp_path / "other.duckdb"))) as connection:
        connection.execute("CREATE TABLE things (aa INTEGER)")
    fill(tmp_path / "store.duckdb")
    for name in ("junk", "empty", "other.duckdb", "store.duckdb"):
        done = run("restore", name, "--store", "duckdb:new.duckdb", cwd=tmp_path)
        assert (done.returncode, "restoring" in done.stderr) == (1, False), done.stderr
        assert f"Error: {name} is no backup: " in done.stderr
    assert list(tmp_path.glob("new.duckdb*")) == []


def test_a_backup_that_was_cut_short_is_called_by_its_name(tmp_path: Path) -> None:
    """Not by that of the part of a store which it was to become."""
    fill(tmp_path / "store.duckdb")
    offline = ("--store", "duckdb:store.duckdb", "--url", "http://127.0.0.1:9")
    assert run("backup", "one.backup", *offline, cwd=tmp_path).returncode == 0
    (tmp_path / "cut").write_bytes((tmp_path / "one.backup").read_bytes()[:20_000])
    done = run("restore", "cut", "--store", "duckdb:new.duckdb", cwd=tmp_path)
    assert (done.returncode, "restoring" in done.stderr) == (1, False), done.stderr
    assert "Error: cut can't be read as a backup: " in done.stderr


@pytest.mark.parametrize("url", ["memory:", "mongodb://127.0.0.1:9/none"])
def test_only_a_file_is_restored_to(url: str, tmp_path: Path) -> None:
    """Other stores have tools of their own."""
    (tmp_path / "one.backup").touch()
    done = run("restore", "one.backup", "--store", url, cwd=tmp_path)
    assert (done.returncode, "duckdb:" in done.stderr) == (1, True)
