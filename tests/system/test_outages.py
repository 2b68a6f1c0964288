"""The database goes away and comes back: 503 soon, nothing half done, and no restart needed."""

from __future__ import annotations

import secrets
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from pymongo import MongoClient

from backdrop.domain.bucket import Bucket
from backdrop.domain.query import Query
from backdrop.errors import StorageUnavailable
from backdrop.storage.mongodb.engine import MongoDBStorage
from tests.eventually import eventually
from tests.live import BACKDROP, clean_environment, live_server
from tests.storage import mongodb
from tests.storage.contract import THINGS
from tests.storage.exact import batch, ids
from tests.storage.mongodb import Member, ReplicaSet

BOUND = 20
"""Seconds within which each answer must be there: twice what the docs say, for slow machines."""


@pytest.fixture(scope="module")
def members() -> Iterator[ReplicaSet]:
    with mongodb.members() as found:
        yield found


def kill(members: ReplicaSet) -> None:
    for member in members.members:
        member.kill()


def start(members: ReplicaSet) -> None:
    for member in members.members:
        member.start()


def pause(members: ReplicaSet) -> None:
    for member in members.members:
        member.pause()


def resume(members: ReplicaSet) -> None:
    for member in members.members:
        member.resume()


@contextmanager
def gone(members: ReplicaSet, *harmed: Member) -> Iterator[None]:
    """The set without those members, and without a primary."""
    for member in harmed:
        member.kill()
    try:
        left = [one for one in members.members if one not in harmed]
        eventually(lambda: not any(map(_is_primary, left)), seconds=60, every=0.05)
        yield
    finally:
        for member in harmed:
            member.start()
        members.primary()


def _is_primary(member: Member) -> bool:
    with MongoClient[dict[str, Any]]("127.0.0.1", member.port, directConnection=True) as client:
        return bool(client.admin.command("hello")["isWritablePrimary"])


@pytest.mark.parametrize(
    ("leave", "come_back"), [(kill, start), (pause, resume)], ids=["killed", "paused"]
)
def test_while_the_database_is_gone_every_answer_is_503(
    tmp_path: Path,
    members: ReplicaSet,
    leave: Callable[[ReplicaSet], None],
    come_back: Callable[[ReplicaSet], None],
) -> None:
    """Reads, writes and the status, on two workers, soon and with Retry-After; then 200 again."""
    admin = {"BACKDROP_ADMIN_TOKEN": secrets.token_urlsafe()}
    store = mongodb.database(members.url)
    arguments = ("serve", "--workers", "2", "--store", store)
    with (
        live_server(*arguments, cwd=tmp_path, env=admin) as server,
        httpx2.Client(base_url=server.url, timeout=BOUND) as client,
    ):
        token = server.run("bucket", "create", "things", "--raw-queries-allowed").stdout.strip()
        headers = {"Authorization": f"Bearer {token}"}

        def post(number: int) -> httpx2.Response:
            return client.post("/things", json={"_id": f"{number}"}, headers=headers)

        assert post(1).status_code == 200
        leave(members)
        answers: list[httpx2.Response] = []
        asked = [lambda: client.get("/things"), lambda: post(2), lambda: client.get("/_status")]
        threads = [
            threading.Thread(target=lambda ask=ask: answers.append(ask()))
            for ask in asked * 20  # more than there are threads for
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        answers += [ask() for ask in asked]
        come_back(members)
        assert len(answers) == len(threads) + len(asked)
        for answer in answers:
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
            assert answer.json()["errors"][0]["code"] == "storage_unavailable"
        eventually(lambda: client.get("/_status").status_code == 200, seconds=60, every=0.1)
        assert post(3).status_code == 200
        records = client.get("/things").json()["data"]
        assert [record["_id"] for record in records] == ["1", "3"]


def test_a_server_that_is_started_in_an_election_waits(tmp_path: Path, members: ReplicaSet) -> None:
    store = f"{mongodb.database(members.url)}&serverSelectionTimeoutMS=500"
    log = tmp_path / "log"
    with log.open("w") as stderr, gone(members, *members.members[:2]):
        process = subprocess.Popen(
            [BACKDROP, "read", "--port", "0", "--workers", "2", "--store", store],
            stderr=stderr,
            env=clean_environment(),
            cwd=tmp_path,
        )
        try:
            eventually(
                lambda: "waiting for one to be elected" in log.read_text(),
                seconds=60,
                said=log.read_text,
            )
            assert "ready" not in log.read_text()
            for member in members.members[:2]:
                member.start()
            eventually(lambda: "ready at" in log.read_text(), seconds=60, said=log.read_text)
        finally:
            process.terminate()
            process.wait(20)
    assert log.read_text().count("waiting for one") == 1


def test_a_copy_that_is_started_in_an_election_says_that_it_waits(
    tmp_path: Path, members: ReplicaSet
) -> None:
    store = f"{mongodb.database(members.url)}&serverSelectionTimeoutMS=500"
    log = tmp_path / "log"
    with log.open("w") as stderr, gone(members, *members.members[:2]):
        process = subprocess.Popen(
            [BACKDROP, "copy", store, "duckdb:copy.duckdb"],
            stderr=stderr,
            env=clean_environment(),
            cwd=tmp_path,
        )
        try:
            eventually(
                lambda: "waiting for one to be elected" in log.read_text(),
                seconds=60,
                said=log.read_text,
            )
        finally:
            process.kill()
            process.wait(20)


@pytest.fixture
def store(members: ReplicaSet) -> Iterator[MongoDBStorage]:
    with closing(MongoDBStorage(mongodb.database(members.url))) as storage:
        storage.put_bucket(THINGS)
        yield storage


@contextmanager
def failing(members: ReplicaSet, command: str, times: int, **how: object) -> Iterator[None]:
    """The primary fails such commands, or what follows them, so many times."""
    with MongoClient[dict[str, object]](members.url) as client:
        data = {"failCommands": [command], **how}
        client.admin.command(
            {"configureFailPoint": "failCommand", "mode": {"times": times}, "data": data}
        )
        yield


@pytest.mark.parametrize(
    "how",
    [
        {"closeConnection": True},
        {"errorCode": 91},  # it says that it is shutting down
        {"writeConcernError": {"code": 91, "errmsg": "committed, but who knows how far"}},
        {"errorCode": 251, "errorLabels": ["TransientTransactionError"]},  # gone: begin again
    ],
    ids=["no answer", "not done", "done, perhaps not for good", "given up"],
)
def test_a_commit_that_is_not_confirmed_is_asked_for_again(
    members: ReplicaSet, store: MongoDBStorage, how: dict[str, object]
) -> None:
    """Three times, which is more often than the driver does by itself; the batch is there once."""
    for place, write in enumerate((store.save, store.replace)):
        with failing(members, "commitTransaction", 3, **how):
            write("things", batch({"_id": f"a{place}"}, {"_id": f"b{place}"}))
    assert ids(store) == ["a1", "b1"]
    assert store.state("things").records == 2


@pytest.mark.parametrize(
    "how",
    [
        {"closeConnection": True},
        {"errorCode": 91},
        {"writeConcernError": {"code": 11602, "errmsg": "done, but it ceased to be the primary"}},
    ],
    ids=["no answer", "not done", "done, perhaps not for good"],
)
def test_a_collection_that_is_not_made_or_filled_is_asked_for_again(
    members: ReplicaSet, store: MongoDBStorage, how: dict[str, object]
) -> None:
    """As a commit is: an election doesn't show when a bucket is made, replaced or copied."""
    with failing(members, "createIndexes", 3, **how):
        store.put_bucket(Bucket(name="other"))
    with failing(members, "createIndexes", 3, **how):
        store.replace("things", batch({"_id": "a"}, {"_id": "0"}))
    with failing(members, "aggregate", 3, **how):
        store.save("things", batch(*({"_id": str(number)} for number in range(25_001))))
    assert len(ids(store)) == store.state("things").records == 25_002  # "0" was there


@pytest.mark.parametrize(
    ("command", "mode"),
    [("drop", {"times": 3}), ("findAndModify", {"skip": 1})],
    ids=["dropping fails", "looking for what to drop fails"],
)
def test_a_write_that_is_stored_says_so_whatever_happens_to_what_it_replaced(
    members: ReplicaSet, command: str, mode: dict[str, int]
) -> None:
    """Who is told that it was not would send it again, and store it twice."""
    url = mongodb.database(members.url)
    large = batch(*({"_id": str(n)} for n in range(25_001)))
    with (
        closing(MongoDBStorage(url, kept_for=timedelta(0))) as storage,
        MongoClient[dict[str, object]](members.url) as client,
    ):
        storage.put_bucket(THINGS)
        for write in (
            lambda: storage.replace("things", batch({"_id": "a"})),
            lambda: storage.save("things", large),
            lambda: storage.drop_bucket("things"),
        ):
            data = {"failCommands": [command], "errorCode": 91}
            fail = {"configureFailPoint": "failCommand", "mode": mode, "data": data}
            client.admin.command(fail)
            try:
                write()
            finally:
                client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})
        assert storage.buckets() == []


def test_a_user_without_rights_is_told_which_are_needed(members: ReplicaSet) -> None:
    """What the server says of it has the whole command in it."""
    url = mongodb.database(members.url)
    with (
        failing(members, "createIndexes", 1, errorCode=13),
        pytest.raises(StorageUnavailable) as caught,
    ):
        MongoDBStorage(url)
    assert str(caught.value).endswith(
        f"in the database {urlsplit(url).path[1:]}: "
        "find, insert, update, remove, createIndex and dropCollection"
    )


@pytest.mark.parametrize("command", ["find", "aggregate"])
def test_a_primary_that_can_not_read_in_the_past_yet_is_waited_for(
    members: ReplicaSet, store: MongoDBStorage, command: str
) -> None:
    """As one is right after an election."""
    store.replace("things", batch({"_id": "a"}))
    with failing(members, command, 3, errorCode=246):
        assert ids(store) == ["a"]
    with failing(members, command, 3, errorCode=246):
        query = Query(group_by=("_id",))
        assert store.groups("things", query, most_rows=9).counts == [1]


def test_writers_that_wait_for_each_other_learn_at_once_that_the_database_is_gone(
    members: ReplicaSet, store: MongoDBStorage
) -> None:
    """Not one after the other, each after the time for which a primary is waited for."""
    failed: list[float] = []

    def write(name: int) -> None:
        with suppress(StorageUnavailable):
            for n in count():
                store.save("things", batch({"_id": f"{name}-{n}"}))
        failed.append(time.monotonic())

    writers = [threading.Thread(target=write, args=[name]) for name in range(8)]
    for writer in writers:
        writer.start()
    time.sleep(1)
    began = time.monotonic()
    kill(members)
    for writer in writers:
        writer.join()
    start(members)
    members.primary()
    assert max(failed) - began < BOUND


def test_a_commit_of_which_nothing_is_ever_heard_says_so(
    members: ReplicaSet, store: MongoDBStorage
) -> None:
    """All members go down while they commit: the outcome is unknown, and the batch is whole."""
    caught: list[StorageUnavailable] = []

    def save() -> None:
        try:
            store.save("things", batch({"_id": "a"}, {"_id": "b"}))
        except StorageUnavailable as error:
            caught.append(error)

    with failing(members, "commitTransaction", 1, blockConnection=True, blockTimeMS=60_000):
        writer = threading.Thread(target=save)
        writer.start()
        time.sleep(1)  # by then it commits
        kill(members)
    writer.join()
    start(members)
    members.primary()
    assert [problem.code for error in caught for problem in error.problems] == ["outcome_unknown"]
    assert ids(store) in ([], ["a", "b"])
