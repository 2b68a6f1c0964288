"""Bytes over a socket, as no client library would send them."""

from __future__ import annotations

import re
import socket
from contextlib import closing, suppress
from urllib.parse import urlsplit

from tests.live import Server

STATUS = b"GET /_status HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET /_status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
"""A sound request, after which the server ends the connection, if it did not before."""

_statuses = re.compile(rb"HTTP/1\.[01] (\d{3}) ")  # no answer ends with a line break


def connect(server: Server, *, seconds: float = 20) -> socket.socket:
    parts = urlsplit(server.url)
    assert parts.hostname is not None
    return socket.create_connection((parts.hostname, parts.port or 80), seconds)


def answers(server: Server, sent: bytes, *, seconds: float = 20) -> list[int]:
    """The statuses of all the answers to the bytes, after which the connection must end."""
    received = exchanged(server, sent, seconds=seconds)
    return [int(status) for status in _statuses.findall(received)]


def exchanged(
    server: Server, sent: bytes, *, seconds: float = 20, then_ends: bool = False
) -> bytes:
    """All that is answered to the bytes until the connection ends, as it must.

    `then_ends`: whether the server is told that nothing follows.
    """
    with closing(connect(server, seconds=seconds)) as connection:
        received = b""
        with suppress(ConnectionResetError, BrokenPipeError):
            connection.sendall(sent)
            if then_ends:
                connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65_536):
                received += part
    return received
