"""What tokens, sessions and states cost, leave behind, and let others see."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from backdrop.api.auth import USE_NOTED_EVERY
from backdrop.storage.duckdb.engine import DuckDBStorage
from backdrop.web.providers import Registration, Signon
from backdrop.web.sign_in import SignIn
from tests.api.conftest import Desk, bearer, desk
from tests.eventually import eventually
from tests.live import live_server, run
from tests.security.conftest import Deployment

__all__ = ["desk"]

_NOBODY_THERE = Signon("http://127.0.0.1:1", Registration(client_id="x", client_secret="x" * 8))


@pytest.fixture
def duckdb(desk: Desk, tmp_path: Path) -> Iterator[DuckDBStorage]:
    with closing(DuckDBStorage(tmp_path / "store.duckdb", clock=desk.clock)) as storage:
        yield storage


def test_the_use_of_a_token_is_noted_once_a_minute(deployment: Deployment) -> None:
    """To the minute, on every engine, and shown to the admin."""

    def shown() -> str | None:
        tokens = deployment.as_admin("GET", "/_buckets/guarded/tokens")["tokens"]
        [found] = [one for one in tokens if one["id"] == deployment.ids["both"]]
        used: str | None = found["last_used_at"]
        return used

    headers = bearer(deployment.texts["to be revoked by both"])
    seen = [shown()]
    for seconds in (0, USE_NOTED_EVERY.total_seconds(), 1):
        deployment.clock.move(seconds)
        for _ in range(3):
            assert deployment.clients["both"].get("/guarded", headers=headers).status_code == 200
        expected = seen[-1] if seconds > 1 else deployment.clock().isoformat()
        # It is noted soon, not at once.
        eventually(lambda expected=expected: shown() == expected, seconds=20)
        seen.append(shown())
    assert seen[0] is None
    assert seen[1] == seen[2]
    assert seen[3] == deployment.clock().isoformat()


def test_the_use_of_a_token_costs_no_commit_a_request(desk: Desk, duckdb: DuckDBStorage) -> None:
    client = desk.clients(storage=duckdb)
    client.put(
        "/_buckets/things", headers=desk.admin, json={"read_token_required": True}
    ).raise_for_status()
    wish = {"scope": "read"}
    made = client.post("/_buckets/things/tokens", headers=desk.admin, json=wish).json()
    headers = bearer(made["token"])
    client.get("/things?group_by=aa", headers=headers)
    eventually(lambda: duckdb.load().commits >= 3, seconds=20)
    before = duckdb.load()
    for _ in range(50):
        assert client.get("/things?group_by=aa", headers=headers).status_code == 200
    assert duckdb.load().commits == before.commits == 3


def test_strangers_cost_the_store_no_write(desk: Desk, duckdb: DuckDBStorage) -> None:
    """With made-up tokens, cookies, states and keys."""
    client = desk.clients(storage=duckdb, sign_in=SignIn(provider=_NOBODY_THERE))
    client.put("/_buckets/things", headers=desk.admin)
    before = duckdb.load().commits
    made_up = secrets.token_urlsafe(32)
    cookie = {"Cookie": f"session={made_up}; sign-in={made_up}"}
    for method, path, headers, status in (
        ("GET", f"/_user/authorized?state={made_up}&code=x", cookie, 400),
        ("GET", f"/_user/authorized?state={made_up}&error=access_denied", cookie, 400),
        ("HEAD", "/_user/sign_in", cookie, 200),
        ("GET", "/_user/sign_out", cookie, 200),
        ("GET", "/_user", cookie, 303),
        ("POST", "/things/upload", cookie, 401),
        ("POST", "/things", bearer(made_up), 401),
        ("PUT", "/_buckets/others", bearer(made_up), 401),
    ):
        answer = client.request(method, path, headers=headers, follow_redirects=False)
        assert answer.status_code == status, (method, path, answer.text)
    assert duckdb.load().commits == before


def test_files_are_for_their_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    """The store, its log of writes, token files, and a copy of the store."""
    before = os.umask(0)
    try:
        with live_server("serve", cwd=tmp_path) as server:
            options = ("--token-file", "things.token", "--raw-queries-allowed")
            done = server.run("bucket", "create", "things", *options)
            assert done.returncode == 0, done.stderr
            done = server.run("import", "things", "--format=ndjson", "-", stdin='{"aa": 1}\n')
            assert done.returncode == 0, done.stderr
            _all_are_closed(tmp_path, "backdrop.duckdb.wal", "things.token")
        done = run("copy", "duckdb:backdrop.duckdb", "duckdb:copy.duckdb", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        _all_are_closed(tmp_path, "copy.duckdb", "backdrop.duckdb", "backdrop.duckdb.admin-token")
    finally:
        os.umask(before)


def _all_are_closed(folder: Path, *names: str) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*")}
    assert set(names) <= set(modes)
    assert set(modes.values()) == {0o600}, modes
