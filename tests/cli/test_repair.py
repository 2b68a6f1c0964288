"""`backdrop repair`, as it is typed after the server has refused to start."""

from __future__ import annotations

import json
import re
import shlex
from contextlib import closing
from pathlib import Path

import httpx2
import pytest

from backdrop.domain.bucket import Bucket
from backdrop.storage.duckdb.engine import DuckDBStorage
from tests.live import live_server, run
from tests.storage.damage import files, put
from tests.storage.exact import batch

COMMITS, A_COMMIT = 10, 100


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The store of a process that was killed."""
    made = tmp_path / "made" / "store.duckdb"
    made.parent.mkdir()
    with closing(DuckDBStorage(made)) as storage:
        storage.put_bucket(Bucket(name="things", raw_queries_allowed=True))
        for number in range(COMMITS):
            rows = [{"_id": f"{number}-{place}", "commit": number} for place in range(A_COMMIT)]
            storage.save("things", batch(*rows))
        return put(tmp_path / "killed", files(made))


def flip(path: Path, at: int) -> None:
    damaged = bytearray(path.read_bytes())
    damaged[at] ^= 1
    path.write_bytes(damaged)


def repair_command(said: str) -> list[str]:
    found = re.search(r"`backdrop (repair [^`]+)`", said)
    assert found is not None, said
    return shlex.split(found[1])


def test_from_the_refusal_to_a_store_that_serves(path: Path) -> None:
    """The server refuses and prints the command; that one says what is lost, and it runs."""
    wal = path.with_name("store.duckdb.wal")
    flip(wal, wal.stat().st_size // 2)
    store = f"duckdb:{path}"
    refused = run("serve", "--port", "0", "--store", store, cwd=path.parent)
    assert refused.returncode == 1
    assert "store.duckdb.wal is damaged past byte" in refused.stderr
    repaired = run(*repair_command(refused.stderr), cwd=path.parent)
    assert repaired.returncode == 3, repaired.stderr
    row = next(line for line in repaired.stdout.splitlines() if line.startswith("things"))
    acknowledged, there, lost = (int(number.replace(",", "")) for number in row.split()[1:])
    assert acknowledged == COMMITS * A_COMMIT == there + lost
    assert 0 < there < acknowledged
    (kept,) = path.parent.glob("store.duckdb.wal.cut-at-*")
    assert f"bytes are in {kept.name}" in repaired.stderr
    assert f"{lost:,} acknowledged records are lost" in repaired.stderr
    assert not kept.stat().st_mode & 0o077
    with live_server("serve", "--store", store, cwd=path.parent) as server:
        found = httpx2.get(f"{server.url}/things", timeout=30).json()["data"]
    assert len(found) == there


def test_a_store_that_is_whole_is_left_so(path: Path) -> None:
    done = run("repair", f"duckdb:{path}", cwd=path.parent)
    assert done.returncode == 0
    assert "Nothing had to be repaired" in done.stderr
    assert "0 acknowledged records are lost" in done.stderr


def test_a_file_of_which_nothing_can_be_read(path: Path) -> None:
    """It says what was in it, and that a backup is needed; the file is left as it is."""
    rubbish = path.read_bytes()[:12_288] + bytes(300_000)
    with closing(DuckDBStorage(path)):
        pass
    path.write_bytes(path.read_bytes()[:12_288] + rubbish[12_288:])
    done = run("repair", f"duckdb:{path}", cwd=path.parent)
    assert done.returncode == 1
    assert "can be read" in done.stderr
    assert "or a backup: `backdrop restore FILE --replace" in done.stderr
    assert re.search(r"things +1,000 +none: THE BUCKET IS LOST", done.stdout)
    assert path.read_bytes()[12_288:] == rubbish[12_288:]


def test_what_is_no_damaged_file(path: Path) -> None:
    """A store of another kind, one that is not there, and one that is being served."""
    folder = path.parent
    assert "duckdb:backdrop.duckdb, not memory:" in run("repair", "memory:", cwd=folder).stderr
    assert "there is no file" in run("repair", "duckdb:nothing.duckdb", cwd=folder).stderr
    with live_server("serve", "--store", f"duckdb:{path}", cwd=folder) as server:
        held = run("repair", f"duckdb:{path}", cwd=folder)
    assert held.returncode == 1
    assert f"the process {server.process.pid} has it open" in held.stderr


def test_what_is_cut_off_at_a_start_is_said_and_logged(path: Path) -> None:
    """Left of a write that was never acknowledged, and damaged so that DuckDB refuses it."""
    log = path.with_name("store.duckdb.commits")
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:-1]))
    wal = path.with_name("store.duckdb.wal")
    flip(wal, wal.stat().st_size - 100)
    with live_server("serve", "--store", f"duckdb:{path}", cwd=path.parent) as server:
        pass
    (kept,) = path.parent.glob("store.duckdb.wal.cut-at-*")
    assert f"bytes are kept in {kept}" in server.log
    lines = [json.loads(line) for line in server.lines if line.startswith("{")]
    (logged,) = [line for line in lines if line["event"] == "store_set_aside"]
    assert (logged["level"], logged["kept_in"]) == ("error", str(kept))
    assert logged["bytes"] == kept.stat().st_size


def test_a_copy_of_a_store_that_was_open(path: Path) -> None:
    """Nobody knows what its WAL held: so it does not say that nothing is lost."""
    with live_server("serve", "--store", f"duckdb:{path}", cwd=path.parent):
        alone = put(path.parent / "alone", {"": path.read_bytes()})
    done = run("repair", f"duckdb:{alone}", cwd=alone.parent)
    assert done.returncode == 3, done.stderr
    assert "how many acknowledged records are lost is not known" in done.stderr
    assert re.search(r"^things +not known +[\d,]+ +not known$", done.stdout, re.MULTILINE)
