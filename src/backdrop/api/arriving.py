"""How many bytes the bodies that are under way may have, all together. Pure ASGI."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backdrop.errors import TooManyRequests

UNCOUNTED = 64 * 1024
"""Of each body: what small requests are made of. They pass when large bodies have all the room."""

_WITHOUT_BODY = ("GET", "HEAD", "OPTIONS", "DELETE")


@dataclass(slots=True, eq=False)
class _Body:
    """One that is under way. `counted` are its bytes that take room."""

    begun: float
    size: int = 0
    counted: int = 0
    gave_way: bool = False
    waiting: anyio.CancelScope | None = None
    """Its wait for its next part."""

    def rate(self, now: float) -> float:
        return self.size / max(now - self.begun, 0.001)


class Arriving:
    """Bounds the bytes that have come of all bodies whose requests are not over, to `most`.

    What is announced takes no room, only what has come; and of one body no more than `most_of_one`
    counts, for nothing past that is kept in memory. The room is given back when the request ends,
    however it does. Where a part finds none, bodies that still come give way, the slowest first:
    TooManyRequests is raised in their requests, for `ErrorAnswers`. So a client that sends at
    leisure keeps nobody out who does not.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        most: int,
        most_of_one: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app, self._clock = app, clock
        self._most, self._most_of_one = max(most, most_of_one), most_of_one
        self._coming: set[_Body] = set()
        self.counted = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in _WITHOUT_BODY:
            await self._app(scope, receive, send)
            return
        body = _Body(self._clock())

        async def receive_counted() -> Message:
            message = await (self._next(body, receive) if body.size > UNCOUNTED else receive())
            if message["type"] == "http.request":
                self._count(body, message)
            return message

        try:
            await self._app(scope, receive_counted, send)
        finally:
            self._give_back(body)

    async def _next(self, body: _Body, receive: Receive) -> Message:
        """The next part, unless the body has to give way before it comes."""
        with anyio.CancelScope() as body.waiting:
            if not body.gave_way:
                message = await receive()
        body.waiting = None
        if body.gave_way:
            raise self._no_room()
        return message

    def _count(self, body: _Body, message: Message) -> None:
        body.size += len(message.get("body", b""))
        counted = min(max(body.size - UNCOUNTED, 0), self._most_of_one)
        self.counted += counted - body.counted
        body.counted = counted
        if counted:
            self._coming.add(body)
            self._make_room()
            if body.gave_way:
                raise self._no_room()
            if not message.get("more_body", False):
                self._coming.discard(body)

    def _make_room(self) -> None:
        while self.counted > self._most:
            now = self._clock()
            slowest = min(self._coming, key=lambda one: one.rate(now))
            slowest.gave_way = True
            self._give_back(slowest)
            if slowest.waiting is not None:
                slowest.waiting.cancel()

    def _give_back(self, body: _Body) -> None:
        self._coming.discard(body)
        self.counted -= body.counted
        body.counted = 0

    def _no_room(self) -> TooManyRequests:
        return TooManyRequests(
            f"more than {self._most:,} bytes of bodies are under way here (max_bodies), and this "
            "one came the most slowly: send it again",
            code="too_many_bodies",
            retry_after=1,
        )
