"""One server for all that it must outlive."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from tests.api.conftest import desk as desk
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

    @contextmanager
    def at_most(self, *, memory: int, seconds: float) -> Iterator[None]:
        """What happens within takes the server's process no more memory and time of the CPU."""
        process = Path(f"/proc/{self.server.process.pid}")
        before = _memory(process, "VmRSS"), _cpu_seconds(process)
        (process / "clear_refs").write_text("5")  # the peak begins anew
        yield
        assert _memory(process, "VmHWM") - before[0] < memory
        assert _cpu_seconds(process) - before[1] < seconds

    def is_well(self) -> bool:
        return httpx2.get(f"{self.server.url}/_status", timeout=30).status_code == 200


def _memory(process: Path, name: str) -> int:
    lines = (process / "status").read_text().splitlines()
    found = next(line.split() for line in lines if line.startswith(f"{name}:"))
    return int(found[1]) * 1024


def _cpu_seconds(process: Path) -> float:
    spent = (process / "stat").read_text().rpartition(")")[2].split()
    return (int(spent[11]) + int(spent[12])) / os.sysconf("SC_CLK_TCK")


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
