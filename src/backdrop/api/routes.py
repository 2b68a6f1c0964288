"""Resources as tables, path -> method -> handler, and the ASGI application that serves them.

Merging two tables merges two APIs, so that `Allow`, HEAD and OPTIONS are right by construction.
A path that begins with `BUCKET` is served under the bucket's second address too.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias
from urllib.parse import unquote_to_bytes

from anyio import CapacityLimiter
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from backdrop.api.body import Limits
from backdrop.api.caching import AnswerCache, Questions
from backdrop.api.middleware import trace
from backdrop.errors import MethodNotAllowed, NotFound
from backdrop.storage.port import Storage
from backdrop.uploads.work import Uploads

BUCKET = "/{bucket:bucket}"
RECORD = BUCKET + "/{id:record_id}"
UPLOAD = BUCKET + "/{id:upload}"
"""One of the paths of `RECORD`, under which there is a page, too."""
_SECOND_ADDRESS = "/data/{group:address}/{type:address}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What the handlers of one application work with."""

    storage: Storage
    admin_hash: str | None
    metrics_hash: str | None
    limits: Limits
    answers: AnswerCache
    questions: Questions
    readers: CapacityLimiter
    """Queries at once."""
    streams: CapacityLimiter
    """Answers of many records, each of which holds a snapshot, and memory, until it is taken."""
    writers: CapacityLimiter
    """Writes of records at once. Neither takes the threads of what is quick, as `/_status` is."""
    now: Callable[[], datetime]
    uploads: Uploads
    https: bool = False
    """Whether browsers come over https, as the public address says: a proxy may end TLS."""
    read_url: str | None = None
    """Where the read API is reached, where that is not the address of the request."""


Handler: TypeAlias = Callable[[Request, Site], Awaitable[Response]]
Resources: TypeAlias = Mapping[str, Mapping[str, Handler]]
Lifespan: TypeAlias = Callable[[ASGIApp], AbstractAsyncContextManager[None]]


class _Bucket(StringConvertor):
    """A bucket's name. The rule is `is_bucket_name`'s."""

    regex = r"(?!data(?:/|\Z))[a-z][a-z0-9_-]{1,63}"


class _Address(StringConvertor):
    """One half of a second address. The rule is `is_address_part`'s."""

    regex = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"


class _RecordId(StringConvertor):
    """All the rest of a path: an id may hold slashes, and so may an e-mail address."""

    regex = r"(?s:.+)"


class _Upload(StringConvertor):
    regex = r"upload"


def merge(*tables: Resources) -> Resources:
    """One table with the methods of all. Paths keep the order in which they first come."""
    merged: dict[str, dict[str, Handler]] = {}
    for table in tables:
        for path, handlers in table.items():
            merged.setdefault(path, {}).update(handlers)
    return merged


def serve(resources: Resources, site: Site, *, lifespan: Lifespan) -> ASGIApp:
    """The application that answers for the resources; paths are tried in the table's order."""
    register_url_convertor("bucket", _Bucket())
    register_url_convertor("address", _Address())
    register_url_convertor("record_id", _RecordId())
    register_url_convertor("upload", _Upload())
    routes = [
        Route(address, endpoint=_Resource(path, handlers, site))
        for path, handlers in resources.items()
        for address in addresses(path)
    ]
    return Router(routes, redirect_slashes=False, default=_nowhere, lifespan=lifespan)


def addresses(path: str) -> tuple[str, ...]:
    """The paths under which a table's path is served: a bucket's under its second address too."""
    if path.startswith(BUCKET):
        return (path, _SECOND_ADDRESS + path.removeprefix(BUCKET))
    return (path,)


class _Resource:
    """One path: picks the method's handler."""

    def __init__(self, path: str, handlers: Mapping[str, Handler], site: Site) -> None:
        self._route, self._site = re.sub(r":\w+", "", path), site
        self._handlers = dict(handlers)
        if "GET" in handlers:
            self._handlers.setdefault("HEAD", handlers["GET"])
        self._handlers.setdefault("OPTIONS", self._options)
        self._allowed = sorted(self._handlers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].endswith("\n") or _stands_for_bytes(scope):
            raise NotFound(NOTHING_HERE)  # a pattern's end lets a line break pass
        trace(scope).route = self._route
        handler = self._handlers.get(scope["method"])
        if handler is None:
            allowed = ", ".join(self._allowed)
            raise MethodNotAllowed(
                f"{scope['method'][:20]} is not for this path; expected one of {allowed}",
                allowed=self._allowed,
            )
        response = await handler(Request(scope, receive), self._site)
        await response(scope, receive, send)

    async def _options(self, request: Request, site: Site) -> Response:  # noqa: ARG002
        return Response(status_code=204, headers={"Allow": ", ".join(self._allowed)})


def _stands_for_bytes(scope: Scope) -> bool:
    """Whether the path holds bytes that are not UTF-8, which the server has replaced: they name
    nothing, not what the sign that replaces them does.
    """
    if "\ufffd" not in scope["path"]:
        return False
    try:
        unquote_to_bytes(scope["raw_path"]).decode()
    except UnicodeDecodeError:
        return True
    return False


NOTHING_HERE = "there is nothing at this path; /_docs says what there is"


async def _nowhere(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await WebSocketClose()(scope, receive, send)
        return
    raise NotFound(NOTHING_HERE)
