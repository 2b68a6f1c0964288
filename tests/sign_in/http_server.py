"""A real HTTP server on a loopback port, made of one function."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypeAlias
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.url).path

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.url).query))

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode()))


@dataclass(frozen=True)
class Answer:
    """What is sent: a body in one piece, or piece by piece."""

    body: bytes | Iterator[bytes] = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})


Answering: TypeAlias = Callable[[Asked], Answer]


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        url, body = self.server.url + self.path, self.rfile.read(length)
        answer = self.server.answering(Asked(self.command, url, dict(self.headers), body))
        pieces = iter([answer.body]) if isinstance(answer.body, bytes) else answer.body
        with contextlib.suppress(ConnectionError):  # the client may leave before the end
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            for piece in pieces:
                self.wfile.write(piece)
                self.wfile.flush()

    do_GET = do_POST = _answer  # noqa: N815  the standard library's names

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  its name above
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # many may come at once

    def __init__(self, answering: Answering, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.answering = answering

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextlib.contextmanager
def http_server(answering: Answering, *, port: int = 0) -> Iterator[str]:
    """The URL of a server that answers so; each request in a thread of its own."""
    with _Server(answering, port) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.url
        finally:
            server.shutdown()
            thread.join()
