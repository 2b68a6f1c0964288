"""No way of writing a path, and no header, opens what is shut: at a real server, byte for byte."""

from __future__ import annotations

import json
import secrets
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from backdrop.client import Client
from tests.api.conftest import bearer
from tests.live import live_server

PROTECTED = (
    *("/guarded", "/guarded?format=csv", "/data/group/type", "/guarded/upload"),
    *("/_buckets", "/_buckets/guarded", "/_buckets/guarded/tokens", "/_users", "/_audit"),
    *("/_metrics", "/_user", "/_user/new", "/_user/users", "/_user/buckets/guarded/tokens"),
)
"""What no one gets at without a key."""
_OPEN = ("/open", "/_status", "/_docs", "/_static/pages.css", "/_user/sign_in", "/others/x")

Trick = Callable[[str], str]
TRICKS: Mapping[str, Trick] = {
    "two slashes": lambda path: f"/{path}",
    "two slashes within": lambda path: path.replace("/", "//"),
    "backslash": lambda path: path.replace("/", "\\"),
    "dot": lambda path: f"/.{path}",
    "dot within": lambda path: path.replace("/", "/./"),
    "up from nowhere": lambda path: f"/..{path}",
    "up at the end": lambda path: f"{path}/..",
    "down and up": lambda path: f"{path}/x/..",
    "trailing slash": lambda path: f"{path}/",
    "trailing dot": lambda path: f"{path}.",
    "trailing slash and dot": lambda path: f"{path}/.",
    "suffix": lambda path: f"{path}.json",
    "static suffix": lambda path: f"{path}/pages.css",
    "parameter": lambda path: f"{path};x",
    "parameter within": lambda path: path.replace("/", "/;x/"),
    "encoded slash": lambda path: path.replace("/", "%2f"),
    "encoded slash but the first": lambda path: f"/{path[1:].replace('/', '%2F')}",
    "encoded twice": lambda path: path.replace("_", "%255f"),
    "encoded backslash": lambda path: f"/%5c{path}",
    "encoded dots": lambda path: f"/%2e%2e{path}",
    "encoded dots and slash": lambda path: f"/%2e%2e%2f{path[1:]}",
    "encoded underscore": lambda path: path.replace("_", "%5f"),
    "encoded letters": lambda path: "/" + "".join(f"%{ord(one):02x}" for one in path[1:]),
    "overlong slash": lambda path: path.replace("/", "/%c0%af"),
    "fullwidth underscore": lambda path: path.replace("_", "%ef%bc%bf"),
    "upper case": str.upper,
    "title": str.title,
    "nul": lambda path: f"{path}%00",
    "nul and suffix": lambda path: f"{path}%00.css",
    "new line": lambda path: f"{path}%0a",
    "blank": lambda path: f"{path}%20",
    "plus": lambda path: f"{path}+",
    "hash": lambda path: f"{path}%23",
    "question mark": lambda path: f"{path}%3f",
    "very long": lambda path: f"{path}/{'a' * 20_000}",
    "long way down and up": lambda path: f"/open{'/x' * 500}{'/..' * 501}{path}",
    "whole address": lambda path: f"http://127.0.0.1{path}",
    "user in the address": lambda path: f"http://admin@127.0.0.1{path}",
    **{
        f"{way} {start}": lambda path, start=start, up=up: f"{start}{up}{path[1:]}"
        for start in _OPEN
        for way, up in {"up from": "/../", "up, encoded, from": "/%2e%2e%2f"}.items()
    },
}

TRIED = (
    *(("GET", False, ""), ("HEAD", False, ""), ("GET", True, ""), ("HEAD", True, "")),
    *(("POST", True, '{"aa": 1}'), ("PUT", True, "[]"), ("DELETE", True, "")),
)
"""What is sent to each: the method, whether with a token of another bucket, and the body."""

_OVERRIDES = ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override")
_ADDRESSES = (
    *("X-Original-URL", "X-Rewrite-URL", "X-Original-URI", "X-Forwarded-Uri", "X-Forwarded-Path"),
    *("X-Forwarded-Prefix", "X-Accel-Redirect", "Destination", "Referer"),
)
_PEERS = (
    *("X-Forwarded-For", "X-Real-IP", "X-Client-IP", "X-Originating-IP", "X-Remote-IP"),
    *("X-Remote-Addr", "True-Client-IP", "X-Custom-IP-Authorization", "X-Forwarded-Host"),
)
_PEOPLE = (
    *("Remote-User", "X-Remote-User", "X-Forwarded-User", "X-Auth-Request-Email"),
    *("X-Forwarded-Email", "X-WEBAUTH-USER", "X-Authenticated-User"),
)


@dataclass
class Site:
    """A server with a bucket that is open, one that is not, and another's token."""

    host: str
    port: int
    admin: str = field(default_factory=secrets.token_urlsafe)
    token_of_others: str = ""

    def ask(
        self, method: str, target: str, headers: Mapping[str, str] | None = None, body: str = ""
    ) -> tuple[int, str]:
        """The status and the rest of the answer to a request that is sent as it stands."""
        sent = {"Host": f"{self.host}:{self.port}", "Connection": "close", **(headers or {})}
        sent |= {"Content-Length": str(len(body)), "Content-Type": "application/json"}
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {sent[name]}" for name in sent)]
        with socket.create_connection((self.host, self.port), timeout=20) as connection:
            connection.sendall("\r\n".join([*lines, "", body]).encode("latin-1"))
            answer = connection.makefile("rb").read().decode("latin-1")
        head, _, rest = answer.partition("\r\n")
        return int(head.split()[1]), rest

    def audit(self) -> object:
        status, rest = self.ask("GET", "/_audit?limit=1", bearer(self.admin))
        assert status == 200
        return json.loads(rest[rest.index("{") :])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder: Path = tmp_path_factory.mktemp("server")
    admin = secrets.token_urlsafe()
    env = {"BACKDROP_STORE": "memory:", "BACKDROP_ADMIN_TOKEN": admin, "BACKDROP_METRICS": "yes"}
    with live_server("serve", cwd=folder, env=env) as running:
        with Client(running.url, admin_token=admin) as client:
            open_ = {"raw_queries_allowed": True}
            address = {"data_group": "group", "data_type": "type"}
            client.put_bucket("open", open_)
            client.put_bucket("guarded", open_ | address | {"read_token_required": True})
            token = client.put_bucket("others", open_)["token"]
        parts = urlsplit(running.url)
        yield Site(str(parts.hostname), int(parts.port or 0), admin, token)


def _is_shut(status: int, rest: str) -> bool:
    """Whether an answer gives nothing: an error, or the way to the sign-in."""
    return status >= 400 or (status == 303 and "/_user/sign_in?next=" in rest)


def test_they_are_shut_as_they_stand(site: Site) -> None:
    """And the others are open: so the tricks are tried on what there is."""
    for path in PROTECTED:
        status, rest = site.ask("GET", path)
        assert status in (401, 303), path
        assert _is_shut(status, rest), path
    for path in _OPEN[:-1]:
        assert site.ask("GET", path)[0] == 200, path


def test_what_is_the_same_path_opens_with_the_key(site: Site) -> None:
    """So the tricks do get to where the doors are."""
    for path in ("/%5fbuckets", "/_%62uckets"):
        assert site.ask("GET", path)[0] == 401
        assert site.ask("GET", path, bearer(site.admin))[0] == 200


@pytest.mark.parametrize("name", TRICKS)
def test_no_path_opens_them(site: Site, name: str) -> None:
    """Without a key, and with one of another bucket; nothing is written either."""
    before = site.audit()
    for path in PROTECTED:
        target = TRICKS[name](path)
        for method, has_token, body in TRIED:
            headers = bearer(site.token_of_others) if has_token else {}
            status, rest = site.ask(method, target, headers, body)
            assert _is_shut(status, rest), (method, target, status, rest)
    assert site.audit() == before


@pytest.mark.parametrize("name", [*_OVERRIDES, *_ADDRESSES, *_PEERS, *_PEOPLE])
def test_no_header_opens_them(site: Site, name: str) -> None:
    """Not one that other servers let have a say in the method, the path or who asks."""
    before = site.audit()
    for path in PROTECTED:
        values = (
            *(("GET", "DELETE") if name in _OVERRIDES else ()),
            *((path, "/_status") if name in _ADDRESSES else ()),
            *(("127.0.0.1", "localhost") if name in _PEERS else ()),
            *(("admin", "admin@localhost") if name in _PEOPLE else ()),
        )
        assert values
        for value in values:
            for method in ("GET", "POST"):
                plain = site.ask(method, path)[0]
                status, rest = site.ask(method, path, {name: value})
                assert status == plain, (method, path, value)
                assert _is_shut(status, rest)
            assert site.ask("GET", "/_status", {name: value})[0] == 200
            assert (
                site.ask("POST", "/others", bearer(site.token_of_others) | {name: value}, "[]")[0]
                == 200
            )
    assert site.audit() == before


def test_a_method_in_the_query_or_the_body_is_none(site: Site) -> None:
    before = site.audit()
    for query in ("_method=DELETE", "method=DELETE", "X-HTTP-Method-Override=DELETE"):
        status, _ = site.ask("GET", f"/others?{query}", bearer(site.token_of_others))
        assert status == 400, query
    assert site.audit() == before


@pytest.mark.parametrize(
    "method", ["get", "Get", "TRACE", "CONNECT", "PROPFIND", "DEBUG", "X" * 99]
)
def test_no_other_method_opens_them(site: Site, method: str) -> None:
    for path in PROTECTED:
        status, _ = site.ask(method, path, bearer(site.token_of_others))
        assert status >= 400, (method, path)
