"""The server as a process: when it is ready, how it stops, and what it leaves behind."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from backdrop.server import CannotListen, CannotStart, address_of, bind, is_loopback, run
from tests.live import Server, call, live_server
from tests.live import run as run_command


@pytest.fixture
def slow_post() -> Iterator[Any]:
    """Begins a POST to the demo's bucket `test` whose body is sent piece by piece."""
    with contextlib.ExitStack() as stack:

        def begin(server: Server, body: bytes, sent_at_once: int) -> socket.socket:
            token = (server.folder / "backdrop.duckdb.test-token").read_text().strip()
            address = urlsplit(server.url)
            connection = stack.enter_context(
                socket.create_connection((address.hostname, address.port), timeout=10)
            )
            head = (
                f"POST /test HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
                "Expect: 100-continue\r\n\r\n"
            )
            connection.sendall(head.encode())
            assert b"100 Continue" in connection.recv(1000)  # the body is being read
            connection.sendall(body[:sent_at_once])
            return connection

        yield begin


def _read(server: Server, path: str) -> Any:
    with urllib.request.urlopen(server.url + path, timeout=10) as answer:  # noqa: S310
        return json.load(answer)["data"]


def _commands(server: Server) -> list[str]:
    """The commands that the server has printed to try."""
    server.wait_for("/test\n")
    commands = [line for line in server.lines if line.startswith("  curl ")]
    assert len(commands) == 5
    return commands


def test_a_stop_finishes_the_request_in_flight(tmp_path: Path, slow_post: Any) -> None:
    """SIGTERM: no new connections; a body that is still arriving is read, stored, answered."""
    body = json.dumps({"_id": "late", "name": "x" * 50}).encode()
    with live_server("serve", "--demo", cwd=tmp_path) as server:
        connection = slow_post(server, body, 10)
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("Stopping: no new requests, 1 in flight")
        server.wait_until_it_refuses()
        assert server.process.poll() is None
        connection.sendall(body[10:])
        assert b"200 OK" in connection.recv(1000)
        assert server.process.wait(10) == 0
    with live_server("serve", cwd=tmp_path) as server:
        assert [record["_id"] for record in _read(server, "/test")] == ["late"]


def test_a_stop_cuts_off_what_does_not_end(tmp_path: Path, slow_post: Any) -> None:
    """A body that never arrives delays the stop by --stop-seconds, and nothing of it is stored."""
    body = b'[{"name": "first"}, {"name": "second"}]'
    with live_server("serve", "--demo", "--stop-seconds", "1", cwd=tmp_path) as server:
        connection = slow_post(server, body, len(body) - 1)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0
        assert b" 200 " not in connection.recv(1000)
    assert "Traceback" not in server.log
    with live_server("serve", cwd=tmp_path) as server:
        assert _read(server, "/test") == []


def test_a_second_interrupt_stops_at_once(tmp_path: Path, slow_post: Any) -> None:
    with live_server("serve", "--demo", cwd=tmp_path) as server:
        slow_post(server, b"{}", 1)
        server.process.send_signal(signal.SIGINT)
        server.wait_for("1 in flight")
        assert server.process.poll() is None
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(20) == 130


def test_a_kill_leaves_neither_port_nor_file_held(tmp_path: Path) -> None:
    """After kill -9 the next server has the same port and the same store at once."""
    with live_server("serve", "--demo", cwd=tmp_path) as server:
        server.process.kill()
        server.process.wait(5)
    port = str(urlsplit(server.url).port)
    with live_server("serve", "--port", port, cwd=tmp_path) as again:
        assert again.url == server.url
        assert len(_read(again, "/flights?period=month")) == 13


def test_a_port_in_use_is_said(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        store_first = run_command("serve", "--store", "x:", "--port", str(port), cwd=tmp_path)
        assert "there is no store 'x'" in store_first.stderr
        done = run_command("serve", "--store", "memory:", "--port", str(port), cwd=tmp_path)
    assert done.returncode == 1
    assert f"port {port} on 127.0.0.1 is in use" in done.stderr
    assert "--port, or with BACKDROP_PORT" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["read"], "use `backdrop serve`"),
        (["write", "--store", "memory:"], "or MongoDB"),
        (["serve", "--workers", "2"], "2 workers can't share duckdb:backdrop.duckdb"),
        (["serve", "--store", "sqlite:x"], "no store 'sqlite'"),
        (["serve", "--store", "duckdb:nowhere/x.duckdb"], "there is no folder nowhere"),
        (["serve", "--port", "x"], "--port must be a whole number from 0 to 65535, not 'x'"),
        (["serve", "--host", "192.0.2.1", "--port", "0"], "192.0.2.1"),
    ],
)
def test_what_cannot_run_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    expected: str,
) -> None:
    done = call(*arguments, cwd=tmp_path, monkeypatch=monkeypatch, capsys=capsys)
    assert done.returncode == 1
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    """The store too, whatever the umask of who starts it."""
    with live_server("serve", "--demo", cwd=tmp_path):
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert "backdrop.duckdb" in modes
    assert set(modes.values()) == {0o600}


def test_the_admin_token_is_made_once(tmp_path: Path) -> None:
    """It is in a file that only its owner can read, serves again at the next start, and is never
    printed.
    """
    path = tmp_path / "backdrop.admin-token"
    logs, tokens = [], []
    for _ in range(2):
        with live_server("serve", "--store", "memory:", cwd=tmp_path) as server:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            tokens.append(path.read_text().strip())
            assert server.run("bucket", "list", "--store", "memory:").returncode == 0
        logs.append(server.log)
    assert tokens[0] == tokens[1]
    assert all("backdrop.admin-token" in log and tokens[0] not in log for log in logs)


def test_without_loopback_no_admin_token_is_made(tmp_path: Path) -> None:
    anywhere = "0.0.0.0"  # noqa: S104
    with live_server("serve", "--store", "memory:", "--host", anywhere, cwd=tmp_path) as server:
        server.wait_for("the admin API is off: set BACKDROP_ADMIN_TOKEN")
    assert list(tmp_path.iterdir()) == []


def test_the_commands_of_the_demo_work(tmp_path: Path) -> None:
    """What `serve --demo` tells to type works as it is typed, also after a restart."""
    folder = tmp_path / "it's a folder"
    folder.mkdir()
    for known in (0, 1):
        with live_server("serve", "--demo", "--store", "duckdb:my store.db", cwd=folder) as server:
            answers = []
            for command in _commands(server):
                done = subprocess.run(
                    ["bash", "-c", command], cwd=folder, capture_output=True, check=True
                )
                answers.append(json.loads(done.stdout))
        months, airports, weeks, posted, records = answers
        assert len(months["data"]) == 13  # the last evening of New York is UTC's next year
        assert [row["origin"] for row in airports["data"]] == ["EWR", "JFK", "LGA"]
        assert all("dep_delay:mean" in row for row in airports["data"])
        assert len(weeks["data"]) > 50
        assert posted == {"status": "ok", "records": 1}
        assert len(records["data"]) == known + 1
    token_file = folder / "my store.db.test-token"
    assert stat.S_IMODE(token_file.stat().st_mode) == 0o600


# -- the parts ----------------------------------------------------------------------------------


def test_a_bound_socket_has_an_address_but_does_not_listen() -> None:
    with bind("127.0.0.1", 0) as bound:
        host, port = bound.getsockname()
        assert address_of(bound) == f"http://127.0.0.1:{port}"
        assert is_loopback(bound)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, port))
    with bind("0.0.0.0", 0) as bound:  # noqa: S104
        assert not is_loopback(bound)


def test_an_address_that_is_not_there_is_refused() -> None:
    with pytest.raises(CannotListen, match="no address of this machine"):
        bind("no such host", 0)


def test_an_application_that_does_not_start_is_an_error() -> None:
    async def app(_: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "not today"})

    def unexpected(*_: object) -> None:
        raise AssertionError

    with bind("127.0.0.1", 0) as bound, pytest.raises(CannotStart):
        run(app, bound, stop_seconds=1, on_ready=unexpected, on_stopping=unexpected)


_WAITING = """
import sys, threading
from anyio.to_thread import run_sync
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from backdrop.server import bind, run

over = threading.Event()

async def wait(request):
    print("asked", flush=True)
    await run_sync(over.wait, 60)
    return PlainTextResponse("ended", 503)

bound = bind("127.0.0.1", 0)
port = bound.getsockname()[1]
run(
    Starlette(routes=[Route("/", wait)]),
    bound,
    stop_seconds=0.2,
    on_ready=lambda: print(port, flush=True),
    on_stopping=lambda _: None,
    on_cutting_off=over.set,
)
"""


def test_who_waits_for_something_that_is_ended_at_a_stop_is_answered() -> None:
    """Past the seconds that a stop gives, but before requests are cut off."""
    with subprocess.Popen(
        [sys.executable, "-c", _WAITING], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert process.stdout.readline() == "asked\n"
            process.send_signal(signal.SIGTERM)
            answer = connection.recv(10_000)
        assert process.wait(20) == 0
    assert answer.startswith(b"HTTP/1.1 503"), answer
    assert answer.endswith(b"ended")


def test_a_request_for_no_path_has_an_answer_like_any_other(tmp_path: Path) -> None:
    """`OPTIONS *` asks about the whole server (RFC 9110, 7.1)."""
    with live_server("serve", "--store", "memory:", cwd=tmp_path) as server:
        address = urlsplit(server.url)
        with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
            connection.sendall(b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 404"), answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["errors"][0]["code"] == "not_found"


def test_a_stop_leaves_only_its_own_words(tmp_path: Path) -> None:
    """No report of an interpreter that ends: the next start's lines would follow on it."""
    with live_server("serve", cwd=tmp_path) as server:
        assert server.run("bucket", "list").returncode == 0
    assert "leaked" not in server.log
    assert server.log.endswith("Stopping: no new requests\n")
