"""The bytes of all bodies that are under way are bounded, and the slowest give way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from anyio.streams.memory import MemoryObjectSendStream
from starlette.types import Message, Receive, Scope, Send

from backdrop.api.arriving import UNCOUNTED, Arriving
from backdrop.errors import TooManyRequests

KIB = 1024
POST = {"type": "http", "method": "POST", "path": "/things"}


class Line:
    """A client of an application that reads bodies to their end, and then waits to be let go."""

    def __init__(self, app: Arriving, parts: MemoryObjectSendStream[Message]) -> None:
        self.app, self._parts = app, parts
        self.error: Exception | None = None
        self.let_go = anyio.Event()
        self.over = anyio.Event()

    async def send(self, size: int, *, more: bool = True) -> None:
        """Some of the body, and wait until the application has it."""
        await self._parts.send({"type": "http.request", "body": b"x" * size, "more_body": more})
        await anyio.wait_all_tasks_blocked()


class Clock:
    time = 0.0

    def __call__(self) -> float:
        return self.time


def bounded(most: int, most_of_one: int = 10**9) -> tuple[Arriving, Clock, list[Line]]:
    lines: list[Line] = []

    async def read(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001
        while (await receive()).get("more_body", False):
            pass
        await scope["line"].let_go.wait()
        if scope["line"] in lines:
            raise ValueError("what it does with the body goes wrong")

    clock = Clock()
    return Arriving(read, most=most, most_of_one=most_of_one, clock=clock), clock, lines


async def line_to(app: Arriving, group: Any) -> Line:
    sender, receiver = anyio.create_memory_object_stream[Message]()
    line = Line(app, sender)

    async def run() -> None:
        with receiver, sender:
            try:
                await app({**POST, "line": line}, receiver.receive, _nothing)
            except Exception as error:  # noqa: BLE001  it is looked at
                line.error = error
            line.over.set()

    group.start_soon(run)
    await anyio.wait_all_tasks_blocked()
    return line


async def _nothing(_: Message) -> None:
    pass


def run(test: Callable[[Any], Awaitable[None]]) -> None:
    async def within() -> None:
        async with anyio.create_task_group() as group:
            await test(group)
            group.cancel_scope.cancel()

    anyio.run(within)


def test_what_is_small_takes_no_room_and_what_is_announced_neither() -> None:
    app, _, _ = bounded(100 * KIB, 100 * KIB)

    async def many(group: Any) -> None:
        for _ in range(20):
            line = await line_to(app, group)
            await line.send(UNCOUNTED)
        assert app.counted == 0

    run(many)


@pytest.mark.parametrize("how", ["answered", "fault", "cancelled"])
def test_room_is_given_back_however_a_request_ends(how: str) -> None:
    """And not before: what has come whole is worked on."""
    app, _, faulty = bounded(1_000 * KIB, 1_000 * KIB)

    async def one(_: Any) -> None:
        async with anyio.create_task_group() as inner:
            line = await line_to(app, inner)
            await line.send(UNCOUNTED + 300 * KIB)
            await line.send(100 * KIB, more=how == "cancelled")
            assert app.counted == 400 * KIB
            if how == "fault":
                faulty.append(line)
            if how == "cancelled":
                inner.cancel_scope.cancel()
            line.let_go.set()
        assert app.counted == 0
        assert isinstance(line.error, ValueError) == (how == "fault")

    run(one)


def test_the_slowest_gives_way_and_is_told_why() -> None:
    """Also while it sends nothing; what has come whole keeps its room."""
    app, clock, _ = bounded(1_000 * KIB, 1_000 * KIB)

    async def crowd(group: Any) -> None:
        slow, whole = await line_to(app, group), await line_to(app, group)
        await slow.send(UNCOUNTED + 500 * KIB)
        await whole.send(UNCOUNTED + 200 * KIB, more=False)
        clock.time = 100
        quick = await line_to(app, group)
        clock.time = 100.1
        await quick.send(UNCOUNTED + 400 * KIB)
        assert isinstance(slow.error, TooManyRequests)
        assert "1,024,000 bytes" in str(slow.error)
        assert "max_bodies" in str(slow.error)
        assert (app.counted, quick.error, whole.over.is_set()) == (600 * KIB, None, False)
        clock.time = 200
        await quick.send(500 * KIB)
        assert isinstance(quick.error, TooManyRequests)
        assert app.counted == 200 * KIB

    run(crowd)


def test_one_alone_always_has_room() -> None:
    """However little is set; and what goes to a disk counts for no more than what does not."""
    app, _, _ = bounded(1, 300 * KIB)

    async def one(group: Any) -> None:
        line = await line_to(app, group)
        for _ in range(10):
            await line.send(100 * KIB)
        assert (app.counted, line.error) == (300 * KIB, None)

    run(one)
