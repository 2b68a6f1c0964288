"""Signing in by GOV.UK Signon, against a service that is as strict as a real one."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable
from typing import Any

import pytest

from backdrop.observe import RequestAnswered, ServerFault
from backdrop.web.providers import Signon
from backdrop.web.sessions import LONGEST
from backdrop.web.sign_in import SignIn
from tests.sign_in.conftest import (
    PUBLIC,
    Browser,
    Door,
    come_back,
    cookies_of,
    door_with,
    is_page,
    query_of,
    registration_of,
    way_on,
)
from tests.sign_in.http_server import http_server
from tests.sign_in.signon import ADA, BOB, Account
from tests.sign_in.signon import Signon as Service

Browsers = Callable[[], Browser]


# -- the way that it should go -----------------------------------------------------------------


def test_the_browser_is_sent_with_state_and_pkce(browser: Browser, signon_url: str) -> None:
    """To the service's address, with the registered one to come back to, and no secret."""
    first, second = browser.leave(), browser.leave()
    assert first.startswith(f"{signon_url}/oauth/authorize?")
    asked, again = query_of(first), query_of(second)
    assert asked["response_type"] == "code"
    assert asked["client_id"] == "backdrop"
    assert asked["redirect_uri"] == f"{PUBLIC}/_user/authorized"
    assert asked["code_challenge_method"] == "S256"
    assert len(asked["code_challenge"]) == 43
    assert len(asked["state"]) >= 43
    assert asked["state"] != again["state"]
    assert asked["code_challenge"] != again["code_challenge"]
    assert set(asked) == {
        *("response_type", "client_id", "redirect_uri", "state"),
        *("code_challenge", "code_challenge_method"),
    }


def test_someone_with_the_permission_is_signed_in(browser: Browser) -> None:
    """And gets to the page that they wanted."""
    assert not browser.is_signed_in()
    answer = browser.sign_in(ADA)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/_user")
    assert answer.headers["Cache-Control"] == "no-store"
    assert is_page(browser.get("/_user"), 200, "Ada Lovelace", "ada@example.org")
    other = browser.sign_in(ADA, next_path="/flights/upload?x=1")
    assert other.headers["Location"] == "/flights/upload?x=1"


def test_someone_without_the_permission_is_told_so(browser: Browser) -> None:
    answer = browser.sign_in(BOB)
    assert is_page(
        answer, 403, "bob@example.org has no permission", "'signin'".replace("'", "&#39;")
    )
    assert 'href="/_user/sign_in"' in answer.text
    assert not browser.is_signed_in()


def test_someone_who_cancels_is_told_so(browser: Browser) -> None:
    answer = browser.sign_in(None)
    assert is_page(answer, 403, "was cancelled, or refused", "sign_in_refused", "Sign in again")
    assert not browser.is_signed_in()


def test_signing_out_ends_the_session(browser: Browser, browsers: Browsers) -> None:
    """At the server: the cookie that somebody copied is dead too."""
    answer = browser.sign_in(ADA)
    copied = cookies_of(answer)["session"].value
    thief = browsers()
    thief.client.cookies.set("session", copied)
    assert thief.is_signed_in()
    answer = browser.get("/_user/sign_out")
    assert is_page(answer, 200, "You are signed out", "/_user/sign_in")
    assert cookies_of(answer)["session"]["max-age"] == "0"
    assert not browser.is_signed_in()
    assert not thief.is_signed_in()
    assert is_page(browser.get("/_user/sign_out"), 200, "You are signed out")


def test_head_changes_nothing(browser: Browser) -> None:
    """As programs send that look at links: nobody is signed in or out, and no state is used up."""
    back = come_back(browser.leave(), ADA)
    for path in (back, "/_user/sign_in"):
        asked = browser.client.head(path)
        assert (asked.status_code, asked.content) == (200, b"")
        assert "Set-Cookie" not in asked.headers
    assert not browser.is_signed_in()
    assert browser.get(back).status_code == 303
    assert browser.client.head("/_user/sign_out").status_code == 200
    assert browser.is_signed_in()


def test_who_signs_in_and_out_is_in_the_audit_log(browser: Browser, door: Door) -> None:
    """Who is sent away is not: that is a line of the log."""
    browser.sign_in(BOB)
    browser.sign_in(ADA)
    browser.get("/_user/sign_out")
    browser.get("/_user/sign_out")
    done = [(one.act.by, one.act.action) for one in door.storage.audit(limit=9)]
    ada = "user:ada@example.org"
    assert done == [(ada, "signed_out"), (ada, "signed_in")]


def test_a_session_ends_after_twelve_hours(browser: Browser, door: Door) -> None:
    browser.sign_in(ADA)
    door.clock.move(LONGEST.total_seconds() - 1)
    assert browser.is_signed_in()
    door.clock.move(1)
    browser.client.cookies.set("session", browser.client.cookies.get("session") or "gone")
    assert not browser.is_signed_in()


def test_a_stranger_is_led_to_sign_in_and_back(browser: Browser) -> None:
    answer = browser.get("/_user")
    assert answer.status_code != 200
    assert "/_user/sign_in?next=/_user" in way_on(answer)


# -- cookies -----------------------------------------------------------------------------------


def test_cookies_are_for_the_server_alone(browser: Browser) -> None:
    """HttpOnly, and only sent along by one's own pages and plain links."""
    begun = browser.get("/_user/sign_in")
    finished = browser.get(come_back(begun.headers["Location"], ADA))
    for answer, name in ((begun, "sign-in"), (finished, "session")):
        cookie = cookies_of(answer)[name]
        assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "lax", "/")
        assert cookie["domain"] == ""
        assert cookie["secure"] == ""
    assert cookies_of(finished)["session"]["max-age"] == str(12 * 60 * 60)
    assert cookies_of(begun)["sign-in"]["max-age"] == "600"


def test_cookies_are_secure_where_the_public_address_is(signon: Service, signon_url: str) -> None:
    """Also where the proxy that ends TLS asks by plain HTTP."""
    public = "https://backdrop.example"
    known = dataclasses.replace(signon.application, redirect_uris=(f"{public}/_user/authorized",))
    signon.application = known
    door = Door(
        dataclasses.replace(
            door_with(Signon(signon_url, registration_of(signon))).sign_in, addresses=(public,)
        )
    )
    behind = door.browser("http://10.0.0.1")
    begun = behind.get("/_user/sign_in")
    [name] = cookies_of(begun)
    assert name == "__Host-sign-in"
    cookie = cookies_of(begun)[name]
    assert (cookie["secure"], cookie["path"], cookie["domain"]) == (True, "/", "")
    headers = {"Cookie": f"{name}={cookie.value}"}
    finished = behind.get(come_back(begun.headers["Location"], ADA), headers=headers)
    cookie = cookies_of(finished)["__Host-session"]
    assert (finished.status_code, cookie["secure"], cookie["httponly"]) == (303, True, True)
    home = behind.get("/_user", headers={"Cookie": f"__Host-session={cookie.value}"})
    assert home.status_code == 200
    plain = behind.get("/_user", headers={"Cookie": f"session={cookie.value}"})
    assert plain.status_code != 200  # one that a page without TLS may have planted


def test_the_session_is_renewed_at_each_sign_in(browser: Browser, browsers: Browsers) -> None:
    """A cookie that somebody planted before is worth nothing, nor is the one of last time."""
    planted = secrets.token_urlsafe(32)
    browser.client.cookies.set("session", planted)
    first = cookies_of(browser.sign_in(ADA))["session"].value
    second = cookies_of(browser.sign_in(ADA))["session"].value
    assert len({planted, first, second}) == 3
    for old, works in ((planted, False), (first, False), (second, True)):
        other = browsers()
        other.client.cookies.set("session", old)
        assert other.is_signed_in() is works


# -- states and codes --------------------------------------------------------------------------


def test_a_way_back_works_once(browser: Browser, browsers: Browsers) -> None:
    back = come_back(browser.leave(), ADA)
    assert browser.get(back).status_code == 303
    browser.get("/_user/sign_out")
    assert is_page(browser.get(back), 400, "was used already", "sign_in_expired", "Sign in again")
    assert not browser.is_signed_in()
    assert is_page(browsers().get(back), 400, "was used already")


def test_a_state_that_failed_is_used_too(browser: Browser) -> None:
    """So that nobody can try codes one after the other."""
    state = query_of(browser.leave())["state"]
    back = f"/_user/authorized?code=wrong&state={state}"
    assert is_page(browser.get(back), 400, "took too long, or was used already")
    assert is_page(browser.get(back), 400, "can&#39;t be gone on with")


@pytest.mark.parametrize("query", ["", "?code=x", "?code=x&state=", "?code=x&state=wrong"])
def test_without_its_state_nobody_is_signed_in(browser: Browser, query: str) -> None:
    browser.leave()
    assert is_page(browser.get(f"/_user/authorized{query}"), 400, "can&#39;t be gone on with")


def test_without_a_code_nobody_is_signed_in(browser: Browser) -> None:
    state = query_of(browser.leave())["state"]
    assert is_page(browser.get(f"/_user/authorized?state={state}"), 400, "sent no code")


def test_a_way_back_is_of_the_browser_that_left(browser: Browser, browsers: Browsers) -> None:
    """Nobody can be made to sign in as somebody else, whether they began to sign in or not."""
    attacker, victim = browser, browsers()
    assert is_page(victim.get(come_back(attacker.leave(), ADA)), 400, "another browser")
    victim.leave()
    assert is_page(victim.get(come_back(attacker.leave(), ADA)), 400, "another browser")
    assert not victim.is_signed_in()


def test_states_can_not_be_swapped(browser: Browser, browsers: Browsers) -> None:
    """One's own state with another's code: PKCE has the service refuse it."""
    attacker, victim = browser, browsers()
    code = query_of(come_back(attacker.leave(), ADA))["code"]
    state = query_of(victim.leave())["state"]
    answer = victim.get(f"/_user/authorized?code={code}&state={state}")
    assert is_page(answer, 400, "took too long, or was used already")
    assert not victim.is_signed_in()


def test_a_code_is_used_once(browser: Browser, browsers: Browsers) -> None:
    """The service refuses it the second time, with whatever state."""
    back = come_back(browser.leave(), ADA)
    browser.get(back)
    other = browsers()
    state = query_of(other.leave())["state"]
    answer = other.get(f"/_user/authorized?code={query_of(back)['code']}&state={state}")
    assert is_page(answer, 400, "took too long, or was used already")


def test_a_code_that_is_too_old_is_said_to_be(browser: Browser, signon: Service) -> None:
    signon.code_seconds = -1
    assert is_page(browser.sign_in(ADA), 400, "took too long", "Sign in again")


def test_a_sign_in_may_take_ten_minutes(browser: Browser, door: Door) -> None:
    back = come_back(browser.leave(), ADA)
    door.clock.move(600)
    assert is_page(browser.get(back), 400, "took longer than ten minutes")


def test_no_crowd_fills_the_store(signon: Service, signon_url: str) -> None:
    """Anybody can begin to sign in; so many do so at once, and the oldest makes room."""
    service = Signon(signon_url, registration_of(signon))
    door = Door(SignIn(addresses=(PUBLIC,), provider=service, most_attempts=3))
    addresses = [door.browser().leave() for _ in range(5)]
    ann = door.browser()
    addresses += [ann.leave() for _ in range(2)]
    assert len(door.storage.entries("sign-in")) == 3
    assert is_page(ann.get(come_back(addresses[0], ADA)), 400, "longer than ten minutes")
    assert ann.get(come_back(addresses[-1], ADA)).status_code == 303


def test_two_tabs_can_sign_in_side_by_side(browser: Browser) -> None:
    """Each comes back to its own page, in whatever order."""
    first, second, third = browser.leave("/aa"), browser.leave("/bb"), browser.leave("/cc")
    assert browser.get(come_back(second, ADA)).headers["Location"] == "/bb"
    assert browser.get(come_back(third, BOB)).status_code == 403
    assert browser.get(come_back(first, ADA)).headers["Location"] == "/aa"
    assert browser.is_signed_in()


@pytest.mark.parametrize("planted", ["x", "a" * 42, "a" * 44, "b" * 42 + "!"])
def test_a_cookie_that_backdrop_did_not_make_is_not_kept(browser: Browser, planted: str) -> None:
    browser.client.cookies.set("sign-in", planted)
    made = cookies_of(browser.get("/_user/sign_in"))["sign-in"].value
    assert made != planted
    assert len(made) == 43


# -- where else a browser could be led ---------------------------------------------------------

_ELSEWHERE = [
    "//evil.example",
    "///evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "https://evil.example/",
    "https:evil.example",
    "javascript:alert(1)",
    "evil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    "\t//evil.example",
    " //evil.example",
    "/ok\r\nSet-Cookie: session=planted",
    "/caf\u00e9",
    "",
    "/" + "x" * 3000,
]


@pytest.mark.parametrize("elsewhere", _ELSEWHERE)
def test_nobody_is_led_elsewhere_afterwards(browser: Browser, elsewhere: str) -> None:
    assert browser.sign_in(ADA, next_path=elsewhere).headers["Location"] == "/_user"


@pytest.mark.parametrize("encoded", ["%2F%2Fevil.example", "/%5Cevil.example", "/%2Fevil.example"])
def test_what_is_encoded_twice_stays_a_path_of_ours(browser: Browser, encoded: str) -> None:
    """A browser does not decode a path to find out where it leads."""
    expected = encoded if encoded.startswith("/") else "/_user"
    assert browser.sign_in(ADA, next_path=encoded).headers["Location"] == expected


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"},
        {"Forwarded": "host=evil.example;proto=https", "X-Forwarded-Prefix": "/evil"},
        {"X-Original-URL": "https://evil.example/", "X-Forwarded-For": "127.0.0.1"},
    ],
)
def test_no_header_changes_the_way_back(browser: Browser, headers: dict[str, str]) -> None:
    asked = query_of(browser.leave(headers=headers))
    assert asked["redirect_uri"] == f"{PUBLIC}/_user/authorized"
    assert "evil" not in browser.get("/_user", headers=headers).text


@pytest.mark.parametrize(
    "query",
    [
        "error=access_denied&error_description=<script>alert(1)</script>",
        "error=<script>alert(1)</script>",
        "error=server_error&error_uri=https://evil.example",
        "code=<script>&state=<script>",
        "code=x&state=x&next=https://evil.example",
    ],
)
def test_no_parameter_gets_onto_a_page(browser: Browser, query: str) -> None:
    answer = browser.get(f"/_user/authorized?{query}")
    assert "<script" not in answer.text
    assert "alert" not in answer.text
    assert "evil" not in answer.text


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ("access_denied", 403),
        ("server_error", 502),
        ("temporarily_unavailable", 502),
        ("invalid_scope", 502),
        ("", 502),
    ],
)
def test_an_error_of_the_service_is_a_page(
    browser: Browser, browsers: Browsers, door: Door, error: str, status: int
) -> None:
    """With its name, if it is one, and a link to try again. It is only what a browser says, so it
    is no fault; and nothing without a state of the browser's own.
    """
    assert is_page(browser.get("/_user/authorized", params={"error": error}), 400)
    state = query_of(browser.leave())["state"]
    answer = browser.get("/_user/authorized", params={"error": error, "state": state})
    assert is_page(answer, status, 'href="/_user/sign_in"')
    assert error == "access_denied" or error in answer.text
    assert is_page(browser.get(f"/_user/authorized?code=x&state={state}"), 400)
    others = query_of(browsers().leave())["state"]
    answer = browser.get("/_user/authorized", params={"error": error, "state": others})
    assert is_page(answer, 400)
    assert not any(isinstance(one, ServerFault) for one in door.seen)


# -- who they are ------------------------------------------------------------------------------


def test_names_are_texts(browser: Browser, signon: Service) -> None:
    """Not HTML, not headers, and not longer than can be shown."""
    eve = Account(
        "<img src=x onerror=alert(1)>\r\nX: \x00y\u202e" + "z" * 500, "Eve@Example.org", ("signin",)
    )
    signon.accounts[eve.uid] = eve
    assert browser.sign_in(eve).status_code == 303
    shown = browser.get("/_user").text
    assert "<img" not in shown
    assert "&lt;img src=x onerror=alert(1)&gt; X: y" not in shown  # what is no blank is no blank
    assert "&lt;img src=x onerror=alert(1)&gt;X: yzz" in shown
    assert "z" * 200 not in shown
    assert "(eve@example.org)" in shown


def test_no_secret_is_shown_or_logged(
    browser: Browser, door: Door, signon: Service, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither by a sign-in that goes well nor by one that fails."""
    texts = [browser.get(come_back(browser.leave(), ADA)).text, browser.get("/_user").text]
    state = query_of(browser.leave())["state"]
    texts.append(browser.get(f"/_user/authorized?code=secret-code&state={state}").text)
    signon.application = dataclasses.replace(signon.application, client_secret="other")  # noqa: S106
    back = come_back(browser.leave(), ADA)
    texts.append(browser.get(back).text)
    assert is_page(browser.get("/_user"), 200)
    written = "".join(texts) + repr(door.seen) + repr(door.sign_in) + "".join(capfd.readouterr())
    faults = [one.exception for one in door.seen if isinstance(one, ServerFault)]
    assert [str(fault) for fault in faults] == [
        "the sign-in service refused Backdrop's request (invalid_client)"
    ]
    assert any(isinstance(one, RequestAnswered) for one in door.seen)
    known: list[str] = [state, "secret-code", *signon.tokens, *query_of(back).values()]
    known += [door.sign_in.provider.registration.client_secret]  # type: ignore[union-attr]
    known += [value for value in browser.client.cookies.values() if value]
    assert [text for text in known if text in written] == []


# -- what is configured wrongly ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "status", "text"),
    [
        ({"client_secret": "wrong"}, 502, "refused Backdrop&#39;s request (invalid_client)"),
        ({"client_id": "other"}, 502, "refused Backdrop&#39;s request (invalid_client)"),
    ],
)
def test_a_wrong_registration_is_said(
    signon: Service, signon_url: str, changed: dict[str, Any], status: int, text: str
) -> None:
    registration = registration_of(signon)
    browser = door_with(Signon(signon_url, registration)).browser()
    back = come_back(browser.leave(), ADA)
    signon.application = dataclasses.replace(signon.application, **changed)
    assert is_page(browser.get(back), status, text, "Try again")


def test_a_service_that_is_not_there(signon: Service) -> None:
    """The browser is sent all the same, and whoever comes back is told."""
    with http_server(signon) as url:
        browser = door_with(Signon(url, registration_of(signon))).browser()
        back = come_back(browser.leave(), ADA)
    assert is_page(browser.get(back), 502, "can&#39;t be reached", "Try again")
