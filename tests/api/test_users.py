"""The admin API of users: who may do what on the pages."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from backdrop.domain.entry import Entry
from backdrop.domain.user import User
from backdrop.storage.memory import MemoryStorage
from backdrop.users import find_user, forget_bucket, put_user
from tests.api.conftest import Desk, codes

ADA = "ada@example.org"


def put(desk: Desk, email: str, body: Any = None, **options: Any) -> Any:
    options = {"json": {} if body is None else body} | options
    return desk.client.put(f"/_users/{quote(email, safe='')}", headers=desk.admin, **options)


def delete(desk: Desk, email: str) -> Any:
    return desk.client.delete(f"/_users/{quote(email, safe='')}", headers=desk.admin)


def users(desk: Desk) -> Any:
    answer = desk.client.get("/_users", headers=desk.admin)
    assert answer.status_code == 200
    return answer.json()["users"]


def user(email: str, *buckets: str, admin: bool = False) -> dict[str, Any]:
    return {"email": email, "buckets": list(buckets), "admin": admin}


def test_a_user_is_made_changed_and_removed(desk: Desk) -> None:
    """201, then 200: what is given takes the place of all that was."""
    desk.make("aa")
    desk.make("bb")
    assert users(desk) == []
    made = put(desk, ADA, {"buckets": ["bb", "aa", "bb"]})
    assert (made.status_code, made.json()) == (201, user(ADA, "aa", "bb"))
    assert users(desk) == [made.json()]
    changed = put(desk, ADA, {"admin": True})
    assert (changed.status_code, changed.json()) == (200, user(ADA, admin=True))
    put(desk, "bob@example.org")
    assert users(desk) == [user(ADA, admin=True), user("bob@example.org")]
    gone = delete(desk, ADA)
    assert (gone.status_code, gone.json()) == (200, {"status": "ok"})
    assert codes(delete(desk, ADA)) == ["not_found"]
    assert users(desk) == [user("bob@example.org")]


def test_addresses_are_compared_without_case(desk: Desk) -> None:
    assert put(desk, "ADA@Example.ORG").json() == user(ADA)
    assert put(desk, ADA, {"email": "Ada@example.org", "admin": True}).status_code == 200
    assert users(desk) == [user(ADA, admin=True)]
    assert delete(desk, "aDa@example.org").status_code == 200


def test_letters_that_only_look_alike_are_not_the_same(desk: Desk) -> None:
    """The Kelvin sign in lower case is a k: nobody gets another's buckets by that."""
    put(desk, "kelvin@example.org", {"admin": True})
    assert put(desk, "\u212aelvin@example.org").status_code == 201
    assert find_user(desk.storage, "\u212aelvin@example.org").admin is False
    assert find_user(desk.storage, "KELVIN@example.org").admin is True


@pytest.mark.parametrize(
    "email",
    [
        "o'hara+x@example.org",
        "a/b@example.org",
        "j\u00fcrgen@ex\u00e4mple.org",
        "a?b#c@x",
    ],
)
def test_addresses_are_percent_encoded_in_the_path(desk: Desk, email: str) -> None:
    assert put(desk, email).json() == user(email)
    assert users(desk) == [user(email)]
    assert delete(desk, email).status_code == 200


@pytest.mark.parametrize(
    "email",
    [
        "ada",
        "ada@",
        "@example.org",
        "a b@example.org",
        "a@b@c",
        "a@b\x00",
        "\ufffd@b",
        "x" * 255 + "@b",
    ],
)
def test_what_is_no_address_is_refused(desk: Desk, email: str) -> None:
    answer = put(desk, email)
    assert (answer.status_code, codes(answer)) == (400, ["invalid_email"])
    assert delete(desk, email).status_code == 404


@pytest.mark.parametrize(
    ("body", "code", "text"),
    [
        ({"bucket": ["aa"]}, "unknown_setting", "did you mean buckets?"),
        ({"buckets": ["aa", "no"]}, "invalid_setting", "there is no bucket 'no'"),
        ({"buckets": "aa"}, "invalid_setting", "a list of names"),
        ({"buckets": [1]}, "invalid_setting", "a list of names"),
        ({"buckets": None}, "invalid_setting", "a list of names"),
        ({"admin": 1}, "invalid_setting", "admin must be true or false"),
        ({"admin": None}, "invalid_setting", "admin must be true or false"),
        ({"email": "bob@example.org"}, "invalid_setting", "email must be the path's"),
        ({"email": None}, "invalid_setting", "email must be the path's"),
        ([], "invalid_body", "one JSON object"),
    ],
)
def test_a_wrong_body_is_refused(desk: Desk, body: Any, code: str, text: str) -> None:
    """And what was there stays."""
    desk.make("aa")
    put(desk, ADA, {"buckets": ["aa"]})
    answer = put(desk, ADA, body)
    assert (answer.status_code, codes(answer)) == (400, [code])
    assert text in answer.text
    assert users(desk) == [user(ADA, "aa")]


def test_all_that_is_wrong_is_said_at_once(desk: Desk) -> None:
    answer = put(desk, "x", {"buckets": 1, "admin": 1, "more": 1})
    assert codes(answer) == ["invalid_email", "unknown_setting", *["invalid_setting"] * 2]
    assert codes(put(desk, ADA, {"buckets": ["n1", "n2"]})) == ["invalid_setting"] * 2


def test_an_empty_body_is_a_user_without_buckets(desk: Desk) -> None:
    answer = desk.client.put(f"/_users/{ADA}", headers=desk.admin)
    assert (answer.status_code, answer.json()) == (201, user(ADA))


def test_only_the_admin_token_opens_it(desk: Desk) -> None:
    writer = desk.make("aa")
    for method, path in (
        ("GET", "/_users"),
        ("PUT", f"/_users/{ADA}"),
        ("DELETE", f"/_users/{ADA}"),
    ):
        assert desk.client.request(method, path).status_code == 401
        assert desk.client.request(method, path, headers=writer).status_code == 403
    assert users(desk) == []


def test_a_later_bucket_of_the_same_name_is_nobodys(desk: Desk) -> None:
    desk.make("aa")
    desk.make("bb")
    put(desk, ADA, {"buckets": ["aa", "bb"], "admin": True})
    desk.client.delete("/_buckets/aa", headers=desk.admin)
    assert users(desk) == [user(ADA, "bb", admin=True)]
    desk.make("aa")
    assert users(desk) == [user(ADA, "bb", admin=True)]
    desk.client.put("/_buckets/bb", headers=desk.admin, json={})
    assert users(desk) == [user(ADA, "bb", admin=True)]


def test_nor_is_it_where_the_server_fell_while_the_first_was_removed(desk: Desk) -> None:
    """The bucket was gone already, and still in a list."""
    put_user(desk.storage, User(ADA, ("aa",)))
    desk.make("aa")
    assert users(desk) == [user(ADA)]


class ChangedBetween(MemoryStorage):
    """Takes the rights of an admin once the users were listed."""

    def entries(self, kind: str) -> list[Entry]:
        found = super().entries(kind)
        put_user(self, User("ann@example.org", ("aa", "bb")))
        return found


def test_forgetting_a_bucket_keeps_what_an_admin_changes_meanwhile() -> None:
    storage = ChangedBetween()
    put_user(storage, User("ann@example.org", ("bb",), admin=True))
    forget_bucket(storage, "bb")
    assert find_user(storage, "ann@example.org") == User("ann@example.org", ("aa",))


def test_forgetting_a_bucket_leaves_the_others() -> None:
    storage = MemoryStorage()
    put_user(storage, User(ADA, ("aa", "bb"), admin=True))
    forget_bucket(storage, "bb")
    assert find_user(storage, ADA) == User(ADA, ("aa",), admin=True)
