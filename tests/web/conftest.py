"""Visitors of the pages: each with the cookie of a session, and the form token of it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from html import unescape
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from backdrop.domain.user import User
from backdrop.users import put_user
from backdrop.web.sessions import start_session
from tests.api.conftest import Desk, desk

__all__ = ["desk"]

Files = dict[str, tuple[str, bytes]]


@dataclasses.dataclass
class Person:
    """Someone who is signed in, in a browser that follows no redirect by itself."""

    client: TestClient

    def get(self, path: str, **options: Any) -> httpx2.Response:
        return self.client.get(path, follow_redirects=False, **options)

    def post(self, path: str, **options: Any) -> httpx2.Response:
        return self.client.post(path, follow_redirects=False, **options)

    @property
    def form_token(self) -> str:
        return field(self.get("/things/upload"), "form_token")

    def send(self, path: str, files: Files | None = None, **fields: Any) -> httpx2.Response:
        """Send a form with the token that belongs to it."""
        return self.post(path, data={"form_token": self.form_token, **fields}, files=files)

    def upload(self, data: bytes, name: str = "a.csv", bucket: str = "things") -> httpx2.Response:
        """The first step: the page that says what was understood."""
        answer = self.send(f"/{bucket}/upload", {"file": (name, data)})
        for _ in range(200):
            if answer.status_code == 303:
                answer = self.get(answer.headers["Location"])
            elif "Refresh" in answer.headers:
                answer = self.get(re.findall(r'href="([^"]+upload=[^"]+)"', answer.text)[0])
            else:
                return answer
        raise AssertionError("the upload does not come to an end")

    def store(self, understood: httpx2.Response, bucket: str = "things") -> httpx2.Response:
        """The second step: the receipt."""
        assert understood.status_code == 200, words(understood)
        upload = field(understood, "upload")
        answer = self.send(f"/{bucket}/upload", upload=upload)
        assert answer.status_code == 303, words(answer)
        return self.get(answer.headers["Location"])


def field(answer: httpx2.Response, name: str) -> str:
    """The value of a hidden field of a page's first form."""
    found = re.search(rf'name="{name}" value="([^"]*)"', answer.text)
    assert found, words(answer)
    return unescape(found[1])


def words(answer: httpx2.Response) -> str:
    """The text of a page's content, without its tags."""
    main = answer.text.partition("<main")[2].partition("</main>")[0].partition(">")[2]
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", main))).strip()


@pytest.fixture
def person(desk: Desk) -> Callable[..., Person]:
    """Makes someone who may use these buckets."""

    def make(*buckets: str, email: str = "ann@example.org", admin: bool = False) -> Person:
        put_user(desk.storage, User(email, buckets, admin))
        text = start_session(desk.storage, email=email, name="Ann", now=desk.clock())
        client = desk.clients(raises=False)
        client.cookies.set("session", text)
        return Person(client)

    return make


@pytest.fixture
def ann(desk: Desk, person: Callable[..., Person]) -> Person:
    """Someone whose bucket `things` is."""
    desk.make("things", raw_queries_allowed=True)
    return person("things")


@pytest.fixture
def admin(desk: Desk, person: Callable[..., Person]) -> Person:
    desk.make("things", raw_queries_allowed=True)
    return person(email="boss@example.org", admin=True)
