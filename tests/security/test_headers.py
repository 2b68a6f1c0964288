"""What browsers are told with every answer, errors included."""

from __future__ import annotations

from typing import Any

import pytest

from backdrop.api.middleware import UNLESS_SAID
from backdrop.asgi import Apis
from backdrop.errors import StorageUnavailable
from backdrop.storage.memory import MemoryStorage
from backdrop.web.sign_in import SignIn
from tests.api.conftest import Desk, bearer, desk
from tests.security.conftest import APIS, Deployment
from tests.security.test_doors import DOORS, FEW_KEYS
from tests.security.test_page_doors import PAGES, Browser

__all__ = ["desk"]

_IN_MEMORY = pytest.mark.parametrize("deployment", ["memory"], indirect=True)
_DATA = "default-src 'none'; frame-ancestors 'none'"


@_IN_MEMORY
@pytest.mark.parametrize("apis", APIS)
def test_no_answer_of_an_api_can_be_made_a_page_or_part_of_one(
    deployment: Deployment, apis: Apis
) -> None:
    """Whoever asks, whatever comes of it. What a token opens no browser and no proxy keeps."""
    client = deployment.clients[apis]
    for (path, method), door in DOORS.items():
        for who in FEW_KEYS:
            authorization = deployment.authorizations()[who]
            headers = {} if authorization is None else {"Authorization": authorization}
            url = door.path.format(apis=apis, id=deployment.ids[apis])
            for sent in (method, "HEAD", "OPTIONS", "BREW"):
                answer = client.request(sent, url, headers=headers, json=door.body)
                if path == "/_docs" and answer.status_code == 200:
                    assert _policy(answer).startswith("default-src 'none'; style-src 'sha256-")
                else:
                    assert _policy(answer) == _DATA, (sent, url)
                _has_all(answer)
                assert answer.headers["Referrer-Policy"] == "no-referrer"
                is_open = "Access-Control-Allow-Origin" in answer.headers
                allowed = "cross-origin" if is_open else "same-origin"
                assert answer.headers["Cross-Origin-Resource-Policy"] == allowed
                if answer.is_error:
                    assert answer.headers["Cache-Control"] == "no-cache"
                elif sent == method:
                    keeps = {"anyone": None, "readers": "no-cache"}.get(door.of, "no-store")
                    assert keeps in (None, answer.headers["Cache-Control"]), (sent, url, who)


@_IN_MEMORY
@pytest.mark.parametrize("apis", ["both", "write"])
def test_no_page_is_kept_framed_or_told_of(deployment: Deployment, apis: Apis) -> None:
    """Pages load style sheets and scripts of their own alone, and send forms to it alone."""
    browser = Browser(deployment, apis)
    for (path, method), page in PAGES.items():
        if path in ("/", "/_static/{name}"):
            continue
        for who in ("none", "nobody", "owner", "boss"):
            session = deployment.session(who)
            form = page.form if method == "POST" else {}
            for sent in (method, "BREW"):
                answer = browser.send(sent, page.path, session, form)
                _has_all(answer)
                if sent == "BREW" and path == "/{bucket}/{id}":
                    continue  # which is no page, but a record
                assert answer.headers["Content-Security-Policy"] == (
                    "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; "
                    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
                )
                assert answer.headers["Cache-Control"] == "no-store"
                assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
                assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
                assert answer.headers["Referrer-Policy"] == "same-origin"


def test_a_304_a_stream_and_an_outage_have_them_too(desk: Desk) -> None:
    class Away(MemoryStorage):
        def check(self) -> None:
            raise StorageUnavailable("the store does not answer")

    desk.filled("things", *({"aa": one} for one in range(5_000)), raw_queries_allowed=True)
    answer = desk.client.get("/things")
    known = desk.client.get("/things", headers={"If-None-Match": answer.headers["ETag"]})
    away = desk.clients(storage=Away()).get("/_status")
    assert [one.status_code for one in (answer, known, away)] == [200, 304, 503]
    for one in (answer, known, away, desk.client.get("/things?format=csv")):
        _has_all(one)
        assert _policy(one) == _DATA


@pytest.mark.parametrize("public", ["https://backdrop.example", "http://127.0.0.1:3038"])
def test_where_the_public_address_is_https_browsers_stay_with_it(desk: Desk, public: str) -> None:
    desk.make("things")
    client = desk.clients(sign_in=SignIn(addresses=(public,)))
    for path in ("/_status", "/things?aa=1", "/_user", "/_user/sign_in", "/nothing/there"):
        told = client.get(path, follow_redirects=False).headers.get("Strict-Transport-Security")
        assert told == ("max-age=31536000" if public.startswith("https") else None), path


def test_a_token_in_an_answer_is_never_kept(desk: Desk) -> None:
    """The two answers that show one."""
    made = desk.client.put("/_buckets/things", headers=desk.admin)
    more = desk.client.post("/_buckets/things/tokens", headers=desk.admin, json={"scope": "read"})
    for answer in (made, more):
        assert bearer(answer.json()["token"])
        assert answer.headers["Cache-Control"] == "no-store"


def _policy(answer: Any) -> str:
    [policy] = answer.headers.get_list("Content-Security-Policy")
    return str(policy)


def _has_all(answer: Any) -> None:
    """Each header once."""
    for name, _ in UNLESS_SAID:
        assert len(answer.headers.get_list(name.decode())) == 1, name
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert "frame-ancestors 'none'" in _policy(answer)
