"""Every command in the documentation works as printed, and prints what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.examples import (
    ROOT,
    examples,
    is_set_up,
    means_the_same,
    reader_server,
    run,
)
from tests.flights import IS_FULL

DOCUMENTS = [
    ROOT / "README.md",
    *(ROOT / "docs" / name for name in ("tutorial.md", "http-api.md", "errors.md")),
]
_TARGETS = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_print_what_the_page_says(document: Path) -> None:
    """One after the other, as a reader goes down the page, on a server of the page's own.

    The tutorial's figures are those of all the flights, so without them its commands only run.
    """
    found = examples(document.read_text())
    assert any(example.expected for example in found)
    with reader_server() as server:
        for example in found:
            if is_set_up(example):
                continue
            output = run(example, server)
            if example.expected and (IS_FULL or document.name != "tutorial.md"):
                assert means_the_same(example, output), (example, output)
            elif output.startswith('{"status":"error"'):
                pytest.fail(f"{document.name}, line {example.line}: {output}")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_make_targets_exist(document: Path) -> None:
    """Each `make` command that a page names is one of the Makefile's."""
    for example in examples(document.read_text()):
        for target in re.findall(r"^make ([a-z-]+)", example.command, re.MULTILINE):
            assert target in _TARGETS
