"""`docs/security.md` names tests that there are, and counts what they do."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence, Sized

import pytest

from tests.docs.examples import ROOT
from tests.security.conftest import APIS, ENGINES
from tests.security.test_doors import DOORS, KEYS
from tests.security.test_page_doors import PAGES, SESSIONS, WITH_PAGES
from tests.security.test_paths import PROTECTED, TRICKS, TRIED

PAGE = (ROOT / "docs" / "security.md").read_text()


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`(tests/[\w/.]+)`", PAGE))))
def test_every_file_that_is_named_is_there(path: str) -> None:
    assert (ROOT / path).is_file()


@pytest.mark.parametrize(
    ("words", "factors"),
    [
        ("every operation with", (DOORS, KEYS, APIS, ENGINES)),
        ("every page with", (PAGES, SESSIONS, WITH_PAGES, ENGINES)),
        ("paths with", (TRICKS, PROTECTED, TRIED)),
    ],
)
def test_requests_are_counted(words: str, factors: Sequence[Sized]) -> None:
    count = math.prod(map(len, factors))
    [row] = [line for line in PAGE.splitlines() if line.startswith(f"| {words}")]
    assert f"| {count:,} requests |" in row


def test_every_page_of_the_reference_links_to_it() -> None:
    assert "docs/security.md" in (ROOT / "README.md").read_text()
    for name in ("running.md", "operating.md", "sign-in.md"):
        assert "(security.md" in (ROOT / "docs" / name).read_text()


@pytest.mark.parametrize(("page", "anchor"), re.findall(r"\]\(([\w-]*(?:\.md)?)#([\w-]+)\)", PAGE))
def test_every_heading_that_is_linked_is_there(page: str, anchor: str) -> None:
    text = (ROOT / "docs" / page).read_text() if page else PAGE
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    assert anchor in [re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings]
