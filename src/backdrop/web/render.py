"""Templates -> answers in HTML, with the headers that every page has."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse, Response
from starlette.types import Scope

from backdrop.api.errors import FAULT_CODE, status_of
from backdrop.errors import BackdropError
from backdrop.web.sessions import Visitor

HEADERS = {
    "Cache-Control": "no-store",  # so that nothing is left to see after signing out
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; "
    "script-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
}


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("backdrop.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def page(
    template: str, *, visitor: Visitor | None = None, status: int = 200, **values: Any
) -> HTMLResponse:
    """The page that a template makes of the values. `visitor`: who is signed in, if anyone."""
    text = _environment().get_template(template).render(visitor=visitor, **values)
    return HTMLResponse(text, status_code=status, headers=HEADERS)


def error_page(error: Exception, *, request_id: str) -> Response:
    """The page for a request that failed so. Of a fault of ours it tells no more than its id."""
    status = status_of(error)
    if not isinstance(error, BackdropError) or status == 500:
        message = "Something went wrong on our side. Try again; if it stays so, report it."
        return page(
            "error.html", status=500, message=message, code=FAULT_CODE, request_id=request_id
        )
    return page(
        "error.html",
        status=status,
        message=error.message,
        code=error.problems[0].code,
        request_id=request_id,
    )


def is_page(scope: Scope) -> bool:
    """Whether a request is for a page: then its errors are pages too."""
    path, method = scope["path"], scope["method"]
    return (
        path == "/_user"
        or path.startswith(("/_user/", "/_static/"))
        or (path.endswith("/upload") and method in ("GET", "HEAD", "POST"))
    )
