"""The MongoDB engine keeps the contract."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from backdrop.storage.mongodb.engine import MongoDBStorage
from backdrop.storage.port import Storage
from tests.storage import mongodb as server
from tests.storage.contract import StorageContract


class TestMongoDBStorage(StorageContract):
    url: str
    opened: MongoDBStorage

    @pytest.fixture
    def storage(self, mongodb: str) -> Iterator[Storage]:
        self.url = server.database(mongodb, "contract")  # one for all: making one takes a while
        self.opened = MongoDBStorage(self.url)
        server.empty(self.opened)
        yield self.opened
        self.opened.close()

    def reopen(self, storage: Storage) -> Storage:
        assert storage is self.opened, "only the open store can be reopened"
        self.opened.close()
        self.opened = MongoDBStorage(self.url)
        return self.opened
