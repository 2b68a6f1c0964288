"""The table of error codes, the registry and the source hold the same codes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from backdrop.api.errors import CODE_STATUSES, STATUSES
from backdrop.errors import CODES, BackdropError, Problem
from tests.docs.examples import ROOT
from tests.docs.tables import TABLES, with_table

_SOURCE = ROOT / "src" / "backdrop"
_PLACES = {"Problem": 0, "_Wrong": 0, "refuse": 0, "_problem": 0, "Refused": 1}
"""Of what takes a code: which argument it is. `code=` always is one."""
_PLACES_OF_ADMIN = _PLACES | {"_problem": 2}


@pytest.mark.parametrize("name", TABLES)
def test_the_page_has_the_table_that_the_code_makes(name: str) -> None:
    """If this fails: `python -m tests.docs.tables`."""
    page, make = TABLES[name]
    text = page.read_text()
    assert with_table(text, name, make()) == text


def test_every_code_is_in_the_table_once_with_its_status_and_sentence() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| (\d+) \| (.*) \|$", TABLES["codes"][0].read_text(), re.MULTILINE
    )
    assert [code for code, _, _ in rows] == list(CODES)
    for code, status, meaning in rows:
        assert (int(status), meaning) == (CODE_STATUSES[code], CODES[code])


def test_every_code_that_the_source_names_is_known() -> None:
    named = {code for path in _SOURCE.rglob("*.py") for code in _codes_in(path)}
    assert len(named) > 20
    assert named <= set(CODES)


def test_every_known_code_is_named_by_the_source() -> None:
    """A code that nothing raises would be a promise that nobody keeps."""
    texts = {
        node.value
        for path in _SOURCE.rglob("*.py")
        if path != _SOURCE / "errors.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert set(CODES) <= texts | {kind.default_code for kind in _kinds()}


def test_a_problem_must_have_a_known_code() -> None:
    with pytest.raises(ValueError, match="no_such_code"):
        Problem("no_such_code", "a message")


def test_each_exception_has_a_code_of_its_status() -> None:
    for kind in _kinds():
        statuses = [STATUSES[base] for base in kind.__mro__ if base in STATUSES]
        assert CODE_STATUSES[kind.default_code] == next(iter(statuses), 500)


def _kinds(root: type[BackdropError] = BackdropError) -> Iterator[type[BackdropError]]:
    yield root
    for kind in root.__subclasses__():
        yield from _kinds(kind)


def _codes_in(path: Path) -> Iterator[str]:
    """The codes that a module names where one is expected."""
    places = _PLACES_OF_ADMIN if path.name == "admin_app.py" else _PLACES
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        given = [word.value for word in node.keywords if word.arg == "code"]
        if isinstance(node.func, ast.Name) and node.func.id in places:
            given += node.args[places[node.func.id] :][:1]
        for code in given:
            if isinstance(code, ast.Constant) and isinstance(code.value, str):
                yield code.value
