"""Limits on queries and requests, each with an answer that names it."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from starlette.testclient import TestClient

from backdrop.api.body import Limits
from backdrop.api.metrics import MetricsWish
from backdrop.api.throttle import TokenBuckets
from backdrop.asgi import create_app
from backdrop.copying import copy_store
from backdrop.domain.bucket import Bucket
from backdrop.domain.table import Records
from backdrop.errors import StorageUnavailable
from backdrop.observe import ServerFault
from backdrop.storage.duckdb.engine import DuckDBStorage
from backdrop.storage.memory import MemoryStorage
from backdrop.storage.mongodb.engine import MongoDBStorage
from backdrop.storage.open import open_storage, opener
from backdrop.storage.port import Reading, Storage
from tests.api.conftest import Clock, Desk, bearer, codes
from tests.storage import mongodb as server

# -- the time of a query -----------------------------------------------------------------------

SLOW = (
    "group_by=aa&collect=bb:set&collect=cc:set&collect=bb:sum&limit=1",
    "group_by=cc&collect=aa:max&limit=1&format=csv",
    "sort_by=aa:descending",  # with a limit, the few first are found too fast to be cut off
)


def filled(storage: Storage, records: int) -> Storage:
    storage.put_bucket(Bucket(name="things", raw_queries_allowed=True))
    numbers = range(records)
    columns: dict[str, Any] = {
        "_id": [f"{n}" for n in numbers],
        "aa": [f"{n * 7_919 % records:x}" for n in numbers],
        "bb": [n * 31 % 1_009 for n in numbers],
        "cc": [f"value {n}" for n in numbers],
    }
    storage.save("things", Records(columns, received=records))
    return storage


@pytest.fixture(scope="module")
def duckdb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    path: Path = tmp_path_factory.mktemp("limits") / "store.duckdb"
    with closing(DuckDBStorage(path)) as storage:
        yield filled(storage, 300_000)


@pytest.fixture(scope="module")
def on_mongodb(mongodb: str) -> Iterator[Storage]:
    url = server.database(mongodb)
    with closing(MongoDBStorage(url)) as storage:
        yield filled(storage, 20_000)
    server.drop(url)


@pytest.fixture(params=["duckdb", "mongodb"])
def storage(request: pytest.FixtureRequest) -> Storage:
    name = "on_mongodb" if request.param == "mongodb" else request.param
    found: Storage = request.getfixturevalue(name)
    return found


def past_its_time(client: TestClient, url: str) -> httpx2.Response:
    """The answer, or that to the same again: an interrupt between two statements is lost, and the
    next one may find the work done.
    """
    for _ in range(10):
        answer = client.get(url)
        if answer.status_code != 200:
            break
    return answer


@pytest.mark.parametrize("query", SLOW)
def test_a_query_past_its_time_is_ended_and_says_so(
    desk: Desk, storage: Storage, query: str
) -> None:
    """The bound is named; it is nobody's fault; and the store goes on to answer."""
    slow = desk.clients(storage=storage, limits=Limits(query_seconds=0.002, cached_answers=1))
    for _ in range(3):
        answer = past_its_time(slow, f"/things?{query}")
        assert (answer.status_code, codes(answer)) == (503, ["query_too_slow"]), answer.text
        assert "0.002 seconds" in answer.json()["message"]
        assert int(answer.headers["Retry-After"]) > 0
    assert not any(isinstance(one, ServerFault) for one in desk.seen)
    assert slow.get("/_status").status_code == 200
    patient = desk.clients(storage=storage)
    assert patient.get(f"/things?{query}").status_code == 200


def test_on_mongodb_records_in_their_own_order_have_the_bound_too(
    desk: Desk, on_mongodb: Storage
) -> None:
    """The first page takes long where no record matches: all are looked at."""
    slow = desk.clients(storage=on_mongodb, limits=Limits(query_seconds=0.002))
    answer = slow.get("/things?filter_by=bb:none")
    assert (answer.status_code, codes(answer)) == (503, ["query_too_slow"]), answer.text
    assert desk.clients(storage=on_mongodb).get("/things?filter_by=bb:none").json() == {"data": []}


def test_one_that_is_ended_does_not_end_those_beside_it(desk: Desk, storage: Storage) -> None:
    """They have cursors of their own, which go from one query to the next."""
    slow = desk.clients(storage=storage, limits=Limits(query_seconds=0.002))
    patient = desk.clients(storage=storage, limits=Limits(query_seconds=60, cached_answers=1))
    statuses: dict[str, set[int]] = {"slow": set(), "patient": set()}

    def ask(name: str, query: str) -> None:
        client = slow if name == "slow" else patient
        for _ in range(8):
            statuses[name].add(client.get(f"/things?{query}").status_code)

    threads = [threading.Thread(target=ask, args=("slow", SLOW[0])) for _ in range(2)]
    threads += [
        threading.Thread(target=ask, args=("patient", "filter_by=bb:5&sort_by=aa:ascending"))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == {"slow": {503}, "patient": {200}}


# -- queries at once ---------------------------------------------------------------------------


class Held(MemoryStorage):
    """A store whose groups come when they are let go."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = threading.Event()

    def groups(self, *given: Any, **named: Any) -> Any:
        assert self.let_go.wait(30)
        return super().groups(*given, **named)


@pytest.mark.parametrize("waiting", [0, 1, 3])
def test_queries_past_the_queue_are_refused(waiting: int) -> None:
    """At once, and those that run or wait are answered; what costs no query is not refused."""
    storage = Held()
    storage.put_bucket(Bucket(name="things", raw_queries_allowed=True))
    app = create_app(
        storage,
        observe=lambda _: None,
        limits=Limits(readers=1, waiting_queries=waiting),
        metrics=MetricsWish(token="watcher-token"),  # noqa: S106  of this test alone
    )
    statuses: list[int] = []

    async def ask() -> None:
        async with httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=app), base_url="http://test"
        ) as client:

            async def get(number: int) -> None:
                answer = await client.get(f"/things?group_by=a{number}")
                statuses.append(answer.status_code)

            async def measured() -> tuple[bool, bool]:
                answer = await client.get("/_metrics", headers=bearer("watcher-token"))
                lines = answer.text.splitlines()
                return (
                    "backdrop_queries 1.0" in lines,
                    f"backdrop_queries_waiting {waiting:.1f}" in lines,
                )

            async with anyio.create_task_group() as group:
                for number in range(1 + waiting):
                    group.start_soon(get, number)
                with anyio.fail_after(30):
                    while await measured() != (True, True):
                        await anyio.sleep(0.01)
                refused = await client.get("/things?group_by=zz")
                assert (refused.status_code, codes(refused)) == (429, ["too_many_queries"])
                assert refused.headers["Retry-After"] == "1"
                wait = "1 waits" if waiting == 1 else f"{waiting} wait"
                message = f"1 query runs here (max_queries) and {wait} (max_waiting)"
                assert message in refused.json()["message"]
                assert (await client.get("/_status")).status_code == 200
                storage.let_go.set()
            assert (await client.get("/things?group_by=zz")).status_code == 200

    anyio.run(ask)
    assert statuses == [200] * (1 + waiting)


# -- requests a second -------------------------------------------------------------------------


def test_requests_a_second_are_bounded_by_address(desk: Desk) -> None:
    """Whatever they ask, but for the status; a second later there are as many again."""
    client = desk.clients(limits=Limits(requests_a_second=3))
    for _ in range(2):
        statuses = [client.get(path).status_code for path in ("/xx", "/_docs", "/_buckets")]
        assert statuses == [404, 200, 401]
        refused = client.get("/_docs")
        assert (refused.status_code, codes(refused)) == (429, ["too_many_requests"])
        assert refused.headers["Retry-After"] == "1"
        assert refused.headers["Access-Control-Allow-Origin"] == "*"
        assert "this address may send 3 requests a second" in refused.json()["message"]
        assert client.get("/_status").status_code == 200
        desk.clock.move(1)
    for _ in range(2):
        assert client.get("/_docs").status_code == 200
    desk.clock.move(1 / 3 + 0.001)
    assert [client.get("/_docs").status_code for _ in range(3)] == [200, 200, 429]


def test_requests_a_second_are_bounded_by_token(desk: Desk) -> None:
    """From whatever address it comes; others are not held up by it."""
    writer, other = desk.make("things"), desk.make("others")
    app = create_app(
        desk.storage,
        now=desk.clock,
        observe=lambda _: None,
        limits=Limits(requests_a_second=2),
    )

    async def post(address: str, headers: dict[str, str], bucket: str) -> httpx2.Response:
        transport = httpx2.ASGITransport(app=app, client=(address, 1))
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.post(f"/{bucket}", headers=headers, json=[{"aa": 1}])

    async def ask() -> None:
        for number in range(2):
            assert (await post(f"10.0.0.{number}", writer, "things")).status_code == 200
        token = writer["Authorization"].removeprefix("Bearer ")
        for number, spelt in enumerate((f"bEARER {token}", f"Bearer   {token}  ")):
            again = await post(f"10.0.1.{number}", {"Authorization": spelt}, "things")
            assert again.status_code == 429
        refused = await post("10.0.0.9", writer, "things")
        assert (refused.status_code, codes(refused)) == (429, ["too_many_requests"])
        assert "this token may send 2 requests a second" in refused.json()["message"]
        assert (await post("10.0.0.9", other, "others")).status_code == 200

    anyio.run(ask)
    assert desk.storage.state("things").records == 2


def test_there_is_no_bound_unless_it_is_set(desk: Desk) -> None:
    assert {desk.client.get("/_docs").status_code for _ in range(100)} == {200}


def test_buckets_of_tokens_take_no_more_memory_than_is_said() -> None:
    """The one that was not heard of for longest goes, and is full when it comes back."""
    clock = Clock()
    buckets = TokenBuckets(1, clock=clock, most_known=3)
    assert [buckets.take(name) for name in ("a", "b", "c", "a", "d", "a")] == [0, 0, 0, 1, 0, 1]
    assert [buckets.take(name) for name in ("c", "b")] == [1, 0]


def test_a_clock_that_is_set_back_fills_nothing_and_empties_nothing() -> None:
    clock = Clock()
    buckets = TokenBuckets(2, clock=clock)
    assert buckets.take("a") == 0
    clock.move(-3_600)
    assert [buckets.take("a"), buckets.take("a")] == [0, 0.5]
    clock.move(0.5)
    assert buckets.take("a") == 0


# -- the time of a body ------------------------------------------------------------------------


def test_a_byte_now_and_then_is_too_slow(desk: Desk) -> None:
    """A client that sends one before each limit on silence meets the one on its rate."""
    writer = desk.make("things")
    limits = Limits(body_grace=0.2, bytes_a_second=1_000)
    app = create_app(desk.storage, observe=desk.seen.append, limits=limits)

    async def dripping() -> AsyncIterator[bytes]:
        for byte in b'[{"aa": 1}]':
            await anyio.sleep(0.1)
            yield bytes([byte])

    async def post() -> httpx2.Response:
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            headers = {**writer, "Content-Type": "application/json"}
            return await client.post("/things", headers=headers, content=dripping())

    answer = anyio.run(post)
    assert (answer.status_code, codes(answer)) == (408, ["body_too_slow"])
    assert "1,000 bytes a second" in answer.json()["message"]
    assert "min_body_rate" in answer.json()["message"]
    assert desk.storage.state("things").records == 0


def test_a_body_may_take_as_long_as_its_rate_allows(desk: Desk) -> None:
    writer = desk.make("things")
    limits = Limits(body_grace=60, bytes_a_second=1)
    client = desk.clients(limits=limits)
    assert client.post("/things", headers=writer, json=[{"aa": 1}]).status_code == 200


class BreaksAtTheEnd(MemoryStorage):
    """A store that is gone by the time that a reading is left."""

    @contextmanager
    def records(self, *arguments: Any, **more: Any) -> Iterator[Reading]:
        with super().records(*arguments, **more) as reading:
            yield reading
        raise StorageUnavailable("gone")


def test_a_streamed_answer_that_ends_badly_gives_its_place_back(desk: Desk) -> None:
    storage = filled(BreaksAtTheEnd(), 5_000)
    limits = Limits(streams=1, waiting_queries=0, query_seconds=0.1, cached_answers=1)
    client = desk.clients(storage=storage, limits=limits, raises=False)
    assert [client.get("/things").status_code for _ in range(3)] == [200, 200, 200]


# -- the fields of a bucket --------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["memory", "duckdb", "mongodb"])
def test_a_bucket_has_as_many_fields_as_are_set(
    desk: Desk, tmp_path: Path, request: pytest.FixtureRequest, engine: str
) -> None:
    """By each way of writing; the answer names the setting, and what was there stays."""
    url = {"memory": "memory:", "duckdb": f"duckdb://{tmp_path}/store.duckdb"}.get(engine)
    url = url or server.database(request.getfixturevalue("mongodb"))
    with closing(opener(url, most_fields=3)()) as storage:
        client = desk.clients(storage=storage)
        made = client.put("/_buckets/things", headers=desk.admin, json={})
        send = partial(client.request, url="/things", headers=bearer(made.json()["token"]))
        assert send("POST", json=[{"_id": "a", "aa": 1, "bb": 1}, {"cc": 1}]).status_code == 200
        refused = [
            send("POST", json={"dd": 1}),
            send("POST", json=[{"_id": f"{n}", f"f{n}": 1} for n in range(20)]),
            send("PUT", json={name * 2: 1 for name in "abcd"}),
            send("PATCH", url="/things/a", json={"dd": 1}),
        ]
        for answer in refused:
            assert (answer.status_code, codes(answer)) == (400, ["too_many_fields"])
            assert "may have 3 (max_fields)" in answer.json()["message"]
        assert storage.state("things").records == 2
    if engine == "mongodb":
        server.drop(url)


def test_more_fields_than_a_thousand_can_be_had_and_copied(desk: Desk, tmp_path: Path) -> None:
    """A command that copies a store asks no setting: what is there was let in."""
    wide = {f"field_{n}": n for n in range(1_100)}
    url = f"duckdb://{tmp_path}/store.duckdb"
    with closing(opener(url, most_fields=1_100)()) as storage:
        client = desk.clients(storage=storage)
        made = client.put("/_buckets/things", headers=desk.admin, json={})
        writer = bearer(made.json()["token"])
        assert client.post("/things", headers=writer, json=wide).status_code == 200
        assert client.post("/things", headers=writer, json={"more": 1}).status_code == 400
    copy = f"duckdb://{tmp_path}/copy.duckdb"
    with closing(open_storage(url)) as source, closing(open_storage(copy)) as destination:
        (outcome,) = copy_store(source, destination, replacing=False, progress=lambda *_: None)
        assert outcome.difference is None
