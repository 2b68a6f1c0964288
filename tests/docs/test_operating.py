"""`docs/operating.md`: its replica set comes up as printed, and answers as printed."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.examples import ROOT, examples, means_the_same
from tests.leaks import keep
from tests.live import BACKDROP, clean_environment
from tests.storage.mongodb import mongod

PAGE = (ROOT / "docs" / "operating.md").read_text()
PORTS = ("27011", "27012", "27013", "3038", "3039")
_MARK = "-- the next example --"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A reader's folder, in which nothing runs any more afterwards."""
    yield tmp_path
    for lock in tmp_path.glob("replica-set/*/mongod.lock"):
        if text := lock.read_text().strip():
            _end(int(text), tmp_path)


def _end(number: int, folder: Path) -> None:
    """Kill the member of that process id, if it is still the one that serves from the folder."""
    process = Path(f"/proc/{number}")
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        if str(folder) in (process / "environ").read_text():  # as it was started
            os.kill(number, signal.SIGKILL)
    until = time.monotonic() + 20
    while process.exists() and time.monotonic() < until:
        time.sleep(0.05)


def test_the_replica_set_works_as_printed(folder: Path) -> None:
    """All commands in one shell, as a reader types them, but on ports that are free."""
    found = examples(PAGE)
    script = "".join(f"{one.command}\necho '{_MARK}'\n" for one in found)
    with subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", _here(script)],
        cwd=folder,
        env=clean_environment(PATH=f"{mongod().parent}:{os.environ['PATH']}"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as shell:
        try:
            output, errors = shell.communicate(timeout=150)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)  # what it has started
    keep(errors + _logs(folder))
    assert shell.returncode == 0, output + errors + _logs(folder)
    outputs = output.split(f"{_MARK}\n")[:-1]
    assert sum(one.expected is not None for one in found) == 4
    for example, printed in zip(found, outputs, strict=True):
        if example.expected is not None:
            assert means_the_same(example, _trimmed(printed)), (example, printed)
    for path in folder.iterdir():
        assert not path.stat().st_mode & 0o077, path.name


def _here(script: str) -> str:
    """The commands with programs and ports of this machine."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in PORTS]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        for name, one in zip(PORTS, sockets, strict=True):
            script = re.sub(rf"\b{name}\b", str(one.getsockname()[1]), script)
    return script.replace(".venv/bin/", f"{Path(BACKDROP).parent}{os.sep}")


def _trimmed(printed: str) -> str:
    return "\n".join(line.rstrip() for line in printed.splitlines())


def _logs(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.glob("replica-set/*.out"))
