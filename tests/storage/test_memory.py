"""The memory engine keeps the contract."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from backdrop.storage.memory import MemoryStorage
from backdrop.storage.port import Storage
from tests.storage.contract import THINGS, StorageContract
from tests.storage.exact import batch


class TestMemoryStorage(StorageContract):
    @pytest.fixture
    def storage(self) -> Iterator[Storage]:
        store = MemoryStorage()
        yield store
        store.close()

    def test_the_clock_may_be_another(self) -> None:
        then = datetime(2013, 1, 1, tzinfo=UTC)
        store = MemoryStorage(clock=lambda: then)
        store.put_bucket(THINGS)
        store.save("things", batch({"_id": "x"}))
        assert store.state("things").last_written == then
