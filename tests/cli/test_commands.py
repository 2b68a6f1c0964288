"""A command brings what it needs, and starts as quickly as that allows."""

from __future__ import annotations

import subprocess
import sys

import pytest

from backdrop.cli.commands import COMMANDS

_LOADED = """
import sys
from backdrop.cli import main
try:
    main()
except SystemExit:
    print(*sys.modules)
"""


def loaded_by(*arguments: str) -> set[str]:
    """The modules that a process has once it has shown such a help."""
    command = [sys.executable, "-c", _LOADED, *arguments, "--help"]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize("command", ["bucket", "token", "user", "audit", "import"])
def test_what_asks_a_server_has_neither_the_server_nor_an_engine(command: str) -> None:
    assert not loaded_by(command) & {"starlette", "granian", "authlib", "duckdb", "pymongo"}


def test_a_server_has_nothing_of_a_sign_in_service_that_is_not_set() -> None:
    assert not loaded_by("serve") & {"authlib", "joserfc", "cryptography", "httpx2", "pymongo"}


def test_the_help_of_all_names_each() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "backdrop.cli", "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    listed = done.stdout.partition("Commands:")[2].split()
    assert set(COMMANDS) <= set(listed)
