"""Several workers on one port: they share the load, are replaced, and leave nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from backdrop.server import beside, bind
from tests.eventually import eventually
from tests.live import Server, live_server, run
from tests.storage import mongodb as database


@pytest.fixture(scope="module")
def url(mongodb: str) -> Iterator[str]:
    url = database.database(mongodb)
    yield url
    database.drop(url)


def workers_of(server: Server) -> list[int]:
    """The processes that the server's own has begun."""
    pid = server.process.pid
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def seconds_of(worker: int) -> float:
    """How long the process has used a processor."""
    fields = Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ask(server: Server, times: int = 1) -> list[str]:
    """Each time over a connection of its own; the ids of the requests."""
    with httpx2.Client(headers={"Connection": "close"}, timeout=30) as client:
        answers = [client.get(f"{server.url}/_status") for _ in range(times)]
    assert {answer.status_code for answer in answers} == {200}
    return [answer.headers["Request-Id"] for answer in answers]


def test_workers_share_the_load(url: str, tmp_path: Path) -> None:
    with live_server("read", "--workers", "2", "--store", url, cwd=tmp_path) as server:
        assert server.log.count("Backdrop is ready") == 1
        workers = workers_of(server)
        assert len(workers) == 2
        before = [seconds_of(worker) for worker in workers]
        ids = ask(server, 200)
        used = [seconds_of(worker) - was for worker, was in zip(workers, before, strict=True)]
    assert min(used) > sum(used) / 5
    assert len(set(ids)) == len(ids), "forked, and yet no two make the same numbers"


def test_a_worker_that_dies_is_replaced(url: str, tmp_path: Path) -> None:
    """At once; if it happens again, after a while; and the others answer meanwhile."""
    with live_server("read", "--workers", "2", "--store", url, cwd=tmp_path) as server:
        for number in range(2):
            gone, stays = workers_of(server)
            os.kill(gone, signal.SIGKILL)
            server.wait_for(f'"pid":{gone},"exit_code":-9', 30)
            ask(server, 10)
            eventually(lambda: len(workers_of(server)) >= 2)
            assert stays in workers_of(server)
            eventually(partial(has_started, server, 3 + number), said=lambda: server.log)
        ask(server, 10)
        lines = [json.loads(line) for line in server.lines if '"worker_died"' in line]
        assert len(lines) == 2
        assert all(line["level"] == "error" for line in lines)
    assert server.process.returncode == 0


def has_started(server: Server, times: int) -> bool:
    return server.log.count('"event":"started"') >= times


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_finishes_the_request_in_flight(
    url: str, tmp_path: Path, number: signal.Signals
) -> None:
    """The signal reaches every process of the group, as from a terminal or from systemd."""
    with posting(url, tmp_path) as (server, connection, rest):
        for process in (*workers_of(server), server.process.pid):
            os.kill(process, number)
        server.wait_for("Stopping: no new requests", 30)
        server.wait_until_it_refuses()
        assert server.process.poll() is None
        connection.sendall(rest)
        assert b"200 OK" in connection.recv(1000)
        assert server.process.wait(20) == 0


def test_a_second_signal_stops_at_once(url: str, tmp_path: Path) -> None:
    with posting(url, tmp_path) as (server, _, _):
        server.process.send_signal(signal.SIGINT)
        server.wait_for("Stopping: no new requests", 30)
        server.wait_until_it_refuses()
        assert server.process.poll() is None
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(20) == 130


def test_a_kill_leaves_nothing_that_holds_the_port(url: str, tmp_path: Path) -> None:
    """The workers end with the first process, however that ends."""
    with live_server("read", "--workers", "3", "--store", url, cwd=tmp_path) as server:
        server.process.kill()
        server.process.wait()
        server.wait_until_it_refuses()
    port = str(urlsplit(server.url).port)
    with live_server("read", "--port", port, "--store", url, cwd=tmp_path) as again:
        ask(again)


def test_what_keeps_workers_from_starting_is_said_once(tmp_path: Path) -> None:
    store = "mongodb://127.0.0.1:1/none?serverSelectionTimeoutMS=200"
    for workers in ("1", "3"):
        done = run("read", "--workers", workers, "--store", store, "--port", "0", cwd=tmp_path)
        assert done.returncode == 1
        assert done.stderr.count("can't open the store") == len(done.stderr.splitlines()) == 1


def test_a_port_that_workers_have_is_nobody_elses(url: str, tmp_path: Path) -> None:
    with live_server("read", "--workers", "2", "--store", url, cwd=tmp_path) as server:
        port = str(urlsplit(server.url).port)
        for workers in ("1", "2"):
            done = run("read", "--workers", workers, "--port", port, "--store", url, cwd=tmp_path)
            assert done.returncode == 1
            assert f"port {port} on 127.0.0.1 is in use" in done.stderr


def test_sockets_beside_each_other_share_connections_out() -> None:
    with bind("127.0.0.1", 0) as bound, beside(bound) as one, beside(bound) as other:
        for listener in (one, other):
            listener.listen(100)
            listener.setblocking(False)
        with contextlib.ExitStack() as stack:
            for _ in range(40):
                stack.enter_context(socket.create_connection(bound.getsockname()))
            accepted = [_accept_all(listener, stack) for listener in (one, other)]
    assert sum(accepted) == 40
    assert min(accepted) > 0


def _accept_all(listener: socket.socket, stack: contextlib.ExitStack) -> int:
    for number in range(1000):
        try:
            stack.enter_context(listener.accept()[0])
        except BlockingIOError:
            return number
    raise AssertionError


@contextlib.contextmanager
def posting(url: str, folder: Path) -> Iterator[tuple[Server, socket.socket, bytes]]:
    """A server of two workers, a connection on which half a batch came, and the other half."""
    env = {"BACKDROP_ADMIN_TOKEN": secrets.token_urlsafe()}
    arguments = ("write", "--workers", "2", "--store", url)
    with live_server(*arguments, cwd=folder, env=env) as server:
        name = f"posted{secrets.token_hex(8)}"
        token = server.run("bucket", "create", name).stdout.strip()
        address = urlsplit(server.url)
        body = b'[{"name": "first"}, {"name": "second"}]'
        head = (
            f"POST /{name} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            "Expect: 100-continue\r\n\r\n"
        )
        with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
            connection.sendall(head.encode())
            assert b"100 Continue" in connection.recv(1000)  # the body is being read
            connection.sendall(body[:10])
            yield server, connection, body[10:]
