"""`GET /_backup`: for the admin, of a store that is a file, one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from backdrop.asgi import create_app
from backdrop.backups import verify_backup
from backdrop.domain.bucket import Bucket
from backdrop.storage.duckdb.engine import DuckDBStorage
from tests.api.conftest import Desk, bearer, codes
from tests.storage.contract import token
from tests.storage.exact import batch

ADMIN = bearer("the-admin-token")


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[DuckDBStorage]:
    with closing(DuckDBStorage(tmp_path / "store.duckdb")) as storage:
        storage.put_bucket(Bucket(name="things"), first_token=token("writes-things"))
        storage.save("things", batch({"_id": "x"}))
        yield storage


@pytest.fixture
def client(storage: DuckDBStorage) -> Iterator[TestClient]:
    app = create_app(storage, admin_token="the-admin-token", observe=lambda _: None)  # noqa: S106
    with TestClient(app) as client:
        yield client


def test_the_file_holds_what_the_store_holds(client: TestClient, tmp_path: Path) -> None:
    """It is whole, it is read back as it is, and it leaves nothing behind."""
    answer = client.get("/_backup", headers=ADMIN)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert int(answer.headers["content-length"]) == len(answer.content)
    (tmp_path / "received").write_bytes(answer.content)
    found = verify_backup(tmp_path / "received", lambda *_: None)
    assert found.buckets["things"].records == 1
    assert list(tmp_path.glob(".backdrop-backup-*")) == []


def test_it_is_for_the_admin_alone(client: TestClient) -> None:
    """It holds all that the store holds."""
    assert client.get("/_backup").status_code == 401
    assert client.get("/_backup", headers=bearer("writes-things")).status_code == 403
    assert client.get("/_backup", headers=bearer("nobodys-token")).status_code == 401


def test_one_is_made_at_a_time(client: TestClient, storage: DuckDBStorage) -> None:
    """Each takes as much room as the store."""
    with storage.snapshot():
        answer = client.get("/_backup", headers=ADMIN)
    assert (answer.status_code, codes(answer)) == (409, ["conflict"])
    assert client.get("/_backup", headers=ADMIN).status_code == 200


def test_a_store_in_memory_has_none(desk: Desk) -> None:
    answer = desk.client.get("/_backup", headers=desk.admin)
    assert (answer.status_code, codes(answer)) == (404, ["not_found"])
