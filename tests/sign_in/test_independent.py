"""Signing in by an OpenID Connect provider that others made, and by real servers all through."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin

import httpx2
import pytest

from backdrop.client import Client
from backdrop.web.providers import OpenIdConnect, Registration
from tests.docs.examples import ROOT
from tests.live import Server, live_server, run
from tests.sign_in.conftest import PUBLIC, Browser, come_back, door_with, is_page
from tests.sign_in.http_server import http_server
from tests.sign_in.signon import ADA, BOB, Registered, Signon

_NODE_FOLDER = ROOT / "tests" / "node"
_CLIENT = "backdrop"
_WELL_KNOWN = "/.well-known/openid-configuration"


@contextlib.contextmanager
def node_provider(secret: str, redirect_uri: str) -> Iterator[str]:
    """The URL of `oidc-provider`, run by Node."""
    beside = _NODE_FOLDER / "node_modules" / "node" / "bin" / "node"  # where there is an old one
    node = str(beside) if beside.exists() else shutil.which("node")
    assert node is not None, "Node is missing: run scripts/install_node_packages.sh"
    packages = _NODE_FOLDER / "node_modules"
    assert packages.is_dir(), "packages are missing: run scripts/install_node_packages.sh"
    with subprocess.Popen(
        [node, "oidc_provider.mjs", _CLIENT, redirect_uri],
        cwd=_NODE_FOLDER,
        env={"PATH": os.environ["PATH"], "CLIENT_SECRET": secret},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            found = re.fullmatch(r"ready (\S+)\n", process.stdout.readline())
            assert found
            yield found[1]
        finally:
            process.terminate()


def log_in(address: str, name: str, until: str) -> str:
    """What a person does at the provider's pages, up to the address that begins with `until`."""
    with httpx2.Client(trust_env=False, follow_redirects=False, timeout=30) as client:
        answer = client.get(address)
        for _ in range(20):
            if answer.is_redirect:
                address = urljoin(address, answer.headers["Location"])
                if address.startswith(until):
                    return address
                answer = client.get(address)
                continue
            form = dict(re.findall(r'<input type="hidden" name="(\w+)" value="(\w*)"', answer.text))
            assert form, answer.text
            answer = client.post(address, data=form | {"login": name, "password": "any"})
    raise AssertionError(f"the provider does not send back: {address}, {answer.text}")


@pytest.fixture(scope="module")
def secret() -> str:
    """With signs that mean something in a form, and in what a header encodes."""
    return secrets.token_urlsafe(16) + "+%3A:&=/"


@pytest.fixture(scope="module")
def issuer(secret: str) -> Iterator[str]:
    with node_provider(secret, f"{PUBLIC}/_user/authorized") as url:
        yield url


@pytest.fixture
def browser(issuer: str, secret: str) -> Browser:
    registration = Registration(client_id=_CLIENT, client_secret=secret)
    return door_with(OpenIdConnect(issuer + _WELL_KNOWN, registration)).browser()


def test_an_independent_provider_signs_in(browser: Browser) -> None:
    """Its ID token has no address, as the standard says: that comes from its userinfo."""
    answer = browser.get(log_in(browser.leave("/flights/upload"), "ada", PUBLIC))
    assert (answer.status_code, answer.headers["Location"]) == (303, "/flights/upload")
    assert is_page(browser.get("/_user"), 200, "ada of Node (ada@example.org)")
    assert is_page(browser.get("/_user/sign_out"), 200, "You are signed out")
    assert not browser.is_signed_in()


def test_an_independent_provider_tells_who_is_not_verified(browser: Browser) -> None:
    answer = browser.get(log_in(browser.leave(), "unknown", PUBLIC))
    assert is_page(answer, 403, "is not verified")


def test_an_independent_provider_refuses_a_code_the_second_time(browser: Browser) -> None:
    back = log_in(browser.leave(), "ada", PUBLIC)
    assert browser.get(back).status_code == 303
    code = re.sub(r".*code=([^&]+).*", r"\1", back)
    state = re.sub(r".*state=([^&]+).*", r"\1", browser.leave())
    answer = browser.get(f"/_user/authorized?code={code}&state={state}")
    assert is_page(answer, 400, "took too long, or was used already")


def test_an_independent_provider_refuses_a_wrong_secret(issuer: str) -> None:
    registration = Registration(client_id=_CLIENT, client_secret=secrets.token_urlsafe(16))
    browser = door_with(OpenIdConnect(issuer + _WELL_KNOWN, registration)).browser()
    answer = browser.get(log_in(browser.leave(), "ada", PUBLIC))
    assert is_page(answer, 502, "invalid_client")


# -- real servers all through --------------------------------------------------------------------


@contextlib.contextmanager
def backdrop(folder: Path, **settings: str) -> Iterator[Server]:
    env = {"BACKDROP_STORE": "memory:"} | {
        f"BACKDROP_{name.upper()}": value for name, value in settings.items()
    }
    with live_server("serve", cwd=folder, env=env) as server:
        yield server


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_the_whole_way_by_the_settings_that_are_documented(tmp_path: Path, host: str) -> None:
    """Under either of the machine's names for itself."""
    signon = Signon(Registered(()), ADA, BOB)
    known = signon.application
    with http_server(signon) as service, httpx2.Client(trust_env=False) as client:
        settings = {
            "oauth_base_url": service,
            "oauth_client_id": known.client_id,
            "oauth_client_secret": known.client_secret,
        }
        with backdrop(tmp_path, **settings) as server:
            address = server.url.replace("127.0.0.1", host)
            callback = f"{address}/_user/authorized"
            signon.application = dataclasses.replace(known, redirect_uris=(callback,))
            begun = client.get(f"{address}/_user/sign_in")
            assert begun.headers["Location"].startswith(f"{service}/oauth/authorize?")
            back = come_back(begun.headers["Location"], ADA)
            assert back.startswith(callback)
            finished = client.get(back)
            assert (finished.status_code, finished.headers["Location"]) == (303, "/_user")
            assert ADA.email in client.get(f"{address}/_user").text
            refused = client.get(
                come_back(client.get(f"{address}/_user/sign_in").headers["Location"], BOB)
            )
            assert is_page(refused, 403, "has no permission")
            assert known.client_secret not in server.log
            server.wait_for(re.escape(f"{service} (back to {server.url}/_user/authorized)"))


def test_the_link_that_is_printed_signs_in_once(tmp_path: Path) -> None:
    """A look at it does not use it up; the button does."""
    with backdrop(tmp_path) as server, httpx2.Client(trust_env=False) as client:
        link = server.link()
        assert link.startswith(f"{server.url}/_user/link?key=")
        for _ in range(2):
            asked = client.get(link)
            assert is_page(asked, 200, '<form method="post"', "works once")
        assert client.get(f"{server.url}/_user").status_code != 200
        opened = client.post(link)
        assert (opened.status_code, opened.headers["Location"]) == (303, "/_user")
        assert "HttpOnly" in opened.headers["Set-Cookie"]
        assert is_page(client.get(f"{server.url}/_user"), 200, "Local admin (admin@localhost)")
        for again in (client.get(link), client.post(link)):
            assert is_page(again, 400, "used already, or is too old", "another")
        with Client(server.url, admin_token=_admin_token(server)) as admin:
            assert admin.users() == []  # the session is an admin's; nobody is kept as one
        page = client.get(f"{server.url}/_user/sign_in")
        assert is_page(page, 200, "BACKDROP_OIDC_DISCOVERY_URL", "one-time link")
        key = link.partition("key=")[2]
        assert sum(key in line for line in server.lines) == 1


def _admin_token(server: Server) -> str:
    return (server.folder / "backdrop.admin-token").read_text().strip()


# -- settings --------------------------------------------------------------------------------------

_ID = {"BACKDROP_OAUTH_CLIENT_ID": "i"}
_SECRET = {"BACKDROP_OAUTH_CLIENT_SECRET": "s"}
_SIGNON = {"BACKDROP_OAUTH_BASE_URL": "https://signon.example"}
_OIDC = {"BACKDROP_OIDC_DISCOVERY_URL": f"https://login.example{_WELL_KNOWN}"}


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (_ID, "by half: set BACKDROP_OAUTH_BASE_URL or BACKDROP_OIDC_DISCOVERY_URL, and"),
        (_ID | _SECRET, "set BACKDROP_OAUTH_BASE_URL or BACKDROP_OIDC_DISCOVERY_URL too"),
        (_SIGNON, "set BACKDROP_OAUTH_CLIENT_ID, and BACKDROP_OAUTH_CLIENT_SECRET too"),
        (_OIDC | _ID, "set BACKDROP_OAUTH_CLIENT_SECRET too"),
        (_SIGNON | _OIDC | _ID | _SECRET, "set one of them"),
        (
            _SIGNON | _ID | _SECRET | {"BACKDROP_HOST": "0.0.0.0"},  # noqa: S104  it refuses
            "set BACKDROP_PUBLIC_URL",
        ),
    ],
)
def test_half_a_configuration_is_refused(tmp_path: Path, env: dict[str, str], message: str) -> None:
    """Before anything is served, with the names of what is missing."""
    settings = {**os.environ, **env, "BACKDROP_STORE": "memory:", "BACKDROP_PORT": "0"}
    done = run("serve", cwd=tmp_path, env=settings)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
