"""Requests over kept-alive connections: plain sockets, so that the client costs little."""

from __future__ import annotations

import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Load:
    """What a round of requests came to. Times are in seconds."""

    requests: int
    seconds: float
    p50: float
    p99: float
    bytes_received: int

    @property
    def requests_a_second(self) -> float:
        return self.requests / self.seconds


def request_bytes(url: str, headers: dict[str, str] | None = None) -> bytes:
    parts = urlsplit(url)
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    lines = [f"GET {target} HTTP/1.1", f"Host: {parts.netloc}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode()


def post_bytes(url: str, token: str, body: bytes) -> bytes:
    parts = urlsplit(url)
    lines = [
        f"POST {parts.path} HTTP/1.1",
        f"Host: {parts.netloc}",
        f"Authorization: Bearer {token}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def send_all(url: str, requests: Iterable[bytes], status: int, *, connections: int) -> Load:
    """Send the requests, each connection the next one; every answer must have the status."""
    parts = urlsplit(url)
    address = (parts.hostname or "127.0.0.1", parts.port or 80)
    waiting = iter(requests)
    turn = threading.Lock()
    seconds: list[float] = []
    received: list[int] = []
    failures: list[BaseException] = []
    ready = threading.Barrier(connections + 1)

    def client() -> None:
        try:
            with socket.create_connection(address, timeout=600) as connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                ready.wait()
                while not failures:
                    with turn:
                        request = next(waiting, None)
                    if request is None:
                        return
                    begun = time.perf_counter()
                    connection.sendall(request)
                    received.append(_read_answer(connection, status))
                    seconds.append(time.perf_counter() - begun)
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
    p99 = statistics.quantiles(seconds, n=100)[98] if len(seconds) > 1 else seconds[0]
    return Load(len(seconds), took, statistics.median(seconds), p99, sum(received))


@contextmanager
def kept_connection(url: str) -> Iterator[Callable[[bytes], float]]:
    """What sends a request over one connection that stays open, and says how long it took.

    The answer must be a 200.
    """
    parts = urlsplit(url)
    address = (parts.hostname or "127.0.0.1", parts.port or 80)
    with socket.create_connection(address, timeout=600) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def seconds(request: bytes) -> float:
            begun = time.perf_counter()
            connection.sendall(request)
            _read_answer(connection, 200)
            return time.perf_counter() - begun

        yield seconds


def _read_answer(connection: socket.socket, status: int) -> int:
    """The number of bytes of the answer's body, which is not kept."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _received(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 %d" % status):
        raise ValueError(f"expected {status}, not {(head + body)[:300]!r}")
    fields = dict(line.split(b":", 1) for line in head.lower().split(b"\r\n")[1:])
    if b"content-length" not in fields:
        return _read_chunks(connection, body) if b"transfer-encoding" in fields else 0
    length = int(fields[b"content-length"])
    left = length - len(body)
    while left > 0:
        left -= len(_received(connection))
    return length


def _read_chunks(connection: socket.socket, data: bytes) -> int:
    """Chunks, until the empty one (RFC 9112, 7.1)."""
    size = 0
    while True:
        while b"\r\n" not in data:
            data += _received(connection)
        line, _, data = data.partition(b"\r\n")
        left = int(line, 16) + 2
        size += left - 2
        while len(data) < left:
            left -= len(data)
            data = _received(connection)
        data = data[left:]
        if line == b"0":
            return size


def _received(connection: socket.socket) -> bytes:
    data = connection.recv(2**20)
    if not data:
        raise ConnectionError("the server closed the connection")
    return data
