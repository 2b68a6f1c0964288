"""Sessions: who is signed in. The browser holds a random text, the store its hash."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from backdrop.api.routes import Site
from backdrop.domain.entry import Entry
from backdrop.domain.token import hash_token
from backdrop.domain.user import User
from backdrop.errors import Forbidden, Unauthorized
from backdrop.storage.port import Storage
from backdrop.users import find_user

LONGEST = timedelta(hours=12)
"""After which everyone signs in anew."""

_KIND = "session"


@dataclass(frozen=True, slots=True)
class Session:
    """What is kept of someone who is signed in."""

    email: str
    name: str
    form_token: str
    """What every form of this session sends along, so that no other site can send it."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks for a page: the session, and what its user may do now."""

    session: Session
    user: User

    def require_form_token(self, sent: object) -> None:
        """Raises Forbidden for a form that is not of this session."""
        expected = self.session.form_token
        if not isinstance(sent, str) or not hmac.compare_digest(sent.encode(), expected.encode()):
            raise Forbidden(
                "this form is of another session: go back, load the page anew, and send"
            )


def start_session(storage: Storage, *, email: str, name: str, now: datetime) -> str:
    """Sign someone in: the text for their browser's cookie, new each time."""
    text = secrets.token_urlsafe(32)
    session = Session(email.lower(), name, secrets.token_urlsafe(32))
    value = msgspec.json.encode(session)
    storage.put_entry(Entry(_KIND, hash_token(text), value, now + LONGEST))
    return text


def end_session(storage: Storage, text: str) -> None:
    """Sign out: the cookie opens nothing from now on."""
    storage.take_entry(_KIND, hash_token(text))


def find_visitor(request: Request, site: Site) -> Visitor:
    """Who sent the request; to be called in a worker thread. Raises Unauthorized for a stranger."""
    text = request.cookies.get(cookie_name(request))
    entry = site.storage.entry(_KIND, hash_token(text)) if text else None
    if entry is None:
        raise Unauthorized("sign in to see this page")
    session = msgspec.json.decode(entry.value, type=Session)
    return Visitor(session, find_user(site.storage, session.email))


def cookie_name(request: Request) -> str:
    """`__Host-`: a browser takes it from this very host over https alone."""
    return "__Host-session" if _is_secure(request) else "session"


def set_cookie(response: Response, request: Request, text: str) -> None:
    response.set_cookie(
        cookie_name(request),
        text,
        max_age=int(LONGEST.total_seconds()),
        httponly=True,
        secure=_is_secure(request),
        samesite="lax",
    )


def _is_secure(request: Request) -> bool:
    return request.url.scheme == "https"
