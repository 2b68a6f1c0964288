"""Signing in and out: the pages below `/_user` that need no session.

`/_user/sign_in` sends the browser to the sign-in service, which sends it back to
`/_user/authorized`. Where no service is configured, and only this machine can reach the server, a
one-time link (`/_user/link`) signs in instead.
"""

from __future__ import annotations

import re
import secrets
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import TypeAlias
from urllib.parse import urlsplit

import msgspec
from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from backdrop.api.routes import Resources, Site
from backdrop.domain.entry import Entry
from backdrop.domain.loopback import is_loopback_host
from backdrop.domain.token import hash_token
from backdrop.errors import Forbidden, NotFound, ProviderRefused, SignInExpired, SignInRefused
from backdrop.storage.port import Storage
from backdrop.web.provider import Attempt, Provider, told_error
from backdrop.web.render import HEADERS, page
from backdrop.web.sessions import (
    end_session,
    new_text,
    sent_cookie,
    set_cookie,
    start_session,
)

ATTEMPT_LASTS = timedelta(minutes=10)
LINK_LASTS = timedelta(hours=1)
CALLBACK = "/_user/authorized"
LOCAL_EMAIL = "admin@localhost"

_ATTEMPT = "sign-in"
"""The kind of the entries of attempts, and the name of their cookie."""
_LINK = "sign-in-link"
_KNOWN_LINK = "known-sign-in-link"
_HOME = "/_user"

_FORWARDED = (
    *("forwarded", "via", "x-real-ip"),
    *("x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"),
)
"""What a proxy adds that lets others in: then the peer is the proxy, not the browser."""

_is_own_path = re.compile(r"/(?!/)[!-\[\]-~]{0,2000}").fullmatch
"""One slash first, and no backslash, blank or control character: no browser goes elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignIn:
    """How people sign in to the pages of one application."""

    addresses: tuple[str, ...] = ("http://127.0.0.1:3038",)
    """Where browsers reach it: the public address, or this machine's names for itself."""
    provider: Provider | None = None
    links: bool = False
    """Whether one-time links open it: where only this machine reaches it, and has no provider."""
    most_attempts: int = 20_000
    """Sign-ins under way at once, of one process. The oldest makes room: anybody can begin one."""

    @property
    def https(self) -> bool:
        return self.addresses[0].startswith("https://")

    def address(self, request: Request) -> str:
        """The address that the browser uses, if it is one of ours; else the first."""
        return self._asked(request) or self.addresses[0]

    def require_local(self, request: Request) -> None:
        """Raises NotFound where links open nothing, Forbidden for who is not on this machine."""
        if not self.links:
            raise NotFound("one-time links open nothing here: sign in at /_user/sign_in")
        peer = request.client.host if request.client else ""
        forwarded = any(name in request.headers for name in _FORWARDED)
        if not is_loopback_host(peer) or self._asked(request) is None or forwarded:
            raise Forbidden("a one-time link is for a browser on the machine of the server itself")

    def _asked(self, request: Request) -> str | None:
        host = request.headers.get("host", "")
        return next((one for one in self.addresses if urlsplit(one).netloc == host), None)


Step: TypeAlias = Callable[[SignIn, Request, Site], Awaitable[Response]]


def resources(sign_in: SignIn) -> Resources:
    """The pages for signing in and out that way."""

    def step(handler: Step) -> Callable[[Request, Site], Awaitable[Response]]:
        return partial(handler, sign_in)

    return {
        "/_user/sign_in": {"GET": partial(_begin, sign_in, deque()), "HEAD": _head},
        CALLBACK: {"GET": step(_finish), "HEAD": _head},
        "/_user/sign_out": {"GET": step(_sign_out), "HEAD": _head},
        "/_user/link": {"GET": step(_ask), "POST": step(_open_link)},
    }


async def _head(request: Request, site: Site) -> Response:  # noqa: ARG001
    """To HEAD: that there is a page. What a GET of it does, HEAD must not do (RFC 9110, 9.2.1)."""
    return HTMLResponse(headers=HEADERS)


# -- with a sign-in service -------------------------------------------------------------------


async def _begin(sign_in: SignIn, begun: deque[str], request: Request, site: Site) -> Response:
    if sign_in.provider is None:
        return page("not_configured.html", links=sign_in.links)
    # Kept while it lasts, so that two tabs can sign in side by side.
    browser = sent_cookie(request, site, _ATTEMPT) or new_text()
    attempt = Attempt(
        redirect_uri=sign_in.address(request) + CALLBACK,
        code_verifier=secrets.token_urlsafe(48),
        nonce=secrets.token_urlsafe(32),
        browser=hash_token(browser),
        next=_own_path(request.query_params.get("next")),
    )
    state = secrets.token_urlsafe(32)
    url = await sign_in.provider.authorize_url(attempt, state)
    expires_at = site.now() + ATTEMPT_LASTS
    entry = Entry(_ATTEMPT, hash_token(state), msgspec.json.encode(attempt), expires_at)

    def keep() -> None:
        site.storage.put_entry(entry)
        begun.append(entry.key)
        if len(begun) > sign_in.most_attempts:
            site.storage.take_entry(_ATTEMPT, begun.popleft())

    await run_sync(keep)
    response = RedirectResponse(url, status_code=302, headers=HEADERS)
    set_cookie(response, request, site, browser, name=_ATTEMPT, lasts=ATTEMPT_LASTS)
    return response


async def _finish(sign_in: SignIn, request: Request, site: Site) -> Response:
    if sign_in.provider is None:
        raise NotFound("no sign-in service is configured here")
    query = request.query_params
    taken = await run_sync(site.storage.take_entry, _ATTEMPT, hash_token(query.get("state", "")))
    attempt = _attempt(taken, sent_cookie(request, site, _ATTEMPT))
    if "error" in query:
        raise _refusal(query["error"])
    if not query.get("code"):
        raise SignInExpired("the sign-in service sent no code along")
    person = await sign_in.provider.person(attempt, query["code"])
    response = RedirectResponse(attempt.next, status_code=303, headers=HEADERS)
    await _enter(response, request, site, email=person.email, name=person.name)
    return response


def _attempt(taken: Entry | None, browser: str | None) -> Attempt:
    """The attempt of the state that came back. Raises SignInExpired if it is not this browser's."""
    if taken is None:
        raise SignInExpired(
            "this sign-in can't be gone on with: it took longer than ten minutes, or was used "
            "already"
        )
    attempt = msgspec.json.decode(taken.value, type=Attempt)
    if browser is None or hash_token(browser) != attempt.browser:
        raise SignInExpired(
            "this sign-in was begun in another browser, or under another address of this server, "
            "or your browser keeps no cookies"
        )
    return attempt


def _refusal(name: str) -> SignInRefused | ProviderRefused:
    """What the service's `error` means (RFC 6749, 4.1.2.1). It comes by the browser, so anyone who
    began to sign in can make one up.
    """
    if name == "access_denied":
        return SignInRefused("you were not signed in: the sign-in was cancelled, or refused")
    return ProviderRefused(f"the sign-in service could not sign you in{told_error(name)}")


def _own_path(path: str | None) -> str:
    return path if path is not None and _is_own_path(path) else _HOME


# -- with a one-time link ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Link:
    """What signs in an admin, once, on the machine of the server."""

    key: str = field(repr=False)
    expires_at: datetime

    @classmethod
    def new(cls, now: datetime) -> Link:
        return cls(secrets.token_urlsafe(32), now + LINK_LASTS)

    def url(self, sign_in: SignIn) -> str:
        return f"{sign_in.addresses[0]}/_user/link?key={self.key}"


def keep_link(storage: Storage, link: Link) -> None:
    """Have the link open the pages: the first time only, so that it stays used up once it is.

    A worker that died keeps it again when another begins in its place.
    """
    known = Entry(_KNOWN_LINK, hash_token(link.key), b"", link.expires_at)
    if storage.entry(known.kind, known.key) is None:
        storage.put_entry(known)
        storage.put_entry(Entry(_LINK, known.key, b"", link.expires_at))


async def _ask(sign_in: SignIn, request: Request, site: Site) -> Response:
    """A button, since programs that look at links in advance must not use it up."""
    sign_in.require_local(request)
    key = request.query_params.get("key", "")
    if await run_sync(site.storage.entry, _LINK, hash_token(key)) is None:
        return _used_up()
    return page("link.html", key=key)


async def _open_link(sign_in: SignIn, request: Request, site: Site) -> Response:
    sign_in.require_local(request)
    key = request.query_params.get("key", "")
    if await run_sync(site.storage.take_entry, _LINK, hash_token(key)) is None:
        return _used_up()
    response = RedirectResponse(_HOME, status_code=303, headers=HEADERS)
    await _enter(response, request, site, email=LOCAL_EMAIL, name="Local admin", admin=True)
    return response


def _used_up() -> Response:
    return page("link_used.html", status=400)


# -- sessions ---------------------------------------------------------------------------------


async def _enter(
    response: Response, request: Request, site: Site, *, email: str, name: str, admin: bool = False
) -> None:
    """Begin a session. Whatever the browser had before opens nothing any more."""
    before = sent_cookie(request, site)

    def renew() -> str:
        if before:
            end_session(site.storage, before)
        return start_session(site.storage, email=email, name=name, now=site.now(), admin=admin)

    set_cookie(response, request, site, await run_sync(renew))


async def _sign_out(sign_in: SignIn, request: Request, site: Site) -> Response:
    text = sent_cookie(request, site)
    if text:
        await run_sync(end_session, site.storage, text)
    response = page("signed_out.html", links=sign_in.links)
    set_cookie(response, request, site, "")
    return response
