"""Reading and running the commands in the documentation.

A fenced `sh` block is a command that works as printed. A `json`, `csv` or `text` block right after
it is what it prints, compared as JSON or, but for its line ends, as text.
`python -m tests.docs.examples FILE…` runs a file's commands against a server of its own and writes
what they print into those blocks.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.flights import FILE
from tests.live import Server, live_server

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Example:
    """One command of a document, and what it prints, if that is shown."""

    line: int
    command: str
    expected: str | None
    language: str = "json"
    """Of `expected`."""
    span: tuple[int, int] | None = None
    """Where `expected` stands in the text."""


def examples(text: str) -> list[Example]:
    """The commands of a document, in order."""
    found: list[Example] = []
    previous_end = -1
    for block in _BLOCK.finditer(text):
        language, body = block.groups()
        if language == "sh":
            found.append(Example(text.count("\n", 0, block.start()) + 1, body, None))
            previous_end = block.end()
        elif language in ("json", "csv", "text") and not text[previous_end : block.start()].strip():
            last = found.pop()
            found.append(Example(last.line, last.command, body, language, block.span(2)))
    return found


def means_the_same(example: Example, output: str) -> bool:
    """Whether the command printed what is shown."""
    assert example.expected is not None
    if example.language == "json":
        return bool(json.loads(output) == json.loads(example.expected))
    return output.splitlines() == example.expected.splitlines()


@contextlib.contextmanager
def reader_server() -> Iterator[Server]:
    """A server as `make run` starts it, in a folder with what a reader has there."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "flights.ndjson.gz").symlink_to(FILE)
        with live_server("serve", "--demo", cwd=Path(folder)) as server:
            yield server


def run(example: Example, server: Server) -> str:
    """What the command prints: run as it stands, but at this server, by this program."""
    command = example.command.replace("http://localhost:3038", server.url)
    command = command.replace(".venv/bin/", f"{Path(server.command).parent}{os.sep}")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=server.folder,
        env=server.env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode:
        message = f"line {example.line}: {example.command}{done.stdout}{done.stderr}"
        raise AssertionError(message)
    return done.stdout.replace(server.url, "http://localhost:3038")


def is_set_up(example: Example) -> bool:
    """Whether the command is one of those that get the reader to a running server."""
    return example.command.startswith(("make ", "git clone", "pip ", "python3 scripts/"))


def _written(text: str, server: Server) -> str:
    """The text with each shown output replaced by what its command prints."""
    pieces, place = [], 0
    for example in examples(text):
        if is_set_up(example):
            continue
        output = run(example, server)
        if example.span:
            pieces += [text[place : example.span[0]], _shown(output, example.language)]
            place = example.span[1]
    return "".join([*pieces, text[place:]])


def _shown(output: str, language: str) -> str:
    if language != "json":
        return "".join(f"{line}\n" for line in output.splitlines())
    return _compact(json.dumps(json.loads(output), indent=1, ensure_ascii=False)) + "\n"


def _compact(shown: str) -> str:
    """Innermost objects and lists on one line, where they fit."""
    flat = re.compile(r"[\[{]\n\s+([^\[\]{}]*?)\n\s*[\]}]")

    def join(match: re.Match[str]) -> str:
        inner = re.sub(r"\n\s+", " ", match[1])
        return f"{match[0][0]}{inner}{match[0][-1]}" if len(inner) < 110 else match[0]

    return flat.sub(join, shown)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        document = Path(name)
        with reader_server() as server:
            document.write_text(_written(document.read_text(), server))
