"""Templates -> answers in HTML, with the headers that every page has."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import Scope

from backdrop.api.errors import FAULT_CODE, error_headers, status_of
from backdrop.errors import (
    BackdropError,
    ProviderFailed,
    SignInExpired,
    SignInRefused,
    Unauthorized,
)
from backdrop.web.sessions import Visitor
from backdrop.web.shown import FILTERS
from backdrop.web.static_files import static_url

HEADERS = {
    "Cache-Control": "no-store",  # so that nothing is left to see after signing out
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; "
    "script-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
}


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("backdrop.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["static"] = static_url
    environment.filters.update(FILTERS)
    return environment


def page(
    template: str,
    *,
    visitor: Visitor | None = None,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **values: Any,
) -> HTMLResponse:
    """The page that a template makes of the values. `visitor`: who is signed in, if anyone."""
    text = _environment().get_template(template).render(visitor=visitor, **values)
    return HTMLResponse(text, status_code=status, headers={**HEADERS, **(headers or {})})


def moved(path: str, *, done: str = "") -> Response:
    """To another page, which is asked for with GET, and says there what was `done`."""
    url = f"{path}?done={done}" if done else path
    return RedirectResponse(url, status_code=303, headers=HEADERS)


def done_before(request: Request) -> str:
    """What was done on the page before, in words; empty where nothing was."""
    return _DONE.get(request.query_params.get("done", ""), "")


_DONE = {
    "settings": "The settings are saved.",
    "token_revoked": "The token is revoked: it opens nothing any more.",
    "user_saved": "Saved: it counts from their next page on.",
    "user_revoked": "Revoked: they may use nothing any more.",
}


_WAYS_ON: Mapping[type[Exception], str] = {
    Unauthorized: "Sign in",
    SignInExpired: "Sign in again",
    SignInRefused: "Sign in again",
    ProviderFailed: "Try again",
}
"""Errors after which signing in is what to do: the words of the link."""


def error_page(error: Exception, *, request_id: str, scope: Scope) -> Response:
    """The page for a request that failed so. Of a fault of ours it tells no more than its id.

    A stranger who asks for a page is sent to sign in, and comes back to it then.
    """
    status, path = status_of(error), scope["path"]
    if isinstance(error, Unauthorized) and scope["method"] in ("GET", "HEAD"):
        query = scope["query_string"].decode("latin-1")
        asked = quote(f"{path}?{query}" if query else path)
        return RedirectResponse(f"/_user/sign_in?next={asked}", 303, headers=HEADERS)
    if not isinstance(error, BackdropError) or status == 500:
        message = "Something went wrong on our side. Try again; if it stays so, report it."
        return page(
            "error.html",
            status=500,
            message=message,
            code=FAULT_CODE,
            request_id=request_id,
            way_on=None,
        )
    way_on, href = _way_on(error, scope)
    return page(
        "error.html",
        status=status,
        headers=error_headers(error),
        message=_SIGNED_OUT if isinstance(error, Unauthorized) else error.message,
        code=error.problems[0].code,
        request_id=request_id,
        way_on=way_on,
        href=href,
    )


_SIGNED_OUT = "you are signed out: nothing was stored or changed. Sign in, and send it again"


def _way_on(error: BackdropError, scope: Scope) -> tuple[str | None, str]:
    """What to do after the error, if anything: the words of the link, and where it leads."""
    path = scope["path"]
    words = next((words for kind, words in _WAYS_ON.items() if isinstance(error, kind)), None)
    if words is None and scope["method"] == "POST" and _is_upload(path):
        return "Choose the file again", path
    back = f"?next={quote(path)}" if isinstance(error, Unauthorized) else ""
    return words, f"/_user/sign_in{back}"


_is_upload = re.compile(
    r"/(?:(?!data/)[a-z][a-z0-9_-]{1,63}|data/[A-Za-z0-9_-]{1,64}/[A-Za-z0-9_-]{1,64})/upload"
).fullmatch


def is_page(scope: Scope) -> bool:
    """Whether a request is for a page: then its errors are pages too."""
    path, method = scope["path"], scope["method"]
    return (
        path == "/_user"
        or path.startswith(("/_user/", "/_static/"))
        or (method in ("GET", "HEAD", "POST", "OPTIONS") and _is_upload(path) is not None)
    )
