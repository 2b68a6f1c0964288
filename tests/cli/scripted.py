"""A server that answers as it is told: for what a sound server does not do."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, TypeAlias

Step: TypeAlias = Literal[
    "store",
    "drop",
    "unavailable",
    "unknown",
    "busy",
    "fault",
    "hang",
    "refuse",
    "store late",
    "replay",
]
"""What is done with one POST: `drop` reads it and breaks off, `hang` never answers, `store late`
waits for `go_on`, `replay` stored it before, and `refuse` knows no token."""


class ScriptedServer(ThreadingHTTPServer):
    """Does the next step for each POST, and keeps what was sent."""

    daemon_threads = True

    def __init__(self, steps: Sequence[Step]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.steps = list(steps)
        self.received: list[Any] = []
        self.keys: list[str] = []
        """The idempotency key of each POST."""
        self.asked = 0
        """How many GETs it has answered."""
        self.over = threading.Event()
        self.go_on = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: ScriptedServer

    def do_GET(self) -> None:
        self._answer(200, {"status": "ok"})
        self.server.asked += 1

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        step = self.server.steps.pop(0)
        self.server.received.append((step, body))
        self.server.keys.append(self.headers["Idempotency-Key"])
        if step == "store late":
            self.server.go_on.wait(30)
        if step.startswith("store"):
            self._answer(200, {"status": "ok", "records": len(body)})
        elif step == "replay":
            answer = {"status": "ok", "records": len(body)}
            self._answer(200, answer, {"Idempotency-Replayed": "true"})
        elif step == "unavailable":
            problem = {"code": "storage_unavailable", "message": "the store is away"}
            self._answer(503, {"message": "the store is away", "errors": [problem]})
        elif step == "unknown":
            problem = {"code": "outcome_unknown", "message": "the store did not say"}
            self._answer(503, {"message": "the store did not say", "errors": [problem]})
        elif step == "busy":
            problem = {"code": "too_many_bodies", "message": "there is no room now"}
            self._answer(429, {"message": "there is no room now", "errors": [problem]})
        elif step == "refuse":
            problem = {"code": "unauthorized", "message": "this token is not known"}
            self._answer(401, {"message": "this token is not known", "errors": [problem]})
        elif step == "fault":
            self._answer(500, {"message": "something went wrong", "errors": []})
        elif step == "hang":
            self.server.over.wait(30)
        self.close_connection = True

    def _answer(self, status: int, body: object, headers: Mapping[str, str] | None = None) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  as it is inherited
        pass


@contextmanager
def scripted_server(*steps: Step) -> Iterator[ScriptedServer]:
    with ScriptedServer(steps) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.go_on.set()
            server.shutdown()
            thread.join()
