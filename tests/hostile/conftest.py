"""One server for all that it must outlive."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass

import httpx2
import pytest

from tests.live import Server, live_server


@dataclass
class Target:
    """A server with the bucket `things`, and who may do what."""

    server: Server
    admin: dict[str, str]
    writer: dict[str, str]

    @property
    def token(self) -> str:
        return self.writer["Authorization"].removeprefix("Bearer ")

    def memory(self) -> int:
        """The bytes that the server's process has in memory now."""
        with open(f"/proc/{self.server.process.pid}/statm", encoding="ascii") as file:  # noqa: PTH123  of the kernel
            return int(file.read().split()[1]) * 4096

    def is_well(self) -> bool:
        return httpx2.get(f"{self.server.url}/_status", timeout=30).status_code == 200


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    admin_token = secrets.token_urlsafe(16)
    folder = tmp_path_factory.mktemp("target")
    with live_server("serve", cwd=folder, env={"BACKDROP_ADMIN_TOKEN": admin_token}) as server:
        admin = {"Authorization": f"Bearer {admin_token}"}
        settings = {"raw_queries_allowed": True}
        made = httpx2.put(f"{server.url}/_buckets/things", headers=admin, json=settings, timeout=30)
        writer = {"Authorization": f"Bearer {made.json()['token']}"}
        yield Target(server, admin, writer)
