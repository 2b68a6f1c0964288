"""Whole deployments: one store of each engine, the three applications over it, and all keys."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import pytest
from starlette.testclient import TestClient

from backdrop.api.metrics import MetricsWish
from backdrop.asgi import Apis, create_app
from backdrop.domain.user import User
from backdrop.observe import Observation
from backdrop.storage.duckdb.engine import DuckDBStorage
from backdrop.storage.memory import MemoryStorage
from backdrop.storage.mongodb.engine import MongoDBStorage
from backdrop.storage.port import Storage
from backdrop.users import put_user
from backdrop.web.sessions import end_session, start_session
from tests.api.conftest import Clock, bearer
from tests.leaks import rendered, with_errors_kept
from tests.storage import mongodb as server

ENGINES = ("memory", "duckdb", "mongodb")
APIS: tuple[Apis, ...] = get_args(Apis)
WHO = {who: f"{who}@example.org" for who in ("owner", "other", "boss", "nobody")}
"""Of the pages: whose `guarded` is, who has another bucket, an admin, and who has nothing."""

RECORDS = [{"_id": f"{one}-{apis}"} for apis in APIS for one in ("kept", "doomed", "upload")]
"""Of `guarded`: for each application one that stays, and what is removed."""


@dataclass
class Deployment:
    """One store with its buckets, and what opens them or should not.

    `guarded` needs a token to be read; `open` does not; `others` is another one. For what is
    removed there are several of each, one for each application: `doomed-read` and so on.
    """

    storage: Storage
    clock: Clock
    admin: str = field(default_factory=secrets.token_urlsafe)
    watcher: str = field(default_factory=secrets.token_urlsafe)
    texts: dict[str, str] = field(default_factory=dict)
    """Tokens by their names."""
    ids: dict[str, str] = field(default_factory=dict)
    """Of tokens that are to be revoked, for each application."""
    seen: list[Observation] = field(default_factory=list)

    clients: dict[Apis, TestClient] = field(default_factory=dict)

    def __enter__(self) -> Deployment:
        for apis in APIS:
            client = TestClient(self._app(apis), follow_redirects=False)
            self.clients[apis] = self._stack.enter_context(client)
        self._fill()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __post_init__(self) -> None:
        self._stack = ExitStack()

    def _app(self, apis: Apis) -> Any:
        return with_errors_kept(
            create_app(
                self.storage,
                apis=apis,
                admin_token=None if apis == "read" else self.admin,
                now=self.clock,
                observe=rendered(self.seen),
                metrics=MetricsWish(token=self.watcher),
            )
        )

    def as_admin(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.clients["both"].request(method, path, headers=bearer(self.admin), json=body)
        assert answer.is_success, answer.text
        return answer.json()

    def _fill(self) -> None:
        settings: dict[str, dict[str, Any]] = {
            "guarded": {"read_token_required": True, "data_group": "group", "data_type": "type"},
            "open": {},
            "others": {"read_token_required": True},
            **{f"doomed-{apis}": {} for apis in APIS},
        }
        for name, more in settings.items():
            made = self.as_admin("PUT", f"/_buckets/{name}", {"raw_queries_allowed": True} | more)
            self.texts[f"write of {name}"] = made["token"]
        soon = (self.clock() + timedelta(hours=1)).isoformat()
        for name in ("guarded", "others"):
            self._token(name, f"read of {name}", scope="read")
        for scope in ("read", "write"):
            self._token("guarded", f"expired, {scope}", scope=scope, expires_at=soon)
            revoked = self._token("guarded", f"revoked, {scope}", scope=scope)
            self.as_admin("DELETE", f"/_buckets/guarded/tokens/{revoked}")
        for apis in APIS:
            self.ids[apis] = self._token("guarded", f"to be revoked by {apis}", scope="read")
            put_user(self.storage, User(f"doomed-{apis}@example.org"))
        self.clock.move(3600)
        headers = bearer(self.texts["write of guarded"])
        answer = self.clients["both"].post("/guarded", headers=headers, json=RECORDS)
        assert answer.status_code == 200, answer.text
        put_user(self.storage, User(WHO["owner"], ("guarded",)))
        put_user(self.storage, User(WHO["other"], ("others",)))
        put_user(self.storage, User(WHO["boss"], (), admin=True))

    def _token(self, bucket: str, name: str, **wish: Any) -> str:
        made = self.as_admin("POST", f"/_buckets/{bucket}/tokens", wish)
        self.texts[name] = made["token"]
        return str(made["id"])

    def authorizations(self) -> dict[str, str | None]:
        """What a request may have as its header `Authorization`, by what that is."""
        write = self.texts["write of guarded"]
        return {
            "none": None,
            "malformed: empty": "",
            "malformed: no token": "Bearer",
            "malformed: no scheme": write,
            "malformed: two words": f"Bearer {write} x",
            "malformed: another scheme": f"Basic {write}",
            "malformed: two at once": f"Bearer {write}, Bearer {self.admin}",
            "unknown": f"Bearer {secrets.token_urlsafe()}",
            "unknown: shortened": f"Bearer {write[:-1]}",
            "unknown: another case": f"Bearer {write.swapcase()}",
            "admin": f"Bearer {self.admin}",
            "watcher": f"Bearer {self.watcher}",
            **{name: f"Bearer {self.texts[name]}" for name in _TRIED},
        }

    def session(self, who: str) -> str | None:
        """The cookie of a new session, by whose it is."""
        email, now = WHO.get(who, WHO["boss"]), self.clock()
        if who == "none":
            return None
        if who == "unknown":
            return secrets.token_urlsafe()
        if who == "expired":
            now -= timedelta(hours=12)
        text = start_session(self.storage, email=email, name=who, now=now)
        if who == "signed out":
            end_session(self.storage, text)
        return text

    def contents(self) -> list[Any]:
        """All that a request could have changed, but for when tokens were used."""
        names = [bucket.name for bucket in self.storage.buckets()]
        tokens = [sorted(one.hash for one in self.storage.tokens(name)) for name in names]
        states = [self.storage.state(name) for name in names]
        return [states, tokens, self.storage.lasting_entries(), self.storage.audit(limit=1)]


_TRIED = (
    *("revoked, read", "revoked, write", "expired, read", "expired, write"),
    *("read of guarded", "write of guarded", "read of others", "write of others"),
)


@pytest.fixture(params=ENGINES, scope="module")
def deployment(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    clock = Clock()
    folder = tmp_path_factory.mktemp("store")
    with (
        closing(_storage(request, folder, clock)) as storage,
        Deployment(storage, clock) as found,
    ):
        yield found


def _storage(request: pytest.FixtureRequest, folder: Path, clock: Clock) -> Storage:
    if request.param == "memory":
        return MemoryStorage(clock=clock)
    if request.param == "duckdb":
        return DuckDBStorage(folder / "store.duckdb", clock=clock)
    url = server.database(request.getfixturevalue("mongodb"))
    request.addfinalizer(lambda: server.drop(url))
    return MongoDBStorage(url, clock=clock)
