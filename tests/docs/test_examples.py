"""Every command in the documentation works as printed, and prints what the page says."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.docs.examples import (
    ROOT,
    Example,
    examples,
    is_set_up,
    means_the_same,
    reader_server,
    run,
)
from tests.flights import IS_FULL
from tests.live import Server

DOCUMENTS = [
    ROOT / "README.md",
    *(ROOT / "docs" / name for name in ("tutorial.md", "http-api.md", "errors.md")),
]
_HTTP_API, _ERRORS = DOCUMENTS[2:]
READINGS = [DOCUMENTS, [_HTTP_API], [_ERRORS]]
"""The pages that are read one after the other on one server: all, or one that stands alone."""
_TARGETS = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("pages", READINGS, ids=lambda pages: "+".join(one.stem for one in pages))
def test_commands_print_what_the_page_says(pages: list[Path]) -> None:
    """One after the other, as a reader goes down the pages, on one server.

    The tutorial's figures are those of all the flights, so without them its commands only run.
    """
    with reader_server() as server:
        for page in pages:
            found = examples(page.read_text())
            assert any(example.expected for example in found)
            for example in found:
                if not is_set_up(example):
                    _check(example, server, page)
        _no_file_is_for_others(server.folder)


def _check(example: Example, server: Server, page: Path) -> None:
    output = run(example, server)
    if example.expected and (IS_FULL or page.name != "tutorial.md"):
        assert means_the_same(example, output), (page.name, example, output)
    elif output.startswith(_FAILED) and not _says_error(example):
        pytest.fail(f"{page.name}, line {example.line}: {output}")


_FAILED = '{"status":"error"'


def _says_error(example: Example) -> bool:
    return "".join((example.expected or "").split()).startswith(_FAILED)


def _no_file_is_for_others(folder: Path) -> None:
    """Whatever the pages made, and the server: it may hold a token, or records."""
    for path in folder.iterdir():
        assert path.is_symlink() or not path.stat().st_mode & 0o077, path.name


def test_files_that_the_pages_make_are_ignored_by_git() -> None:
    text = "".join(page.read_text() for page in DOCUMENTS)
    names = set(re.findall(r"[\w-]+\.(?:token|json)\b", "".join(re.findall(r"> \S+", text))))
    names |= set(re.findall(r"--token-file (\S+\.token)", text)) | {"permits.token"}
    assert len(names) >= 5
    for name in names:
        git = ["git", "check-ignore", "--quiet", name]
        assert subprocess.run(git, cwd=ROOT, check=False).returncode == 0, name


def test_the_reference_again_keeps_the_token() -> None:
    """A second PUT answers without a token; the first one's file is then left as it is."""
    first = examples(_HTTP_API.read_text())[0]
    with reader_server() as server:
        run(first, server)
        token = (server.folder / "permits.token").read_text()
        with pytest.raises(AssertionError, match="KeyError"):
            run(first, server)
        assert len(token) > 20
        assert (server.folder / "permits.token").read_text() == token


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_make_targets_exist(document: Path) -> None:
    """Each `make` command that a page names is one of the Makefile's."""
    for example in examples(document.read_text()):
        for target in re.findall(r"^make ([a-z-]+)", example.command, re.MULTILINE):
            assert target in _TARGETS
