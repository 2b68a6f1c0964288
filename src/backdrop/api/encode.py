"""Values and pages of rows -> the bytes of answers."""

from __future__ import annotations

import csv
import io
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import chain
from types import NoneType
from typing import Any, TypeAlias

import anyio
import msgspec
from anyio.to_thread import run_sync
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from backdrop.answer import Rows
from backdrop.domain.times import format_instant
from backdrop.domain.values import TIME_FIELDS
from backdrop.errors import ClientTooSlow
from backdrop.storage.port import Reading

Pages: TypeAlias = AbstractContextManager[Reading]
"""What `backdrop.answer.answer` gives."""

JSON = "application/json"
CSV = "text/csv; charset=utf-8; header=present"
UNPUBLISHED = "Warning: this bucket is unpublished, and its records may change"

SECONDS_A_PIECE = 60.0
"""How long a client may take for each piece of a streamed answer before it is broken off."""
_PIECE = 128 * 1024
"""Bytes. Before a send waits, several pieces are on their way: large ones would fill the memory."""

_encoder = msgspec.json.Encoder()


def json_answer(
    value: Mapping[str, Any], *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    return Response(_encoder.encode(value), status, headers, JSON)


def encode_rows(rows: Rows) -> bytes:
    """The rows as they stand between an array's brackets."""
    for name in TIME_FIELDS:
        places = [at for at, row in enumerate(rows) if type(row.get(name)) is datetime]
        if places:  # only records hold times
            texts = _formatted([rows[at][name] for at in places])
            rows = list(rows)
            for at, text in zip(places, texts, strict=True):
                rows[at] = {**rows[at], name: text}
    return _encoder.encode(rows)[1:-1]


def _formatted(times: Sequence[datetime]) -> list[str]:
    """What `format_instant` makes of each of these times in UTC, in a tenth of the time."""
    texts: list[str] = msgspec.json.decode(_encoder.encode(times).replace(b"Z", b"+00:00"))
    return texts


@dataclass(frozen=True, slots=True)
class Form:
    """How rows become bytes: what stands before them, between pages and after them."""

    media_type: str
    encode: Callable[[Rows], bytes]
    before: bytes = b""
    between: bytes = b""
    after: bytes = b""


def json_form(warning: str | None = None) -> Form:
    """`{"data": […]}`, with a warning at the top if there is one."""
    before = b'{"data":['
    if warning is not None:
        before = b'{"warning":' + _encoder.encode(warning) + b',"data":['
    return Form(JSON, encode_rows, before, b",", b"]}")


def csv_form(columns: Sequence[str]) -> Form:
    """A table (RFC 4180) of those columns, with a header. A set's cell is a JSON list."""
    header = _csv_lines(columns, [dict(zip(columns, columns, strict=True))]) if columns else b""
    return Form(CSV, partial(_csv_lines, columns), before=header)


def _csv_lines(columns: Sequence[str], rows: Rows) -> bytes:
    text = io.StringIO()
    cells = (_cells([row.get(column) for row in rows]) for column in columns)
    csv.writer(text, lineterminator="\r\n").writerows(zip(*cells, strict=True))
    return text.getvalue().encode()


def _cells(column: Sequence[Any]) -> Sequence[Any]:
    kinds = set(map(type, column))
    if kinds <= _AS_THEY_ARE:
        return column
    return _formatted(column) if kinds == {datetime} else list(map(_cell, column))


_AS_THEY_ARE = {str, int, NoneType}
"""The types that the csv module writes as they should stand."""


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return format_instant(value)
    if isinstance(value, (list, float)):
        return _encoder.encode(value).decode()
    return value  # csv writes null, as absence, as nothing


def rows_answer(
    pages: Pages,
    form_of: Callable[[Reading], Form],
    headers: Mapping[str, str],
    *,
    most_seconds: float,
) -> Response:
    """The answer that holds all the pages; to be called in a worker thread.

    `form_of` takes the reading before its first page is, and its fields, if it was asked for them.

    `pages` is entered here, and what that raises is raised. An answer of one page is complete at
    once; one of more streams, so that no more than two pages of it are ever held, and is broken off
    after `most_seconds`: it holds a snapshot of the store.
    """
    with ExitStack() as stack:
        reading = stack.enter_context(pages)
        form = form_of(reading)
        first, second = next(reading, ()), next(reading, None)
        if second is None:
            body = form.before + form.encode(first) + form.after
            return Response(body, headers=headers, media_type=form.media_type)
        chunks = _Chunks(chain((first, second), reading), form, stack)
        return StreamedAnswer(form, chunks, headers, most_seconds)


class KeptAnswer(Response):
    """An answer that was made before, with its headers but for the length encoded already."""

    def __init__(self, body: bytes, headers: Sequence[tuple[bytes, bytes]]) -> None:
        self.status_code = 200
        self.body = body
        self.background = None
        self.raw_headers = [*headers, (b"content-length", b"%d" % len(body))]


class _Chunks:
    """Encoded pages that are being read in worker threads, one call at a time.

    What they hold is let go of once, after the last call.
    """

    def __init__(self, pages: Iterator[Rows], form: Form, stack: ExitStack) -> None:
        self._pages = pages
        self._form = form
        self._stack = stack.pop_all()
        self._lock = threading.Lock()

    def next(self) -> bytes | None:
        with self._lock:
            page = next(self._pages, None)
            return None if page is None else self._form.encode(page)

    def leave(self, error: BaseException | None) -> None:
        with self._lock:
            self._stack.__exit__(type(error) if error else None, error, None)


class StreamedAnswer(Response):
    """An answer that is encoded page by page, each in a worker thread, as the client takes it.

    However it ends, also where the client leaves, the reading is left, and `at_end` called.
    """

    def __init__(
        self, form: Form, chunks: _Chunks, headers: Mapping[str, str], most_seconds: float
    ) -> None:
        self.status_code = 200
        self.media_type = form.media_type
        self.background = None
        self.init_headers(headers)
        self._form, self._chunks, self._most_seconds = form, chunks, most_seconds
        self.at_end: Callable[[], object] = lambda: None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        error: BaseException | None = None
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(_cancel_when_gone, receive, group.cancel_scope)
                try:
                    with anyio.fail_after(self._most_seconds):
                        await self._send(scope, send)
                except TimeoutError:
                    error = ClientTooSlow("the client did not take the answer in time")
                except Exception as caught:  # noqa: BLE001  (raised below, out of the task group)
                    error = caught
                group.cancel_scope.cancel()
        finally:
            try:
                with anyio.CancelScope(shield=True):
                    await run_sync(self._chunks.leave, error)
            finally:
                self.at_end()
        if error is not None:
            raise error

    async def _send(self, scope: Scope, send: Send) -> None:
        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )
        separator = self._form.before
        while scope["method"] != "HEAD" and (chunk := await run_sync(self._chunks.next)):
            chunk = separator + chunk
            for begin in range(0, len(chunk), _PIECE):
                piece = chunk[begin : begin + _PIECE]
                with anyio.fail_after(SECONDS_A_PIECE):
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            separator = self._form.between
        await send({"type": "http.response.body", "body": self._form.after, "more_body": False})


async def _cancel_when_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
