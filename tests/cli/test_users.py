"""`backdrop user`, against a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from backdrop.client import Client
from tests.live import Server

ADA = "ada@example.org"


@pytest.fixture
def buckets(admin: Client) -> Iterator[list[str]]:
    names = ["mine", "ours"]
    for name in names:
        admin.put_bucket(name, {})
    yield names
    for name in names:
        admin.delete_bucket(name)
    for user in admin.users():
        admin.delete_user(user["email"])


def _users(server: Server) -> Any:
    done = server.run("user", "list", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _said(server: Server, *arguments: str) -> str:
    done = server.run("user", *arguments)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    return done.stderr


def test_a_users_life(server: Server, buckets: list[str]) -> None:
    """Granting adds to what there is, revoking takes only what is named, or all."""
    assert _said(server, "list") == "There are no users yet: make one with `backdrop user grant`\n"
    assert _said(server, "grant", "Ada@Example.org", "mine") == f"{ADA} has mine\n"
    assert _said(server, "grant", ADA, "ours") == f"{ADA} has mine, ours\n"
    assert _users(server) == [{"email": ADA, "buckets": buckets, "admin": False}]
    all_too = f"{ADA} has all buckets, as an admin (mine, ours too)\n"
    assert _said(server, "grant", ADA, "--admin") == all_too
    assert _said(server, "grant", ADA, "ours") == all_too
    listed = server.run("user", "list").stdout
    assert "email" in listed
    assert "all buckets, as an admin" in listed
    assert _said(server, "revoke", ADA, "--admin") == f"{ADA} has mine, ours\n"
    assert _said(server, "revoke", "ADA@example.org", "ours") == f"{ADA} has mine\n"
    assert _said(server, "revoke", ADA, "mine") == f"{ADA} has no buckets\n"
    assert _said(server, "revoke", ADA) == f"{ADA} has no buckets now\n"
    assert _users(server) == []


def test_grant_can_print_json(server: Server, buckets: list[str]) -> None:
    done = server.run("user", "grant", "bob@example.org", buckets[0], "--json")
    expected = {"email": "bob@example.org", "buckets": ["mine"], "admin": False}
    assert json.loads(done.stdout) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("grant", ADA), "nothing to grant: name a bucket, or give --admin"),
        (("grant", ADA, "none"), "there is no bucket 'none'; make it first"),
        (("grant", "ada", "mine"), "expected an e-mail address such as someone@example.org"),
        (("revoke", ADA), f"there is no user '{ADA}'"),
        (("revoke", ADA, "ours"), f"{ADA} does not have the bucket 'ours'"),
    ],
)
def test_what_can_not_be_done_is_said(
    server: Server, buckets: list[str], arguments: tuple[str, ...], message: str
) -> None:
    assert len(buckets) == 2
    done = server.run("user", *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr
