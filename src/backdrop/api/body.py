"""A request's body: read within limits, and unpacked.

Reading is the only I/O here; to unpack is for a worker thread, unless it is little.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import anyio
import zstandard
from starlette.requests import Request

from backdrop.answer import MOST_ROWS
from backdrop.domain.words import counted
from backdrop.errors import (
    BodyTooLarge,
    ClientTooSlow,
    InvalidBody,
    UnsupportedMediaType,
)

MIB = 2**20

Encoding: TypeAlias = Literal["identity", "gzip", "zstd"]
ENCODINGS: tuple[Encoding, ...] = get_args(Encoding)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a request may take.

    How many bytes a body may have, as it is sent and once it is unpacked, all bodies that are under
    way together, and a file that is uploaded; how many times as large as sent it may be unpacked
    (0: any number); how many records a batch may have; how many seconds a body may take to arrive,
    for how many of them it may come as slowly as it likes, and how many bytes must come a second
    after those; how many seconds a client may take for a streamed answer, which holds a snapshot of
    the store; how many rows an answer of groups may have, periods without records included; how
    many queries, writes of records and streamed answers there are at once, how many more queries
    wait for that, and for how long one may run (None: for as long as it takes); how many bytes of
    answers are cached; and how many requests a second one token, and one address, may send (0: any
    number).
    """

    body_as_sent: int = 32 * MIB
    body_unpacked: int = 64 * MIB
    bodies: int = 512 * MIB
    times_unpacked: int = 0
    upload: int = 50 * MIB
    records: int = 2_000_000
    body_seconds: float = 600
    body_grace: float = 30
    bytes_a_second: int = 1024
    answer_seconds: float = 600
    most_rows: int = MOST_ROWS
    readers: int = 16
    waiting_queries: int = 1_000
    query_seconds: float | None = 30
    writers: int = 40
    streams: int = 64
    requests_a_second: int = 0
    cached_answers: int = 64 * MIB


@dataclass(frozen=True, slots=True)
class SentBody:
    """A body as it came: still packed where `encoding` says so."""

    data: bytes
    encoding: Encoding


# -- reading ----------------------------------------------------------------------------------


async def read_records_body(request: Request, limits: Limits) -> SentBody:
    """The body of a request that must be JSON.

    The headers are checked first. Raises UnsupportedMediaType or BodyTooLarge. Where there is no
    body, it need not say its type: that it is empty is what is wrong.
    """
    content_type = request.headers.get("content-type")
    if content_type is not None:
        refuse_other_content(content_type)
    encoding = content_encoding(request.headers.get("content-encoding"))
    sent = await _read(request, limits)
    if sent and content_type is None:
        refuse_other_content(None)
    return SentBody(sent, encoding)


async def read_settings_body(request: Request, limits: Limits) -> SentBody:
    """The body of a request that may have none: only one that is there must be JSON."""
    encoding = content_encoding(request.headers.get("content-encoding"))
    sent = await _read(request, limits)
    if sent:
        refuse_other_content(request.headers.get("content-type"))
    return SentBody(sent, encoding)


async def _read(request: Request, limits: Limits) -> bytes:
    most = limits.body_as_sent
    length = request.headers.get("content-length", "")
    if length.isdecimal() and (len(length) > 18 or int(length) > most):
        raise _too_large(most, "as sent", "max_body")
    parts, size, begun = [], 0, anyio.current_time()
    with anyio.CancelScope(deadline=_deadline(limits, begun, 0)) as scope:
        async for part in request.stream():
            size += len(part)
            if size > most:
                raise _too_large(most, "as sent", "max_body")
            parts.append(part)
            scope.deadline = _deadline(limits, begun, size)
    if scope.cancelled_caught:
        raise _too_slow(limits, size)
    return b"".join(parts)


async def arriving(request: Request, limits: Limits) -> AsyncGenerator[bytes, None]:
    """The parts of the body as they come. Raises ClientTooSlow past the limits on that."""
    parts, size, begun = request.stream(), 0, anyio.current_time()
    while True:
        with anyio.CancelScope(deadline=_deadline(limits, begun, size)) as scope:
            part = await anext(parts, None)
        if scope.cancelled_caught:
            raise _too_slow(limits, size)
        if part is None:
            return
        size += len(part)
        yield part


def _deadline(limits: Limits, begun: float, size: int) -> float:
    """Until when more has to come, after so many bytes of a body that began at that time."""
    return begun + min(limits.body_seconds, _slowest(limits, size))


def _slowest(limits: Limits, size: int) -> float:
    return limits.body_grace + size / limits.bytes_a_second


def _too_slow(limits: Limits, size: int) -> ClientTooSlow:
    if _slowest(limits, size) < limits.body_seconds:
        least = counted(limits.bytes_a_second, "byte")
        limit = f"fewer than {least} a second came (min_body_rate)"
    else:
        limit = f"it took {counted(limits.body_seconds, 'second')} (max_body_seconds)"
    return ClientTooSlow(f"the body did not arrive in time: {limit}")


def _too_large(most: int, how: str, setting: str) -> BodyTooLarge:
    return BodyTooLarge(
        f"the body has more than {counted(most, 'byte')} {how} ({setting}): send it in smaller "
        "batches"
    )


def refuse_other_content(content_type: str | None) -> None:
    """Raise UnsupportedMediaType unless the header says JSON, in UTF-8 if it names a charset."""
    media_type, *parameters = (content_type or "").split(";")
    problem = None
    if media_type.strip().lower() != "application/json":
        problem = f"not {content_type!r}" if content_type else "and this request names none"
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        charset = value.strip().strip('"').lower()
        if name.strip().lower() == "charset" and charset not in ("utf-8", "utf8"):
            problem = f"in UTF-8, not in {charset!r}"
    if problem:
        hint = "with curl: -H 'Content-Type: application/json'"
        raise UnsupportedMediaType(
            f"the Content-Type of a body must be application/json, {problem} ({hint})"
        )


def content_encoding(header: str | None) -> Encoding:
    """How the body is packed. Raises UnsupportedMediaType for what can't be unpacked here."""
    name = (header or "identity").strip().lower()
    name = "gzip" if name == "x-gzip" else name
    if name not in ENCODINGS:
        expected = ", ".join(ENCODINGS)
        message = f"the Content-Encoding {header!r} is not understood; expected one of {expected}"
        raise UnsupportedMediaType(message, code="unsupported_content_encoding")
    return name


# -- unpacking --------------------------------------------------------------------------------


def unpack(body: SentBody, limits: Limits) -> bytes:
    """The body's bytes. Raises InvalidBody for broken ones, BodyTooLarge as soon as the limit is
    passed: a small body that unpacks to a huge one never does so.
    """
    if body.encoding == "identity" or not body.data:
        if len(body.data) > limits.body_unpacked:
            raise _too_large(limits.body_unpacked, "unpacked", "max_unpacked")
        return body.data
    most_kept = min(_OFTEN * len(body.data), limits.body_unpacked // 4)
    parts, size = [], 0
    for part in _unpacked(body, limits):
        size += len(part)
        if size <= most_kept:
            parts.append(part)
        elif parts:
            parts.clear()
        del part  # it may be large, and the next one is made meanwhile
    return b"".join(parts if size <= most_kept else _unpacked(body, limits))


_OFTEN = 20
"""What unpacks to more times its size, or to much, is counted first, and not kept meanwhile."""


def _unpacked(body: SentBody, limits: Limits) -> Iterator[bytes]:
    most, sent = limits.body_unpacked, len(body.data)
    most_steps = sent // _SMALL_STEP_IN + most // _STEP_OUT + _MOST_MEMBERS
    size = steps = 0
    try:
        for part in _UNPACKERS[body.encoding](memoryview(body.data), most):
            size, steps = size + len(part), steps + 1
            if steps > most_steps:
                raise BodyTooLarge(f"the body is packed in more than {_MOST_MEMBERS:,} pieces")
            if size > most:
                raise _too_large(most, "unpacked", "max_unpacked")
            if 0 < limits.times_unpacked * sent < size:
                times = counted(limits.times_unpacked, "time")
                raise BodyTooLarge(
                    f"the body unpacks to more than {times} what was sent "
                    "(max_unpacking): send it as it is"
                )
            yield part
            del part
    except (zlib.error, zstandard.ZstdError) as error:
        raise InvalidBody(f"the body is not whole {body.encoding} data: {error}") from None
    except EOFError:
        raise InvalidBody(f"the body's {body.encoding} data ends too early") from None


_STEP_IN = 16 * 1024
_STEP_OUT = MIB
_SMALL_STEP_IN = 512
_MOST_MEMBERS = 100_000
"""Members, or frames, may hold nothing, and still take time."""


def _ungzip(data: memoryview, _most: int) -> Iterator[bytes]:
    """The bytes of all the members, one after another, at most `_STEP_OUT` at once."""
    place = 0
    while place < len(data):
        member = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        while not member.eof:
            step = data[place : place + _STEP_IN]
            if not step:
                raise EOFError
            yield member.decompress(step, _STEP_OUT)
            place += len(step) - len(member.unused_data) - len(member.unconsumed_tail)
        if not any(data[place : place + _STEP_IN]) and not any(data[place:]):
            return  # zeros may fill up what follows the last member (gzip's manual)


def _unzstd(data: memoryview, most: int) -> Iterator[bytes]:
    """The bytes of all the frames. A block of 4 bytes can hold 128 KiB, so the steps in are small:
    one gives 16 MiB at the most.
    """
    place = 0
    unpacker = zstandard.ZstdDecompressor(max_window_size=max(most, 8 * MIB))
    while place < len(data):
        frame = unpacker.decompressobj()
        while not frame.eof:
            step = data[place : place + _SMALL_STEP_IN]
            if not step:
                raise EOFError
            yield frame.decompress(step)
            place += len(step) - len(frame.unused_data)


_UNPACKERS: Mapping[Encoding, Callable[[memoryview, int], Iterator[bytes]]] = {
    "gzip": _ungzip,
    "zstd": _unzstd,
}
