"""`docs/sign-in.md` and the page of a server without a sign-in service name what there is."""

from __future__ import annotations

import re

import pytest
from starlette.testclient import TestClient

from backdrop.asgi import create_app
from backdrop.cli.sign_in import SIGN_IN
from backdrop.settings import variable
from backdrop.storage.memory import MemoryStorage
from backdrop.web.sign_in import SignIn, resources
from tests.docs.examples import ROOT
from tests.docs.test_running import commands

PAGE = (ROOT / "docs" / "sign-in.md").read_text()


@pytest.mark.parametrize("name", SIGN_IN)
def test_every_setting_is_named(name: str) -> None:
    app = create_app(MemoryStorage(), observe=lambda _: None)
    assert f"`{variable(name)}`" in PAGE
    assert f"<code>{variable(name)}</code>" in TestClient(app).get("/_user/sign_in").text


@pytest.mark.parametrize("path", resources(SignIn()))
def test_every_address_is_named(path: str) -> None:
    assert path in PAGE


def test_commands_and_targets_are_there() -> None:
    named = set(re.findall(r"`(?:\.venv/bin/)?backdrop (user \w+)", PAGE))
    assert named == {name for name in commands() if name.startswith("user ")}
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"\bmake (\w+)", PAGE):
        assert f"\n{target}:" in makefile
