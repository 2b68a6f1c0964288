"""Requests a second over kept-alive connections: plain sockets, so that the client costs little."""

from __future__ import annotations

import socket
import statistics
import threading
import time
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Load:
    """What a round of requests came to."""

    requests_a_second: float
    p50: float
    p99: float
    """Seconds."""


def request_bytes(url: str, headers: dict[str, str] | None = None) -> bytes:
    parts = urlsplit(url)
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    lines = [f"GET {target} HTTP/1.1", f"Host: {parts.netloc}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode()


def run(url: str, request: bytes, status: int, *, connections: int, requests: int) -> Load:
    """Send so many requests over each connection; every answer must have the status."""
    parts = urlsplit(url)
    address = (parts.hostname or "127.0.0.1", parts.port or 80)
    seconds: list[float] = []
    failures: list[BaseException] = []
    ready = threading.Barrier(connections + 1)

    def client() -> None:
        try:
            with socket.create_connection(address) as connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                ready.wait()
                own = []
                for _ in range(requests):
                    begun = time.perf_counter()
                    connection.sendall(request)
                    _read_answer(connection, status)
                    own.append(time.perf_counter() - begun)
                seconds.extend(own)
        except BaseException as error:  # noqa: BLE001  told by the main thread
            failures.append(error)
            ready.abort()

    threads = [threading.Thread(target=client) for _ in range(connections)]
    for thread in threads:
        thread.start()
    ready.wait()
    begun = time.perf_counter()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - begun
    if failures:
        raise failures[0]
    quantiles = statistics.quantiles(seconds, n=100)
    return Load(len(seconds) / took, statistics.median(seconds), quantiles[98])


def _read_answer(connection: socket.socket, status: int) -> None:
    data = b""
    while b"\r\n\r\n" not in data:
        data += _received(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 %d" % status):
        raise ValueError(f"expected {status}, not {head[:200]!r}")
    length = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    left = length - len(body)
    while left > 0:
        left -= len(_received(connection))


def _received(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise ConnectionError("the server closed the connection")
    return data
