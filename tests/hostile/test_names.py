"""Texts that mean something to SQL, MongoDB, patterns or terminals are texts here, or refused.

On every engine the same.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

from backdrop.domain.bucket import Bucket
from backdrop.storage.duckdb.engine import DuckDBStorage
from backdrop.storage.memory import MemoryStorage
from backdrop.storage.mongodb.engine import MongoDBStorage
from backdrop.storage.port import Storage
from tests.api.conftest import Desk
from tests.storage import mongodb as server

TEXTS = (
    "'; DROP TABLE buckets; --",
    '" OR 1=1 --',
    "x' UNION SELECT hash FROM tokens --",
    "$1",
    "?",
    ":name",
    "{{7*7}}",
    "%s%n",
    "/*",
    "\\",
    "\\'",
    "$where",
    "$gt",
    "$ne",
    '{"$gt": ""}',
    "$$ROOT",
    "$aa",
    "a.b",
    ".",
    "$",
    "__proto__",
    "%",
    "_",
    "100%",
    "a_c",
    ".*",
    "^a",
    "(a+)+$",
    "[a-z]",
    "a\\Eb\\Q",
    "\r\nSet-Cookie: a=b",
    "\x00",
    "a\x00b",
    "\x1b[31m",
    "\x7f\x80",
    "\u202egpj.exe",
    "\u2028",
    "\ufeff",
    "\U000e0041",
    "a\u0301",
    "á",
    "<script>alert(1)</script>",
    "=cmd|'/c calc'!A0",
    "NULL",
    "null",
    "NaN",
    "true",
    "1e5",
    "é" * 300,
)


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory, mongodb: str) -> Iterator[dict[str, Storage]]:
    url = server.database(mongodb)
    path = tmp_path_factory.mktemp("names") / "store.duckdb"
    with closing(DuckDBStorage(path)) as duckdb, closing(MongoDBStorage(url)) as on_mongodb:
        yield {"memory": MemoryStorage(), "duckdb": duckdb, "mongodb": on_mongodb}
    server.drop(url)


@pytest.fixture(params=["memory", "duckdb", "mongodb"])
def client(request: pytest.FixtureRequest, engines: dict[str, Storage], desk: Desk) -> TestClient:
    storage = engines[request.param]
    storage.put_bucket(Bucket(name="things", raw_queries_allowed=True))
    return desk.clients(storage=storage)


@pytest.fixture
def headers(client: TestClient, desk: Desk) -> dict[str, str]:
    """Those of a writer to the bucket, which is emptied."""
    wish = {"scope": "write"}
    made = client.post("/_buckets/things/tokens", headers=desk.admin, json=wish)
    headers = {"Authorization": f"Bearer {made.json()['token']}"}
    assert client.put("/things", headers=headers, json=[]).status_code == 200
    return headers


def data(client: TestClient, **parameters: Any) -> Any:
    answer = client.get("/things", params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def test_values_are_texts(client: TestClient, headers: dict[str, str]) -> None:
    """Grouped, filtered, compared by prefix and sorted, each stands for itself alone."""
    rows = [{"_id": f"i{n}", "aa": text, "nn": n} for n, text in enumerate(TEXTS)]
    assert client.post("/things", headers=headers, json=rows).status_code == 200
    assert data(client) == rows
    groups = data(client, group_by="aa")
    assert [row["aa"] for row in groups] == sorted(TEXTS)
    assert {row["_count"] for row in groups} == {1}
    ordered = data(client, sort_by="aa:descending")
    assert [row["aa"] for row in ordered] == sorted(TEXTS, reverse=True)
    (row,) = data(client, group_by="nn", collect="aa:max", sort_by="aa:max:descending", limit=1)
    assert row["aa:max"] == max(TEXTS)
    for text in TEXTS:
        assert data(client, filter_by=f"aa:{text}") == [rows[TEXTS.index(text)]]
        begin = data(client, filter_by_prefix=f"aa:{text}")
        assert [row["aa"] for row in begin] == [one for one in TEXTS if one.startswith(text)]


def test_values_are_texts_in_csv(client: TestClient, headers: dict[str, str]) -> None:
    rows = [{"_id": f"i{n}", "aa": text} for n, text in enumerate(TEXTS)]
    assert client.post("/things", headers=headers, json=rows).status_code == 200
    answer = client.get("/things?format=csv")
    read = list(csv.DictReader(io.StringIO(answer.content.decode(), newline="")))
    assert [row["aa"] for row in read] == list(TEXTS)


def test_ids_are_texts(client: TestClient, headers: dict[str, str]) -> None:
    """Those that can be ids: the one of a path is that one record's, and no other's."""
    ids = [text for text in TEXTS if not any(map(str.isspace, text)) and text != "."]
    rows = [{"_id": text, "nn": 0} for text in ids]
    assert client.post("/things", headers=headers, json=rows).status_code == 200
    for number, text in enumerate(ids, 1):
        path = f"/things/{quote(text, safe='')}"
        changed = client.patch(path, headers=headers, json={"nn": number})
        assert changed.status_code == 200, (text, changed.text)
    assert {row["_id"]: row["nn"] for row in data(client)} == {
        text: number for number, text in enumerate(ids, 1)
    }
    for text in ids:
        path = f"/things/{quote(text, safe='')}"
        assert client.delete(path, headers=headers).status_code == 200
        assert client.delete(path, headers=headers).status_code == 404
    assert data(client) == []


NAMES = {"a_c", "NULL", "null", "NaN", "true"}
"""Those of the texts that may be names of fields."""


def test_names_are_refused(client: TestClient, headers: dict[str, str], desk: Desk) -> None:
    """Of fields, buckets, users and second addresses: what is no name is said to be none."""
    statuses = {
        (one, status)
        for name in TEXTS
        for one, status in _statuses(client, headers, desk.admin, name).items()
        if not (name in NAMES and one in ("field", "parameter", "setting"))
    }
    assert {status for one, status in statuses if one not in ("path", "user")} == {400}
    assert {status for _, status in statuses} <= {400, 403, 404, 405}  # 403: not the admin's
    assert client.put("/things", headers=headers, json=[]).status_code == 200
    assert [one["name"] for one in _buckets(client, desk)] == ["things"]


def _buckets(client: TestClient, desk: Desk) -> Any:
    return client.get("/_buckets", headers=desk.admin).json()["buckets"]


def _statuses(
    client: TestClient, writer: dict[str, str], admin: dict[str, str], name: str
) -> dict[str, int]:
    """What is answered where the name stands in the place of each kind of name."""
    found: dict[str, int] = {}
    row = [{name: 1, "aa": 1}]
    found["field"] = client.post("/things", headers=writer, json=row).status_code
    for parameter in ("group_by", "collect", "sort_by", "filter_by", "filter_by_prefix"):
        asked = {"group_by": "aa", parameter: f"{name}:no"}
        status = client.get("/things", params=asked).status_code
        found["parameter"] = max(status, found.get("parameter", 400))
    for parameter in (name, "period", "timezone", "start_at", "limit", "duration", "format"):
        found[f"?{parameter}"] = client.get("/things", params={parameter: name}).status_code
    settings = {"data_group": "fees", "data_type": "a b", "auto_ids": [name]}
    found["setting"] = client.put("/_buckets/others", headers=admin, json=settings).status_code
    part = quote(name, safe="")
    for path in (f"/{part}", f"/data/{part}/fees", f"/_buckets/{part}"):
        status = client.put(path, headers=admin, json={"aa": 1}).status_code
        found["path"] = max(status, found.get("path", 400))
    wish = {"buckets": []}
    found["user"] = client.put(f"/_users/{part}", headers=admin, json=wish).status_code
    return found


NOT_UTF8 = (b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\xe0\x80\xaf")


def test_what_is_no_utf8_is_refused(client: TestClient, headers: dict[str, str]) -> None:
    """Over-long forms and halves of pairs too: nothing is put in their place."""
    as_json = headers | {"Content-Type": "application/json"}
    for raw in NOT_UTF8:
        text = "".join(f"%{byte:02x}" for byte in raw)
        assert client.get(f"/things?filter_by=aa:{text}").status_code == 400
        assert client.get(f"/things?{text}=aa").status_code == 400
        assert client.get(f"/{text}").status_code in (400, 404)
        for body in (b'[{"aa":"' + raw + b'"}]', b'[{"a' + raw + b'":1}]', raw):
            assert client.post("/things", headers=as_json, content=body).status_code == 400
        assert client.delete(f"/things/{text}", headers=headers).status_code in (400, 404)
    assert data(client) == []
