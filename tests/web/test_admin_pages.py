"""The pages of admins do what the admin API does, say what it says, and are for admins alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from backdrop.users import find_user
from backdrop.web.sign_in import SignIn
from tests.api.conftest import Desk, bearer
from tests.web.conftest import Person, field, words

FORMS = ("/_user/new", "/_user/buckets/things/settings", "/_user/buckets/things/tokens")
FORMS += ("/_user/users",)
NEW: dict[str, Any] = {
    "name": "visits",
    "description": "How many came",
    "published": "on",
    "queryable": "on",
    "raw_queries_allowed": "on",
    "auto_ids": "_timestamp, office",
    "csv_types": "text",
    "schema": '{"properties": {"office": {"type": "string"}}}',
    "timezone": "Europe/London",
    "max_age_expected": "86400",
    "data_group": "aa",
    "data_type": "bb",
}


def shown_token(answer: Any) -> str:
    found = re.search(r'<input id="token" value="([^"]+)"', answer.text)
    assert found, words(answer)
    return found[1]


def test_a_bucket_is_made_and_its_token_shown_once(desk: Desk, admin: Person) -> None:
    answer = admin.send("/_user/new", **NEW)
    assert answer.status_code == 201, words(answer)
    assert desk.client.get("/_buckets/visits", headers=desk.admin).json() == {
        "name": "visits",
        "description": "How many came",
        "data_group": "aa",
        "data_type": "bb",
        "raw_queries_allowed": True,
        "published": True,
        "queryable": True,
        "read_token_required": False,
        "realtime": False,
        "auto_ids": ["_timestamp", "office"],
        "schema": {"properties": {"office": {"type": "string"}}},
        "max_age_expected": 86400,
        "timezone": "Europe/London",
        "csv_types": "text",
    }
    token = shown_token(answer)
    record = {"_timestamp": "2013-01-31", "office": "Camden"}
    assert desk.client.post("/visits", headers=bearer(token), json=record).status_code == 200
    assert token not in admin.get("/_user/buckets/visits/tokens").text


def test_a_token_is_shown_with_an_address_that_keeps_it_secret(desk: Desk, admin: Person) -> None:
    """Behind a proxy that ends TLS, where the request itself is plain."""
    public = SignIn(addresses=("https://backdrop.example.org",))
    client = desk.clients(sign_in=public)
    client.cookies.set("__Host-session", admin.client.cookies["session"])
    made = Person(client).send("/_user/new", **NEW)
    assert "curl https://testserver/visits -H 'Authorization: Bearer" in words(made)


def test_every_problem_is_shown_beside_its_field(desk: Desk, admin: Person) -> None:
    bad = {
        "name": "Bad",
        "auto_ids": "_id",
        "schema": "{",
        "timezone": "Mars",
        "max_age_expected": "soon",
        "data_group": "a b",
        "csv_types": "all",
    }
    answer = admin.send("/_user/new", **(NEW | bad))
    assert answer.status_code == 400
    for name, value in bad.items():
        assert f'id="{name}-wrong"' in answer.text
        assert f'<a href="#{name}">' in answer.text
        assert value in answer.text
    assert 'value="Europe' not in answer.text
    assert [one.name for one in desk.storage.buckets()] == ["things"]
    one_half = admin.send("/_user/new", **(NEW | {"data_type": ""}))
    assert "data_group and data_type go together" in words(one_half)
    schema = admin.send("/_user/new", **(NEW | {"schema": '{"type": 1}'}))
    assert "schema is not a JSON Schema" in words(schema)


def test_no_bucket_is_made_twice(desk: Desk, admin: Person) -> None:
    answer = admin.send("/_user/new", **(NEW | {"name": "things"}))
    assert (answer.status_code, "there is a bucket 'things' already" in words(answer)) == (
        400,
        True,
    )
    desk.make("taken", data_group="aa", data_type="bb")
    answer = admin.send("/_user/new", **NEW)
    assert "is the address of 'taken' already" in words(answer)
    assert answer.status_code == 400


def test_settings_are_changed_and_shown_as_they_are(desk: Desk, admin: Person) -> None:
    path = "/_user/buckets/things/settings"
    answer = admin.send(path, **{k: v for k, v in NEW.items() if k != "name"})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/_user/buckets/things")
    bucket = desk.storage.bucket("things")
    assert (bucket.timezone, bucket.auto_ids) == ("Europe/London", ("_timestamp", "office"))
    page = admin.get(path).text
    sent = dict(re.findall(r'<input id="(\w+)" name="\1" type="text" value="([^"]*)"', page))
    assert sent["auto_ids"] == "_timestamp, office"
    assert page.count(" checked") == 3
    bad = admin.send(path, **(NEW | {"timezone": "Mars"}))
    assert (bad.status_code, 'id="timezone-wrong"' in bad.text) == (400, True)
    assert desk.storage.bucket("things") == bucket


def test_a_token_is_made_used_and_revoked(desk: Desk, admin: Person) -> None:
    path = "/_user/buckets/things/tokens"
    desk.clock.move(1)
    made = admin.send(path, scope="read", label="<i>a chart</i>", days="30")
    assert made.status_code == 201
    assert "<i>" not in made.text
    token = shown_token(made)
    patch = {"read_token_required": True}
    desk.client.patch("/_buckets/things", headers=desk.admin, json=patch)
    assert desk.client.get("/things", headers=bearer(token)).status_code == 200
    ids = re.findall(r'name="revoke" value="(\w+)"', admin.get(path).text)
    assert len(ids) == 2
    assert admin.send(path, revoke=ids[1]).status_code == 303
    assert desk.client.get("/things", headers=bearer(token)).status_code == 401
    assert admin.send(path, revoke=ids[1]).status_code == 404


@pytest.mark.parametrize("days", ["0", "soon", "-1", "99999", "0000000019999999999"])
def test_a_bad_wish_for_a_token_is_refused(admin: Person, days: str) -> None:
    answer = admin.send("/_user/buckets/things/tokens", scope="write", label="", days=days)
    assert answer.status_code == 400
    assert 'id="days-wrong"' in answer.text
    answer = admin.send("/_user/buckets/things/tokens", scope="all", label="", days="")
    assert (answer.status_code, "scope must be one of" in words(answer)) == (400, True)


def test_buckets_are_granted_and_taken_back(desk: Desk, admin: Person) -> None:
    answer = admin.send("/_user/users", email="Bob@example.org", buckets=["things"])
    assert answer.status_code == 303, words(answer)
    assert find_user(desk.storage, "bob@example.org").buckets == ("things",)
    shown = words(admin.get("/_user/users"))
    assert "bob@example.org things" in shown
    filled = admin.get("/_user/users?email=bob%40example.org").text
    assert 'value="bob@example.org"' in filled
    assert 'value="things" checked' in filled
    assert admin.send("/_user/users", email="bob@example.org", admin="on").status_code == 303
    assert find_user(desk.storage, "bob@example.org").admin
    assert admin.send("/_user/users", revoke="bob@example.org").status_code == 303
    assert not find_user(desk.storage, "bob@example.org").admin
    assert admin.send("/_user/users", revoke="bob@example.org").status_code == 404


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"email": "bob"}, "expected an e-mail address"),
        ({"email": ""}, "expected an e-mail address"),
        ({"email": "bob@example.org", "buckets": ["nothing"]}, "there is no bucket 'nothing'"),
    ],
)
def test_a_bad_grant_is_refused(admin: Person, fields: dict[str, Any], message: str) -> None:
    answer = admin.send("/_user/users", **fields)
    assert (answer.status_code, message in words(answer)) == (400, True)


@pytest.mark.parametrize("path", FORMS)
def test_the_pages_are_for_admins_alone(ann: Person, path: str) -> None:
    assert ann.get(path).status_code == 404
    assert ann.send(path, **NEW).status_code == 404


@pytest.mark.parametrize("path", FORMS)
def test_a_form_of_another_session_is_refused(
    desk: Desk, admin: Person, person: Callable[..., Person], path: str
) -> None:
    other = person(email="other@example.org", admin=True)
    for token in ("", "x", other.form_token):
        answer = admin.post(path, data={**NEW, "form_token": token, "email": "eve@example.org"})
        assert (answer.status_code, "of another session" in words(answer)) == (403, True)
    assert [one.name for one in desk.storage.buckets()] == ["things"]
    assert desk.storage.bucket("things").timezone == "UTC"
    assert len(desk.storage.tokens("things")) == 1
    assert not find_user(desk.storage, "eve@example.org").buckets


def test_every_form_that_is_sent_has_its_token(admin: Person) -> None:
    for path in (*FORMS, "/things/upload"):
        page = admin.get(path).text
        assert field(admin.get(path), "form_token")
        assert page.count("<form ") == page.count('name="form_token"') > 0
