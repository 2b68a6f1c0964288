"""The audit log through HTTP: every change has its entry, and only the admin reads it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from backdrop.asgi import create_app
from backdrop.domain.audit import ACTIONS, Act
from backdrop.storage.duckdb.engine import DuckDBStorage
from backdrop.storage.memory import MemoryStorage
from backdrop.storage.mongodb.engine import MongoDBStorage
from backdrop.storage.port import Storage
from tests.api.conftest import Desk, bearer, codes
from tests.storage import mongodb as server


@pytest.fixture(params=["memory", "duckdb", "mongodb"])
def storage(
    request: pytest.FixtureRequest, desk: Desk, tmp_path: Path, mongodb: str
) -> Iterator[Storage]:
    opened: Storage
    url = server.database(mongodb)
    if request.param == "memory":
        opened = MemoryStorage(clock=desk.clock)
    elif request.param == "duckdb":
        opened = DuckDBStorage(tmp_path / "store.duckdb", clock=desk.clock)
    else:
        opened = MongoDBStorage(url, clock=desk.clock)
    with closing(opened):
        yield opened
    server.drop(url)


def entries(client: TestClient, desk: Desk, query: str = "") -> list[dict[str, Any]]:
    answer = client.get(f"/_audit{query}", headers=desk.admin)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    found: list[dict[str, Any]] = answer.json()["entries"]
    return found


def short(entry: dict[str, Any]) -> tuple[Any, ...]:
    return (entry["by"], entry["action"], entry["bucket"], entry["records"], entry["details"])


def test_every_change_by_http_has_its_entry(desk: Desk, storage: Storage) -> None:
    client = desk.clients(storage=storage)
    url, admin = "/_buckets/things", desk.admin
    own = "own-" + "t" * 12
    client.put(url, headers=admin, json={"token": own, "realtime": True})
    [first] = client.get(f"{url}/tokens", headers=admin).json()["tokens"]
    by = f"token:{first['id']}"
    client.put(url, headers=admin, json={"realtime": False, "description": "x" * 100})
    client.patch(url, headers=admin, json={"published": False})
    made = client.post(f"{url}/tokens", headers=admin, json={"scope": "read", "label": "l"}).json()
    client.delete(f"{url}/tokens/{made['id']}", headers=admin)
    writer = bearer(own)
    client.post("/things", headers=writer, json=[{"_id": "a"}, {"_id": "a"}])
    client.put("/things", headers=writer, json=[{"_id": "a/b"}])
    client.patch("/things/a%2Fb", headers=writer, json={"fee": 1})
    client.delete("/things/a%2Fb", headers=writer)
    client.put("/_users/Ada@example.org", headers=admin, json={"buckets": ["things"]})
    client.delete(url, headers=admin)
    client.delete("/_users/ada@example.org", headers=admin)
    found = [short(entry) for entry in entries(client, desk)][::-1]
    read = {"id": made["id"], "scope": "read", "label": "l"}
    user = {"email": "ada@example.org", "buckets": ["things"], "admin": False}
    assert found == [
        ("admin", "bucket_created", "things", None, {"settings": ["realtime"]}),
        ("admin", "settings_changed", "things", None, {"settings": ["description", "realtime"]}),
        ("admin", "settings_changed", "things", None, {"settings": ["published"]}),
        ("admin", "token_made", "things", None, read),
        ("admin", "token_revoked", "things", None, {"id": made["id"]}),
        (by, "records_stored", "things", 2, {}),
        (by, "records_replaced", "things", 1, {}),
        (by, "record_changed", "things", 1, {"_id": "a/b"}),
        (by, "record_removed", "things", 1, {"_id": "a/b"}),
        ("admin", "user_granted", None, None, user),
        ("admin", "bucket_dropped", "things", None, {}),
        ("admin", "user_granted", None, None, {"email": "ada@example.org", "taken": ["things"]}),
        ("admin", "user_revoked", None, None, {"email": "ada@example.org"}),
    ]
    assert {entry[1] for entry in found} == set(ACTIONS) - {
        "signed_in",
        "signed_out",
        "store_restored",
    }
    assert own not in client.get("/_audit", headers=admin).text


def test_what_is_refused_has_none(desk: Desk, storage: Storage) -> None:
    client = desk.clients(storage=storage)
    token = client.put("/_buckets/things", headers=desk.admin).json()["token"]
    writer = bearer(token)
    before = entries(client, desk)
    client.post("/things", headers=writer, json=[{"aa": []}])
    client.post("/things", headers=writer, json=[])
    client.post("/things", headers=bearer("x" * 20), json=[{"aa": 1}])
    client.patch("/things/missing", headers=writer, json={"aa": 1})
    client.delete("/things/missing", headers=writer)
    client.patch("/_buckets/things", headers=desk.admin, json={"realtime": 5})
    client.delete("/_buckets/missing", headers=desk.admin)
    client.delete("/_users/ada@example.org", headers=desk.admin)
    assert entries(client, desk) == before


def test_it_is_paged(desk: Desk, storage: Storage) -> None:
    client = desk.clients(storage=storage)
    for name in ("things", "others"):
        token = client.put(f"/_buckets/{name}", headers=desk.admin).json()["token"]
        for n in range(4):
            client.post(f"/{name}", headers=bearer(token), json=[{"aa": 1}] * (n + 1))
    assert len(entries(client, desk)) == 10
    first = entries(client, desk, "?bucket=things&limit=3")
    assert [one["records"] for one in first] == [4, 3, 2]
    rest = entries(client, desk, f"?bucket=things&before={first[-1]['id']}")
    assert [one["records"] for one in rest] == [1, None]
    assert entries(client, desk, "?bucket=missing") == []


@pytest.mark.parametrize(
    ("query", "code", "parameter"),
    [
        ("limit=0", "invalid_parameter", "limit"),
        ("limit=1001", "invalid_parameter", "limit"),
        ("limit=x", "invalid_parameter", "limit"),
        ("limit=1&limit=2", "repeated_parameter", "limit"),
        ("bucket=A", "invalid_parameter", "bucket"),
        ("before=x", "invalid_parameter", "before"),
        ("befor=1", "unknown_parameter", "befor"),
    ],
)
def test_what_is_asked_wrongly_is_said(
    desk: Desk, storage: Storage, query: str, code: str, parameter: str
) -> None:
    answer = desk.clients(storage=storage).get(f"/_audit?{query}", headers=desk.admin)
    assert answer.status_code == 400
    [error] = answer.json()["errors"]
    assert (error["code"], error["parameter"]) == (code, parameter)


def test_it_is_the_admins_alone_and_the_write_apis(desk: Desk) -> None:
    writer = desk.make("things")
    assert desk.client.get("/_audit").status_code == 401
    refused = desk.client.get("/_audit", headers=writer)
    assert (refused.status_code, codes(refused)) == (403, ["forbidden"])
    assert "Access-Control-Allow-Origin" not in refused.headers
    assert desk.clients(apis="read").get("/_audit", headers=desk.admin).status_code == 404
    assert desk.clients(apis="write").get("/_audit", headers=desk.admin).status_code == 200


def test_it_forgets_after_the_days_it_is_told(desk: Desk, storage: Storage) -> None:
    """When the application starts, and every so often from then on."""
    act = Act(by="admin", action="bucket_created", bucket="things")
    desk.make("unrelated")
    bucket = desk.storage.bucket("unrelated")
    storage.put_bucket(bucket, act=act)
    app = create_app(
        storage,
        admin_token=desk.admin_token,
        now=desk.clock,
        observe=lambda _: None,
        audited_for=timedelta(days=2),
    )
    desk.clock.move(2 * 86_400 - 1)
    with TestClient(app) as client:
        client.get("/_status")
    assert len(storage.audit(limit=9)) == 1
    desk.clock.move(2)
    with TestClient(app) as client:
        client.get("/_status")
    assert storage.audit(limit=9) == []
