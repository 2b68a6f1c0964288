"""`docs/running.md` names every command and every setting."""

from __future__ import annotations

import re

import pytest
import typer.main

from backdrop.cli.commands import COMMANDS, app_of
from backdrop.settings import FIELDS, variable
from tests.docs.examples import ROOT

PAGE = (ROOT / "docs" / "running.md").read_text()


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_has_a_row(name: str) -> None:
    """With its flag, its variable and its key."""
    flag = f"--{name.replace('_', '-')}"
    assert f"| `{flag}` | `{variable(name)}` | `{name}` |" in PAGE


@pytest.mark.parametrize("name", FIELDS)
def test_the_row_of_a_number_has_its_range(name: str) -> None:
    with pytest.raises(ValueError, match="a") as error:
        FIELDS[name].metadata["parse"](object())
    found = re.fullmatch(r"a whole number from (\d+) to (\d+)", str(error.value))
    if found:
        (row,) = [
            line for line in PAGE.splitlines() if line.startswith(f"| `--{name.replace('_', '-')}`")
        ]
        assert f"({int(found[1]):,} to {int(found[2]):,})" in row


def commands() -> list[str]:
    """The names of all commands, those of groups with their group's."""
    found = []
    for name, command in typer.main.get_command(app_of(COMMANDS)).commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        found += [f"{name} {one}" for one in inner] if inner else [name]
    return found


@pytest.mark.parametrize("command", commands())
def test_every_command_is_named(command: str) -> None:
    """As it is typed."""
    assert f"`backdrop {command}" in PAGE
