"""Every page, with every kind of session, on every application and every engine."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from starlette.testclient import TestClient

from backdrop.api.routes import Resources, merge
from backdrop.asgi import Apis
from backdrop.domain.audit import Action
from backdrop.web import admin_pages, bucket_pages, sign_in, static_files, upload_pages
from tests.api.conftest import bearer
from tests.security.conftest import Deployment
from tests.security.test_doors import DOORS

_STRANGERS = ("none", "unknown", "expired", "signed out")
SESSIONS = (*_STRANGERS, "nobody", "other", "owner", "boss")
WITH_PAGES: tuple[Apis, ...] = ("both", "write")
OPENED_BY = {
    "anyone": SESSIONS,
    "signed in": ("nobody", "other", "owner", "boss"),
    "users": ("owner", "boss"),
    "admins": ("boss",),
}
"""Whose session opens a page, of each kind of page."""


@dataclass(frozen=True)
class Page:
    """One page and method: a request that would do it, whom it is for, and what it answers them.

    `form` is sent with the form token of the session.
    """

    path: str
    of: Literal["anyone", "signed in", "users", "admins"]
    status: int = 200
    form: dict[str, str] = field(default_factory=dict)
    action: Action | None = None


_BUCKET = "/_user/buckets/{bucket}"
_SETTINGS = {
    "timezone": "UTC",
    "csv_types": "auto",
    **dict.fromkeys(("raw_queries_allowed", "read_token_required", "queryable"), "on"),
}
_OTHER_METHODS = ("POST", "PUT", "PATCH", "DELETE", "OPTIONS")
PAGES = {
    ("/", "GET"): Page("/", "anyone", 303),
    **{("/", method): Page("/", "anyone", 404) for method in _OTHER_METHODS},
    ("/_static/{name}", "GET"): Page("/_static/pages.css", "anyone"),
    ("/_user", "GET"): Page("/_user", "signed in"),
    (_BUCKET, "GET"): Page("/_user/buckets/guarded", "users"),
    ("/{bucket}/{id}", "GET"): Page("/guarded/upload", "users"),
    ("/{bucket}/{id}", "POST"): Page("/guarded/upload", "users", 400, {"file": ""}),
    ("/_user/new", "GET"): Page("/_user/new", "admins"),
    ("/_user/new", "POST"): Page(
        "/_user/new", "admins", 303, {"name": "made-{apis}", **_SETTINGS}, "bucket_created"
    ),
    (f"{_BUCKET}/settings", "GET"): Page("/_user/buckets/guarded/settings", "admins"),
    (f"{_BUCKET}/settings", "POST"): Page(
        "/_user/buckets/guarded/settings", "admins", 303, _SETTINGS, "settings_changed"
    ),
    (f"{_BUCKET}/tokens", "GET"): Page("/_user/buckets/guarded/tokens", "admins"),
    (f"{_BUCKET}/tokens", "POST"): Page(
        "/_user/buckets/guarded/tokens", "admins", 303, {"scope": "read"}, "token_made"
    ),
    ("/_user/users", "GET"): Page("/_user/users", "admins"),
    ("/_user/users", "POST"): Page(
        "/_user/users",
        "admins",
        303,
        {"email": "page-{apis}@example.org", "buckets": "others"},
        "user_granted",
    ),
    ("/_user/sign_in", "GET"): Page("/_user/sign_in", "anyone"),
    ("/_user/sign_in", "HEAD"): Page("/_user/sign_in", "anyone"),
    ("/_user/authorized", "GET"): Page("/_user/authorized?state=x&code=x", "anyone", 404),
    ("/_user/authorized", "HEAD"): Page("/_user/authorized?state=x&code=x", "anyone"),
    ("/_user/sign_out", "HEAD"): Page("/_user/sign_out", "anyone"),
    ("/_user/sign_out", "GET"): Page("/_user/sign_out", "anyone", action="signed_out"),
    ("/_user/link", "GET"): Page("/_user/link?key=x", "anyone", 404),
    ("/_user/link", "POST"): Page("/_user/link?key=x", "anyone", 404),
}
"""Where no sign-in service is configured, and there are no one-time links."""
_NAMES = {f"{method} {path}": (path, method) for path, method in PAGES}
_BROWSER = {"Accept": "text/html"}


def test_every_page_is_a_door_here() -> None:
    """But for those methods of their paths that are the write API's."""
    tables: Resources = merge(
        sign_in.resources(sign_in.SignIn()),
        static_files.RESOURCES,
        upload_pages.RESOURCES,
        bucket_pages.RESOURCES,
        admin_pages.RESOURCES,
    )
    known = {
        (re.sub(r":\w+", "", path), method)
        for path, methods in tables.items()
        for method in methods
    }
    assert set(PAGES) == known - set(DOORS)


@pytest.mark.parametrize("apis", WITH_PAGES)
@pytest.mark.parametrize("name", _NAMES)
def test_a_page_opens_to_those_whom_it_is_for(
    deployment: Deployment, apis: Apis, name: str
) -> None:
    """To a stranger it leads to the sign-in; to anyone else it is not there, and nothing changes.

    Without the form token of the very session a form does nothing for those whom it is for.
    """
    page, method = PAGES[_NAMES[name]], _NAMES[name][1]
    browser = Browser(deployment, apis)
    form = {one: value.format(apis=apis) for one, value in page.form.items()}
    sessions = {who: deployment.session(who) for who in SESSIONS}
    opening = OPENED_BY[page.of]
    for who in sorted(SESSIONS, key=lambda who: who in opening):
        session = sessions[who]
        before = deployment.contents()
        if who not in opening:
            answer = browser.send(method, page.path, session, form)
            _is_shut(answer, method, who)
            assert deployment.contents() == before
            continue
        if method == "POST" and page.of != "anyone":
            other = browser.form_token(deployment.session("boss"))
            before = deployment.contents()
            for wrong in ("", "x", secrets.token_urlsafe(), other):
                answer = browser.send(method, page.path, session, form | {"form_token": wrong})
                assert answer.status_code == 403, (who, answer.text)
            assert deployment.contents() == before
            form |= {"form_token": browser.form_token(session)}
        answer = browser.send(method, page.path, session, form)
        assert answer.status_code == page.status, (who, answer.text)
        assert session is None or session not in answer.text
        if page.action is None:
            assert deployment.contents() == before
    if page.action is not None:
        assert deployment.storage.audit(limit=1)[0].act.action == page.action


@pytest.mark.parametrize("deployment", ["memory"], indirect=True)
@pytest.mark.parametrize("apis", WITH_PAGES)
def test_no_token_opens_a_page(deployment: Deployment, apis: Apis) -> None:
    """Not the admin's either: pages are for who is signed in."""
    client = deployment.clients[apis]
    for (_, method), page in PAGES.items():
        if page.of == "anyone":
            continue
        for token in (deployment.admin, deployment.texts["write of guarded"]):
            for headers in (bearer(token), {"Cookie": f"session={token}"}):
                _is_shut(client.request(method, page.path, headers=headers), method, "none")


@pytest.mark.parametrize("deployment", ["memory"], indirect=True)
@pytest.mark.parametrize("apis", WITH_PAGES)
def test_no_session_opens_an_api(deployment: Deployment, apis: Apis) -> None:
    """Not an admin's either: so no other site can have a browser write."""
    cookie = {"Cookie": f"session={deployment.session('boss')}"}
    before = deployment.contents()
    for (_, method), door in DOORS.items():
        if door.of != "anyone":
            path = door.path.format(apis=apis, id=deployment.ids[apis])
            answer = deployment.clients[apis].request(method, path, headers=cookie, json=door.body)
            assert answer.status_code in (401, 405), (method, path)
    assert deployment.contents() == before


@pytest.mark.parametrize("deployment", ["memory"], indirect=True)
def test_the_read_api_has_no_page(deployment: Deployment) -> None:
    session = deployment.session("boss")
    browser = Browser(deployment, "read")
    for (_, method), page in PAGES.items():
        answer = browser.send(method, page.path, session, {})
        assert answer.status_code == 404, (method, page.path)


@dataclass
class Browser:
    """Sends a cookie along, and keeps none."""

    deployment: Deployment
    apis: Apis

    @property
    def client(self) -> TestClient:
        return self.deployment.clients[self.apis]

    def send(self, method: str, path: str, session: str | None, form: dict[str, str]) -> Any:
        headers = _BROWSER | ({} if session is None else {"Cookie": f"session={session}"})
        data = form if method == "POST" else None
        answer = self.client.request(method, path, headers=headers, data=data)
        self.client.cookies.clear()
        return answer

    def form_token(self, session: str | None) -> str:
        """That of the session's forms."""
        page = self.send("GET", "/_user/new", session, {})
        if page.status_code == 404:
            page = self.send("GET", "/guarded/upload", session, {})
        [found] = set(re.findall(r'name="form_token" value="([^"]+)"', page.text))
        return str(found)


def _is_shut(answer: Any, method: str, who: str) -> None:
    if who not in _STRANGERS:
        assert answer.status_code == 404, (who, answer.text)
    elif method == "POST":
        assert answer.status_code == 401, (who, answer.text)
    else:
        assert answer.status_code == 303, (who, answer.text)
        assert answer.headers["Location"].startswith("/_user/sign_in?next=/"), who
