"""The DuckDB engine keeps the contract."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

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
