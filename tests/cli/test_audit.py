"""`backdrop audit`, against a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from backdrop.client import Client
from tests.live import Server


@pytest.fixture
def audited(admin: Client) -> Iterator[str]:
    """A bucket of which two tokens were made, after itself."""
    admin.put_bucket("audited", {})
    for label in ("one", "two"):
        admin.create_token("audited", scope="read", label=label)
    yield "audited"
    admin.delete_bucket("audited")


def _told(server: Server, *arguments: str) -> list[dict[str, Any]]:
    done = server.run("audit", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_who_did_what_is_shown_by_the_page(server: Server, audited: str) -> None:
    first = _told(server, audited, "--limit", "2")
    assert [one["details"]["label"] for one in first] == ["two", "one"]
    [made] = _told(server, audited, "--before", first[-1]["id"])
    assert (made["by"], made["action"], made["bucket"]) == ("admin", "bucket_created", audited)
    assert _told(server)[:2] == first
    table = server.run("audit", audited).stdout.splitlines()
    assert table[0].split() == ["at", "by", "action", "bucket", "records", "details", "id"]
    assert "token_made" in table[1]
    assert len(table) == 4


def test_what_is_not_there_is_said(server: Server) -> None:
    done = server.run("audit", "nothing-of-this")
    assert (done.returncode, done.stderr) == (0, "The audit log has no such entry\n")
    done = server.run("audit", "--limit", "0")
    assert done.returncode == 1
    assert "limit is '0': expected a whole number from 1 to 1,000" in done.stderr
