"""Running the server: one process, in which granian's embedded server answers.

So that killing the process leaves nothing behind that holds the port or the store's file. What is
added here to granian: the socket is bound before anything else is done, signals are handled, and a
stop lets the requests in flight finish, for so long and no longer.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import resource
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator, MutableMapping, Sequence
from typing import Any

from granian._granian import SocketHolder
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.embed import Server as EmbeddedServer

from backdrop.domain.loopback import is_loopback_host

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_BACKLOG = 1024
_MOST_CONNECTIONS = 8192
"""granian counts idle connections too, and leaves those past the bound waiting."""


def _is_news(record: logging.LogRecord) -> bool:
    """Whether the application has not told of it: it does of what breaks an answer off."""
    return not record.getMessage().startswith("Application callable raised")


_LOG_TO_STDERR = {
    "filters": {"news": {"()": lambda: _is_news}},
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "filters": ["news"],
            "formatter": "generic",
            "stream": "ext://sys.stderr",
        },
        "access": {"class": "logging.NullHandler"},
    },
}
CUT_OFF_SECONDS = 5
_SECONDS_TO_ANSWER = 1
"""For those whose query was ended."""


class CannotListen(Exception):
    """The message says why the address can't be had."""


class CannotStart(Exception):
    """The application refused to start; the message is its reason."""


def bind(host: str, port: int) -> socket.socket:
    """A socket bound to the address, not listening yet. Port 0 takes a free one.

    Raises CannotListen. Bound without SO_REUSEPORT: a second server on the port must fail.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise CannotListen(f"{host!r} is no address of this machine: {error.strerror}") from None
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            raise CannotListen(
                f"port {port} on {host} is in use: is another server running? "
                "Choose another with --port, or with BACKDROP_PORT"
            ) from None
        raise CannotListen(f"can't listen on {host} port {port}: {error.strerror}") from None
    return bound


def beside(bound: socket.socket) -> socket.socket:
    """One more socket on the address of a bound one.

    The kernel shares connections out among those of them that listen. Another server still can't
    have the port: its own socket is not marked so.
    """
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    another = socket.socket(bound.family, bound.type, bound.proto)
    another.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    another.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    another.bind(bound.getsockname())
    return another


def address_of(bound: socket.socket) -> str:
    """The URL under which a bound socket is reached, with the port it really has."""
    host, port = bound.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def is_loopback(bound: socket.socket) -> bool:
    """Whether only this machine can reach the socket."""
    return is_loopback_host(bound.getsockname()[0])


class _Watched:
    """The application, with the requests in flight and word of its start."""

    def __init__(self, app: App, on_started: Callable[[], object]) -> None:
        self._app = app
        self._on_started = on_started
        self._requests: set[asyncio.Task[Any]] = set()
        self._cut_off = False

    @property
    def in_flight(self) -> int:
        return len(self._requests)

    def cut_off(self) -> None:
        """Cancel the requests in flight. What one of them does in a thread still ends there."""
        self._cut_off = True
        for request in self._requests:
            request.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, self._watching_start(send))
            return
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  we are in one
        self._requests.add(task)
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            if not self._cut_off:
                raise
        finally:
            self._requests.discard(task)

    def _watching_start(self, send: Send) -> Send:
        async def watch(message: Message) -> None:
            await send(message)
            if message["type"] == "lifespan.startup.complete":
                self._on_started()

        return watch


class _Server(EmbeddedServer):
    """granian's embedded server on a socket that is bound already."""

    def __init__(self, app: App, bound: socket.socket, header_seconds: float) -> None:
        super().__init__(
            app,
            interface=Interfaces.ASGI,
            http=HTTPModes.http1,
            http1_settings=HTTP1Settings(header_read_timeout=int(header_seconds * 1_000)),
            websockets=False,
            backlog=_BACKLOG,
            backpressure=_MOST_CONNECTIONS,
            log_level=LogLevels.error,
            log_dictconfig=_LOG_TO_STDERR,
        )
        self._bound = bound

    def _init_shared_socket(self) -> None:
        self._bound.listen(_BACKLOG)
        self._bound.setblocking(False)
        # It is granian's from here on: granian closes it, which is what stops accepting.
        self._shd: Any = SocketHolder(self._bound.detach(), False, _BACKLOG)  # type: ignore[call-arg]  # not in its types
        self._ssp = None


def run(
    app: App,
    bound: socket.socket,
    *,
    stop_seconds: float,
    on_ready: Callable[[], None],
    on_stopping: Callable[[int], None],
    stop_on: Sequence[signal.Signals] = (signal.SIGTERM, signal.SIGINT),
    header_seconds: float = 30,
    on_cutting_off: Callable[[], None] = lambda: None,
) -> bool:
    """Answer requests on the socket until a signal of `stop_on`; return whether the stop was clean.

    The socket is taken over, and closed. A connection on which no whole head of a request has come
    for `header_seconds` is closed.

    `on_ready` is called once the socket listens and the application has started. A signal stops
    accepting, calls `on_stopping` with the number of requests in flight, and gives them
    `stop_seconds`. Then it calls `on_cutting_off`, which should end what they wait for; what is not
    answered a second later is cut off. A second signal does so at once, and the stop was not clean;
    a third one ends the process as it would any other.
    Raises CannotStart.
    """
    _allow_many_files()
    try:
        return asyncio.run(
            _run(
                app,
                bound,
                stop_seconds,
                on_ready,
                on_stopping,
                stop_on,
                header_seconds,
                on_cutting_off,
            )
        )
    finally:
        gc.unfreeze()  # what `_started` has set aside goes with the rest


async def _run(
    app: App,
    bound: socket.socket,
    stop_seconds: float,
    on_ready: Callable[[], None],
    on_stopping: Callable[[int], None],
    stop_on: Sequence[signal.Signals],
    header_seconds: float,
    on_cutting_off: Callable[[], None],
) -> bool:
    loop = asyncio.get_running_loop()
    stop, hurry = asyncio.Event(), asyncio.Event()
    watched = _Watched(app, lambda: loop.call_soon(_started, on_ready))
    server = _Server(watched, bound, header_seconds)
    with _signals(loop, stop_on, stop, hurry):
        serving = loop.create_task(server.serve())
        stopped, hurried = loop.create_task(stop.wait()), loop.create_task(hurry.wait())
        await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if stopped.done():
            on_stopping(watched.in_flight)
            server.stop()  # type: ignore[no-untyped-call]
            await asyncio.wait(
                {serving, hurried}, timeout=stop_seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if not serving.done():
                on_cutting_off()
                await asyncio.wait({serving}, timeout=_SECONDS_TO_ANSWER)
            watched.cut_off()
            await asyncio.wait({serving}, timeout=CUT_OFF_SECONDS)
        if serving.done() and serving.exception() is not None:
            reason = f"the server can't start: {serving.exception()}"
            raise CannotStart(reason) from serving.exception()
        return not hurry.is_set()


def _started(on_ready: Callable[[], None]) -> None:
    """What is there by now stays: the collector need not look at it again and again.

    It runs after so many new objects. A batch of 10,000 records is 10,000 of them, none garbage.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, 20, 50)
    sys.setswitchinterval(_SECONDS_A_TURN)
    on_ready()


_NEW_OBJECTS = 50_000
_SECONDS_A_TURN = 0.001
"""For so long a thread that computes may keep others waiting: the writer, for one, that has to go
on after each step of the engine's. Python's own measure is five times as long.
"""


@contextlib.contextmanager
def _signals(
    loop: asyncio.AbstractEventLoop,
    numbers: Sequence[signal.Signals],
    stop: asyncio.Event,
    hurry: asyncio.Event,
) -> Iterator[None]:
    def handle(number: int) -> None:
        if stop.is_set():
            hurry.set()
            loop.remove_signal_handler(number)
        stop.set()

    for number in numbers:
        loop.add_signal_handler(number, handle, number)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def _allow_many_files() -> None:
    """Each connection is an open file; the usual soft limit of 1,024 would be met too soon."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_CONNECTIONS + 1024
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
