"""What stands around every request: id, log line, CORS, errors as answers. Pure ASGI."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backdrop.api.errors import status_of
from backdrop.errors import (
    AmbiguousRequest,
    BodyBrokeOff,
    ClientTooSlow,
    ProviderRefused,
    QueryTooLarge,
    QueryTooSlow,
    StorageUnavailable,
)
from backdrop.observe import Observe, RequestAnswered, ServerFault, StoreAway
from backdrop.storage.port import stopping

_is_request_id = re.compile(r"[A-Za-z0-9_-]{1,64}").fullmatch

_MOST_OF_A_REASON = 300
_TRACE = "backdrop"

Header = tuple[bytes, bytes]

UNLESS_SAID: tuple[Header, ...] = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)
"""What browsers are told with every answer, but for what the answer itself says otherwise."""
STRICT_TRANSPORT = (b"strict-transport-security", b"max-age=31536000")
"""Where it is known that browsers come over https: that they are to come so for a year."""

AnswerError = Callable[[Scope, Exception, str], Response]
"""The answer to a request that raised, given the request's id."""


def _new_id() -> str:
    """To tell requests apart, not to keep anything from anyone.

    The module's own generator is seeded anew in each forked process; one of ours would not be.
    """
    return f"{random.getrandbits(128):032x}"


@dataclass(slots=True)
class Trace:
    """What is known of a request so far: filled in on its way, read for its log line."""

    request_id: str
    route: str | None = None
    bucket: str | None = None
    rows: int | None = None
    """Records received, or rows answered."""
    status: int | None = None
    """That of the answer, once it has begun."""


def trace(scope: Scope) -> Trace:
    """The request's trace. `Observed` puts it there."""
    found: Trace = scope[_TRACE]
    return found


def header_of(scope: Scope, name: bytes) -> str | None:
    """The first header of that name, which is in lower case; None where there is none."""
    for known, value in scope["headers"]:
        if known == name:
            text: str = value.decode("latin-1")
            return text
    return None


def list_of(scope: Scope, name: bytes, *, between: str = ",") -> str | None:
    """What all headers of that name, in lower case, list (RFC 9110, 5.3); None where none is."""
    values = [value.decode("latin-1") for known, value in scope["headers"] if known == name]
    return between.join(values) if values else None


class Observed:
    """Gives each request its id, its log line and the headers that all answers have.

    Those of `Cors` are on the answer to each request that `is_open` says is one of reading, so that
    pages of any origin may read it. `https`: whether browsers come over https.

    A `Request-Id` of the client's is kept if it has the form of one. An answer to HEAD loses its
    body here, errors included.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        observe: Observe,
        is_open: Callable[[Scope], bool],
        https: bool = False,
    ) -> None:
        self._app, self._observe, self._is_open = app, observe, is_open
        self._closed = (*UNLESS_SAID, STRICT_TRANSPORT) if https else UNLESS_SAID
        said = tuple([name for name, _ in Cors.ANSWER])
        self._open = (*Cors.ANSWER, *_unsaid(self._closed, said))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = header_of(scope, b"request-id")
        request_id = given if given and _is_request_id(given) else _new_id()
        scope[_TRACE] = request = Trace(request_id)
        unless_said = self._unless_said(scope)
        is_head = scope["method"] == "HEAD"
        sent, ended = 0, False
        begun = time.perf_counter()

        async def send_marked(message: Message) -> None:
            nonlocal sent, ended
            if message["type"] == "http.response.start":
                request.status = message["status"]
                said = message["headers"]
                unsaid = _unsaid(unless_said, tuple([name for name, _ in said]))
                headers = [*said, (b"request-id", request_id.encode()), *unsaid]
                message = {**message, "headers": headers}
            elif is_head:
                message = {**message, "body": b""}
            await send(message)
            sent += len(message.get("body", b""))
            ended = not message.get("more_body", message["type"] == "http.response.start")

        try:
            await self._app(scope, receive, send_marked)
        finally:
            self._observe(
                RequestAnswered(
                    method=scope["method"],
                    route=request.route,
                    bucket=request.bucket,
                    status=request.status,
                    seconds=round(time.perf_counter() - begun, 6),
                    request_id=request_id,
                    rows=request.rows,
                    bytes=sent,
                    broken=request.status is not None and not ended,
                )
            )

    def _unless_said(self, scope: Scope) -> tuple[Header, ...]:
        if not self._is_open(scope):
            return self._closed
        return (*self._open, *Cors.PREFLIGHT) if scope["method"] == "OPTIONS" else self._open


class Cors:
    """The headers that let pages of any origin read: of every answer, and of one to a preflight."""

    ANSWER: tuple[Header, ...] = (
        (b"access-control-allow-origin", b"*"),
        (b"cross-origin-resource-policy", b"cross-origin"),
    )
    PREFLIGHT: tuple[Header, ...] = (
        (b"access-control-allow-methods", b"GET, HEAD, OPTIONS"),
        (
            b"access-control-allow-headers",
            b"cache-control, authorization, if-none-match, request-id",
        ),
        (b"access-control-max-age", b"86400"),
    )


class ErrorAnswers:
    """Answers what is raised, as `answer` says.

    An answer that has begun can only be broken off, by raising on.
    """

    def __init__(self, app: ASGIApp, *, answer: AnswerError, observe: Observe) -> None:
        self._app, self._answer, self._observe = app, answer, observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        except ClientDisconnect:
            if trace(scope).status is None:  # it may still be there, with chunks that are none
                answer = self._answer(scope, _broke_off(), trace(scope).request_id)
                await answer(scope, receive, send)
        except asyncio.CancelledError:  # the server stops, and does not wait for this any longer
            if trace(scope).status is None:
                answer = self._answer(scope, stopping(), trace(scope).request_id)
                await answer(scope, receive, send)
            raise
        except Exception as error:  # the last place that can answer
            request_id, begun = trace(scope).request_id, trace(scope).status is not None
            if isinstance(error, StorageUnavailable):
                reason = str(error.__cause__ or error)[:_MOST_OF_A_REASON]
                self._observe(StoreAway(request_id=request_id, reason=reason))
            elif not isinstance(error, _NOBODYS_FAULT) and (begun or status_of(error) >= 500):
                self._observe(ServerFault(request_id=request_id, exception=error))
            if begun:
                raise
            await self._answer(scope, error, request_id)(scope, receive, send)


class Unambiguous:
    """Raises AmbiguousRequest, for `ErrorAnswers`, where a proxy may have seen another request.

    RFC 9112, 3.2 and 6.1-6.3: the server alone would take one of two lengths, or hosts, and what
    stands in front of it the other, which lets one client's request begin another's. Of a length
    beside `chunked` nothing is seen here: the server drops it, and ends the connection (6.3).
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            lengths = [header for header in scope["headers"] if header[0] in _OF_LENGTH]
            if lengths and (len(lengths) > 1 or _is_other_coding(lengths[0])):
                raise AmbiguousRequest(
                    "where this request ends is not clear: expected one Content-Length, or "
                    "Transfer-Encoding: chunked"
                )
            hosts = [value for name, value in scope["headers"] if name == b"host"]
            needs_one = scope.get("http_version") == "1.1" or any(hosts)
            if needs_one and not (len(hosts) == 1 and _is_host(hosts[0])):
                raise AmbiguousRequest(
                    "whom this request is for is not clear: expected one valid Host"
                )
        await self._app(scope, receive, send)


_is_host = re.compile(rb"[A-Za-z0-9._~!$&'()*+;=%:\[\]-]+").fullmatch
"""The characters of an authority without a user (RFC 3986, 3.2.2), but for the comma of a list."""

_OF_LENGTH = (b"content-length", b"transfer-encoding")


def _is_other_coding(header: Header) -> bool:
    return header[0] == b"transfer-encoding" and header[1].lower() != b"chunked"


def _broke_off() -> BodyBrokeOff:
    return BodyBrokeOff(
        "the body broke off: expected as many bytes as Content-Length says, or chunks that each "
        "have the size they say, up to one of size 0"
    )


_NOBODYS_FAULT = (QueryTooSlow, QueryTooLarge, ClientTooSlow, ProviderRefused)
"""What came to its limit, or is said by a browser: the log line of the request is enough."""


@lru_cache(maxsize=200)  # of which headers answers have there are some twenty ways
def _unsaid(headers: tuple[Header, ...], said: tuple[bytes, ...]) -> tuple[Header, ...]:
    """Those of the headers whose names an answer does not have."""
    return tuple(header for header in headers if header[0] not in said)
