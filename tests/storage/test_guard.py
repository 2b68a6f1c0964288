"""What stands before a store's file keeps what was acknowledged, whatever refuses meanwhile."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import duckdb
import pytest

from backdrop.domain.bucket import Bucket
from backdrop.errors import StorageFull, StorageUnavailable
from backdrop.storage.duckdb import guard
from backdrop.storage.duckdb.commit_log import commit_log_of, read_commit_log, wal_of
from backdrop.storage.duckdb.disk import says_not_synced, unavailable
from backdrop.storage.duckdb.engine import DuckDBStorage
from backdrop.storage.duckdb.opening import Damaged, refusal
from backdrop.storage.duckdb.repair import repair
from backdrop.storage.duckdb.writer import Writer
from tests.storage.damage import NAME, contents, files, put
from tests.storage.exact import batch

HOLD = """
import fcntl, os, sys
file = os.open(sys.argv[1], os.O_RDWR)
print("starts", flush=True)
fcntl.lockf(file, fcntl.LOCK_EX)
print(sorted(os.listdir(os.path.dirname(sys.argv[1]))), flush=True)
sys.stdin.read()
"""
READ = """
import duckdb, sys
connection = duckdb.connect(sys.argv[1], read_only=True)
print("reads", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The store of a killed process, whose WAL a new one takes in after its first write."""
    made = tmp_path / "made" / NAME
    made.parent.mkdir()
    with closing(DuckDBStorage(made)) as storage:
        storage.put_bucket(Bucket(name="things"))
    with closing(DuckDBStorage(made)) as storage:
        rows = [{"_id": f"{number}", "text": os.urandom(500).hex()} for number in range(600)]
        storage.save("things", batch(*rows))
        return put(tmp_path / "killed", files(made))


@contextmanager
def other_process(script: str, path: Path) -> Iterator[subprocess.Popen[str]]:
    """One that runs until the end, and has said its first line."""
    with subprocess.Popen(
        [sys.executable, "-c", script, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        try:
            yield process
        finally:
            process.communicate(timeout=20)


@contextmanager
def limited(what: int, most: int) -> Iterator[None]:
    """The process may have no more: a file is too large, or one too many is open."""
    before = resource.getrlimit(what)
    resource.setrlimit(what, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(what, before)


def forget_last(path: Path) -> None:
    """As where a process is killed after DuckDB's commit, and before it is noted."""
    log = commit_log_of(path)
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:-1]))


def room_for_the_wal(path: Path) -> int:
    """The size past which no checkpoint goes, and a small write does."""
    return wal_of(path).stat().st_size + 50_000


def test_while_another_has_the_file_nothing_is_cut(path: Path) -> None:
    """A checkpoint fails, and another process has the file before it is opened again."""
    said: list[str] = []
    with closing(DuckDBStorage(path, say=said.append)) as storage:
        with other_process(HOLD, path) as holder:
            path.open("rb").close()  # by which this process lets go of the lock
            assert holder.stdout is not None
            assert NAME in holder.stdout.readline()
            with limited(resource.RLIMIT_FSIZE, room_for_the_wal(path)):
                storage.save("things", batch({"_id": "acknowledged"}))
                for number in range(3):
                    with pytest.raises(StorageUnavailable, match=f"{holder.pid} has it open"):
                        storage.save("things", batch({"_id": f"refused-{number}"}))
        assert any("Opening" in line for line in said)
        storage.save("things", batch({"_id": "later"}))
        assert storage.state("things").records == 602
    with closing(DuckDBStorage(path)) as storage:
        ids = [record["_id"] for record in contents(storage)["things"]]
    assert len(ids) == 602
    assert ids[-2:] == ["acknowledged", "later"]


def test_a_file_is_marked_as_open_once_there_is_room(tmp_path: Path) -> None:
    """It could not be at a start on a full disk: a copy of it alone is still known as one."""
    path = tmp_path / NAME
    with closing(DuckDBStorage(path)) as storage:
        storage.put_bucket(Bucket(name="things"))
    with limited(resource.RLIMIT_FSIZE, 10):
        storage = DuckDBStorage(path)
    with closing(storage):
        storage.save("things", batch({"_id": "acknowledged"}))
        storage.save("things", batch({"_id": "after what follows the first write"}))
        alone = put(tmp_path / "copied", {"": files(path)[""]})
        with pytest.raises(Damaged, match="it was copied while it was open"):
            DuckDBStorage(alone)


def test_a_file_without_a_commit_log_is_not_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no room for one: after a kill the file is no copy, but all there is."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "made up")

    path = tmp_path / NAME
    with closing(DuckDBStorage(path)) as storage:
        storage.put_bucket(Bucket(name="things"))
    commit_log_of(path).unlink()
    with monkeypatch.context() as patched:
        patched.setattr(guard, "write_commit_log", refuse)
        with closing(DuckDBStorage(path)) as storage:
            for number in range(3):
                storage.save("things", batch({"_id": f"{number}"}))
            killed = put(tmp_path / "killed", files(path))
    with closing(DuckDBStorage(killed)) as storage:
        assert storage.state("things").records == 3


def test_a_log_that_the_closing_took_in_is_not_cut(tmp_path: Path) -> None:
    """A write leaves the log other than it was; there is room again, and closing empties it."""
    path = tmp_path / NAME
    with (
        ExitStack() as limit,
        closing(DuckDBStorage(path, say=lambda _: limit.close())) as storage,
    ):
        storage.put_bucket(Bucket(name="things"))
        storage.save("things", batch({"_id": "acknowledged"}))
        with wal_of(path).open("ab") as wal:
            wal.write(bytes(100))
        limit.enter_context(limited(resource.RLIMIT_FSIZE, wal_of(path).stat().st_size + 20))
        with pytest.raises(StorageFull):
            storage.save("things", batch({"_id": "refused", "text": os.urandom(500).hex()}))
        for number in range(2):
            storage.save("things", batch({"_id": f"later-{number}"}))
        ids = [record["_id"] for record in contents(storage)["things"]]
    assert ids == ["acknowledged", "later-0", "later-1"]
    with closing(DuckDBStorage(path)) as storage:
        assert [record["_id"] for record in contents(storage)["things"]] == ids


def test_without_a_descriptor_left_every_write_is_answered(path: Path) -> None:
    """Where the file can't be opened again, writes are refused, and it passes by itself."""
    forget_last(path)  # so that the start commits, by which DuckDB has the WAL open
    with closing(DuckDBStorage(path)) as storage, ThreadPoolExecutor() as threads:
        with (
            limited(resource.RLIMIT_FSIZE, room_for_the_wal(path)),
            limited(resource.RLIMIT_NOFILE, 3),
        ):
            storage.save("things", batch({"_id": "acknowledged"}))
            for number in range(2):
                refused = threads.submit(storage.save, "things", batch({"_id": f"no-{number}"}))
                with pytest.raises(StorageUnavailable, match="Too many open files"):
                    refused.result(30)
        threads.submit(storage.save, "things", batch({"_id": "later"})).result(30)
        assert [one["_id"] for one in contents(storage)["things"]][-2:] == ["acknowledged", "later"]


def test_the_writer_outlives_what_should_raise_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everyone is answered, and what went wrong is printed."""
    printed: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: printed.append(str(args.exc_value)))

    class Unit:
        def commit(self) -> None: ...

        def rollback(self) -> None: ...

    def recover(error: BaseException) -> bool:
        raise OSError(f"no recovery from {error}")

    def rest() -> None:
        raise OSError("no rest")

    def fails(_: object) -> None:
        raise ValueError("a failure")

    writer = Writer(Unit, recover=recover, rest=rest)
    for _ in range(2):
        with pytest.raises(ValueError, match="a failure"):
            writer.submit(fails).result(30)
        assert writer.submit(lambda _: 1).result(30) == 1
    writer.close()
    assert {"no recovery from a failure", "no rest"} == set(printed)


def test_without_a_commit_log_no_file_is_marked(tmp_path: Path) -> None:
    """It would be taken for a copy from under a server, at each start."""
    path = tmp_path / "store" / NAME
    path.parent.mkdir()
    commit_log_of(path).with_name(f"{NAME}.commits.new").mkdir()  # so that none can be made
    with closing(DuckDBStorage(path)) as storage:
        for number in range(2):
            killed = put(tmp_path / f"killed-{number}", files(path))
            assert read_commit_log(commit_log_of(killed)) is None
            DuckDBStorage(killed).close()
            storage.put_bucket(Bucket(name=f"made-{number}"))


def test_what_a_start_tells_of_is_noted_at_once(path: Path, tmp_path: Path) -> None:
    """The write of a killed process that was not acknowledged: from now on it must be found."""
    forget_last(path)
    noted = read_commit_log(commit_log_of(path))
    assert noted is not None
    assert noted.end < wal_of(path).stat().st_size
    # What is left of a write that broke off DuckDB leaves out:
    for place, junk in enumerate((b"", bytes(500), b"")):
        with wal_of(path).open("ab") as wal:
            wal.write(junk)
        with closing(DuckDBStorage(path)) as storage:
            assert storage.state("things").records == 600
            found = read_commit_log(commit_log_of(path))
            assert found is not None
            assert found.end == found.whole(wal_of(path).read_bytes())
            assert found.end == wal_of(path).stat().st_size
            path = put(tmp_path / f"again-{place}", files(path))


def test_the_commit_log_is_the_owners_of_the_file(path: Path) -> None:
    """Whoever made it last, such as root: the server must be able to read it."""
    owner = 65_534 if os.geteuid() == 0 else os.geteuid()
    os.chown(path, owner, -1)
    for make in (lambda: DuckDBStorage(path).close(), lambda: repair(path)):
        make()
        assert commit_log_of(path).stat().st_uid == owner
        assert commit_log_of(path).stat().st_mode & 0o777 == 0o600


def test_a_commit_log_that_can_not_be_read_is_named(path: Path) -> None:
    commit_log_of(path).unlink()
    commit_log_of(path).mkdir()
    with pytest.raises(StorageUnavailable, match=r"can't open .*\.commits: Is a directory"):
        DuckDBStorage(path)


def test_a_file_that_another_reads_is_refused(path: Path) -> None:
    DuckDBStorage(path).close()
    with (
        other_process(READ, path),
        pytest.raises(StorageUnavailable, match=r"store\.duckdb: another process reads it"),
    ):
        DuckDBStorage(path)


def test_nobody_gets_the_file_before_it_is_repaired(path: Path) -> None:
    """A server that a supervisor starts, say: here one that waits for the lock."""
    wal = wal_of(path)
    wal.write_bytes(wal.read_bytes()[:-100])
    with path.open("rb+") as first:  # has it until the repair takes it over
        fcntl.lockf(first, fcntl.LOCK_EX)
        with other_process(HOLD, path) as holder:
            assert holder.stdout is not None
            with pytest.raises(StorageUnavailable, match=r"another process has|has it open"):
                repair(path)
            assert f"{NAME}.wal.cut-at" in holder.stdout.readline()


@pytest.mark.parametrize(
    "words",
    [
        'IO Error: Could not read from file "/srv/a": Input/output error',
        'IO Error: Could not set lock on file "/srv/a": No locks available',
        'Failure while replaying WAL file "/srv/a.wal": Out of Memory Error: failed to allocate',
        'IO Error: Could not write file "/srv/Corrupt checksum/a": Input/output error',
    ],
)
def test_a_machine_that_refuses_is_no_damage(words: str) -> None:
    for said in (
        refusal(Path("/srv/a"), duckdb.IOException(words)),
        unavailable(duckdb.Error(words)),
    ):
        assert not isinstance(said, Damaged)
        assert "repair" not in str(said)


def test_words_in_a_path_or_a_value_are_not_the_disks() -> None:
    """They would end the process, or be a full disk's answer."""
    path = 'Could not write file "/srv/fsync failed!/No space left on device/a": Input/output error'
    assert not says_not_synced(duckdb.IOException(path))
    assert not says_not_synced(duckdb.ConversionException("can't convert 'fsync failed!'"))
    assert says_not_synced(duckdb.FatalException("FATAL Error: fsync failed!"))
    assert says_not_synced(
        duckdb.TransactionException(
            'Failed to commit: Could not fsync file "/srv/a": No space left'
        )
    )
    assert "is full" not in str(unavailable(duckdb.IOException(path)))
