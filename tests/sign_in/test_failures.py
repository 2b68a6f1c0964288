"""Whatever a sign-in service does wrong ends in a page that says so, soon and in little memory."""

from __future__ import annotations

import dataclasses
import gzip
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pytest

from backdrop.observe import ServerFault
from backdrop.web.providers import MOST_BYTES, OpenIdConnect, Registration, Signon
from tests.sign_in.conftest import Browser, Door, door_with, is_page, query_of
from tests.sign_in.http_server import Answer, Asked, http_server

Scripted: TypeAlias = Callable[[Asked], Answer]

_TOKEN = {"access_token": "t" * 20, "token_type": "Bearer"}
_USER: dict[str, Any] = {
    "name": "Ada",
    "email": "ada@example.org",
    "uid": "1",
    "permissions": ["signin"],
}
REGISTRATION = Registration(client_id="backdrop", client_secret="s" * 8)


class Script:
    """A service that answers by the path; what a test puts in fails in its own way."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.answers: dict[str, Scripted] = {
            "/oauth/token": lambda _: as_json(_TOKEN),
            "/user.json": lambda _: as_json({"user": _USER}),
        }
        self.released = threading.Event()

    def __call__(self, asked: Asked) -> Answer:
        self.asked.append(asked)
        return self.answers.get(asked.path, lambda _: Answer(b"{}", 404))(asked)

    def wait(self, _: Asked) -> Answer:
        """No answer, until the test is over."""
        self.released.wait(60)
        return Answer()

    def drip(self, _: Asked) -> Answer:
        """A byte at a time, each in time, and never all."""

        def pieces() -> Iterator[bytes]:
            while not self.released.wait(0.02):
                yield b" "

        return Answer(pieces())


def as_json(value: object, status: int = 200) -> Answer:
    return Answer(json.dumps(value).encode(), status)


def says(body: bytes, status: int = 200, **headers: str) -> Scripted:
    return lambda _: Answer(body, status, {"Content-Type": "application/json"} | headers)


@pytest.fixture
def script() -> Iterator[Script]:
    script = Script()
    yield script
    script.released.set()


@pytest.fixture
def url(script: Script) -> Iterator[str]:
    with http_server(script) as url:
        yield url


@pytest.fixture
def door(url: str) -> Door:
    return door_with(Signon(url, REGISTRATION))


@pytest.fixture
def browser(door: Door) -> Browser:
    return door.browser()


def come_back(browser: Browser) -> Any:
    state = query_of(browser.leave())["state"]
    return browser.get(f"/_user/authorized?code=c&state={state}")


def test_the_exchange_is_as_it_must_be(browser: Browser, script: Script) -> None:
    """The code goes in a form, the secret in a header, and the token to /user.json as a bearer."""
    assert come_back(browser).status_code == 303
    token, user = script.asked
    assert (token.method, user.method) == ("POST", "GET")
    assert token.form["grant_type"] == "authorization_code"
    assert token.form["code"] == "c"
    assert token.form["redirect_uri"].endswith("/_user/authorized")
    assert len(token.form["code_verifier"]) >= 43
    assert token.headers["Content-Type"].startswith("application/x-www-form-urlencoded")
    assert token.headers["Authorization"].startswith("Basic ")
    assert "s" * 8 not in token.url + token.body.decode()
    assert user.headers["Authorization"] == f"Bearer {_TOKEN['access_token']}"
    assert user.url.endswith("/user.json")


def test_a_token_needs_no_type(browser: Browser, script: Script) -> None:
    script.answers["/oauth/token"] = says(b'{"access_token": "t"}')
    assert come_back(browser).status_code == 303


_HTML = b"<!doctype html><title>Down for maintenance</title>"
_FAILURES: list[tuple[Scripted, str]] = [
    (says(_HTML, **{"Content-Type": "text/html"}), "not what was expected"),
    (says(b""), "not what was expected"),
    (says(b"null"), "not what was expected"),
    (says(b"[]"), "not what was expected"),
    (says(b'"text"'), "not what was expected"),
    (says(b"\xff\xfe"), "not what was expected"),
    (says(b"{" * 100_000), "not what was expected"),
    (says(b"[" * 100_000), "not what was expected"),
    (says(_HTML, 500), "the status 500"),
    (says(b"{}", 503), "the status 503"),
    (says(_HTML, 404), "the status 404"),
    (says(_HTML, 429), "the status 429"),
    (says(b"", 302, Location="http://127.0.0.1:1/elsewhere"), "the status 302"),
    (says(b" " * (MOST_BYTES + 1) + b"{}"), "too large"),
    (says(gzip.compress(b" " * 2**24), **{"Content-Encoding": "gzip"}), "packed"),
    (says(b"{}", **{"Content-Encoding": "br"}), "packed"),
]
_TOKEN_FAILURES: list[tuple[Scripted, str]] = [
    (says(b"{}"), "gave no access token"),
    (says(b'{"token_type": "Bearer"}'), "gave no access token"),
    (says(b'{"access_token": null}'), "gave no access token"),
    (says(b'{"access_token": ""}'), "gave no access token"),
    (says(b'{"access_token": {"a": 1}}'), "gave no access token"),
    (says(b'{"access_token": "a b\\r\\nX-Evil: 1"}'), "gave no access token"),
    (says('{"access_token": "caf\u00e9"}'.encode()), "gave no access token"),
    (says(b'{"access_token": "t", "expires_in": "soon"}'), "not what was expected"),
    (says(b'{"error": "invalid_client"}', 401), "(invalid_client)"),
    (says(b'{"error": "server_error"}', 400), "(server_error)"),
    (says(b'{"error": {"code": 1}}'), "refused Backdrop&#39;s request"),
    (says(b'{"error": "<b>"}', 400), "refused Backdrop&#39;s request"),
    (says(b'{"message": "no"}', 400), "gave no access token"),
]


def _user(**changes: Any) -> Scripted:
    return lambda _: as_json({"user": _USER | changes})


_USER_FAILURES: list[tuple[Scripted, str]] = [
    (says(b"{}"), "not what was expected"),
    (says(b'{"user": null}'), "not what was expected"),
    (says(b'{"user": []}'), "not what was expected"),
    (says(b'{"error": "invalid_token"}', 401), "the status 401"),
    (_user(permissions="signin"), "not what was expected"),
    (_user(permissions={"signin": True}), "not what was expected"),
    (_user(email=None), "not what was expected"),
    (_user(email=""), "gave no e-mail address"),
    (_user(email="ada"), "gave no e-mail address"),
    (_user(email="ada@example.org, eve@example.org"), "gave no e-mail address"),
    (_user(email="a" * 300 + "@example.org"), "gave no e-mail address"),
]


@pytest.mark.parametrize(
    ("path", "answer", "text"),
    [("/oauth/token", *one) for one in (*_FAILURES, *_TOKEN_FAILURES)]
    + [("/user.json", *one) for one in (*_FAILURES, *_USER_FAILURES)],
)
def test_a_wrong_answer_is_said_to_be(
    door: Door, script: Script, path: str, answer: Scripted, text: str
) -> None:
    """502, with what happened and a link to try again; the log has it too."""
    browser = door.browser()
    script.answers[path] = answer
    assert is_page(come_back(browser), 502, text, 'href="/_user/sign_in"', "Try again")
    assert not browser.is_signed_in()
    [fault] = [one for one in door.seen if isinstance(one, ServerFault)]
    assert "sign-in service" in str(fault.exception)
    assert not any(one.path == "/elsewhere" for one in script.asked)


@pytest.mark.parametrize(
    "answer",
    [
        says(b'{"user": {"email": "a@b.example"}}'),
        _user(permissions=[]),
        _user(permissions=["Signin", "signin2", "sign in"]),
    ],
)
def test_the_permission_is_the_one_that_is_named(
    browser: Browser, script: Script, answer: Scripted
) -> None:
    script.answers["/user.json"] = answer
    assert is_page(come_back(browser), 403, "has no permission", "Sign in again")


def test_someone_without_a_name_goes_by_the_address(browser: Browser, script: Script) -> None:
    script.answers["/user.json"] = _user(name=None)
    assert come_back(browser).status_code == 303
    assert is_page(browser.get("/_user"), 200, "ada@example.org")


@pytest.mark.parametrize("path", ["/oauth/token", "/user.json"])
@pytest.mark.parametrize("way", ["wait", "drip"])
def test_a_service_that_is_slow_is_not_waited_for(
    url: str, script: Script, path: str, way: str
) -> None:
    """504 after the time that is set, also where bytes go on coming."""
    hurried = dataclasses.replace(REGISTRATION, seconds=0.2)
    browser = door_with(Signon(url, hurried)).browser()
    script.answers[path] = getattr(script, way)
    assert is_page(come_back(browser), 504, "did not answer in time", "Try again")


def test_others_are_answered_meanwhile(url: str, script: Script) -> None:
    """A slow service keeps nobody else waiting, however many are waiting for it."""
    door = door_with(Signon(url, dataclasses.replace(REGISTRATION, seconds=30)))
    script.answers["/oauth/token"] = script.wait
    statuses: list[int] = []
    with door.browser().client as client:  # one event loop for all that it asks
        browser = Browser(client)
        states = [query_of(browser.leave())["state"] for _ in range(45)]

        def come_back(state: str) -> None:
            statuses.append(browser.get(f"/_user/authorized?code=c&state={state}").status_code)

        waiting = [threading.Thread(target=come_back, args=(state,)) for state in states]
        for one in waiting:
            one.start()
        for _ in range(2000):
            if len(script.asked) == len(waiting):
                break
            assert not script.released.wait(0.01)
        assert len(script.asked) == len(waiting)
        assert client.get("/_status").status_code == 200
        assert statuses == []
        script.released.set()
        for one in waiting:
            one.join(60)
    assert statuses == [502] * len(waiting)


def test_nothing_listens_at_the_address() -> None:
    for service in (
        Signon("http://127.0.0.1:1", REGISTRATION),
        Signon("http://nowhere.invalid", REGISTRATION),
    ):
        browser = door_with(service).browser()
        assert is_page(come_back(browser), 502, "can&#39;t be reached", "Try again")
    browser = door_with(OpenIdConnect("http://127.0.0.1:1/x", REGISTRATION)).browser()
    assert is_page(browser.get("/_user/sign_in"), 502, "can&#39;t be reached", "Try again")
