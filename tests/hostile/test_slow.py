"""Clients that take their time: they are cut off at a limit, and hold nobody else up."""

from __future__ import annotations

import json
import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from select import select

import httpx2
import pytest

from tests.eventually import eventually
from tests.hostile.conftest import Target
from tests.hostile.raw import connect
from tests.live import Server, live_server

_HEAD = b"POST /things HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@contextmanager
def serving(folder: Path, **limits: int) -> Iterator[Target]:
    admin_token = secrets.token_urlsafe(16)
    env = {"BACKDROP_ADMIN_TOKEN": admin_token}
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in limits.items()]
    with live_server("serve", *flags, cwd=folder, env=env) as server:
        admin = {"Authorization": f"Bearer {admin_token}"}
        settings = {"raw_queries_allowed": True}
        made = httpx2.put(f"{server.url}/_buckets/things", headers=admin, json=settings, timeout=30)
        yield Target(server, admin, {"Authorization": f"Bearer {made.json()['token']}"})


def fill(target: Target, records: int) -> None:
    """Put so many records of some 1,000 bytes into the bucket."""
    text = "x" * 1_000
    for begin in range(0, records, 20_000):
        rows = [{"aa": n, "text": text} for n in range(begin, begin + 20_000)]
        url = f"{target.server.url}/things"
        answer = httpx2.post(url, headers=target.writer, json=rows, timeout=60)
        assert answer.status_code == 200, answer.text


def slow_reader(server: Server) -> socket.socket:
    """A client that asks for all records, and takes none of the answer."""
    reader = connect(server, seconds=60)
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    reader.sendall(b"GET /things HTTP/1.1\r\nHost: x\r\n\r\n")
    return reader


@contextmanager
def slow_clients(target: Target, clients: int) -> Iterator[None]:
    """A third send no whole head, a third no whole body, a third take nothing of a large answer."""
    with ExitStack() as stack:
        for number in range(clients):
            if number % 3 == 2:
                stack.enter_context(slow_reader(target.server))
                continue
            client = stack.enter_context(connect(target.server))
            client.sendall(_HEAD)
            if number % 3 == 1:
                client.sendall(b"Authorization: Bearer " + target.token.encode())
                client.sendall(b"\r\nContent-Length: 1000000\r\n\r\n[")
        yield


def rest_of(connection: socket.socket) -> bytes:
    received = b""
    try:
        while part := connection.recv(2**20):
            received += part
    except ConnectionResetError:
        pass
    return received


def test_a_head_that_does_not_come_is_not_waited_for(tmp_path: Path) -> None:
    """Neither before its first byte, nor in its middle, nor on a connection that was used."""
    with serving(tmp_path, max_header_seconds=1) as target, ExitStack() as stack:
        silent, middle = (stack.enter_context(connect(target.server)) for _ in range(2))
        middle.sendall(b"GET /_status HTTP/1.1\r\nHost:")
        assert rest_of(silent) == b""
        assert b" 200 " not in rest_of(middle)


def test_a_body_that_comes_too_slowly_is_not_waited_for(tmp_path: Path) -> None:
    """The answer names the limit, and the connection ends; nothing is stored."""
    with serving(tmp_path, max_body_seconds=1) as target:
        with connect(target.server) as client:
            client.sendall(_HEAD + b"Authorization: Bearer " + target.token.encode())
            client.sendall(b'\r\nContent-Length: 30\r\n\r\n[{"aa":')
            answer = rest_of(client)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408 ")
        assert b"connection: close" in head.lower()
        assert "max_body_seconds" in json.loads(body)["message"]
        assert json.loads(body)["errors"][0]["code"] == "body_too_slow"
        assert httpx2.get(f"{target.server.url}/things", timeout=30).json() == {"data": []}
    assert '"level":"error"' not in target.server.log


def test_an_answer_that_is_not_taken_is_broken_off(tmp_path: Path) -> None:
    """It holds a snapshot of the store."""
    with serving(tmp_path, max_answer_seconds=1) as target:
        fill(target, 20_000)
        with slow_reader(target.server):
            answered = requests_logged(target.server, "/{bucket}", method="GET", at_least=1)
            (line,) = answered
            assert line["status"] == 200
            assert 0 < int(str(line["bytes"])) < 20_000 * 1_000
            assert line["broken"] is True
        assert target.is_well()
    assert '"level":"error"' not in target.server.log
    assert "Traceback" not in target.server.log


def requests_logged(
    server: Server, route: str, *, method: str, at_least: int
) -> list[Mapping[str, object]]:
    """The log's lines of ended requests of that route, once there are so many."""
    until = time.monotonic() + 30
    while True:
        lines = [json.loads(line) for line in list(server.lines) if line.startswith("{")]
        found = [x for x in lines if (x.get("route"), x.get("method")) == (route, method)]
        if len(found) >= at_least or time.monotonic() > until:
            return found
        time.sleep(0.05)


def test_readers_that_take_nothing_have_so_many_places(tmp_path: Path) -> None:
    """Past those, one who asks for many records waits, and is refused; others are answered."""
    with serving(tmp_path, max_streams=2, max_query_seconds=1) as target, ExitStack() as stack:
        fill(target, 20_000)
        url = f"{target.server.url}/things"
        readers = [stack.enter_context(slow_reader(target.server)) for _ in range(3)]
        ended = requests_logged(target.server, "/{bucket}", method="GET", at_least=1)
        assert [line["status"] for line in ended] == [429]
        refused = httpx2.get(f"{url}?limit=5000", timeout=30)
        assert refused.status_code == 429
        assert "max_streams" in refused.json()["message"]
        assert httpx2.get(f"{url}?group_by=aa&limit=1", timeout=30).status_code == 200
        for reader in readers:
            reader.close()
        eventually(lambda: httpx2.get(url, timeout=30).status_code == 200)


def test_large_bodies_that_come_slowly_have_so_much_room(tmp_path: Path) -> None:
    """Those past it give way with an answer, and others' batches, large ones too, are stored."""
    mib = 2**20
    with serving(tmp_path, max_body=8 * mib, max_bodies=16 * mib) as target, ExitStack() as stack:
        url = f"{target.server.url}/things"
        rows = [{"aa": "x" * mib}]
        assert httpx2.post(url, headers=target.writer, json=rows, timeout=30).is_success
        slow = [stack.enter_context(connect(target.server)) for _ in range(40)]
        with target.at_most(memory=80 * mib, seconds=60):
            for client in slow:
                client.sendall(_HEAD + b"Authorization: Bearer " + target.token.encode())
                client.sendall(b"\r\nContent-Length: 8000000\r\n\r\n")
            for client in slow:
                with suppress(ConnectionError):  # it has its answer
                    client.sendall(b" " * 4 * mib)
            for _ in range(5):
                assert httpx2.post(url, headers=target.writer, json=rows, timeout=30).is_success
                assert httpx2.get(f"{url}?limit=1", timeout=30).status_code == 200
        refused = requests_logged(target.server, "/{bucket}", method="POST", at_least=6 + 36)
        assert sorted({line["status"] for line in refused}) == [200, 429]
        assert sum(line["status"] == 429 for line in refused) >= 36
        answered, _, _ = select(slow, [], [], 30)
        head, _, body = answered[-1].recv(4_096).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 429 ")
        assert b"retry-after: 1" in head.lower()
        assert "max_bodies" in json.loads(body)["message"]
        assert json.loads(body)["errors"][0]["code"] == "too_many_bodies"
    assert '"level":"error"' not in target.server.log


@pytest.fixture(scope="module")
def large(target: Target) -> Target:
    fill(target, 20_000)
    return target


def test_five_hundred_slow_clients_hold_nobody_up(large: Target) -> None:
    """Heads, bodies and readers that stand still: everyone else's requests are answered."""
    with large.at_most(memory=6 * 2**30, seconds=60), slow_clients(large, 500):
        url = large.server.url
        with httpx2.Client(timeout=30) as others:
            for number in range(50):
                assert others.get(f"{url}/_status").status_code == 200
                path = f"/things?group_by=aa&limit=5&filter_by=aa:{number}"
                assert others.get(url + path).json()["data"] == [{"aa": number, "_count": 1}]
                row = [{"bb": number}]
                assert others.post(f"{url}/things", headers=large.writer, json=row).is_success
    assert large.is_well()
