"""The DuckDB engine keeps the contract."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from backdrop.domain.bucket import Bucket
from backdrop.errors import StorageUnavailable
from backdrop.storage.duckdb.engine import DuckDBStorage
from backdrop.storage.port import Storage
from tests.storage.contract import StorageContract


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
