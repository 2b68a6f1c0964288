"""A server for the commands to talk to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backdrop.client import Client
from tests.live import Server, live_server


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with an empty store in memory; `server.run` runs commands beside it."""
    folder: Path = tmp_path_factory.mktemp("server")
    with live_server("serve", cwd=folder, env={"BACKDROP_STORE": "memory:"}) as running:
        yield running


@pytest.fixture(scope="package")
def admin(server: Server) -> Iterator[Client]:
    """The server's admin API, for what is not the test's point."""
    token = (server.folder / "backdrop.admin-token").read_text().strip()
    with Client(server.url, admin_token=token) as client:
        yield client
