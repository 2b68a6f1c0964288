"""Values and pages of rows -> the bytes of answers."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from datetime import datetime
from itertools import chain
from typing import Any, TypeAlias

import anyio
import msgspec
from anyio.to_thread import run_sync
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from backdrop.answer import Rows
from backdrop.domain.times import format_instant
from backdrop.domain.values import TIME_FIELDS

Pages: TypeAlias = AbstractContextManager[Iterator[Rows]]
"""What `backdrop.answer.answer` gives."""

JSON = "application/json"
UNPUBLISHED = "Warning: this bucket is unpublished, and its records may change"

_encoder = msgspec.json.Encoder()


def json_answer(
    value: Mapping[str, Any], *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    return Response(_encoder.encode(value), status, headers, JSON)


def encode_rows(rows: Rows) -> bytes:
    """The rows as they stand between an array's brackets."""
    return _encoder.encode([_with_texts(row) for row in rows])[1:-1]


def _with_texts(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The row with its times in the form in which they are given back. Only records hold times."""
    times = {
        name: format_instant(row[name])
        for name in TIME_FIELDS
        if isinstance(row.get(name), datetime)
    }
    return {**row, **times} if times else row


def _frame(warning: str | None) -> tuple[bytes, bytes]:
    """What stands before the rows, and what after."""
    if warning is None:
        return b'{"data":[', b"]}"
    return b'{"warning":' + _encoder.encode(warning) + b',"data":[', b"]}"


def rows_answer(pages: Pages, *, warning: str | None = None) -> Response:
    """The answer that holds all the pages; to be called in a worker thread.

    `pages` is entered here, and what that raises is raised. An answer of one page is complete at
    once; one of more streams, so that no more than two pages of it are ever held.
    """
    before, after = _frame(warning)
    with ExitStack() as stack:
        iterator = stack.enter_context(pages)
        first, second = next(iterator, ()), next(iterator, None)
        if second is None:
            return Response(before + encode_rows(first) + after, media_type=JSON)
        return StreamedAnswer(before, _Reading(chain((first, second), iterator), stack), after)


class _Reading:
    """Pages that are being read in worker threads, one call at a time; what they hold is let go
    of once, after the last call.
    """

    def __init__(self, pages: Iterator[Rows], stack: ExitStack) -> None:
        self._pages = pages
        self._stack = stack.pop_all()
        self._lock = threading.Lock()

    def next_chunk(self) -> bytes | None:
        with self._lock:
            page = next(self._pages, None)
            return None if page is None else encode_rows(page)

    def leave(self, error: BaseException | None) -> None:
        with self._lock:
            self._stack.__exit__(type(error) if error else None, error, None)


class StreamedAnswer(Response):
    """An answer that is encoded page by page, each in a worker thread, as the client takes it.

    However it ends, also where the client leaves, the reading is left.
    """

    def __init__(self, before: bytes, reading: _Reading, after: bytes) -> None:
        self.status_code = 200
        self.media_type = JSON
        self.background = None
        self.init_headers()
        self._before, self._reading, self._after = before, reading, after

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        error: BaseException | None = None
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(_cancel_when_gone, receive, group.cancel_scope)
                try:
                    await self._send(scope, send)
                except Exception as caught:  # noqa: BLE001  (raised below, out of the task group)
                    error = caught
                group.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await run_sync(self._reading.leave, error)
        if error is not None:
            raise error

    async def _send(self, scope: Scope, send: Send) -> None:
        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )
        separator = self._before
        while scope["method"] != "HEAD" and (chunk := await run_sync(self._reading.next_chunk)):
            await send({"type": "http.response.body", "body": separator + chunk, "more_body": True})
            separator = b","
        await send({"type": "http.response.body", "body": self._after, "more_body": False})


async def _cancel_when_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
