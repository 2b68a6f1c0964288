"""What stands around every request: ids, log lines, CORS, faults, and that no token gets out."""

from __future__ import annotations

import asyncio
import io
import json
import re
import subprocess
import sys
from datetime import datetime, timedelta
from typing import Any

import anyio
import msgspec
import pytest
import structlog
from starlette.responses import Response
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from backdrop import __version__
from backdrop.api import errors as api_errors
from backdrop.api.errors import error_answer
from backdrop.api.middleware import ErrorAnswers, Observed
from backdrop.asgi import create_app
from backdrop.domain.bucket import Bucket
from backdrop.errors import BackdropError, StorageUnavailable
from backdrop.observe import (
    Observation,
    RequestAnswered,
    ServerFault,
    Started,
    StoreAway,
    json_lines,
)
from backdrop.storage.memory import MemoryStorage
from tests.api.conftest import Desk, codes


class Away(MemoryStorage):
    """A store whose database is gone."""

    def buckets(self) -> list[Bucket]:
        raise StorageUnavailable("the store does not answer") from OSError("no primary")


class Faulty(MemoryStorage):
    """A store with a mistake in it."""

    def buckets(self) -> Any:
        raise KeyError("a detail of ours")

    def state(self, name: str) -> Any:  # noqa: ARG002
        raise KeyError("a detail of ours")


# -- ids ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["a", "A-b_9", "x" * 64])
def test_a_clients_request_id_is_kept(desk: Desk, given: str) -> None:
    """It is echoed and logged, so that both sides can name the request."""
    answer = desk.client.get("/_status", headers={"Request-Id": given})
    assert answer.headers.get_list("Request-Id") == [given]
    line = desk.seen[-1]
    assert isinstance(line, RequestAnswered)
    assert line.request_id == given


@pytest.mark.parametrize("given", [None, "", "a b", "x" * 65, "<b>", "a\tb", "é"])
def test_another_request_id_is_replaced(desk: Desk, given: str | None) -> None:
    """What has not the form of one does not get into logs and headers."""
    headers = [] if given is None else [(b"Request-Id", given.encode("latin-1"))]
    ids = {desk.client.get("/_status", headers=headers).headers["Request-Id"] for _ in range(2)}
    assert len(ids) == 2
    assert given not in ids


@pytest.mark.parametrize("path", ["/_status", "/missing", "/_buckets", "/_x"])
def test_every_answer_forbids_guessing_its_type(desk: Desk, path: str) -> None:
    """nosniff is on all, errors too."""
    assert desk.client.get(path).headers["X-Content-Type-Options"] == "nosniff"


# -- CORS --------------------------------------------------------------------------------------

READS = ("/things", "/missing", "/things?foo=1", "/data/gg/tt", "/_status", "/_status/buckets")


@pytest.mark.parametrize("path", [*READS, "/_x", "/"])
@pytest.mark.parametrize("apis", ["both", "read"])
def test_every_answer_of_the_read_api_is_open_to_all_origins(
    desk: Desk, apis: str, path: str
) -> None:
    """Errors too, and HEAD and OPTIONS."""
    desk.make("things", read_token_required=True)
    client = desk.clients(apis=apis)
    for method in ("GET", "HEAD", "OPTIONS"):
        answer = client.request(method, path, headers={"Origin": "https://example.org"})
        assert answer.headers.get_list("Access-Control-Allow-Origin") == ["*"]


@pytest.mark.parametrize("path", READS)
def test_preflights_are_answered(desk: Desk, path: str) -> None:
    """For a day, with the headers that readers send, for reading alone."""
    asks = {"Origin": "https://example.org", "Access-Control-Request-Method": "GET"}
    answer = desk.client.options(path, headers=asks)
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["Access-Control-Max-Age"] == "86400"
    assert answer.headers["Access-Control-Allow-Methods"] == "GET, HEAD, OPTIONS"
    allowed = set(answer.headers["Access-Control-Allow-Headers"].split(", "))
    assert allowed == {"cache-control", "authorization", "if-none-match", "request-id"}


def test_writing_and_the_admin_are_not_open_to_pages(desk: Desk) -> None:
    """No answer of the write API or the admin API has the headers."""
    writer = desk.make("things")
    answers = [
        desk.client.post("/things", headers=writer, json=[]),
        desk.client.get("/_buckets", headers=desk.admin),
        desk.client.options("/_buckets/things"),
        desk.clients(apis="write").get("/_status"),
        desk.clients(apis="write").options("/things"),
    ]
    assert not any("Access-Control-Allow-Origin" in answer.headers for answer in answers)


def test_of_the_read_api_alone_every_answer_is_open(desk: Desk) -> None:
    """Whatever is sent to it."""
    answer = desk.clients(apis="read").post("/things", json=[])
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (405, "*")


# -- faults ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/things?aa=1", "/_buckets"])
def test_a_fault_of_ours_is_a_500_without_internals(desk: Desk, path: str) -> None:
    """It has the request's id, in body and header, under which the log tells the rest."""
    client = desk.clients(storage=Faulty(), raises=False)
    answer = client.get(path, headers=desk.admin)
    assert (answer.status_code, codes(answer)) == (500, ["internal_error"])
    assert answer.json()["request_id"] == answer.headers["Request-Id"]
    assert "detail" not in answer.text
    fault, line = desk.seen[-2:]
    assert isinstance(fault, ServerFault)
    assert isinstance(fault.exception, KeyError)
    assert isinstance(line, RequestAnswered)
    assert fault.request_id == line.request_id == answer.json()["request_id"]
    assert line.status == 500


def test_a_store_that_is_away_is_one_short_line(desk: Desk) -> None:
    """Of each request: an outage has many, and none of them is a fault of the program."""
    client = desk.clients(storage=Away(), raises=False)
    assert client.get("/_buckets", headers=desk.admin).status_code == 503
    away, line = desk.seen[-2:]
    assert isinstance(away, StoreAway)
    assert away.reason == "no primary"
    assert isinstance(line, RequestAnswered)
    assert (line.status, line.request_id) == (503, away.request_id)


def test_every_error_has_a_status() -> None:
    """Each exception of the tree is in the one table, itself or by what it derives from."""

    def below(kind: type[BackdropError]) -> list[type[BackdropError]]:
        return [kind, *(deeper for child in kind.__subclasses__() for deeper in below(child))]

    for kind in below(BackdropError)[1:]:
        assert any(parent in api_errors.STATUSES for parent in kind.__mro__), kind


def test_a_root_error_is_a_fault() -> None:
    """An error that nobody gave a status tells nothing."""
    answer = api_errors.error_answer(BackdropError("a detail of ours"), request_id="x")
    assert answer.status_code == 500
    assert b"detail" not in answer.body


def test_a_client_that_leaves_while_it_sends_is_told_so_if_it_is_there(desk: Desk) -> None:
    """It may have said that nothing follows; it is no fault of ours."""
    writer = desk.make("things")
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/things",
        "query_string": b"",
        "headers": [
            (b"authorization", writer["Authorization"].encode()),
            (b"content-type", b"application/json"),
        ],
    }
    anyio.run(create_app(desk.storage, observe=desk.seen.append), scope, receive, send)
    start, body = sent
    assert (b"connection", b"close") in start["headers"]
    assert b"body_broke_off" in body["body"]
    line = desk.seen[-1]
    assert isinstance(line, RequestAnswered)
    assert line.status == start["status"] == 400
    assert not any(isinstance(one, ServerFault) for one in desk.seen)


def test_websockets_are_closed(desk: Desk) -> None:
    """There are none here."""
    with pytest.raises(WebSocketDisconnect), desk.client.websocket_connect("/things"):
        pass


def test_the_start_is_observed_and_the_store_outlives_the_application(desk: Desk) -> None:
    """The lifespan says that it began; the store is its owner's to close."""
    with desk.client:
        assert desk.seen == [Started(apis="both", version=__version__)]
    desk.storage.check()


# -- the log -----------------------------------------------------------------------------------


def test_no_answer_and_no_log_line_holds_a_token() -> None:
    """Right or wrong, in headers, bodies, paths or query strings: tokens stay with who has them."""
    log = io.StringIO()
    storage, admin = MemoryStorage(), "admin-Zq8rT2vLw9"
    client = TestClient(create_app(storage, admin_token=admin, observe=json_lines(log)))
    headers = {"Authorization": f"Bearer {admin}"}
    own, wrong = "own-token-Xy7kP4", "wrong-token-Bn3mQ6"
    client.put("/_buckets/things", headers=headers, json={"token": own})
    made = client.post("/_buckets/things/tokens", headers=headers, json={"scope": "read"}).json()
    texts = []
    for token in (admin, own, wrong, made["token"]):
        headers = {"Authorization": f"Bearer {token}"}
        for method, path in (
            ("POST", "/things"),
            ("POST", "/missing"),
            ("GET", "/_buckets/things/tokens"),
            ("PATCH", "/_buckets/things"),
            ("GET", f"/things?group_by=aa&filter_by=aa:{token}"),
            ("DELETE", "/things/x"),
        ):
            body = {"token": token} if path.startswith("/_") else [{"aa": 1}]
            texts.append(client.request(method, path, headers=headers, json=body).text)
        client.get(f"/{token}")
    held = "\n".join([*texts, log.getvalue()])
    assert len(log.getvalue().splitlines()) == 2 + 4 * 7
    for token in (admin, own, wrong, made["token"]):
        assert token not in held


def test_the_log_tells_which_bucket_an_admin_changed(desk: Desk) -> None:
    """Only one that there is, or was until then."""
    desk.make("things")
    asked = [
        ("PATCH", "/_buckets/things", 200),
        ("GET", "/_buckets/things/tokens", 200),
        ("GET", "/_buckets/nowhere", 404),
        ("DELETE", "/_buckets/things", 200),
    ]
    desk.seen.clear()
    for method, path, _ in asked:
        desk.client.request(method, path, headers=desk.admin, json={"realtime": True})
    answered = [one for one in desk.seen if isinstance(one, RequestAnswered)]
    assert [(one.status, one.bucket) for one in answered] == [
        (status, "things" if status == 200 else None) for _, _, status in asked
    ]


def test_who_is_cut_off_at_a_stop_gets_an_answer_of_ours() -> None:
    """A request whose task is cancelled before its answer began."""
    seen: list[Observation] = []
    sent: list[Any] = []

    async def handler(scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG001
        await asyncio.sleep(60)

    def answer(_: Any, error: Exception, request_id: str) -> Response:
        return error_answer(error, request_id=request_id)

    async def send(message: Any) -> None:
        sent.append(message)

    async def ask() -> None:
        answered = ErrorAnswers(handler, answer=answer, observe=seen.append)
        app = Observed(answered, observe=seen.append, is_open=lambda _: False)
        scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
        task = asyncio.create_task(app(scope, asyncio.Event().wait, send))  # type: ignore[arg-type]
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(ask())
    start, body = sent
    assert start["status"] == 503
    assert dict(start["headers"])[b"retry-after"]
    assert json.loads(body["body"])["errors"][0]["code"] == "storage_unavailable"
    (line,) = (one for one in seen if isinstance(one, RequestAnswered))
    assert (line.status, line.broken) == (503, False)


def test_log_lines_are_json_with_a_level() -> None:
    """A user's error is info and ours is error, with a traceback that shows no variables."""
    log = io.StringIO()
    observe = json_lines(log)
    secret = "in a variable"  # noqa: S105
    try:
        raise KeyError("what went wrong", len(secret))
    except KeyError as error:
        fault = ServerFault(request_id="x", exception=error)
    observations: list[Observation] = [
        Started(apis="both", version="1"),
        RequestAnswered(
            method="GET", route="/{bucket}", bucket=None, status=404, seconds=0.1, request_id="x"
        ),
        fault,
    ]
    for one in observations:
        observe(one)
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [(line["level"], line["event"]) for line in lines] == [
        ("info", "started"),
        ("info", "request"),
        ("error", "fault"),
    ]
    assert lines[1]["route"] == "/{bucket}"
    assert "what went wrong" in lines[2]["exception"]
    assert secret not in log.getvalue()
    assert all(line["timestamp"].endswith("Z") for line in lines)


@pytest.mark.parametrize("bucket", [None, 'é"\\'])
def test_a_requests_line_is_what_structlog_makes_of_it(bucket: str | None) -> None:
    """Byte for byte: it is only rendered faster."""
    log, by_structlog = io.StringIO(), io.StringIO()
    fields: dict[str, Any] = {
        "method": "GET",
        "route": "/{bucket}",
        "bucket": bucket,
        "status": 200,
        "seconds": 0.000123,
        "request_id": "x",
        "rows": None,
        "bytes": 5,
        "broken": False,
    }
    json_lines(log)(RequestAnswered(**fields))
    processors = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.JSONRenderer(lambda line, **_: msgspec.json.encode(line).decode()),
    ]
    logger = structlog.wrap_logger(structlog.WriteLogger(by_structlog), processors=processors)
    logger.info("request", **fields)
    (ours, now), (theirs, then) = (
        text.getvalue().split('"timestamp":') for text in (log, by_structlog)
    )
    assert ours == theirs
    is_time = re.compile(r'"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z"}\n').fullmatch
    assert is_time(now)
    assert is_time(then)


def test_an_answer_that_came_to_its_end_is_not_told_as_broken(desk: Desk) -> None:
    """Streamed or not, an error or none, to HEAD too."""
    writer = desk.make("things", raw_queries_allowed=True)
    desk.client.post("/things", headers=writer, json=[{"aa": n} for n in range(3_000)])
    for method, path in (("GET", "/things"), ("HEAD", "/things"), ("GET", "/nowhere")):
        desk.client.request(method, path)
    answered = [one for one in desk.seen if isinstance(one, RequestAnswered)]
    assert [one.status for one in answered] == [201, 200, 200, 200, 404]
    assert not any(one.broken for one in answered)


def test_a_log_that_is_closed_stops_nothing(desk: Desk) -> None:
    """Answers matter more than their log lines."""
    log = io.StringIO()
    client = TestClient(create_app(desk.storage, observe=json_lines(log)))
    log.close()
    assert client.get("/_status").status_code == 200


def test_the_last_lines_of_a_forked_process_are_written() -> None:
    """Workers are such processes: they end without what Python does at an exit."""
    program = """
import multiprocessing
from backdrop.observe import Started, json_lines
work = lambda: json_lines()(Started(apis="both", version="0"))
process = multiprocessing.get_context("fork").Process(target=work)
process.start()
process.join(30)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert json.loads(done.stderr)["event"] == "started"


def test_lines_that_are_written_together_keep_their_order_and_their_times() -> None:
    """Those of requests are rendered later than the others."""
    program = """
import time
from backdrop.observe import RequestAnswered, Started, json_lines
observe = json_lines()
for number in range(3):
    observe(Started(apis="both", version=str(number)))
    observe(RequestAnswered(
        method="GET", route=None, bucket=None, status=404, seconds=0.1, request_id=str(number)
    ))
    time.sleep(0.002)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["event"] for line in lines] == ["started", "request"] * 3
    assert [line["request_id"] for line in lines[1::2]] == ["0", "1", "2"]
    times = [datetime.fromisoformat(line["timestamp"]) for line in lines]
    assert times == sorted(times)
    assert times[-1] - times[1] > timedelta(milliseconds=4)
