"""Backdrop as it is measured: `backdrop serve`, one process, on a DuckDB file of its own."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
from tests.live import live_server

from bench.load import Load, post_bytes, request_bytes, send_all

STATUS_PAGES = Path("/proc")


@dataclass(frozen=True, slots=True)
class Backdrop:
    """A server that runs, and its process."""

    url: str
    pid: int
    folder: Path
    admin_token: str

    def make_bucket(self, name: str) -> str:
        """A bucket whose records are public; its token."""
        answer = httpx2.put(
            f"{self.url}/_buckets/{name}",
            json={"raw_queries_allowed": True},
            headers={"Authorization": f"Bearer {self.admin_token}"},
        )
        answer.raise_for_status()
        token: str = answer.json()["token"]
        return token

    def post_all(self, name: str, token: str, bodies: Iterable[bytes], *, connections: int) -> Load:
        """POST the bodies over so many connections, each as soon as the one before is answered."""
        requests = (post_bytes(f"{self.url}/{name}", token, body) for body in bodies)
        return send_all(self.url, requests, 200, connections=connections)

    def get_all(self, target: str, *, times: int, connections: int = 1) -> Load:
        request = request_bytes(f"{self.url}{target}")
        return send_all(self.url, [request] * times, 200, connections=connections)


@contextmanager
def backdrop(folder: Path) -> Iterator[Backdrop]:
    """The server, on `backdrop.duckdb` in the folder, with no room to cache answers in."""
    token = secrets.token_urlsafe(24)
    env = {"BACKDROP_MAX_CACHED": "1", "BACKDROP_ADMIN_TOKEN": token}
    with live_server("serve", cwd=folder, env=env, seconds=120) as server:
        yield Backdrop(server.url, server.process.pid, folder, token)


def resident_bytes(pid: int) -> int:
    """What the process holds in memory now."""
    for line in (STATUS_PAGES / str(pid) / "status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"there is no process {pid}")


def file_bytes(path: Path) -> int:
    """The size of a DuckDB file with its log."""
    log = path.with_name(f"{path.name}.wal")
    return path.stat().st_size + (log.stat().st_size if log.exists() else 0)
