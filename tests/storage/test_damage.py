"""A damaged DuckDB store answers right, is refused with the repair's name, or says what was cut.

Never does it crash, nor answer with fewer records as if nothing were missing.
"""

from __future__ import annotations

import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import pytest

from backdrop.domain.bucket import Bucket
from backdrop.domain.token import Token, hash_token
from backdrop.errors import StorageUnavailable
from backdrop.storage.duckdb.commit_log import wal_of
from backdrop.storage.duckdb.engine import DuckDBStorage
from backdrop.storage.duckdb.repair import repair
from backdrop.storage.duckdb.repairing import repairing_of
from backdrop.storage.repaired import BeyondRepair, Repair
from tests.storage.damage import (
    HARMS,
    HEADER_BYTES,
    NAME,
    Files,
    Killed,
    blocks,
    contents,
    damage_all,
    files,
    killed,
    put,
    said,
    without,
)
from tests.storage.exact import batch, stored
from tests.strategies import LONG


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Killed:
    return killed(tmp_path_factory.mktemp("killed"))


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A folder where nothing waits for a disk, if the system has one."""
    memory = Path("/dev/shm")  # noqa: S108  a folder of its own is made there
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


@pytest.mark.parametrize("harm", HARMS)
def test_damage_at_any_place(store: Killed, harm: str, in_memory: Path) -> None:
    """Each outcome is one of the right ones, and so is what the repair makes of it."""
    is_refused_at_once = "WAL" in harm or "header" in harm
    places = 1_000 if LONG or is_refused_at_once else 200
    found = damage_all(store, harm, places, in_memory, repair_every=5 if LONG else 50)
    sys.stdout.write(f"{harm}, {places:,} places: {dict(found.counts)}\n")
    assert not found.wrong
    assert sum(found.counts.values()) >= places


def opened(path: Path) -> DuckDBStorage:
    return DuckDBStorage(path)


def refusal(path: Path, names: str = r"`backdrop repair duckdb:.*`") -> str:
    """The message of the store that can't be opened; it names the repair, and changed nothing."""
    before = files(path)
    with pytest.raises(StorageUnavailable, match=names) as caught:
        opened(path)
    assert files(path) == before
    return str(caught.value)


def lost(path: Path) -> dict[str, int]:
    """What the repair says is lost of each bucket; the store opens afterwards."""
    found = repair(path)
    opened(path).close()
    return {one.name: one.lost for one in found.buckets if one.lost}


def counts(store: Killed) -> dict[str, int]:
    return {name: len(records) for name, records in store.whole.items()}


def test_the_store_of_a_killed_process_opens(store: Killed, tmp_path: Path) -> None:
    with closing(opened(put(tmp_path / "killed", store.files))) as storage:
        assert contents(storage) == store.whole


def test_without_its_wal_it_is_refused(store: Killed, tmp_path: Path) -> None:
    """The commit log says how much is missing; the repair takes the file as it is."""
    path = put(tmp_path / "copied", without(store.files, ".wal"))
    assert "store.duckdb.wal is missing: it has 0 of" in refusal(path)
    first = store.moments[0]
    missing = {name: count - len(first[name]) for name, count in counts(store).items()}
    assert lost(path) == missing


def test_copied_alone_from_a_running_server_it_is_refused(store: Killed, tmp_path: Path) -> None:
    """The file itself says that somebody had it open."""
    path = put(tmp_path / "alone", without(store.files, ".wal", ".commits"))
    assert "it was copied while it was open" in refusal(path)
    repair(path)
    with closing(opened(path)) as storage:
        assert contents(storage) == store.moments[0]


def test_once_closed_it_stands_alone(store: Killed, tmp_path: Path) -> None:
    path = put(tmp_path / "closed", store.files)
    opened(path).close()
    alone = without(files(path), ".commits")
    assert list(alone) == [""]
    with closing(opened(put(tmp_path / "alone", alone))) as storage:
        assert contents(storage) == store.whole


def test_another_stores_wal_is_refused(store: Killed, tmp_path: Path) -> None:
    """Also where nothing but DuckDB knows; the repair sets it aside."""
    other = killed(tmp_path).files
    for name, mixed in {
        "noted": store.files | {".wal": other[".wal"]},
        "not noted": without(store.files, ".commits") | {".wal": other[".wal"]},
    }.items():
        path = put(tmp_path / name, mixed)
        assert "wal" in refusal(path).lower()
        repair(path)
        kept = [one for one in path.parent.iterdir() if ".wal." in one.name]
        assert [one.read_bytes() for one in kept] == [other[".wal"]]
        with closing(opened(path)) as storage:
            assert contents(storage) == store.moments[0]


def test_a_wal_or_a_commit_log_without_the_file_is_refused(store: Killed, tmp_path: Path) -> None:
    """DuckDB by itself would begin a new file, and leave the WAL unread."""
    for name in (".wal", ".commits"):
        path = put(tmp_path / "gone", {name: store.files[name]})
        told = refusal(path, names=r"`backdrop restore FILE --replace --store duckdb:.*`")
        assert "the file is gone" in told
        with pytest.raises(StorageUnavailable, match=r"there is no file .*`backdrop restore FILE"):
            repair(path)


def test_an_older_file_is_refused(store: Killed, tmp_path: Path) -> None:
    """Put back from before a checkpoint, say, with the commit log of today."""
    path = put(tmp_path / "newer", store.files)
    opened(path).close()
    for name in ("", ".wal"):
        older = store.files | {".commits": files(path)[".commits"]}
        assert "is not the one that was written last" in refusal(
            put(tmp_path / f"older{name}", older if name else without(older, ".wal"))
        )


def test_a_checkpoint_that_was_not_noted_any_more(store: Killed, tmp_path: Path) -> None:
    """Killed between the two: the file is newer than its commit log, and has all of it."""
    path = put(tmp_path / "killed", store.files)
    with duckdb.connect(str(path)) as connection:
        connection.execute("CHECKPOINT")
    between = files(path) | {".commits": store.files[".commits"]}
    assert ".wal" not in between
    with closing(opened(put(tmp_path / "between", between))) as storage:
        assert contents(storage) == store.whole


def test_an_older_file_is_refused_before_it_is_tidied(store: Killed, tmp_path: Path) -> None:
    """It has a bucket that a killed process was restoring, which would be dropped."""
    path = put(tmp_path / "newer", store.files)
    with closing(opened(path)) as storage:
        with storage.restoring(Bucket(name="beta"), tokens=(), last_written=None) as restore:
            restore(batch({"_id": "restored"}))
            older = without(files(path), ".commits")
        newer = files(path)[".commits"]
    path = put(tmp_path / "older", older)
    with duckdb.connect(str(path)) as connection:
        for _ in range(9):
            connection.execute("CREATE OR REPLACE TABLE other AS SELECT 1 AS one")
            connection.execute("CHECKPOINT")
        connection.execute("DROP TABLE other")
    path = put(tmp_path / "mixed", files(path) | {".commits": newer})
    assert "it is older than its commit log" in refusal(path)


BEGUN = """
import os, signal, sys
from pathlib import Path
from backdrop.storage.duckdb import opening
from backdrop.storage.duckdb.engine import DuckDBStorage

opening._make_tables = lambda _: os.kill(os.getpid(), signal.SIGKILL)
DuckDBStorage(Path(sys.argv[1]))
"""


def test_a_store_that_was_only_begun_stands_in_nobodys_way(tmp_path: Path) -> None:
    path = tmp_path / NAME
    assert subprocess.run([sys.executable, "-c", BEGUN, path], check=False).returncode == -9
    with closing(opened(path)) as storage:
        assert storage.buckets() == []


def test_a_write_that_broke_off_leaves_no_trace(store: Killed, tmp_path: Path) -> None:
    """Whatever is left of it, zeros after a power cut too: DuckDB cuts it off."""
    wal = store.files[".wal"]
    for junk in (b"\0", bytes(10_000), wal[-3_000:-1], wal[60:61]):
        path = put(tmp_path / "broke-off", store.files | {".wal": wal + junk})
        with closing(opened(path)) as storage:
            assert contents(storage) == store.whole
            for first in (0, 1_000):
                rows = [{"_id": f"later-{first + number}"} for number in range(1_000)]
                storage.save("alpha", batch(*rows))
                killed_then = put(tmp_path / "then", files(path))
                with closing(opened(killed_then)) as again:
                    assert contents(again) == contents(storage)


def test_damage_past_what_was_acknowledged_is_cut_off(store: Killed, tmp_path: Path) -> None:
    """Where DuckDB refuses to open it: from the damage on, no earlier, and it is kept.

    The commits before it may be acknowledged, too, from when the commit log could not be written.
    """
    log = store.files[".commits"].splitlines(keepends=True)
    noted = [int(line.split(b'"end":')[1].split(b",")[0]) for line in log]
    wal = bytearray(store.files[".wal"])
    wal[noted[-2] + 40] ^= 1
    files_of_torn = {**store.files, ".wal": bytes(wal), ".commits": b"".join(log[:-4])}
    path = put(tmp_path / "torn", files_of_torn)
    reports: list[tuple[str, Path | None, int]] = []
    with closing(DuckDBStorage(path, report=lambda *one: reports.append(one))) as storage:
        assert contents(storage) == store.moments[-2]
    assert f"past the {noted[-5]:,} that are known to be acknowledged" in said(reports)
    ((_, kept, size),) = reports
    assert kept is not None
    at = len(wal) - size
    assert noted[-2] <= at <= noted[-2] + 40
    assert kept.read_bytes() == bytes(wal[at:])
    cut_off = repair(put(tmp_path / "repaired", files_of_torn))
    assert any("if it was acknowledged" in line for line in cut_off.lost)


def test_a_damaged_header_is_put_back(store: Killed, tmp_path: Path) -> None:
    """The commit log has it."""
    for at in (5, 5_000, HEADER_BYTES - 9):
        main = bytearray(store.files[""])
        main[at] ^= 16
        path = put(tmp_path / "header", store.files | {"": bytes(main)})
        refusal(path)
        assert lost(path) == {}
        with closing(opened(path)) as storage:
            assert contents(storage) == store.whole


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    """A store whose WAL changes records, a token and settings, and no bucket's number of records;
    the last of it is damaged.
    """
    path = tmp_path / "made" / NAME
    path.parent.mkdir()
    now = datetime(2024, 1, 1, tzinfo=UTC)
    token = Token(
        id="id", bucket="things", hash=hash_token("old"), scope="write", label="", created_at=now
    )
    with closing(opened(path)) as storage:
        storage.put_bucket(Bucket(name="things"), first_token=token)
        storage.put_bucket(Bucket(name="others"))
        storage.save("things", batch({"_id": "a", "fee": 1}, {"_id": "b"}))
    with closing(opened(path)) as storage:
        storage.save("things", batch({"_id": "a", "fee": 2}))
        storage.delete("things", "b")
        storage.save("things", batch({"_id": "c"}))
        storage.drop_token("things", token.id)
        store = files(path)
    log = store[".commits"].splitlines()
    begin = int(log[-4].split(b'"begin":')[1].split(b",")[0])
    wal = bytearray(store[".wal"])
    wal[begin + 60] ^= 1
    return put(tmp_path / "changed", store | {".wal": bytes(wal)})


@pytest.mark.parametrize("is_gone", [False, True], ids=["WAL damaged", "WAL gone"])
def test_changes_that_no_count_shows_are_lost_too(changed: Path, is_gone: bool) -> None:
    """Records that were replaced, and that came for others; a token that was revoked."""
    if is_gone:
        wal_of(changed).unlink()
    refusal(changed)
    found = repair(changed)
    (told,) = found.lost
    assert re.fullmatch(
        "what the last [0-9,]+ acknowledged bytes of the WAL changed: in things, or in settings "
        "and tokens, so that one that was revoked may open its bucket again",
        told,
    )
    assert found.lost_records == 0
    with closing(opened(changed)) as storage:
        assert contents(storage)["things"] == [{"_id": "a", "fee": 1}, {"_id": "b"}]
        assert storage.token(hash_token("old")) is not None


STEPS = (
    *("_mend_header", "_mend_wal", "_opened", "_salvage", "_put_in_place", "_keep_as", "_correct"),
    *("_begin_commit_log", "open_file", "cut", "sync_folder", "keep", "OpenFile"),
)
"""Before and after each of which the process is killed."""

KILLED_IN_REPAIR = f"""
import os, signal, sys
from pathlib import Path
from backdrop.storage.duckdb import repair

calls = 0

def counted(step):
    def call(*given, **named):
        step_over()
        result = step(*given, **named)
        step_over()
        return result
    return call

def step_over():
    global calls
    calls += 1
    if calls == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

for name in {STEPS!r}:
    setattr(repair, name, counted(getattr(repair, name)))
repair.repair(Path(sys.argv[1]))
"""


@pytest.mark.parametrize("harm", ["WAL", "block"])
def test_a_repair_that_is_killed_is_gone_on_with(
    changed: Path, large_and_small: Files, tmp_path: Path, harm: str
) -> None:
    """Wherever it is killed: no start before another repair, which says all that is lost."""
    store = files(changed)
    if harm == "block":
        path = tmp_path / "block"
        store = next(one for one in blocks(large_and_small) if large_alone(put(path, one)))
    whole = repair(put(tmp_path / "at-once", store))
    for place in count(1, 1 if LONG else 3):
        path = put(tmp_path / "killed", store)
        arguments = [sys.executable, "-c", KILLED_IN_REPAIR, path, str(place)]
        done = subprocess.run(arguments, check=False, capture_output=True, text=True)
        if done.returncode == 0:
            break
        assert done.returncode == -9, done.stderr
        if repairing_of(path).exists():
            refusal(path)
        found = repair(path)
        assert set(whole.lost) <= set(found.lost)
        assert found.buckets == whole.buckets
        for kept in path.parent.glob(f"{NAME}*.*-*"):
            assert kept.stat().st_size
        assert not list(path.parent.glob("*salvaged*"))
        opened(path).close()
    assert place > 15


@pytest.fixture(scope="module")
def large_and_small(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A store of two buckets, closed: nothing of it is in a WAL."""
    path = tmp_path_factory.mktemp("large") / NAME
    with closing(opened(path)) as storage:
        for name, size in (("large", 300_000), ("small", 1_000)):
            storage.put_bucket(Bucket(name=name))
            rows = [{"_id": f"{name}-{number}", "number": number} for number in range(size)]
            storage.save(name, batch(*rows))
    return files(path)


@pytest.fixture
def damaged(large_and_small: Files, tmp_path: Path) -> Path:
    """The same, with a part of the large bucket damaged."""
    return next(
        path
        for number, block in enumerate(blocks(large_and_small))
        if large_alone(path := put(tmp_path / f"{number}", block))
    )


def test_of_a_damaged_bucket_the_rest_is_saved(damaged: Path) -> None:
    """The other buckets answer all the while; the repair says how many records of it are lost."""
    done = repair(damaged)
    ((name, missing),) = [(one.name, one.lost) for one in done.buckets if one.lost]
    with closing(opened(damaged)) as storage:
        there = contents(storage)
        assert storage.state("large").records == len(there["large"])
    assert (name, missing) == ("large", 300_000 - len(there["large"]))
    assert 0 < missing < 300_000
    assert len(there["small"]) == 1_000
    assert any("the damaged one is store.duckdb.damaged" in line for line in done.done)


@pytest.mark.parametrize("most", [100_000, 1_000_000])
def test_what_can_not_be_written_is_not_lost(damaged: Path, most: int) -> None:
    """Where the disk takes so many bytes of a file and no more, the store is left as it was."""
    before = files(damaged)
    bounds = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, bounds[1]))
    try:
        with pytest.raises(StorageUnavailable, match="Make as much room as the store takes"):
            repair(damaged)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, bounds)
    assert files(damaged) == before
    assert not list(damaged.parent.glob("*salvaged*"))
    assert len([one for one in repair(damaged).buckets if one.lost]) == 1


def test_damage_is_repaired_whenever_it_shows(large_and_small: Files, in_memory: Path) -> None:
    """DuckDB meets it with the first rows that it reads of a table, or with later ones."""
    found = list(repairs(large_and_small, in_memory))
    assert all(one.is_counted for one in found)
    assert len([one for one in found if 0 < one.lost_records < 300_000]) > 2


def test_what_is_not_known_is_not_counted(large_and_small: Files, in_memory: Path) -> None:
    """Of a file that came alone, whose WAL may have held more: but that something is lost is."""
    path = put(in_memory / "open", large_and_small)
    with closing(opened(path)):
        alone = without(files(path), ".wal", ".commits")
    found = list(repairs(alone, in_memory))
    assert not any(one.is_counted for one in found)
    buckets = [bucket for one in found for bucket in one.buckets]
    assert {(one.acknowledged, one.lost) for one in buckets} == {(None, None)}
    assert ["some of the bucket large"] in [one.lost for one in found]


def repairs(store: Files, folder: Path) -> Iterator[Repair]:
    """What the repair says where a block is damaged, of each of which anything can be read."""
    for block in blocks(store):
        path = put(folder / "damaged", block)
        with suppress(BeyondRepair):
            found = repair(path)
            with closing(opened(path)) as storage:
                there = {one.name: storage.state(one.name).records for one in storage.buckets()}
            assert {one.name: one.records for one in found.buckets} == there
            yield found


def large_alone(path: Path) -> bool:
    """Whether the large bucket can't be read any more, and the small one can."""
    try:
        storage = opened(path)
    except StorageUnavailable:
        return False
    with closing(storage):
        try:
            stored(storage, "large")
        except StorageUnavailable as error:
            return "run `backdrop repair`" in str(error) and len(stored(storage, "small")) == 1_000
    return False
