"""The DuckDB engine keeps the contract."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Event
from typing import NoReturn

import duckdb
import pytest

from backdrop.domain.bucket import Bucket
from backdrop.domain.table import Records
from backdrop.errors import StorageUnavailable
from backdrop.storage.duckdb.engine import DuckDBStorage
from backdrop.storage.port import Storage
from tests.storage.contract import StorageContract
from tests.storage.exact import batch, stored


class TestDuckDBStorage(StorageContract):
    path: Path
    opened: DuckDBStorage

    @pytest.fixture
    def storage(self, tmp_path: Path) -> Iterator[Storage]:
        self.path = tmp_path / "store.duckdb"
        self.opened = DuckDBStorage(self.path)
        yield self.opened
        self.opened.close()

    def reopen(self, storage: Storage) -> Storage:
        assert storage is self.opened, "only the open store can be reopened"
        self.opened.close()
        self.opened = DuckDBStorage(self.path)
        return self.opened


def test_writes_that_share_a_commit_keep_their_order(tmp_path: Path) -> None:
    """Small batches are gathered, and large ones go in by themselves: the last of an id wins."""
    storage = DuckDBStorage(tmp_path / "store.duckdb", gathered_below=3)
    storage.put_bucket(Bucket(name="things"))
    begun, go = Event(), Event()

    def wait(bucket: Bucket) -> Bucket:
        begun.set()
        go.wait(60)
        return bucket

    with ThreadPoolExecutor(1) as pool, closing(storage):
        blocked = pool.submit(storage.change_bucket, "things", wait)
        assert begun.wait(60)
        large = [[{"_id": name, "aa": n} for name in "abcd"] for n in (2, 4)]
        ended = [
            storage.save_soon("things", batch(*rows))
            for rows in (
                [{"_id": "a", "aa": 1}, {"_id": "e", "aa": 1}],
                large[0],
                [{"_id": "b", "aa": 3}],
                large[1],
                [{"_id": "c", "aa": 5}],
            )
        ]
        go.set()
        blocked.result(timeout=60)
        for one in ended:
            one.result(timeout=60)
        commits = storage.load().commits
        found = {row["_id"]: row["aa"] for row in stored(storage)}
        assert found == {"a": 4, "b": 4, "c": 5, "d": 4, "e": 1}
        assert storage.state("things").records == 5
    assert commits <= 3, "they did not share one"


def test_the_writer_lives_on_whatever_an_operation_raises(tmp_path: Path) -> None:
    """Also what is no Exception, as a panic of a library in Rust."""

    class Panic(BaseException):
        pass

    class Panicking(dict[str, object]):
        def items(self) -> NoReturn:  # type: ignore[override]
            raise Panic

    with closing(DuckDBStorage(tmp_path / "store.duckdb")) as storage:
        storage.put_bucket(Bucket(name="things"))
        ended = storage.save_soon("things", Records(Panicking(_id=["a"]), 1))
        assert isinstance(ended.exception(timeout=60), Panic)
        storage.save_soon("things", batch({"_id": "b"})).result(timeout=60)
        assert stored(storage) == [{"_id": "b"}]


def test_a_file_that_is_open_elsewhere_is_refused_with_who_has_it(tmp_path: Path) -> None:
    """One process may have the file: another is told which one has, and what to do."""
    path = tmp_path / "held.duckdb"
    DuckDBStorage(path).close()
    hold = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(
            StorageUnavailable, match=f"process {holder.pid} has it open.*another file"
        ):
            DuckDBStorage(path)
        holder.communicate("\n", timeout=20)


def test_every_error_of_the_driver_stops_at_the_engine() -> None:
    """Each class of errors that DuckDB's module names is one that the engine translates."""
    errors = [one for one in vars(duckdb).values() if isinstance(one, type)]
    found = [one for one in errors if issubclass(one, Exception) and one is not duckdb.Warning]
    assert len(found) > 10
    assert [one for one in found if not issubclass(one, duckdb.Error)] == []


def test_a_file_made_anew_has_versions_of_its_own(tmp_path: Path) -> None:
    """Caches hang on versions: those of a file that was here before must not come again."""
    seen = []
    for name in ("one", "other"):
        storage = DuckDBStorage(tmp_path / f"{name}.duckdb")
        storage.put_bucket(Bucket(name="things"))
        seen.append(storage.state("things").version)
        storage.close()
    assert seen[0] < seen[1]


def test_a_bucket_whose_restoring_was_cut_off_leaves_nothing(tmp_path: Path) -> None:
    """Killed in the middle: its table is dropped when the file is next opened."""
    path = tmp_path / "store.duckdb"
    cut = (
        "import os, sys; from pathlib import Path; "
        "from backdrop.domain.bucket import Bucket; from backdrop.domain.table import Records; "
        "from backdrop.storage.duckdb.engine import DuckDBStorage; "
        "context = DuckDBStorage(Path(sys.argv[1])).restoring("
        "Bucket(name='things'), tokens=[], last_written=None); "
        "context.__enter__()(Records.of([{'_id': 'x', 'aa': 1}])); "
        "os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", cut, path], check=False).returncode == -9
    store = DuckDBStorage(path)
    assert store.buckets() == []
    store.put_bucket(Bucket(name="things"))
    store.close()
    with duckdb.connect(path) as connection:
        tables = connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()
        assert len([name for (name,) in tables if name.startswith("records_")]) == 1
        assert connection.execute("SELECT * FROM fields").fetchall() == []
