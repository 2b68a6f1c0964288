"""What `/_metrics` tells, and whom; what the line of a request tells."""

from __future__ import annotations

import io
import json
import secrets
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from backdrop.api.metrics import MetricsWish
from backdrop.asgi import Apis, create_app
from backdrop.errors import StorageUnavailable
from backdrop.observe import METRICS_TYPE, json_lines
from backdrop.storage.duckdb.engine import DuckDBStorage
from backdrop.storage.memory import MemoryStorage
from backdrop.storage.port import Load, Storage
from tests.api.conftest import Desk, bearer, codes

ADMIN = secrets.token_urlsafe(16)
WATCHER = secrets.token_urlsafe(16)


@pytest.fixture
def duckdb(tmp_path: Path) -> Iterator[DuckDBStorage]:
    with closing(DuckDBStorage(tmp_path / "store.duckdb")) as storage:
        yield storage


def client_of(
    storage: Storage, log: io.StringIO | None = None, *, apis: Apis = "both", **wish: object
) -> TestClient:
    app = create_app(
        storage,
        apis=apis,
        admin_token=None if apis == "read" else ADMIN,
        observe=json_lines(log or io.StringIO()),
        metrics=MetricsWish(token=WATCHER, **wish),  # type: ignore[arg-type]
    )
    return TestClient(app, raise_server_exceptions=False)


Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scraped(client: TestClient, token: str = WATCHER) -> Samples:
    answer = client.get("/_metrics", headers=bearer(token))
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, METRICS_TYPE)
    families = text_string_to_metric_families(answer.text)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def plain(samples: Samples, name: str) -> float:
    return samples[name, ()]


# -- who may see them --------------------------------------------------------------------------


@pytest.mark.parametrize("apis", ["both", "read", "write"])
def test_there_are_none_unless_they_are_asked_for(desk: Desk, apis: Apis) -> None:
    answer = desk.clients(apis=apis).get("/_metrics", headers=desk.admin)
    assert (answer.status_code, codes(answer)) == (404, ["not_found"])


@pytest.mark.parametrize("apis", ["both", "read", "write"])
def test_they_are_never_open_to_all(apis: Apis) -> None:
    client = client_of(MemoryStorage(), apis=apis)
    assert client.get("/_metrics").status_code == 401
    assert client.get("/_metrics", headers=bearer("x" * 20)).status_code == 401
    assert scraped(client)
    opened = apis == "read"  # all of whose answers are
    answer = client.get("/_metrics", headers=bearer(WATCHER))
    assert ("Access-Control-Allow-Origin" in answer.headers) == opened
    assert answer.headers["Cache-Control"] == "no-store"


def test_the_admin_token_opens_them_and_a_buckets_does_not() -> None:
    client = client_of(MemoryStorage())
    assert scraped(client, ADMIN)
    made = client.put("/_buckets/things", headers=bearer(ADMIN)).json()
    assert client.get("/_metrics", headers=bearer(made["token"])).status_code == 403


def test_their_token_opens_nothing_else() -> None:
    client = client_of(MemoryStorage())
    assert client.get("/_buckets", headers=bearer(WATCHER)).status_code == 401


def test_they_are_described_where_they_are() -> None:
    assert "/_metrics" in client_of(MemoryStorage()).get("/_openapi.json").json()["paths"]


# -- what they tell ----------------------------------------------------------------------------


def test_requests_are_counted_by_pattern_method_and_status(duckdb: DuckDBStorage) -> None:
    client = client_of(duckdb)
    made = client.put("/_buckets/things", headers=bearer(ADMIN), json={"raw_queries_allowed": True})
    writer = bearer(made.json()["token"])
    client.post("/things", headers=writer, json=[{"aa": 1}, {"aa": 2}, {"aa": 3}])
    client.post("/things", headers=writer, json=[{"aa": []}])
    for _ in range(2):
        client.get("/things?group_by=aa")
    client.get("/missing-1?token=x")
    client.get("/_nowhere/1")
    client.request("BREW", "/things")
    samples = scraped(client)

    def count(method: str, route: str, status: str) -> float:
        labels = (("method", method), ("route", route), ("status", status))
        return samples["backdrop_requests_total", labels]

    assert count("POST", "/{bucket}", "200") == count("POST", "/{bucket}", "400") == 1
    assert count("GET", "/{bucket}", "200") == 2
    assert count("GET", "/{bucket}", "404") == 1
    assert count("GET", "none", "404") == 1
    assert count("none", "/{bucket}", "405") == 1
    timed = (("method", "GET"), ("route", "/{bucket}"))
    assert samples["backdrop_request_seconds_count", timed] == 3
    assert plain(samples, "backdrop_records_stored_total") == 3
    assert plain(samples, "backdrop_rows_answered_total") == 3
    assert plain(samples, "backdrop_cache_hits_total") == 1
    assert plain(samples, "backdrop_cache_misses_total") == 1
    assert plain(samples, "backdrop_cache_bytes") > 0


def test_the_writers_commits_and_the_engines_memory_are_told(duckdb: DuckDBStorage) -> None:
    client = client_of(duckdb)
    for number in range(3):
        client.put(f"/_buckets/things{number}", headers=bearer(ADMIN))
    samples = scraped(client)
    assert plain(samples, "backdrop_commits_total") == 3
    assert plain(samples, "backdrop_writes_total") == 3
    assert plain(samples, "backdrop_writes_waiting") == 0
    assert plain(samples, "backdrop_engine_memory_bytes") > 0
    assert plain(samples, "process_resident_memory_bytes") > 2**20


def test_no_label_is_named_for_a_bucket_or_grows_with_what_is_asked() -> None:
    client = client_of(MemoryStorage())
    scraped(client)
    before = len(scraped(client))
    for number in range(5):
        client.get(f"/things{number}")
        client.get(f"/x/y/{number}")
        client.request(f"M{number}", f"/_q{number}")
    once = len(scraped(client))
    for number in range(5, 25):
        client.get(f"/things{number}")
        client.get(f"/x/y/{number}")
        client.request(f"M{number}", f"/_q{number}")
    assert before < once == len(scraped(client))
    assert "things" not in client.get("/_metrics", headers=bearer(WATCHER)).text


def test_a_worker_labels_all_that_it_tells() -> None:
    """So that two of them don't look like one whose counters jump."""
    samples = scraped(client_of(MemoryStorage(), worker=3))
    assert all(("worker", "3") in labels for _, labels in samples)


def test_applications_count_each_for_itself() -> None:
    first, second = client_of(MemoryStorage()), client_of(MemoryStorage())
    first.get("/_status")
    labels = (("method", "GET"), ("route", "/_status"), ("status", "200"))
    assert scraped(first)["backdrop_requests_total", labels] == 1
    assert ("backdrop_requests_total", labels) not in scraped(second)


def test_there_are_metrics_also_where_the_store_is_away() -> None:
    """That is when they are looked at; the store's own are left out, and the answer is a 200."""

    class Away(MemoryStorage):
        def check(self) -> None:
            raise StorageUnavailable("the store does not answer")

        def load(self) -> Load:
            raise StorageUnavailable("the store does not answer")

    client = client_of(Away())
    assert client.get("/_status").status_code == 503
    samples = scraped(client)
    assert plain(samples, "backdrop_faults_total") == 0  # it is the store's
    assert ("backdrop_commits_total", ()) not in samples


def test_a_fault_of_the_server_is_counted() -> None:
    """What the store does not answer is none."""

    class Faulty(MemoryStorage):
        def check(self) -> None:
            raise KeyError("a mistake")

    client = client_of(Faulty())
    assert client.get("/_status").status_code == 500
    assert plain(scraped(client), "backdrop_faults_total") == 1


# -- log lines ---------------------------------------------------------------------------------


def test_the_line_of_a_request_has_its_rows_and_bytes(duckdb: DuckDBStorage) -> None:
    """Streamed answers too, and HEAD has no bytes."""
    log = io.StringIO()
    client = client_of(duckdb, log)
    made = client.put("/_buckets/things", headers=bearer(ADMIN), json={"raw_queries_allowed": True})
    writer = bearer(made.json()["token"])
    client.post("/things", headers=writer, json=[{"aa": number % 2} for number in range(5000)])
    groups = client.get("/things?group_by=aa")
    again = client.get("/things?group_by=aa")
    streamed = client.get("/things")
    client.head("/things?group_by=aa&limit=1")
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    told = [(line["method"], line["status"], line["rows"], line["bytes"]) for line in lines]
    assert told[1:] == [
        ("POST", 200, 5000, len('{"status":"ok","records":5000}')),
        ("GET", 200, 2, len(groups.content)),
        ("GET", 200, None, len(again.content)),
        ("GET", 200, 5000, len(streamed.content)),
        ("HEAD", 200, 1, 0),
    ]
    assert {line["bucket"] for line in lines[1:]} == {"things"}


def test_no_line_and_no_metric_holds_a_token_a_query_or_a_header() -> None:
    log = io.StringIO()
    client = client_of(MemoryStorage(), log)
    made = client.put("/_buckets/things", headers=bearer(ADMIN)).json()["token"]
    reader = client.post(
        "/_buckets/things/tokens", headers=bearer(ADMIN), json={"scope": "read"}
    ).json()["token"]
    wrong, secret = secrets.token_urlsafe(16), secrets.token_urlsafe(16)
    texts = []
    for token in (ADMIN, WATCHER, made, reader, wrong):
        headers = bearer(token) | {"X-Something": secret, "User-Agent": secret}
        for method, path in (
            ("GET", "/_metrics"),
            ("POST", "/things"),
            ("GET", f"/things?group_by=aa&filter_by=aa:{secret}"),
            ("DELETE", f"/things/{token}"),
            ("GET", f"/{token}"),
            ("PATCH", "/_buckets/things"),
        ):
            body = {"aa": token} if method == "POST" else {"token": token}
            texts.append(client.request(method, path, headers=headers, json=body).text)
    told = log.getvalue() + "".join(texts[::6])
    for one in (ADMIN, WATCHER, made, reader, wrong, secret):
        assert one not in told
