"""No secret in any log: what all processes of a run print is kept, and searched at its end.

Each process notes the secrets that it makes (`tests/recording`): tokens, cookies, form tokens,
states, what proves a sign-in, the secrets of services. What is searched: all that a server prints,
what commands print to stderr, log lines and answers of errors in process, and what pytest captures.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import pytest
import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backdrop.observe import Observation, Observe, json_lines

_RECORDING = Path(__file__).with_name("recording")
FOLDER = "TEST_LEAKS_FOLDER"
_KEY_CHARACTERS = 16
"""Of a secret's beginning: as much as that in a log is a leak."""

_run = re.compile(rf"[A-Za-z0-9_-]{{{_KEY_CHARACTERS},}}").finditer
_is_meant = re.compile(
    r"(?:^ +pages  .*/_user/link\?key=|\bname=\"form_token\" value=\")[\w-]+"
).sub
"""What a secret may follow: the one-time link that `serve` prints, and forms of error pages."""


# -- keeping ----------------------------------------------------------------------------------


def keep(text: str, test: str | None = None) -> None:
    """Have the text searched, as part of what is logged by the test, or the one that runs."""
    folder = os.environ.get(FOLDER)
    if folder is not None:
        with Path(folder, "logs", str(os.getpid())).open("a") as file:
            running = os.environ.get("PYTEST_CURRENT_TEST", "none").partition(" ")[0]
            file.write(f"== {test or running}\n{text}\n")


def rendered(seen: list[Observation]) -> Observe:
    """What puts each observation on the list, and has it searched as the line that it makes."""
    render = json_lines(_Nowhere())

    def observe(observation: Observation) -> None:
        seen.append(observation)
        render(observation)

    return observe


def with_errors_kept(app: ASGIApp) -> ASGIApp:
    """The application, whose answers of errors are searched like its log."""

    async def kept(scope: Scope, receive: Receive, send: Send) -> None:
        is_error = False

        async def send_kept(message: Message) -> None:
            nonlocal is_error
            if message["type"] == "http.response.start":
                is_error = message["status"] >= 400
            if is_error:
                keep(str(message.get("headers", "")) + message.get("body", b"").decode())
            await send(message)

        await app(scope, receive, send_kept)

    return kept


class _Nowhere:
    def write(self, text: str) -> None:
        pass

    def flush(self) -> None:
        pass


class _KeptLogger(structlog.WriteLogger):
    """Writes each line where it should go, and has it searched."""

    def __init__(self, file: TextIO | None = None) -> None:
        super().__init__(_Kept(file or sys.stdout))  # type: ignore[arg-type]  # all that it uses


@dataclass(eq=False)  # such as files are: told apart, not compared
class _Kept:
    file: TextIO

    def write(self, text: str) -> None:
        keep(text)
        self.file.write(text)

    def flush(self) -> None:
        self.file.flush()


# -- searching --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Leak:
    """A line that holds a secret, which is not shown."""

    path: Path
    number: int
    test: str
    line: str

    def __str__(self) -> str:
        return f"{self.path}:{self.number}: {self.test}: {self.line}"


def leaks(folder: Path) -> list[Leak]:
    """Every line of the logs that holds a secret of any process."""
    known = {
        secret[:_KEY_CHARACTERS]
        for path in (folder / "secrets").iterdir()
        for secret in path.read_text().splitlines()
    }
    return [leak for path in sorted((folder / "logs").iterdir()) for leak in _leaks(path, known)]


def _leaks(path: Path, known: set[str]) -> Iterator[Leak]:
    test = ""
    with path.open(errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            if line.startswith("== "):
                test = line[3:].strip()
            masked = _masked(line, known)
            if masked is not None:
                yield Leak(path, number, test, masked)


def _masked(line: str, known: set[str]) -> str | None:
    """The line without its secrets; None where it has none."""
    line = _is_meant("", line)
    for run in _run(line):
        text = run[0]
        for start in range(len(text) - _KEY_CHARACTERS + 1):
            if text[start : start + _KEY_CHARACTERS] in known:
                return line[: run.start() + start].strip()[-300:] + "<a secret>"
    return None


# -- the plugin -------------------------------------------------------------------------------

_owned = pytest.StashKey[Path]()
_found = pytest.StashKey[list[Leak]]()


def pytest_configure(config: pytest.Config) -> None:
    if FOLDER not in os.environ:  # else this is a worker: what it keeps, the first process searches
        folder = Path(tempfile.mkdtemp(prefix="backdrop-leaks-"))
        for name in ("secrets", "logs"):
            (folder / name).mkdir()
        config.stash[_owned] = folder
        os.environ[FOLDER] = str(folder)
        paths = [str(_RECORDING), os.environ.get("PYTHONPATH", "")]
        os.environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
        sys.path.insert(0, str(_RECORDING))
        import sitecustomize  # noqa: F401  as every process from here on does first
    structlog.WriteLogger = _KeptLogger  # type: ignore[misc]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    report = yield
    if report.when == "teardown" and report.sections:  # those of the whole test
        keep("\n".join(text for _, text in report.sections), item.nodeid)
    return report


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    folder = session.config.stash.get(_owned, None)
    if folder is None:
        return
    found = session.config.stash[_found] = leaks(folder)
    if found:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    else:
        shutil.rmtree(folder)
    del os.environ[FOLDER]


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    for leak in config.stash.get(_found, []):
        terminalreporter.write_line(f"A SECRET IS IN A LOG: {leak}", red=True)
