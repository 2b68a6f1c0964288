"""Browsers at Backdrop's door, and a sign-on service that is a real server."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from starlette.testclient import TestClient

from backdrop.asgi import create_app
from backdrop.observe import Observation
from backdrop.storage.memory import MemoryStorage
from backdrop.web.provider import Provider
from backdrop.web.providers import Registration, Signon
from backdrop.web.sign_in import SignIn
from tests.api.conftest import Clock
from tests.leaks import rendered, with_errors_kept
from tests.sign_in import signon as provider
from tests.sign_in.http_server import http_server

PUBLIC = "http://backdrop.example"


@dataclass
class Browser:
    """Someone's browser: it keeps cookies, and goes where it is sent, a step at a time."""

    client: TestClient

    def get(self, path: str, **options: Any) -> httpx2.Response:
        return self.client.get(path, follow_redirects=False, **options)

    def post(self, path: str, **options: Any) -> httpx2.Response:
        return self.client.post(path, follow_redirects=False, **options)

    def leave(self, next_path: str | None = None, **options: Any) -> str:
        """Begin to sign in: the address at the service to which Backdrop sends the browser."""
        params = {} if next_path is None else {"next": next_path}
        answer = self.get("/_user/sign_in", params=params, **options)
        assert answer.status_code == 302, answer.text
        return answer.headers["Location"]

    def sign_in(self, account: provider.Account | None, next_path: str | None = None) -> Any:
        return self.get(come_back(self.leave(next_path), account))

    def is_signed_in(self) -> bool:
        answer = self.get("/_user")
        assert answer.status_code == 200 or "/_user/sign_in?next=/_user" in way_on(answer)
        return answer.status_code == 200


def come_back(address: str, account: provider.Account | None) -> str:
    """What a person does at the service: the address to which it sends the browser back.

    None cancels.
    """
    asked = _outside().get(address)
    assert asked.status_code == 200, asked.text
    answer = _outside().post(address, data={"uid": account.uid if account else ""})
    assert answer.status_code == 302, answer.text
    return answer.headers["Location"]


@cache
def _outside() -> httpx2.Client:
    """The same browsers, elsewhere: made once, since that takes a moment."""
    return httpx2.Client(trust_env=False, verify=False)


def query_of(address: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}


def cookies_of(answer: httpx2.Response) -> SimpleCookie:
    """The cookies that an answer sets, with what it says of them."""
    return SimpleCookie("\n".join(answer.headers.get_list("Set-Cookie")))


def way_on(answer: httpx2.Response) -> str:
    """Where an answer leads: by itself, or by its links."""
    return answer.headers.get("Location") or answer.text


def is_page(answer: httpx2.Response, status: int, *texts: str) -> bool:
    """Whether the answer is a page of that status with these texts, and nothing of the inside."""
    assert answer.headers["Content-Type"].startswith("text/html"), answer.text
    assert "Traceback" not in answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.status_code == status, (answer.status_code, answer.text)
    shown = re.sub(r"\s+", " ", answer.text)
    assert all(text in shown for text in texts), (texts, shown)
    return True


@dataclass
class Door:
    """One application, its store and its clock; browsers come by `browser()`."""

    sign_in: SignIn
    clock: Clock = field(default_factory=Clock)
    seen: list[Observation] = field(default_factory=list)
    apis: Any = "both"

    def __post_init__(self) -> None:
        self.storage = MemoryStorage(clock=self.clock)
        self.app = create_app(
            self.storage,
            apis=self.apis,
            now=self.clock,
            observe=rendered(self.seen),
            sign_in=self.sign_in,
        )

    def browser(self, address: str | None = None, **options: Any) -> Browser:
        address = address or self.sign_in.addresses[0]
        return Browser(TestClient(with_errors_kept(self.app), base_url=address, **options))


@pytest.fixture
def signon() -> provider.Signon:
    application = provider.Registered((f"{PUBLIC}/_user/authorized",))
    return provider.Signon(application, provider.ADA, provider.BOB)


@pytest.fixture
def signon_url(signon: provider.Signon) -> Iterator[str]:
    with http_server(signon) as url:
        yield url


def registration_of(signon: provider.Signon) -> Registration:
    known = signon.application
    return Registration(client_id=known.client_id, client_secret=known.client_secret)


@pytest.fixture
def door(signon: provider.Signon, signon_url: str) -> Door:
    """An application that signs in by the service."""
    return door_with(Signon(signon_url, registration_of(signon)))


def door_with(service: Provider) -> Door:
    return Door(SignIn(addresses=(PUBLIC,), provider=service))


@pytest.fixture
def browsers(door: Door) -> Callable[[], Browser]:
    return door.browser


@pytest.fixture
def browser(door: Door) -> Browser:
    return door.browser()
