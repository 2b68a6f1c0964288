"""The write API through its door: who may write, what is stored, what is refused, in what order."""

from __future__ import annotations

import gzip
import json
import secrets
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any
from urllib.parse import quote

import pytest
import zstandard

from backdrop.api.body import Limits
from backdrop.domain.audit import Act
from backdrop.domain.once import Once
from backdrop.domain.table import Records
from backdrop.storage.memory import MemoryStorage
from backdrop.storage.port import done_at_once
from tests.api.conftest import Desk, bearer, codes

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def writer(desk: Desk) -> dict[str, str]:
    return desk.make("things", raw_queries_allowed=True)


def stored(desk: Desk, name: str = "things") -> Any:
    return desk.data(f"/{name}")


class Stuck(MemoryStorage):
    """A store whose writes take until `go`, at hand or not."""

    def __init__(self, pool: Executor, *, at_hand: bool) -> None:
        super().__init__()
        self.state_is_at_hand, self.pool = at_hand, pool
        self.waiting = threading.Semaphore(0)
        self.go = threading.Event()

    def save(
        self, bucket: str, records: Records, *, once: Once | None = None, act: Act | None = None
    ) -> None:
        self.waiting.release()
        self.go.wait(60)
        super().save(bucket, records, once=once, act=act)

    def save_soon(self, bucket: str, records: Records, *, act: Act | None = None) -> Future[None]:
        return self.pool.submit(self.save, bucket, records, act=act)


@pytest.mark.parametrize("at_hand", [True, False])
def test_many_writes_that_wait_keep_nobody_else_from_an_answer(desk: Desk, at_hand: bool) -> None:
    """More than there are threads for."""
    with ExitStack() as stack:
        pool, their_pool = (stack.enter_context(ThreadPoolExecutor(60)) for _ in range(2))
        storage = Stuck(their_pool, at_hand=at_hand)
        client = stack.enter_context(desk.clients(storage=storage))
        made = client.put("/_buckets/things", headers=desk.admin, json={})
        headers = bearer(made.json()["token"])
        posts = [
            pool.submit(client.post, "/things", headers=headers, json={"_id": str(n)})
            for n in range(50)
        ]
        for _ in range(Limits().writers):
            assert storage.waiting.acquire(timeout=60)
        status = pool.submit(client.get, "/_status")
        try:
            assert status.result(timeout=30).status_code == 200
        finally:
            storage.go.set()
        assert [post.result().status_code for post in posts] == [200] * 50
        assert storage.state("things").records == 50


class Noting(MemoryStorage):
    """A store that tells how it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def save(
        self, bucket: str, records: Records, *, once: Once | None = None, act: Act | None = None
    ) -> None:
        self.asked.append("save")
        super().save(bucket, records, once=once, act=act)

    def save_soon(self, bucket: str, records: Records, *, act: Act | None = None) -> Future[None]:
        self.asked.append("save_soon")
        return done_at_once(lambda: MemoryStorage.save(self, bucket, records, act=act))


_SPARSE = [{f"a{n:03}": 1} for n in range(600)]


@pytest.mark.parametrize(
    ("rows", "settings", "headers", "asked"),
    [
        ({"aa": 1}, {}, {}, "save_soon"),
        ([{"aa": n} for n in range(20)], {}, {}, "save_soon"),
        (_SPARSE, {}, {}, "save"),
        ([{"aa": n} for n in range(200)], {}, {}, "save"),
        ({"aa": "x" * 9_000}, {}, {}, "save"),
        ({"aa": 1}, {"schema": {"type": "object"}}, {}, "save"),
        ({"aa": 1}, {}, {"Idempotency-Key": "once"}, "save"),
        ({"aa": 1}, {}, {"Content-Encoding": "gzip"}, "save"),
    ],
)
def test_only_what_is_checked_at_once_is_stored_from_the_event_loop(
    desk: Desk, rows: Any, settings: Any, headers: dict[str, str], asked: str
) -> None:
    """Many records, many fields, a schema or unpacking would keep all others waiting."""
    storage = Noting()
    with desk.clients(storage=storage) as client:
        made = client.put("/_buckets/things", headers=desk.admin, json=settings)
        data = json.dumps(rows).encode()
        answer = client.post(
            "/things",
            headers=bearer(made.json()["token"]) | JSON | headers,
            content=gzip.compress(data) if "Content-Encoding" in headers else data,
        )
    assert answer.status_code == 200, answer.text
    assert storage.asked == [asked]


def test_a_small_body_is_held_to_the_limits_too(desk: Desk) -> None:
    """Of bytes unpacked, and of records."""
    limits = Limits(body_unpacked=100, records=3)
    with desk.clients(limits=limits) as client:
        made = client.put("/_buckets/things", headers=desk.admin, json={})
        headers = bearer(made.json()["token"])
        long = client.post("/things", headers=headers, json={"aa": "x" * 100})
        many = client.post("/things", headers=headers, json=[{"aa": n} for n in range(4)])
    assert (long.status_code, codes(long)) == (413, ["body_too_large"])
    assert many.status_code == 400


# -- what each request does --------------------------------------------------------------------


def test_post_stores_an_array(desk: Desk, writer: dict[str, str]) -> None:
    """The answer counts what was received, and the read API gives it back as it was."""
    records = [{"_id": "x", "aa": 5, "bb": 5.0, "cc": None, "dd": "007"}, {"_id": "y", "ee": True}]
    answer = desk.client.post("/things", headers=writer, json=records)
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "records": 2})
    assert stored(desk) == records
    assert [type(value) for value in stored(desk)[0].values()][1:3] == [int, float]


def test_post_stores_one_object(desk: Desk, writer: dict[str, str]) -> None:
    """One object counts as an array of one; without an id it gets one."""
    answer = desk.client.post("/things", headers=writer, json={"aa": 1})
    assert answer.json() == {"status": "ok", "records": 1}
    assert stored(desk)[0].keys() == {"aa", "_id"}


def test_post_of_an_empty_array_stores_nothing(desk: Desk, writer: dict[str, str]) -> None:
    """An empty array is fine, and 0 records."""
    answer = desk.client.post("/things", headers=writer, json=[])
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "records": 0})


@pytest.mark.parametrize("body", [[{"_id": "z"}], {"_id": "z"}])
def test_put_replaces_the_contents(desk: Desk, writer: dict[str, str], body: Any) -> None:
    """What was there is gone, and what came is there."""
    desk.client.post("/things", headers=writer, json=[{"_id": "x"}, {"_id": "y"}])
    answer = desk.client.put("/things", headers=writer, json=body)
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "records": 1})
    assert stored(desk) == [{"_id": "z"}]


def test_put_of_an_empty_array_empties(desk: Desk, writer: dict[str, str]) -> None:
    """An empty array leaves an empty bucket."""
    desk.client.post("/things", headers=writer, json={"_id": "x"})
    assert desk.client.put("/things", headers=writer, json=[]).json()["records"] == 0
    assert stored(desk) == []


IDS = ("x", "a/b", "/a", "a//b/", "data", "_status", "é", "?&=#", "upload", "a.b", "..x")


@pytest.mark.parametrize("record_id", IDS)
def test_patch_merges_and_delete_removes_by_id(
    desk: Desk, writer: dict[str, str], record_id: str
) -> None:
    """An id is percent-encoded in the path and may hold anything but white space."""
    desk.client.post("/things", headers=writer, json=[{"_id": record_id, "aa": 1}, {"_id": "0"}])
    path = f"/things/{quote(record_id, safe='')}"
    answer = desk.client.patch(path, headers=writer, json={"bb": None, "aa": 2})
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "records": 1})
    assert {"_id": record_id, "aa": 2, "bb": None} in stored(desk)
    answer = desk.client.delete(path, headers=writer)
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert stored(desk) == [{"_id": "0"}]


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_bytes_that_are_no_text_name_no_record(
    desk: Desk, writer: dict[str, str], method: str
) -> None:
    """Servers replace them by U+FFFD, which may be another record's id."""
    sign = {"_id": "\ufffd", "aa": 1}
    desk.client.post("/things", headers=writer, json=sign)
    answer = desk.client.request(method, "/things/%FF", headers=writer, json={"aa": 2})
    assert (answer.status_code, codes(answer)) == (404, ["not_found"])
    assert stored(desk) == [sign]
    patched = desk.client.patch("/things/%EF%BF%BD", headers=writer, json={"aa": 2})
    assert patched.status_code == 200
    assert stored(desk) == [sign | {"aa": 2}]


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_a_record_that_is_not_there_is_not_found(
    desk: Desk, writer: dict[str, str], method: str
) -> None:
    """Neither patching nor deleting makes a record."""
    answer = desk.client.request(method, "/things/nope", headers=writer, json={"aa": 1})
    assert (answer.status_code, codes(answer)) == (404, ["not_found"])


def test_patch_can_not_change_the_id(desk: Desk, writer: dict[str, str]) -> None:
    """PATCH is under the same checks as POST, and keeps the id."""
    desk.client.post("/things", headers=writer, json={"_id": "x", "aa": 1})
    answer = desk.client.patch("/things/x", headers=writer, json={"_id": "y"})
    assert (answer.status_code, codes(answer)) == (400, ["id_mismatch"])
    assert desk.client.patch("/things/x", headers=writer, json=[{"bb": 1}]).status_code == 400
    assert stored(desk) == [{"_id": "x", "aa": 1}]


def test_a_bucket_has_all_its_routes_under_its_second_address(desk: Desk) -> None:
    """What works at /{bucket} works at /data/{group}/{type}."""
    address = {"data_group": "GOV-1", "data_type": "visits"}
    writer = desk.make("things", raw_queries_allowed=True, **address)
    path = "/data/GOV-1/visits"
    assert desk.client.post(path, headers=writer, json={"_id": "x/y"}).status_code == 200
    assert desk.data(path) == [{"_id": "x/y"}]
    assert desk.client.patch(f"{path}/x%2Fy", headers=writer, json={"aa": 1}).status_code == 200
    assert desk.data(path) == desk.data("/things") == [{"_id": "x/y", "aa": 1}]
    assert desk.client.delete(f"{path}/x/y", headers=writer).status_code == 200
    assert desk.client.put(path, headers=writer, json=[]).status_code == 200
    assert desk.client.get("/data/GOV-1/other").status_code == 404


# -- all or nothing ----------------------------------------------------------------------------


def test_a_bad_batch_stores_nothing_and_lists_its_errors(
    desk: Desk, writer: dict[str, str]
) -> None:
    """Every record is checked: each error has its index, field, code and message."""
    batch = [{"_id": "x"}, {"_timestamp": "31-11-12"}, {}, {"aa": [1], "_foo": 1}, 5]
    answer = desk.client.post("/things", headers=writer, json=batch)
    assert answer.status_code == 400
    assert answer.json()["error_count"] == 5
    assert [(e["index"], e.get("field"), e["code"]) for e in answer.json()["errors"]] == [
        (1, "_timestamp", "invalid_timestamp"),
        (2, None, "empty_record"),
        (3, "aa", "invalid_value"),
        (3, "_foo", "reserved_field"),
        (4, None, "not_an_object"),
    ]
    assert codes(answer)
    assert stored(desk) == []


def test_the_first_hundred_errors_are_listed(desk: Desk, writer: dict[str, str]) -> None:
    """However many there are, the count has them all."""
    answer = desk.client.post("/things", headers=writer, json=[{}] * 250)
    assert answer.json()["error_count"] == 250
    assert len(codes(answer)) == 100


def test_a_value_that_json_has_not_is_named_by_record(desk: Desk, writer: dict[str, str]) -> None:
    """NaN, infinities and unpaired surrogates are refused with their record and field."""
    body = b'[{"aa":1},{"aa":NaN},{"bb":"\\ud800"},{"cc":1e999}]'
    answer = desk.client.post("/things", headers=writer | JSON, content=body)
    assert answer.status_code == 400
    assert [(e["index"], e["field"]) for e in answer.json()["errors"]] == [
        (1, "aa"),
        (2, "bb"),
        (3, "cc"),
    ]


# -- bodies ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [("gzip", gzip.compress), ("zstd", zstandard.compress), ("identity", bytes)],
)
def test_packed_bodies_are_understood(
    desk: Desk, writer: dict[str, str], encoding: str, pack: Any
) -> None:
    """Content-Encoding says how a body is packed."""
    body = pack(json.dumps([{"_id": "x"}]).encode())
    headers = writer | JSON | {"Content-Encoding": encoding}
    assert desk.client.post("/things", headers=headers, content=body).json()["records"] == 1
    assert stored(desk) == [{"_id": "x"}]


BROKEN: tuple[tuple[bytes, dict[str, str], int, str], ...] = (
    (b"", {}, 400, "invalid_body"),
    (b"  ", {}, 400, "invalid_body"),
    (b"[1,", {}, 400, "invalid_json"),
    (b'"text"', {}, 400, "invalid_body"),
    (b"5", {}, 400, "invalid_body"),
    (b"[" * 100_000, {}, 400, "invalid_body"),
    (b"not gzip", {"Content-Encoding": "gzip"}, 400, "invalid_body"),
    (b"not zstd", {"Content-Encoding": "zstd"}, 400, "invalid_body"),
    (b"", {"Content-Encoding": "gzip"}, 400, "invalid_body"),
    (b"[]", {"Content-Encoding": "br"}, 415, "unsupported_content_encoding"),
    (b"[]", {"Content-Type": "text/csv"}, 415, "unsupported_media_type"),
    (b"aa=1", {"Content-Type": "application/x-www-form-urlencoded"}, 415, "unsupported_media_type"),
)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
@pytest.mark.parametrize(("body", "headers", "status", "code"), BROKEN)
def test_a_body_that_can_not_be_read_is_refused(
    desk: Desk,
    writer: dict[str, str],
    method: str,
    body: bytes,
    headers: dict[str, str],
    status: int,
    code: str,
) -> None:
    """Each way to be broken has its status and code; nothing changes."""
    desk.client.post("/things", headers=writer, json={"_id": "x"})
    path = "/things/x" if method == "PATCH" else "/things"
    answer = desk.client.request(method, path, headers=writer | JSON | headers, content=body)
    assert (answer.status_code, codes(answer)) == (status, [code])
    assert stored(desk) == [{"_id": "x"}]


def test_a_body_without_a_type_is_refused(desk: Desk, writer: dict[str, str]) -> None:
    """What it is must be said; of one that is not there, it is not."""
    assert desk.client.post("/things", headers=writer, content=b"[]").status_code == 415
    for nothing in (b"", iter([b""])):  # by its length, and in chunks
        empty = desk.client.post("/things", headers=writer, content=nothing)
        assert (empty.status_code, codes(empty)) == (400, ["invalid_body"])
    csv = desk.client.post("/things", headers=writer | {"Content-Type": "text/csv"})
    assert csv.status_code == 415


def test_broken_json_has_its_line_and_column(desk: Desk, writer: dict[str, str]) -> None:
    """As data beside the sentence."""
    answer = desk.client.post("/things", headers=writer | JSON, content=b'[\n{"aa": }]')
    (error,) = answer.json()["errors"]
    assert (error["line"], error["column"]) == (2, 8)


def drip(times: int) -> Iterator[bytes]:
    for _ in range(times):
        yield b" " * 100


def test_bodies_past_a_limit_are_too_large(desk: Desk) -> None:
    """As sent, said or found on the way, and unpacked: each is a 413 that names its bound."""
    writer = desk.make("things")
    client = desk.clients(limits=Limits(body_as_sent=1_000, body_unpacked=2_000))
    headers = writer | JSON
    said = client.post("/things", headers=headers, content=b" " * 1_001)
    found = client.post("/things", headers=headers, content=drip(11))
    packed = gzip.compress(b" " * 2_001)
    unpacked = client.post(
        "/things", headers=headers | {"Content-Encoding": "gzip"}, content=packed
    )
    for answer, bound in ((said, "1,000"), (found, "1,000"), (unpacked, "2,000")):
        assert (answer.status_code, codes(answer)) == (413, ["body_too_large"])
        assert bound in answer.json()["message"]
    assert client.post("/things", headers=headers, content=drip(10)).status_code == 400  # empty


def test_a_body_is_not_read_before_the_cheap_checks(desk: Desk) -> None:
    """Route, then token, then type: each answers before a byte of the body is asked for."""
    writer = desk.make("things")

    def never() -> Iterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    client = desk.clients(limits=Limits(body_as_sent=10))
    cases: tuple[tuple[str, dict[str, str], int], ...] = (
        ("/_nowhere", writer | JSON, 404),
        ("/_status", writer | JSON, 405),
        ("/things", JSON, 401),
        ("/things", bearer(desk.admin_token) | JSON, 403),
        ("/things", writer | {"Content-Type": "text/csv"}, 415),
        ("/things", writer | JSON | {"Content-Encoding": "br"}, 415),
        ("/things", writer | JSON | {"Content-Length": "11"}, 413),
    )
    for path, headers, status in cases:
        assert client.post(path, headers=headers, content=never()).status_code == status


# -- who may write -----------------------------------------------------------------------------

REQUESTS = (
    ("POST", "/things"),
    ("PUT", "/things"),
    ("PATCH", "/things/x"),
    ("DELETE", "/things/x"),
    ("POST", "/data/gg/tt"),
    ("DELETE", "/data/gg/tt/x"),
)


@pytest.mark.parametrize(("method", "path"), REQUESTS)
@pytest.mark.parametrize("exists", [True, False])
def test_without_a_good_token_nobody_learns_of_a_bucket(
    desk: Desk, method: str, path: str, exists: bool
) -> None:
    """None, malformed and unknown tokens are 401, whether or not there is such a bucket."""
    if exists:
        desk.make("things", data_group="gg", data_type="tt")
    token = secrets.token_urlsafe(32)
    for header in (None, "", "Bearer", "Bearer ", token, f"Basic {token}", f"Bearer {token}"):
        headers = {} if header is None else {"Authorization": header}
        answer = desk.client.request(method, path, headers=headers, json=[])
        assert (answer.status_code, codes(answer)) == (401, ["unauthorized"])
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert token not in answer.text


@pytest.mark.parametrize(("method", "path"), REQUESTS)
@pytest.mark.parametrize("exists", [True, False])
def test_a_token_of_another_door_is_forbidden(
    desk: Desk, method: str, path: str, exists: bool
) -> None:
    """Another bucket's, another scope's and the admin's are 403, and tell nothing of the bucket."""
    others = [desk.make("other_one"), desk.admin]
    if exists:
        desk.make("things", data_group="gg", data_type="tt")
        others.append(desk.token("things", scope="read"))
    texts = set()
    for headers in others:
        answer = desk.client.request(method, path, headers=headers, json=[])
        assert (answer.status_code, codes(answer)) == (403, ["forbidden"])
        texts.add(answer.text)
    assert len(texts) == 1
    assert "other_one" not in texts.pop()


def test_the_scheme_is_taken_in_any_case(desk: Desk, writer: dict[str, str]) -> None:
    """HTTP's schemes have no case."""
    token = writer["Authorization"].split()[1]
    headers = {"Authorization": f"bEARER   {token}"}
    assert desk.client.post("/things", headers=headers, json=[]).status_code == 200


def test_a_token_expires_on_the_second(desk: Desk, writer: dict[str, str]) -> None:
    """From its expires_at on, a token is not known any more."""
    headers = desk.token("things", scope="write", expires_at="2024-05-01T12:01:00Z")
    desk.clock.move(59.999)
    assert desk.client.post("/things", headers=headers, json=[]).status_code == 200
    desk.clock.move(0.001)
    assert desk.client.post("/things", headers=headers, json=[]).status_code == 401
    assert desk.client.post("/things", headers=writer, json=[]).status_code == 200


def test_two_tokens_live_side_by_side_until_one_is_revoked(
    desk: Desk, writer: dict[str, str]
) -> None:
    """A token can be rotated without a gap."""
    second = desk.token("things", scope="write", label="second")
    assert desk.client.post("/things", headers=second, json=[]).status_code == 200
    listed = desk.client.get("/_buckets/things/tokens", headers=desk.admin).json()["tokens"]
    (first_id,) = (token["id"] for token in listed if token["label"] != "second")
    path = f"/_buckets/things/tokens/{first_id}"
    assert desk.client.delete(path, headers=desk.admin).status_code == 200
    assert desk.client.post("/things", headers=writer, json=[]).status_code == 401
    assert desk.client.post("/things", headers=second, json=[]).status_code == 200


def test_the_use_of_a_token_is_noted_at_most_once_a_minute(
    desk: Desk, writer: dict[str, str]
) -> None:
    """Writing a note for each request would cost more than the note is worth."""

    def last_used() -> Any:
        answer = desk.client.get("/_buckets/things/tokens", headers=desk.admin)
        return answer.json()["tokens"][0]["last_used_at"]

    assert last_used() is None
    seen = []
    for seconds in (0, 60, 1, 61):
        desk.clock.move(seconds)
        desk.client.post("/things", headers=writer, json=[])
        seen.append(last_used()[11:19])
    assert seen == ["12:00:00", "12:00:00", "12:01:01", "12:02:02"]


# -- routes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "BREW"])
def test_status_can_not_be_written(desk: Desk, method: str) -> None:
    """Writing to /_status is a 405 that says what is allowed."""
    for client in (desk.client, desk.clients(apis="write")):
        answer = client.request(method, "/_status", json=[])
        assert (answer.status_code, codes(answer)) == (405, ["method_not_allowed"])
        assert answer.headers["Allow"] == "GET, HEAD, OPTIONS"


NO_ROUTES = (
    "/_anything /_things / /data /data/gg /x /Things /things/ // /things%0A /_status/ /_status%0A "
    "/1things /thi.ngs /%FF"
)


@pytest.mark.parametrize("apis", ["both", "write", "read"])
@pytest.mark.parametrize(
    "path",
    [*NO_ROUTES.split(), "", "/" + "a" * 65],
)
def test_what_is_no_route_is_not_found(desk: Desk, apis: str, path: str) -> None:
    """Segments that begin with _ and names that no bucket can have are no routes to anything."""
    client = desk.clients(apis=apis)
    headers = desk.make("things")
    for method in ("POST", "PATCH", "GET"):
        answer = client.request(method, path, headers=headers | JSON, content=b"[]")
        assert (answer.status_code, codes(answer)) == (404, ["not_found"])


ALLOWED = (
    ("/things", "both", "GET, HEAD, OPTIONS, POST, PUT"),
    ("/things", "read", "GET, HEAD, OPTIONS"),
    ("/things", "write", "OPTIONS, POST, PUT"),
    ("/data/gg/tt", "both", "GET, HEAD, OPTIONS, POST, PUT"),
    ("/things/x", "both", "DELETE, OPTIONS, PATCH"),
    ("/things/x", "write", "DELETE, OPTIONS, PATCH"),
    ("/_status", "both", "GET, HEAD, OPTIONS"),
    ("/_status", "write", "GET, HEAD, OPTIONS"),
    ("/_buckets", "both", "GET, HEAD, OPTIONS"),
    ("/_buckets/things", "write", "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"),
    ("/_buckets/things/tokens", "both", "GET, HEAD, OPTIONS, POST"),
    ("/_buckets/things/tokens/x", "both", "DELETE, OPTIONS"),
)


@pytest.mark.parametrize(("path", "apis", "allowed"), ALLOWED)
def test_allow_lists_all_that_a_path_takes(desk: Desk, path: str, apis: str, allowed: str) -> None:
    """405 and OPTIONS tell the same, of both APIs where both are served."""
    client = desk.clients(apis=apis)
    refused, asked = client.request("BREW", path), client.options(path)
    assert (refused.status_code, codes(refused)) == (405, ["method_not_allowed"])
    assert (asked.status_code, asked.content) == (204, b"")
    assert refused.headers["Allow"] == asked.headers["Allow"] == allowed


def test_apart_each_api_has_its_own_routes_alone(desk: Desk) -> None:
    """The read API takes no writes and has no admin; the write API answers no queries."""
    writer = desk.make("things", raw_queries_allowed=True)
    reading, writing = desk.clients(apis="read"), desk.clients(apis="write")
    assert writing.post("/things", headers=writer, json={"_id": "x"}).status_code == 200
    assert reading.get("/things").json() == {"data": [{"_id": "x"}]}
    assert writing.get("/things").status_code == 405
    assert reading.post("/things", headers=writer, json=[]).status_code == 405
    assert reading.get("/_buckets", headers=desk.admin).status_code == 404
    assert reading.patch("/things/x", headers=writer, json={"aa": 1}).status_code == 404
    assert writing.get("/_status/buckets").status_code == 404


def test_a_batch_of_ever_new_fields_is_refused_at_once(desk: Desk) -> None:
    """Names that vary where values should: no table is made of them."""
    token = desk.make("things")
    for prefix in ("f", "0"):
        rows = [{f"{prefix}{n}": 1} for n in range(20_000)]
        answer = desk.client.post("/things", headers=token, json=rows)
        assert answer.status_code == 400
        assert answer.json()["errors"][0]["code"] == "too_many_fields"


def test_a_bucket_may_have_a_thousand_fields(desk: Desk) -> None:
    """Over all its records; a PUT begins anew."""
    token = desk.make("things")

    def post(names: range, method: str = "POST") -> int:
        row = {f"field_{n}": n for n in names}
        return desk.client.request(method, "/things", headers=token, json=[row]).status_code

    assert post(range(600)) == 200
    assert post(range(400, 1_000)) == 200
    assert post(range(1_000, 1_001)) == 400
    assert post(range(999)) == 200
    assert post(range(1_000, 2_000), "PUT") == 200
    assert post(range(1_001), "PUT") == 400


# -- writes that are sent again ----------------------------------------------------------------

KEY = {"Idempotency-Key": '"8e03978e-40d5"'}
REPLAYED = "Idempotency-Replayed"


@pytest.fixture
def x_stored(desk: Desk, writer: dict[str, str]) -> dict[str, str]:
    desk.client.post("/things", headers=writer, json={"_id": "x"})
    return writer


@pytest.mark.parametrize(
    ("method", "path", "body", "left"),
    [
        ("POST", "/things", [{"aa": 1}, {"aa": 2}], 3),
        ("PUT", "/things", [{"aa": 1}, {"aa": 2}], 2),
        ("PUT", "/things", [], 0),
        ("PATCH", "/things/x", {"aa": 1}, 1),
    ],
)
def test_a_write_of_a_known_key_is_made_once(
    desk: Desk, x_stored: dict[str, str], method: str, path: str, body: Any, left: int
) -> None:
    """The first answer comes again, with a header that says so, under the second address too,
    whichever way the body is packed, for a day, and whatever was written meanwhile."""
    pair = {"data_group": "civic", "data_type": "things"}
    desk.client.patch("/_buckets/things", headers=desk.admin, json=pair)
    first = desk.client.request(method, path, headers=x_stored | KEY, json=body)
    assert (first.status_code, REPLAYED in first.headers) == (200, False)
    assert len(stored(desk)) == left
    desk.client.post("/things", headers=x_stored, json={"_id": "x", "bb": 1})
    found = stored(desk)
    packed = gzip.compress(json.dumps(body, separators=(",", ":")).encode())
    desk.clock.move(24 * 3600 - 1)
    for address in (path, path.replace("/things", "/data/civic/things", 1)):
        headers = x_stored | KEY | JSON | {"Content-Encoding": "gzip"}
        again = desk.client.request(method, address, headers=headers, content=packed)
        assert (again.status_code, again.content) == (200, first.content)
        assert again.headers[REPLAYED] == "true"
        assert stored(desk) == found
    desk.clock.move(1)
    last = desk.client.request(method, path, headers=x_stored | KEY, json=body)
    assert (last.status_code, REPLAYED in last.headers) == (200, False)
    assert stored(desk) != found


def test_another_request_of_a_known_key_is_refused(desk: Desk, x_stored: dict[str, str]) -> None:
    """Another body, method or record: 422, and nothing is stored; errors keep no key."""
    headers = x_stored | KEY
    for refused in ([{"aa": []}], [{"_id": " "}]):
        assert desk.client.post("/things", headers=headers, json=refused).status_code == 400
    assert desk.client.patch("/things/y", headers=headers, json={"aa": 1}).status_code == 404
    assert desk.client.post("/things", headers=headers, json=[]).status_code == 200
    assert desk.client.post("/things", headers=headers, json=[{"_id": "y"}]).status_code == 200
    for method, path, body in (
        ("POST", "/things", [{"_id": "z"}]),
        ("POST", "/things", []),
        ("PUT", "/things", [{"_id": "y"}]),
        ("PATCH", "/things/x", [{"_id": "y"}]),
        ("POST", "/things", [{"aa": []}]),
    ):
        answer = desk.client.request(method, path, headers=headers, json=body)
        assert (answer.status_code, codes(answer)) == (422, ["idempotency_key_reused"])
    assert stored(desk) == [{"_id": "x"}, {"_id": "y"}]


def test_a_key_is_its_buckets(desk: Desk, x_stored: dict[str, str]) -> None:
    """Another bucket may use it for something else, and so may one made anew under the name."""
    assert desk.client.post("/things", headers=x_stored | KEY, json={"_id": "y"}).is_success
    others = desk.make("others")
    assert desk.client.post("/others", headers=others | KEY, json={"aa": 1}).is_success
    desk.client.delete("/_buckets/things", headers=desk.admin)
    anew = desk.make("things", raw_queries_allowed=True)
    answer = desk.client.post("/things", headers=anew | KEY, json={"_id": "z"})
    assert (answer.status_code, REPLAYED in answer.headers) == (200, False)
    assert stored(desk) == [{"_id": "z"}]


def test_of_requests_at_once_one_writes(desk: Desk, x_stored: dict[str, str]) -> None:
    """All get the same answer, and one of them is not told that it was given before."""

    def post(_: int) -> Any:
        return desk.client.post("/things", headers=x_stored | KEY, json=[{"aa": 1}, {"aa": 2}])

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(post, range(8)))
    assert {(one.status_code, one.content) for one in answers} == {
        (200, b'{"status":"ok","records":2}')
    }
    assert sum(REPLAYED in one.headers for one in answers) == 7
    assert len(stored(desk)) == 3


def test_only_who_may_write_learns_of_a_key(desk: Desk, x_stored: dict[str, str]) -> None:
    """The token is asked for first; another write token of the bucket gets the answer too."""
    body = {"_id": "y"}
    assert desk.client.post("/things", headers=x_stored | KEY, json=body).is_success
    assert desk.client.post("/things", headers=KEY, json=body).status_code == 401
    others = desk.make("others")
    assert desk.client.post("/things", headers=others | KEY, json=body).status_code == 403
    second = desk.token("things", scope="write")
    assert desk.client.post("/things", headers=second | KEY, json=body).headers[REPLAYED] == "true"


@pytest.mark.parametrize(
    ("quoted", "bare"),
    [
        (r'"a"', "a"),
        (r'"k/1:2=é"'.replace("é", "e"), "k/1:2=e"),
        ('"' + "x" * 255 + '"', "x" * 255),
    ],
)
def test_a_key_is_the_same_with_quotes_and_without(
    desk: Desk, x_stored: dict[str, str], quoted: str, bare: str
) -> None:
    for key, replayed in ((quoted, None), (bare, "true")):
        headers = x_stored | {"Idempotency-Key": key}
        answer = desk.client.post("/things", headers=headers, json={"aa": 1})
        assert (answer.status_code, answer.headers.get(REPLAYED)) == (200, replayed)


@pytest.mark.parametrize(
    "key",
    [
        *("", '""', '"', '"a', 'a"', "a b", "a,b", '"a", "b"', "a;b", '"a";b=1', "a\\b", r'"\n"'),
        *('"é"', "é", '"a\tb"', "x" * 256, '"' + "x" * 256 + '"', '"' + r"\"" * 256 + '"'),
    ],
)
def test_a_malformed_key_is_refused(desk: Desk, x_stored: dict[str, str], key: str) -> None:
    """With what was expected; nothing is stored."""
    headers = [*x_stored.items(), ("Idempotency-Key", key.encode("latin-1"))]
    for method, path in (("POST", "/things"), ("PUT", "/things"), ("PATCH", "/things/x")):
        answer = desk.client.request(method, path, headers=headers, json={"aa": 1})  # type: ignore[arg-type]
        assert (answer.status_code, codes(answer)) == (400, ["invalid_idempotency_key"])
        assert "1 to 255 printable ASCII characters" in answer.json()["message"]
    assert stored(desk) == [{"_id": "x"}]


def test_more_than_one_key_is_refused(desk: Desk, x_stored: dict[str, str]) -> None:
    headers = [*x_stored.items(), *KEY.items(), *KEY.items()]
    answer = desk.client.post("/things", headers=headers, json={"aa": 1})  # type: ignore[arg-type]
    assert (answer.status_code, codes(answer)) == (400, ["invalid_idempotency_key"])
    assert "more than one" in answer.json()["message"]


def test_a_quoted_key_may_hold_blanks_quotes_and_backslashes(
    desk: Desk, x_stored: dict[str, str]
) -> None:
    keys = [r'"a \"b\" \\ c"', '" "', '"' + r"\"" * 255 + '"']
    for key in keys:
        for replayed in (None, "true"):
            headers = x_stored | {"Idempotency-Key": key}
            answer = desk.client.post("/things", headers=headers, json={"aa": 1})
            assert (answer.status_code, answer.headers.get(REPLAYED)) == (200, replayed)
    assert len(stored(desk)) == 1 + len(keys)
