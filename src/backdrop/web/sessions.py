"""Sessions: who is signed in. The browser holds a random text, the store its hash."""

from __future__ import annotations

import dataclasses
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from backdrop.api.middleware import list_of
from backdrop.api.routes import Site
from backdrop.domain.audit import Act, by_user
from backdrop.domain.entry import Entry
from backdrop.domain.token import hash_token
from backdrop.domain.user import User, folded
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
    admin: bool = False
    """Whether it was opened by the one-time link of the machine's own: all buckets are its."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks for a page: the session, and what its user may do now."""

    session: Session
    user: User

    @property
    def by(self) -> str:
        """Who this is, for the audit log."""
        return by_user(self.session.email)

    def require_form_token(self, sent: object) -> None:
        """Raises Forbidden for a form that is not of this session."""
        expected = self.session.form_token
        if not isinstance(sent, str) or not hmac.compare_digest(sent.encode(), expected.encode()):
            raise Forbidden(
                "this form is of another session: go back, load the page anew, and send"
            )


def start_session(
    storage: Storage, *, email: str, name: str, now: datetime, admin: bool = False
) -> str:
    """Sign someone in: the text for their browser's cookie, new each time."""
    text = new_text()
    session = Session(folded(email), name, secrets.token_urlsafe(32), admin)
    value = msgspec.json.encode(session)
    act = Act(by=by_user(session.email), action="signed_in")
    storage.put_entry(Entry(_KIND, hash_token(text), value, now + LONGEST), act=act)
    return text


def end_session(storage: Storage, text: str) -> None:
    """Sign out: the cookie opens nothing from now on."""
    entry = storage.entry(_KIND, hash_token(text))
    if entry is not None:
        act = Act(by=by_user(_session(entry).email), action="signed_out")
        storage.take_entry(_KIND, entry.key, act=act)


def find_visitor(request: Request, site: Site) -> Visitor:
    """Who sent the request; to be called in a worker thread. Raises Unauthorized for a stranger."""
    text = sent_cookie(request, site)
    entry = site.storage.entry(_KIND, hash_token(text)) if text else None
    if entry is None:
        raise Unauthorized("sign in to see this page")
    session = _session(entry)
    user = find_user(site.storage, session.email)
    return Visitor(session, dataclasses.replace(user, admin=True) if session.admin else user)


def _session(entry: Entry) -> Session:
    return msgspec.json.decode(entry.value, type=Session)


# -- cookies ----------------------------------------------------------------------------------

SESSION = "session"

_is_text = re.compile(r"[A-Za-z0-9_-]{43}").fullmatch


def new_text() -> str:
    """What a cookie holds: nobody can guess it."""
    return secrets.token_urlsafe(32)


def cookie_name(request: Request, site: Site, name: str = SESSION) -> str:
    """`__Host-`: a browser takes it from this very host over https alone."""
    return f"__Host-{name}" if _is_secure(request, site) else name


def sent_cookie(request: Request, site: Site, name: str = SESSION) -> str | None:
    """The text of ours in the browser's cookie of that name, or in the last of them; else None.

    Read as it stands (RFC 6265, 4.2.1). The standard library takes quotes and escapes apart, too,
    and of Python 3.11 in a time that grows with the square of their length.
    """
    wanted = cookie_name(request, site, name)
    pairs = (list_of(request.scope, b"cookie", between=";") or "").split(";")
    values = [
        value
        for found, _, value in (p.strip().partition("=") for p in pairs)
        if found == wanted and _is_text(value)
    ]
    return values[-1] if values else None


def set_cookie(
    response: Response,
    request: Request,
    site: Site,
    text: str,
    *,
    name: str = SESSION,
    lasts: timedelta = LONGEST,
) -> None:
    """Give the browser a cookie; an empty text takes it away."""
    response.set_cookie(
        cookie_name(request, site, name),
        text,
        max_age=int(lasts.total_seconds()) if text else 0,
        httponly=True,
        secure=_is_secure(request, site),
        samesite="lax",
    )


def _is_secure(request: Request, site: Site) -> bool:
    """By the public address first: behind a proxy that ends TLS the request itself is plain."""
    return site.https or request.url.scheme == "https"
