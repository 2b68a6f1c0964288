"""Bodies that are small until they are unpacked or parsed, and bodies that never end."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator

import httpx2
import pytest
import zstandard

from tests.hostile.conftest import Target

MIB = 2**20
_GZIP_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03"


def _zeros_by_gzip(size: int) -> bytes:
    """A member that unpacks to so many zeros: the same piece over and over, made once."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    piece = packer.compress(bytes(MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    return _GZIP_HEAD + piece * (size // MIB) + b"\x03\x00" + bytes(8)


def _zeros_by_zstd(size: int) -> bytes:
    """A frame of blocks that each say: 128 KiB of one byte (RFC 8878, 3.1.1.2)."""
    block = 128 * 1024
    head = b"\x28\xb5\x2f\xfd" + b"\x00" + b"\x50"  # a window of 1 MiB
    more = (block << 3 | 1 << 1).to_bytes(3, "little") + b"0"
    last = (block << 3 | 1 << 1 | 1).to_bytes(3, "little") + b"0"
    return head + more * (size // block - 1) + last


BOMBS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "gzip to 100 MB": ("gzip", lambda: _zeros_by_gzip(100 * MIB)),
    "gzip to 10 GB": ("gzip", lambda: _zeros_by_gzip(10_240 * MIB)),
    "gzip in members": ("gzip", lambda: gzip.compress(bytes(MIB), mtime=0) * 10_240),
    "zstd to 100 MB": ("zstd", lambda: _zeros_by_zstd(100 * MIB)),
    "zstd to 10 GB": ("zstd", lambda: _zeros_by_zstd(10_240 * MIB)),
    "zstd in frames": ("zstd", lambda: zstandard.compress(bytes(MIB)) * 10_240),
    "zstd in one block each": ("zstd", lambda: _zeros_by_zstd(128 * 1024) * 81_920),
    "empty members": ("gzip", lambda: gzip.compress(b"", mtime=0) * 1_500_000),
    "empty frames": ("zstd", lambda: zstandard.compress(b"") * 3_000_000),
    "frames to skip": ("zstd", lambda: b"\x50\x2a\x4d\x18\x00\x00\x00\x00" * 3_000_000),
}


@pytest.mark.parametrize(("encoding", "make"), BOMBS.values(), ids=BOMBS)
def test_bombs_are_refused_before_they_go_off(
    target: Target, encoding: str, make: Callable[[], bytes]
) -> None:
    """To unpack all of 10 GB would take ten seconds and more; what is unpacked is not kept."""
    bomb = make()
    memory = 64 * MIB if len(bomb) < 12 * MIB else 128 * MIB
    with target.at_most(memory=memory, seconds=3):
        answer = _post(target, bomb, **{"Content-Encoding": encoding})
    assert answer.status_code == 413, answer.text
    assert answer.json()["errors"][0]["code"] == "body_too_large"
    assert target.is_well()


HOSTILE_JSON: dict[str, tuple[Callable[[], bytes], str]] = {
    "lists a million deep": (lambda: b"[" * 1_000_000, "invalid_body"),
    "objects a million deep": (lambda: b'{"aa":' * 1_000_000, "invalid_body"),
    "deep, and closed": (lambda: b"[" * 500_000 + b"]" * 500_000, "invalid_body"),
    "deep in a field": (lambda: b'{"aa":' + b"[" * 1_000_000, "invalid_body"),
    "a million keys": (
        lambda: b"{%s}" % b",".join(b'"k%d":1' % n for n in range(1_000_000)),
        "too_many_fields",
    ),
    "millions of empty objects": (lambda: b"[%s{}]" % (b"{}," * 10_000_000), "batch_too_large"),
    "millions of empty lists": (lambda: b"[%s[]]" % (b"[]," * 10_000_000), "batch_too_large"),
    "a string without an end": (lambda: b'["' + b'\\"{{' * 4_000_000, "invalid_json"),
    "a number of a million digits": (lambda: b'{"aa":%s}' % (b"9" * 1_000_000), "invalid_body"),
    "NUL": (lambda: b"\x00" * 1_000_000, "invalid_json"),
}


@pytest.mark.parametrize(("make", "code"), HOSTILE_JSON.values(), ids=HOSTILE_JSON)
def test_json_that_is_hard_to_parse_is_refused(
    target: Target, make: Callable[[], bytes], code: str
) -> None:
    body = make()
    with target.at_most(memory=512 * MIB, seconds=6):
        answer = _post(target, body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["errors"][0]["code"] == code
    assert len(answer.content) < 2_000
    assert target.is_well()


@pytest.mark.parametrize("declared", [False, True], ids=["in chunks", "with its length"])
def test_a_line_of_a_gigabyte_is_refused_while_it_is_sent(target: Target, declared: bool) -> None:
    """At the limit, or at once where its head says how long it is: the rest is not taken."""
    sent = 0

    def line() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(1024):
            sent += MIB
            yield b"a" * MIB

    length = {"Content-Length": str(1024 * MIB)} if declared else {}
    with target.at_most(memory=128 * MIB, seconds=6):
        try:
            answer = _post(target, line(), **length)
        except httpx2.TransportError:  # it was writing when the server had said no
            answer = None
    assert answer is None or answer.status_code == 413
    assert sent < 512 * MIB
    assert target.is_well()


def _post(target: Target, body: bytes | Iterator[bytes], **headers: str) -> httpx2.Response:
    headers |= target.writer | {"Content-Type": "application/json"}
    url = f"{target.server.url}/things"
    return httpx2.post(url, headers=headers, content=body, timeout=60)
