"""Names that others chose, of files and of people, stand on the pages as texts."""

from __future__ import annotations

from html import escape

import pytest

from backdrop.domain.user import User
from backdrop.users import put_user
from backdrop.web.sessions import start_session
from tests.api.conftest import Desk
from tests.web.conftest import Person, words

NAMES = (
    "<script>alert(1)</script>",
    '" onmouseover="alert(1)',
    "' OR 1=1 --",
    "../../../etc/passwd",
    "a\r\nSet-Cookie: a=b",
    "$where",
    "{{7*7}}",
    "\u202egpj",
    "\u0000",
    "\x1b[31m",
    "%00",
    "é" * 300,
)


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_files_name_is_a_text(desk: Desk, ann: Person, name: str) -> None:
    """It is neither a path nor a part of the page, and it decides nothing but the format."""
    checked = ann.upload(b"aa,bb\n1,2\n", f"{name}.csv")
    assert checked.status_code == 200, words(checked)
    assert "Set-Cookie" not in checked.headers
    for mark in ("<script>alert", 'onmouseover="alert'):
        assert mark not in checked.text
    stored = ann.store(checked)
    assert stored.status_code == 200
    assert desk.data("/things")[0]["aa"] == 1


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_persons_name_is_a_text(desk: Desk, name: str) -> None:
    """As the sign-in service gives it."""
    put_user(desk.storage, User("ann@example.org", (), admin=False))
    text = start_session(desk.storage, email="ann@example.org", name=name, now=desk.clock())
    client = desk.clients(raises=False)
    client.cookies.set("session", text)
    page = Person(client).get("/_user")
    assert page.status_code == 200
    assert "<script>alert" not in page.text
    assert escape(name, quote=False)[:20] in page.text.replace("&#39;", "'").replace("&#34;", '"')
