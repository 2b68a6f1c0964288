"""The reference for people names all that there is."""

from __future__ import annotations

import re

import pytest

from backdrop.api.middleware import Cors
from backdrop.api.operations import OPERATIONS
from backdrop.api.parameters import PARAMETERS
from backdrop.domain.bucket import SETTINGS, Bucket
from backdrop.domain.period import PERIOD_NAMES
from backdrop.domain.query import METHODS
from tests.docs.examples import ROOT, examples

_TEXT = (ROOT / "docs" / "http-api.md").read_text()
_COMMANDS = [example.command for example in examples(_TEXT)]
_DEFAULTS = Bucket(name="any").as_json()


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_parameter_is_explained_and_shown(name: str) -> None:
    """In the table, and in a command that runs."""
    assert re.search(rf"^\| .*`{name}`.* \| ", _TEXT, re.MULTILINE)
    assert any(re.search(rf"[?&]{name}=", command) for command in _COMMANDS)


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_is_explained_with_its_default(name: str) -> None:
    [default] = re.findall(rf"^\| .*`{name}`.* \| `(.*?)` \| ", _TEXT, re.MULTILINE)
    spelled = {"true": True, "false": False, "null": None, "[]": []}
    assert spelled.get(default, default.strip('"')) == _DEFAULTS[name]


@pytest.mark.parametrize("name", [*METHODS, *PERIOD_NAMES])
def test_every_method_and_period_is_named(name: str) -> None:
    assert f"`{name}`" in _TEXT


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_every_operation_is_named(path: str, method: str) -> None:
    if method == "GET" and not path.startswith("/_buckets"):
        assert f"`{path}`" in _TEXT or f"GET {path}" in _TEXT or f"3038{path}" in _TEXT
    else:
        assert f"`{method} {path}`" in _TEXT


def test_the_headers_of_preflights_are_named() -> None:
    for name in dict(Cors.PREFLIGHT)[b"access-control-allow-headers"].decode().split(", "):
        assert f"`{name}`" in _TEXT
