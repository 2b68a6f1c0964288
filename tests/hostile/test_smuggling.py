"""One request is one answer, or a 400 and the end of the connection: whatever its bytes are."""

from __future__ import annotations

import json

import httpx2
import pytest

from tests.hostile.conftest import Target
from tests.hostile.raw import LAST, STATUS, answers, exchanged

_POST = b"POST /things HTTP/1.1\r\nHost: x\r\n"
_CHUNKED = _POST + b"Transfer-Encoding: chunked\r\n\r\n"
_GET = b"GET /_status HTTP/1.1\r\nHost: x\r\n"

REFUSED = {
    "two lengths": _POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "two lengths in one": _POST + b"Content-Length: 5, 5\r\n\r\nhello",
    "a length with a sign": _POST + b"Content-Length: +5\r\n\r\nhello",
    "a length in hex": _POST + b"Content-Length: 0x5\r\n\r\nhello",
    "a length below 0": _POST + b"Content-Length: -1\r\n\r\nhello",
    "a length past 64 bits": _POST + b"Content-Length: 99999999999999999999999\r\n\r\nhello",
    "obs-fold": _GET + b"X-A: b\r\n Content-Length: 5\r\n\r\n",
    "obs-fold of a coding": _POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "a blank before the colon": _POST + b"Content-Length : 5\r\n\r\nhello",
    "another coding": _POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked not last": _POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "two codings": _POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a coding twice": _POST + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n0\r\n\r\n",
    "a coding after a tab": _POST + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    "a coding in HTTP/1.0": b"POST /things HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "CR alone": b"GET /_status HTTP/1.1\r\nHost: x\rX-A: b\r\n\r\n",
    "two hosts": b"GET /_status HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "no host": b"GET /_status HTTP/1.1\r\n\r\n",
    "a list of hosts": b"GET /_status HTTP/1.1\r\nHost: a,b\r\n\r\n",
    "a host with a blank": b"GET /_status HTTP/1.1\r\nHost: a b\r\n\r\n",
    "an empty host": b"GET /_status HTTP/1.1\r\nHost:\r\n\r\n",
    "NUL in a header": _GET + b"X-A: a\x00b\r\n\r\n",
    "no address": b"GET http:// HTTP/1.1\r\nHost: x\r\n\r\n",
    "HTTP/0.9": b"GET /_status\r\n",
    "HTTP/2.0": b"GET /_status HTTP/2.0\r\nHost: x\r\n\r\n",
    "any bytes": bytes(range(256)) * 4,
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50),
    "bytes in a path": b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
    "bytes in a method": b"GE\xffT /_status HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("sent", REFUSED.values(), ids=REFUSED)
def test_what_is_not_http_ends_the_connection(target: Target, sent: bytes) -> None:
    """What follows it is not looked at: nobody knows where it begins."""
    assert answers(target.server, sent + LAST) == [400]
    assert target.is_well()


_AS_WRITER = b"POST /things HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"

BROKEN_OFF = {
    "a chunk's size is none": b"zz\r\n",
    "a chunk's size below 0": b"-1\r\n{}\r\n0\r\n\r\n",
    "a chunk's size past 64 bits": b"fffffffffffffffff\r\n",
    "a chunk's line ends with LF": b'8\n{"aa":1}\r\n0\r\n\r\n',
    "a chunk is longer than it says": b'8\r\n{"aa":1}XX0\r\n\r\n',
    "nothing after a chunk": b'8\r\n{"aa":1}\r\n',
    "less than a length": b'{"aa":1}',
}


@pytest.mark.parametrize("name", BROKEN_OFF)
def test_a_body_without_an_end_is_refused_in_json(target: Target, name: str) -> None:
    """Also where who sends it may write: the server alone would answer 500, in plain text."""
    coded = b"Content-Length: 20" if name == "less than a length" else b"Transfer-Encoding: chunked"
    head = _AS_WRITER + b"Authorization: Bearer " + target.token.encode() + b"\r\n" + coded
    before = httpx2.get(f"{target.server.url}/things", timeout=30).text
    received = exchanged(target.server, head + b"\r\n\r\n" + BROKEN_OFF[name], then_ends=True)
    fields, _, body = received.partition(b"\r\n\r\n")
    assert fields.startswith(b"HTTP/1.1 400 ")
    assert b"\r\nrequest-id: " in fields
    assert json.loads(body)["errors"][0]["code"] == "body_broke_off"
    assert httpx2.get(f"{target.server.url}/things", timeout=30).text == before


ENDS = {
    "a length and a coding": _POST
    + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
    "a coding and a length": _POST
    + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5c\r\n",
    "a chunk's size is none": _CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n",
    "a chunk's size with 0x": _CHUNKED + b"0x2\r\n{}\r\n0\r\n\r\n",
    "a chunk's size below 0": _CHUNKED + b"-2\r\n{}\r\n0\r\n\r\n",
    "a chunk's size past 64 bits": _CHUNKED + b"10000000000000002\r\n{}\r\n0\r\n\r\n",
    "a chunk's line ends with LF": _CHUNKED + b"2\n{}\n0\n\n",
    "a chunk's extension ends with LF": _CHUNKED + b"2;\n{}\r\n0\r\n\r\n",
    "a chunk is longer than it says": _CHUNKED + b"2\r\n{}XX0\r\n\r\n",
}


@pytest.mark.parametrize("sent", ENDS.values(), ids=ENDS)
def test_a_body_that_has_no_clear_end_ends_the_connection(target: Target, sent: bytes) -> None:
    """It was answered by its head (401), or is refused: and nothing in it becomes a request."""
    (status,) = answers(target.server, sent + LAST)
    assert status in (400, 401)
    assert target.is_well()


ONE_EACH = {
    "one length, said twice": (_POST + b"Content-Length: 5\r\n" * 2 + b"\r\nhello", 401),
    "a chunk's extension": (_CHUNKED + b"2;a=b\r\n{}\r\n0\r\n\r\n", 401),
    "a trailer": (_CHUNKED + b"2\r\n{}\r\n0\r\nContent-Length: 5\r\n\r\n", 401),
    "a body of a GET": (_GET + b"Content-Length: %d\r\n\r\n" % len(STATUS) + STATUS, 200),
    "an absolute address": (b"GET http://evil.example/_status HTTP/1.1\r\nHost: x\r\n\r\n", 200),
    "CONNECT": (b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    "OPTIONS *": (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    "an upgrade": (_GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 200),
    "an upgrade to HTTP/2": (_GET + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n", 200),
    "HTTP/1.0 kept alive": (b"GET /_status HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200),
    "lines that end with LF": (b"GET /_status HTTP/1.1\nHost: x\n\n", 200),
}


@pytest.mark.parametrize(("sent", "status"), ONE_EACH.values(), ids=ONE_EACH)
def test_one_request_is_one_answer(target: Target, sent: bytes, status: int) -> None:
    """The next one on the connection is answered too, where it is still looked at."""
    assert answers(target.server, sent + LAST) in ([status], [status, 200])


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (_GET + b"".join(b"X-%d: a\r\n" % n for n in range(1_000)) + b"\r\n", 431),
        (_GET + b"X: " + b"a" * 1_000_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"A" * 10_000 + b" /_status HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    ],
    ids=["many headers", "a long header", "a long path", "a long method"],
)
def test_a_long_head_is_refused(target: Target, sent: bytes, status: int) -> None:
    statuses = answers(target.server, sent + LAST)
    assert statuses in ([status], [status, 200], [])  # [] where it was cut off while it came
    assert target.is_well()


def test_a_body_may_lie_behind_another(target: Target) -> None:
    """Many requests at once on one connection are answered one by one, in order."""
    body = b'[{"aa":1}]'
    head = b"POST /things HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    head += b"Authorization: Bearer " + target.token.encode() + b"\r\n"
    post = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    assert answers(target.server, (post + STATUS) * 20 + LAST) == [200] * 41
