"""The write API and the read API as processes of their own, over one database."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import httpx2
import pytest
from pymongo import MongoClient

from backdrop.settings import Settings
from tests.flights import FILE, flights
from tests.live import Server, live_server, run
from tests.storage import mongodb as database

SOON = 2.0
"""Seconds within which what one process changes is seen by all others."""

IDENTITY = "_timestamp,carrier,flight,origin"


@dataclass(frozen=True)
class Apart:
    """Two servers over one database. `readers` are connected to several workers of the second."""

    write: Server
    read: Server
    writer: httpx2.Client
    readers: list[httpx2.Client]

    def make(self, name: str, **settings: object) -> None:
        answer = self.writer.put(f"/_buckets/{name}", json=settings)
        assert answer.status_code == 201, answer.text

    def token(self, bucket: str, scope: str) -> tuple[str, dict[str, str]]:
        """A new token: its id, and the header to send it with."""
        made = self.writer.post(f"/_buckets/{bucket}/tokens", json={"scope": scope}).json()
        return made["id"], {"Authorization": f"Bearer {made['token']}"}

    def soon(self, look: Callable[[httpx2.Client], bool]) -> None:
        """What `look` sees is so for every reader, once it has had the time for it."""
        time.sleep(SOON)
        assert all(look(reader) for reader in self.readers)


@pytest.fixture(scope="module")
def apart(mongodb: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    folder = tmp_path_factory.mktemp("apart")
    url = database.database(mongodb)
    admin = secrets.token_urlsafe()
    with ExitStack() as stack:
        env = {"BACKDROP_ADMIN_TOKEN": admin, "BACKDROP_STORE": url}
        write = stack.enter_context(live_server("write", cwd=folder, env=env))
        read = stack.enter_context(live_server("read", "--workers", "2", cwd=folder, env=env))
        writer = httpx2.Client(base_url=write.url, headers={"Authorization": f"Bearer {admin}"})
        readers = [httpx2.Client(base_url=read.url, timeout=60) for _ in range(8)]
        for client in (writer, *readers):  # each keeps its connection, and so its worker
            stack.enter_context(client)
        yield Apart(write, read, writer, readers)
    database.drop(url)


def test_each_has_its_own_routes(apart: Apart) -> None:
    apart.make("routes")
    assert apart.readers[0].put("/_buckets/routes2", json={}).status_code == 404
    assert apart.readers[0].post("/routes", json={}).status_code == 405
    assert apart.writer.get("/routes").status_code == 405
    for client in (apart.writer, apart.readers[0]):
        assert client.get("/_status").status_code == 200


def test_commands_say_which_of_the_two_they_need(apart: Apart, tmp_path: Path) -> None:
    apart.make("commanded")
    file = tmp_path / "records.ndjson"
    file.write_text('{"_id": "a"}\n')
    done = apart.write.run("import", "commanded", str(file))
    assert "Read them at the read API's address, with /commanded?" in done.stdout + done.stderr
    done = apart.read.run("bucket", "list")
    assert "has no admin API: it is the write API that has one" in done.stderr


def test_settings_are_seen_by_all_others(apart: Apart) -> None:
    apart.make("settings")
    apart.soon(lambda reader: reader.get("/settings").status_code == 400)
    apart.writer.patch("/_buckets/settings", json={"raw_queries_allowed": True, "realtime": True})
    apart.soon(
        lambda reader: reader.get("/settings").headers["Cache-Control"].startswith("max-age=120")
    )
    apart.writer.patch("/_buckets/settings", json={"queryable": False})
    apart.soon(lambda reader: reader.get("/settings").status_code == 404)
    apart.writer.delete("/_buckets/settings")
    apart.make("settings", raw_queries_allowed=True)
    apart.soon(lambda reader: reader.get("/settings").json() == {"data": []})


def test_tokens_are_seen_by_all_others_and_so_is_their_end(apart: Apart) -> None:
    apart.make("tokens", raw_queries_allowed=True, read_token_required=True)
    token_id, header = apart.token("tokens", "read")
    apart.soon(lambda reader: reader.get("/tokens", headers=header).status_code == 200)
    apart.writer.delete(f"/_buckets/tokens/tokens/{token_id}")
    apart.soon(lambda reader: reader.get("/tokens", headers=header).status_code == 401)


@pytest.mark.parametrize(
    "query",
    [
        "",
        "format=csv",
        "filter_by=name:a&filter_by=name:b&filter_by_prefix=name:x&sort_by=name:descending",
        "period=day&start_at=2013-01-01&end_at=2013-02-01&timezone=Europe/London",
        "period=week&duration=3&end_at=2013-02-01&group_by=name&collect=fee:sum&collect=fee",
    ],
)
def test_all_workers_give_a_query_the_same_etag_until_a_write(apart: Apart, query: str) -> None:
    """One of the write side's processes could be asked too; and 304 comes from any."""
    name = f"etags{secrets.token_hex(8)}"
    apart.make(name, raw_queries_allowed=True)
    _, header = apart.token(name, "write")
    seen: set[str] = set()
    for number in range(3):
        stored = {"_timestamp": "2013-01-15", "name": "a", "fee": number}
        assert apart.writer.post(f"/{name}", json=stored, headers=header).status_code == 200
        answers = [reader.get(f"/{name}?{query}") for reader in apart.readers]
        (body,) = {answer.content for answer in answers}
        (etag,) = {answer.headers["ETag"] for answer in answers}
        assert body
        assert etag not in seen, "a write changes it at once"
        seen.add(etag)
        again = {"If-None-Match": etag}
        codes = {
            reader.get(f"/{name}?{query}", headers=again).status_code for reader in apart.readers
        }
        assert codes == {304}


YEAR = "start_at=2013-01-01&end_at=2014-01-01"
QUERIES = [
    "",
    "format=csv&start_at=2013-06-01&end_at=2013-07-01",
    "limit=1000",
    "sort_by=dep_delay:descending&limit=500",
    "sort_by=tailnum:ascending&limit=500",
    "filter_by=origin:JFK&filter_by=carrier:UA&filter_by=carrier:AA&start_at=2013-03-01&end_at=2013-03-08",
    "filter_by_prefix=tailnum:N3&filter_by=cancelled:false&sort_by=dest:ascending&format=csv",
    "group_by=origin",
    "group_by=dest&sort_by=_count:descending&limit=7",
    "group_by=carrier&group_by=origin&collect=distance:sum&collect=dep_delay:mean",
    "group_by=origin&collect=carrier&collect=dest:set&collect=tailnum:count",
    "group_by=carrier&collect=dep_delay:min&collect=dep_delay:max&collect=tailnum:max",
    f"period=hour&timezone=America/New_York&{YEAR}",
    "period=day&timezone=Europe/London&collect=distance:sum",
    f"period=week&timezone=America/New_York&group_by=carrier&{YEAR}",
    f"period=month&group_by=origin&collect=dep_delay:mean&flatten=true&{YEAR}",
    "period=quarter&group_by=origin&group_by=carrier&flatten=true&sort_by=_count:ascending&limit=50",
    "period=year&timezone=Asia/Tokyo&group_by=origin",
    "period=month&group_by=carrier&collect=distance:sum&format=csv",
    "period=week&duration=6&end_at=2013-06-05",
    "period=day&duration=30&start_at=2013-10-20&timezone=America/New_York&group_by=origin",
    "period=month&duration=3&end_at=2016-01-01&collect=distance:max",
]


def test_flights_are_answered_as_by_one_process_on_duckdb(apart: Apart, tmp_path: Path) -> None:
    """Imported by the command through the write API, asked of the workers of the read API."""
    create = ("bucket", "create", "flights", "--raw-queries-allowed", "--auto-ids", IDENTITY)
    with live_server("serve", cwd=tmp_path) as one:
        for server in (one, apart.write):
            for command in (create, ("import", "flights", str(FILE))):
                done = server.run(*command)
                assert done.returncode == 0, done.stderr
        for number, query in enumerate(QUERIES):
            expected = httpx2.get(f"{one.url}/flights?{query}", timeout=60)
            found = apart.readers[number % len(apart.readers)].get(f"/flights?{query}")
            assert (expected.status_code, found.status_code) == (200, 200), query
            assert found.content == expected.content, query
            assert found.headers["Content-Type"] == expected.headers["Content-Type"]
    by_origin = apart.readers[0].get("/flights?group_by=origin").json()["data"]
    assert sum(row["_count"] for row in by_origin) == len(flights())


def test_the_password_of_the_database_is_shown_nowhere(mongodb: str, tmp_path: Path) -> None:
    """Neither where it opens the database nor where it doesn't, or the URL makes no sense."""
    user, password = f"user-{secrets.token_hex(4)}", secrets.token_hex()
    with MongoClient[dict[str, object]](mongodb) as client:
        client.admin.command("createUser", user, pwd=password, roles=["root"])
    parts = urlsplit(database.database(mongodb))

    def url(name: str, secret: str) -> str:
        query = f"{parts.query}&authSource=admin"
        return urlunsplit(parts._replace(netloc=f"{name}:{secret}@{parts.netloc}", query=query))

    good = url(user, password)
    with live_server("serve", "--demo", "--workers", "2", "--store", good, cwd=tmp_path) as server:
        assert httpx2.get(f"{server.url}/flights?period=month").status_code == 200
        server.wait_for(re.escape(parts.netloc))
    assert password not in server.log
    wrong = {
        url("nobody", password): "Authentication failed",
        good.replace(parts.netloc, "host:port"): "can't use the store's URL",
        url(user, f"a/{password}"): "can't use the store's URL",
        url(user, f"[{password}"): "is not one",
    }
    for store, message in wrong.items():
        for workers in ("1", "2"):
            done = run("serve", "--workers", workers, "--store", store, cwd=tmp_path)
            assert done.returncode == 1
            assert done.stderr.count(message) == 1
            assert len(done.stderr.splitlines()) == 1
            assert password not in done.stdout + done.stderr
    assert password not in repr(Settings(store=good))
    with MongoClient[dict[str, object]](mongodb) as client:
        client.admin.command("dropUser", user)
    database.drop(urlunsplit(parts))
