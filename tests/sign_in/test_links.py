"""One-time links: for a browser on the machine of the server, and for nobody else."""

from __future__ import annotations

import re
import threading
from typing import Any

import pytest

from backdrop.web.providers import Signon
from backdrop.web.sign_in import LINK_LASTS, Link, SignIn, keep_link
from tests.sign_in.conftest import Browser, Door, cookies_of, is_page
from tests.sign_in.test_failures import REGISTRATION

_OURS = ("http://127.0.0.1:3038", "http://localhost:3038")
_HERE = ("127.0.0.1", 50000)


@pytest.fixture
def door() -> Door:
    return Door(SignIn(addresses=_OURS, links=True))


def path_of(door: Door) -> str:
    """The path of a new link."""
    return kept(door, Link.new(door.clock()))


def kept(door: Door, link: Link) -> str:
    keep_link(door.storage, link)
    return link.url(door.sign_in).removeprefix(_OURS[0])


def here(door: Door, address: str = _OURS[0], **options: Any) -> Browser:
    return door.browser(address, client=_HERE, **options)


@pytest.mark.parametrize("address", _OURS)
def test_a_link_signs_in_an_admin_once(door: Door, address: str) -> None:
    path, browser = path_of(door), here(door, address)
    asked = browser.get(path)
    assert is_page(asked, 200, 'method="post"')
    [action] = re.findall(r'action="([^"]+)"', asked.text)
    assert browser.client.cookies.get("session") is None
    opened = browser.post(action)
    assert (opened.status_code, opened.headers["Location"]) == (303, "/_user")
    assert cookies_of(opened)["session"]["httponly"]
    assert browser.is_signed_in()
    for again in (browser.post(action), here(door).post(action), here(door).get(path)):
        assert is_page(again, 400, "used already, or is too old")
    out = browser.get("/_user/sign_out")
    assert is_page(out, 200, "You are signed out", "start it again, and it prints another")
    assert "sign-in service" not in out.text
    assert "Sign in again" not in out.text
    assert not browser.is_signed_in()


def test_of_many_that_use_a_link_one_is_signed_in(door: Door) -> None:
    path, statuses = path_of(door), list[int]()
    many = [
        threading.Thread(target=lambda: statuses.append(here(door).post(path).status_code))
        for _ in range(8)
    ]
    for one in many:
        one.start()
    for one in many:
        one.join(30)
    assert sorted(statuses) == [303, *[400] * 7]


def test_a_link_is_good_for_an_hour(door: Door) -> None:
    path = path_of(door)
    door.clock.move(LINK_LASTS.total_seconds())
    assert is_page(here(door).get(path), 400, "too old")
    assert is_page(here(door).post(path), 400, "too old")


def test_a_link_that_is_kept_again_stays_used_up(door: Door) -> None:
    """As a worker does that begins in the place of one that died."""
    link = Link.new(door.clock())
    assert here(door).post(kept(door, link)).status_code == 303
    assert is_page(here(door).post(kept(door, link)), 400, "used already")
    unused = Link.new(door.clock())
    kept(door, unused)
    assert here(door).post(kept(door, unused)).status_code == 303


@pytest.mark.parametrize("query", ["", "?key=", "?key=wrong", "?key=%00", "?key=x&key=y"])
def test_a_key_that_is_none_opens_nothing(door: Door, query: str) -> None:
    path_of(door)
    for answer in (here(door).get(f"/_user/link{query}"), here(door).post(f"/_user/link{query}")):
        assert is_page(answer, 400, "used already")


@pytest.mark.parametrize(
    ("client", "address", "headers"),
    [
        (("192.0.2.7", 50000), _OURS[0], {}),
        (("::ffff:192.0.2.7", 50000), _OURS[0], {}),
        (_HERE, "http://evil.example:3038", {}),  # a name that somebody pointed to this machine
        (_HERE, "http://127.0.0.1:9999", {}),
        (_HERE, _OURS[0], {"X-Forwarded-For": "192.0.2.7"}),
        (_HERE, _OURS[0], {"X-Forwarded-For": "127.0.0.1"}),
        (_HERE, _OURS[0], {"Forwarded": "for=192.0.2.7"}),
        (_HERE, _OURS[0], {"X-Real-IP": "192.0.2.7"}),
        (_HERE, _OURS[0], {"X-Forwarded-Proto": "https"}),
        (_HERE, _OURS[0], {"Via": "1.1 proxy"}),
    ],
)
def test_a_link_is_refused_from_elsewhere(
    door: Door, client: tuple[str, int], address: str, headers: dict[str, str]
) -> None:
    """And is not used up by that."""
    path = path_of(door)
    other = door.browser(address, client=client)
    for answer in (other.get(path, headers=headers), other.post(path, headers=headers)):
        assert is_page(answer, 403, "on the machine of the server itself")
    assert here(door).post(path).status_code == 303


@pytest.mark.parametrize(
    "sign_in",
    [
        SignIn(addresses=_OURS),
        SignIn(addresses=_OURS, provider=Signon("http://127.0.0.1:1", REGISTRATION)),
    ],
)
def test_where_links_open_nothing_there_are_none(sign_in: SignIn) -> None:
    door = Door(sign_in)
    path = path_of(door)
    for answer in (here(door).get(path), here(door).post(path)):
        assert is_page(answer, 404, "sign in at /_user/sign_in")


def test_without_a_service_the_page_says_how_to_configure_one(door: Door) -> None:
    settings = ("OAUTH_BASE_URL", "OIDC_DISCOVERY_URL", "OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET")
    names = [f"BACKDROP_{name}" for name in (*settings, "PUBLIC_URL")]
    answer = here(door).get("/_user/sign_in")
    assert is_page(answer, 200, *names, "docs/sign-in.md", "one-time link")
    elsewhere = Door(SignIn(addresses=("https://backdrop.example",))).browser()
    answer = elsewhere.get("/_user/sign_in")
    assert is_page(answer, 200, *names)
    assert "one-time link" not in answer.text
    assert is_page(elsewhere.get("/_user/authorized?code=x"), 404, "No sign-in service")


def test_the_read_api_has_no_pages() -> None:
    browser = Door(SignIn(addresses=_OURS, links=True), apis="read").browser()
    for path in ("/_user", "/_user/sign_in", "/_user/authorized", "/_user/sign_out", "/_user/link"):
        answer = browser.get(path)
        assert (answer.status_code, answer.json()["errors"][0]["code"]) == (404, "not_found")
        assert answer.headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize("apis", ["both", "write"])
def test_the_write_api_has_the_pages_and_they_are_no_api(apis: str) -> None:
    door = Door(SignIn(addresses=_OURS, links=True), apis=apis)
    browser = here(door)
    assert browser.post(path_of(door)).status_code == 303
    assert is_page(browser.get("/_user"), 200)
    assert is_page(browser.post("/_user/sign_out"), 405)
    assert "Access-Control-Allow-Origin" not in browser.get("/_user/sign_in").headers
    assert not [path for path in browser.get("/_openapi.json").json()["paths"] if "_user/" in path]
