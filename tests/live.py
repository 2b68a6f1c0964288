"""A real server: the command `backdrop`, in a process of its own, on a free loopback port."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import pytest

from backdrop.cli import main
from tests.eventually import eventually
from tests.leaks import keep

BACKDROP = str(Path(sys.executable).with_name("backdrop"))
_READY = re.compile(r"ready at (http://\S+)")


@dataclass
class Server:
    """A server that runs. `env` is for other commands that are to talk to it."""

    process: subprocess.Popen[str]
    folder: Path
    env: dict[str, str]
    url: str = ""
    lines: list[str] = field(default_factory=list)
    """What it has printed so far."""

    @property
    def command(self) -> str:
        return BACKDROP

    @property
    def log(self) -> str:
        return "".join(self.lines)

    def wait_for(self, pattern: str, seconds: float = 10) -> re.Match[str]:
        """Where the pattern is in what it has printed, once it is.

        Its lines come when they come: some after the one that says that it is ready, those of the
        log after the answers that they are about.
        """
        return eventually(
            lambda: re.search(pattern, self.log),
            seconds=seconds,
            said=lambda: f"{pattern!r} is not in {self.log}",
        )

    def wait_until_it_refuses(self) -> None:
        """Return once nothing listens on the server's port."""
        address = urlsplit(self.url)

        def refuses() -> bool:
            try:
                socket.create_connection((address.hostname, address.port), timeout=1).close()
            except OSError:
                return True
            return False

        eventually(refuses, seconds=10, said=lambda: f"{self.url} still accepts connections")

    def link(self) -> str:
        """The address that signs in once, which it prints where no sign-on service is set."""
        return self.wait_for(r"pages +upload a spreadsheet: open (http\S+) \(once, within")[1]

    def run(self, *arguments: str, stdin: str | bytes = "") -> subprocess.CompletedProcess[str]:
        """What a command prints, run in the server's folder and told of the server."""
        return run(*arguments, cwd=self.folder, env=self.env, stdin=stdin)


def clean_environment(**more: str) -> dict[str, str]:
    """This process's environment without settings of Backdrop's, but for `more`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BACKDROP_")}
    return kept | {"NO_COLOR": "1", "COLUMNS": "200"} | more


def run(
    *arguments: str, cwd: Path, env: Mapping[str, str] | None = None, stdin: str | bytes = ""
) -> subprocess.CompletedProcess[str]:
    """What a command prints and how it ends."""
    done = subprocess.run(
        [BACKDROP, *arguments],
        cwd=cwd,
        env=clean_environment() if env is None else env,
        input=stdin if isinstance(stdin, bytes) else stdin.encode(),
        capture_output=True,
        timeout=60,
        check=False,
    )
    keep(done.stderr.decode())
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )


def call(
    *arguments: str, cwd: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> subprocess.CompletedProcess[str]:
    """As `run`, but within this process: quicker, for a command that soon comes to its end."""
    monkeypatch.chdir(cwd)
    monkeypatch.setattr(sys, "argv", ["backdrop", *arguments])
    for name in [name for name in os.environ if name.startswith("BACKDROP_")]:
        monkeypatch.delenv(name)
    with pytest.raises(SystemExit) as exit_:
        main()
    printed = capsys.readouterr()
    keep(printed.err)
    return subprocess.CompletedProcess(arguments, int(exit_.value.code or 0), *printed)


@contextmanager
def live_server(
    *arguments: str, cwd: Path, env: Mapping[str, str] | None = None, seconds: float = 30
) -> Iterator[Server]:
    """`backdrop` with these arguments, `serve` first, once it is ready; stopped at the end.

    It gets a free port where `--port` is not among them. `env` is added to a clean environment.
    """
    port = () if "--port" in arguments else ("--port", "0")
    environment = clean_environment(**(env or {}))
    with subprocess.Popen(
        [BACKDROP, *arguments, *port],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        server = Server(process, cwd, environment)
        assert process.stdout is not None
        reader = threading.Thread(target=_collect, args=(process.stdout, server.lines))
        reader.start()
        try:
            server.url = _wait_until_ready(server, seconds)
            server.env = environment | {"BACKDROP_URL": server.url}
            yield server
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
            reader.join()
            keep(server.log)


def _collect(output: IO[str], lines: list[str]) -> None:
    for line in output:
        lines.append(line)  # noqa: PERF402  not extend: the lines are looked at as they come


def _wait_until_ready(server: Server, seconds: float) -> str:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = _READY.search(server.log)
        if found:
            return found[1]
        if server.process.poll() is not None:
            break
        time.sleep(0.01)
    time.sleep(0.1)  # for its last lines
    raise AssertionError(f"the server did not become ready: {server.log}")
