"""Headers as long as they may be, of what is slow to take apart: each is soon done with."""

from __future__ import annotations

import pytest

from tests.hostile.conftest import Target
from tests.hostile.raw import exchanged

_LENGTH = 300_000
"""Bytes, of the some 400,000 that a head may have."""

SHAPES = {
    "escapes in quotes": lambda name: name + b'="' + b"\\1" * (_LENGTH // 2) + b'"',
    "octal escapes in quotes": lambda name: name + b'="' + b"\\101" * (_LENGTH // 4) + b'"',
    "quotes": lambda name: name + b"=" + b'"' * _LENGTH,
    "backslashes": lambda name: name + b'="' + b"\\" * _LENGTH,
    "blanks": lambda name: name + b" " * _LENGTH + b"x",
    "blanks and tabs": lambda name: name + b" \t" * (_LENGTH // 2) + b"x",
    "commas": lambda name: name + b"," * _LENGTH,
    "commas and blanks": lambda name: name + b", " * (_LENGTH // 2),
    "semicolons": lambda name: name + b";" * _LENGTH,
    "parameters": lambda name: name + b';a="b"' * (_LENGTH // 6),
    "weak tags": lambda name: name + b'W/"' * (_LENGTH // 3),
    "tags": lambda name: name + b'"a",' * (_LENGTH // 4),
    "one word": lambda name: name + b"a" * _LENGTH,
    "percents": lambda name: name + b"%41" * (_LENGTH // 3),
    "bytes": lambda name: name + b"\xff" * _LENGTH,
}

HEADERS = {
    "Cookie": b"session",
    "Authorization": b"Bearer ",
    "Content-Type": b"application/json",
    "Content-Encoding": b"gzip",
    "Idempotency-Key": b"",
    "If-None-Match": b'"a"',
    "Accept": b"text/html",
    "Host": b"x",
    "Request-Id": b"",
    "Forwarded": b"for=",
    "Origin": b"http://",
}

REQUESTS = (
    b"GET /_user",
    b"GET /_user/sign_out",
    b"GET /_user/sign_in",
    b"GET /_user/authorized?state=x&code=x",
    b"GET /",
    b"GET /things?group_by=aa",
    b"GET /_buckets",
    b"POST /things",
    b"POST /things/upload",
    b"OPTIONS /things",
)


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_long_header_is_soon_done_with(target: Target, header: str, shape: str) -> None:
    """On the average of the doors in a tenth of a second of the CPU; by a square of the length it
    takes many.
    """
    value = SHAPES[shape](HEADERS[header])
    own = {"Host": b"x", "Authorization": b"Bearer " + target.token.encode()}
    own |= {"Content-Type": b"application/json", "Connection": b"close", header: value}
    head = b"".join(name.encode() + b": " + text + b"\r\n" for name, text in own.items())
    with target.at_most(memory=64 * 2**20, seconds=0.1 * len(REQUESTS)):
        for request in REQUESTS:
            body = b"Content-Length: 2\r\n\r\n[]" if request.startswith(b"POST") else b"\r\n"
            answer = exchanged(target.server, request + b" HTTP/1.1\r\n" + head + body)
            assert answer.startswith((b"HTTP/1.1 2", b"HTTP/1.1 3", b"HTTP/1.1 4")), answer[:200]
