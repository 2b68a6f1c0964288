"""An application in process, over the memory engine, and one who may do everything to it."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from starlette.testclient import TestClient

from backdrop.api.body import Limits
from backdrop.asgi import Apis, create_app
from backdrop.observe import Observation
from backdrop.storage.memory import MemoryStorage
from backdrop.storage.port import Storage
from backdrop.web.sign_in import SignIn
from tests.leaks import rendered, with_errors_kept


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.time = datetime(2024, 5, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def move(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@dataclasses.dataclass
class Desk:
    """A client at an application's door, with the admin token at hand, and all that it logs."""

    storage: Storage
    clock: Clock
    admin_token: str
    seen: list[Observation]
    client: TestClient
    clients: Callable[..., TestClient]

    @property
    def admin(self) -> dict[str, str]:
        return bearer(self.admin_token)

    def make(self, name: str, **settings: Any) -> dict[str, str]:
        """Make a bucket; the headers that open it for writing."""
        answer = self.client.put(f"/_buckets/{name}", headers=self.admin, json=settings)
        assert answer.status_code == 201, answer.text
        return bearer(answer.json()["token"])

    def token(self, name: str, **wish: Any) -> dict[str, str]:
        """Make a token; the headers that hold it."""
        answer = self.client.post(f"/_buckets/{name}/tokens", headers=self.admin, json=wish)
        assert answer.status_code == 201, answer.text
        return bearer(answer.json()["token"])

    def filled(self, name: str, *records: dict[str, Any], **settings: Any) -> dict[str, str]:
        """Make a bucket with these records in it; the headers that open it for writing."""
        headers = self.make(name, **settings)
        answer = self.client.post(f"/{name}", headers=headers, json=records)
        assert answer.status_code == 200, answer.text
        return headers

    def data(self, path: str, **options: Any) -> Any:
        answer = self.client.get(path, **options)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def codes(answer: Any) -> list[str]:
    """The codes of an error answer's errors; it must have the form that all have."""
    body = answer.json()
    assert body["status"] == "error"
    assert isinstance(body["message"], str)
    assert all(error["message"] for error in body["errors"])
    return [error["code"] for error in body["errors"]]


@pytest.fixture
def desk() -> Desk:
    clock, admin_token, seen = Clock(), secrets.token_urlsafe(16), list[Observation]()
    storage = MemoryStorage(clock=clock)

    def clients(
        *,
        apis: Apis = "both",
        limits: Limits | None = None,
        storage: Storage = storage,
        admin_token: str | None = admin_token,
        raises: bool = True,
        read_url: str | None = None,
        sign_in: SignIn | None = None,
    ) -> TestClient:
        app = create_app(
            storage,
            apis=apis,
            admin_token=admin_token,
            limits=limits,
            now=clock,
            observe=rendered(seen),
            read_url=read_url,
            sign_in=sign_in,
        )
        return TestClient(with_errors_kept(app), raise_server_exceptions=raises)

    return Desk(storage, clock, admin_token, seen, clients(), clients)
