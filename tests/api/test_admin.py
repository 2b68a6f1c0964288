"""The admin API through its door: buckets, their settings, their tokens."""

from __future__ import annotations

import re
import secrets
from typing import Any

import pytest

from backdrop.domain.bucket import SETTINGS, Bucket
from tests.api.conftest import Desk, bearer, codes

DEFAULTS = Bucket(name="things").as_json()
PATH = "/_buckets/things"


def put(desk: Desk, body: Any = None, path: str = PATH) -> Any:
    return desk.client.put(path, headers=desk.admin, json={} if body is None else body)


def patch(desk: Desk, body: Any, path: str = PATH) -> Any:
    return desk.client.patch(path, headers=desk.admin, json=body)


def settings(desk: Desk, path: str = PATH) -> Any:
    answer = desk.client.get(path, headers=desk.admin)
    assert answer.status_code == 200
    return answer.json()


# -- making and changing -----------------------------------------------------------------------


def test_put_creates_with_a_first_token_shown_once(desk: Desk) -> None:
    """201 with the settings at the top and a write token that works; kept by no cache."""
    answer = put(desk)
    assert answer.status_code == 201
    token = answer.json()["token"]
    assert answer.json() == DEFAULTS | {"token": token}
    assert answer.headers["Cache-Control"] == "no-store"
    assert desk.client.post("/things", headers=bearer(token), json=[]).status_code == 200
    assert settings(desk) == DEFAULTS


def test_put_replaces_all_the_settings(desk: Desk) -> None:
    """200 the second time, without a token; what is not given goes back to its default."""
    put(desk, {"realtime": True, "description": "x"})
    answer = put(desk, {"published": False, "name": "things"})
    assert (answer.status_code, answer.json()) == (200, DEFAULTS | {"published": False})
    assert settings(desk) == DEFAULTS | {"published": False}


def test_patch_changes_what_is_given(desk: Desk) -> None:
    """And nothing else; null takes a setting back where it may be null."""
    put(desk, {"realtime": True, "data_group": "gg", "data_type": "tt"})
    changed = {"description": "x", "data_group": None, "data_type": None}
    answer = patch(desk, changed)
    assert (answer.status_code, answer.json()) == (200, DEFAULTS | {"realtime": True} | changed)
    assert settings(desk) == answer.json()


def test_a_bucket_keeps_its_records_and_tokens_through_changes(desk: Desk) -> None:
    """Settings are all that PUT and PATCH of a bucket change."""
    writer = desk.filled("things", {"_id": "x"}, raw_queries_allowed=True)
    put(desk, {"raw_queries_allowed": True})
    patch(desk, {"realtime": True})
    assert desk.data("/things") == [{"_id": "x"}]
    assert desk.client.post("/things", headers=writer, json=[]).status_code == 200


def test_an_empty_body_is_no_settings(desk: Desk) -> None:
    """It needs no content type either."""
    assert desk.client.put(PATH, headers=desk.admin).status_code == 201
    assert desk.client.patch(PATH, headers=desk.admin, content=b"").json() == DEFAULTS


def test_every_setting_comes_back_as_it_was_given(desk: Desk) -> None:
    """One value that is not the default for each of them."""
    given = {
        "description": "Réservations",
        "data_group": "gg",
        "data_type": "tt",
        "raw_queries_allowed": True,
        "published": False,
        "queryable": False,
        "read_token_required": True,
        "realtime": True,
        "auto_ids": ["aa", "_timestamp"],
        "schema": {"type": "object", "properties": {"aa": {"maximum": 2**70}}},
        "max_age_expected": 2**53 - 1,
        "timezone": "Europe/London",
        "csv_types": "text",
    }
    assert given.keys() == SETTINGS.keys()
    assert put(desk, given).status_code == 201
    assert settings(desk) == given | {"name": "things"}


def test_lists_and_deletion(desk: Desk) -> None:
    """Buckets come by name; a dropped one is gone with its records and tokens."""
    assert desk.client.get("/_buckets", headers=desk.admin).json() == {"buckets": []}
    writer = desk.filled("things", {"_id": "x"}, raw_queries_allowed=True)
    put(desk, path="/_buckets/another")
    listed = desk.client.get("/_buckets", headers=desk.admin).json()["buckets"]
    assert [bucket["name"] for bucket in listed] == ["another", "things"]
    answer = desk.client.delete(PATH, headers=desk.admin)
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert desk.client.get("/things").status_code == 404
    assert desk.client.post("/things", headers=writer, json=[]).status_code == 401
    assert put(desk, {"raw_queries_allowed": True}).status_code == 201
    assert desk.data("/things") == []


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
@pytest.mark.parametrize("name", ["missing", "Not-A-Name", "_x"])
def test_a_bucket_that_is_not_there_is_not_found(desk: Desk, method: str, name: str) -> None:
    """Only PUT makes one."""
    answer = desk.client.request(method, f"/_buckets/{name}", headers=desk.admin)
    assert (answer.status_code, codes(answer)) == (404, ["not_found"])


BAD = (
    ({"foo": 1}, [("unknown_setting", "foo")]),
    ({"name": "other"}, [("invalid_setting", "name")]),
    ({"published": "yes"}, [("invalid_setting", "published")]),
    ({"timezone": "Mars"}, [("invalid_setting", "timezone")]),
    ({"max_age_expected": 0}, [("invalid_setting", "max_age_expected")]),
    ({"auto_ids": ["_id"]}, [("invalid_setting", "auto_ids")]),
    ({"data_group": "gg"}, [("invalid_setting", "data_type")]),
    ({"data_type": "tt"}, [("invalid_setting", "data_group")]),
    ({"schema": {"type": "nonsense"}}, [("invalid_schema", "schema")]),
    ({"schema": {"$ref": "https://example.org/x"}}, [("invalid_schema", "schema")]),
    ({"foo": 1, "realtime": 1}, [("unknown_setting", "foo"), ("invalid_setting", "realtime")]),
)


@pytest.mark.parametrize(("body", "problems"), BAD)
def test_bad_settings_are_refused_all_at_once(
    desk: Desk, body: dict[str, Any], problems: list[tuple[str, str]]
) -> None:
    """By PUT of a new one, by PUT of one that is there, and by PATCH; nothing changes."""
    fresh = put(desk, body)
    assert desk.client.get(PATH, headers=desk.admin).status_code == 404
    put(desk)
    for answer in (fresh, put(desk, body), patch(desk, body)):
        assert answer.status_code == 400
        assert [(e["code"], e["setting"]) for e in answer.json()["errors"]] == problems
    assert settings(desk) == DEFAULTS


@pytest.mark.parametrize("name", ["data", "x", "Things", "1x", "_x", "a.b", "a" * 65, "%20ab"])
def test_a_bad_name_is_refused(desk: Desk, name: str) -> None:
    """A name that no path could lead to makes no bucket."""
    answer = put(desk, path=f"/_buckets/{name}")
    assert (answer.status_code, codes(answer)) == (400, ["invalid_bucket_name"])


def test_an_address_has_one_bucket(desk: Desk) -> None:
    """A pair that is taken is a 409, by PUT and by PATCH."""
    pair = {"data_group": "gg", "data_type": "tt"}
    put(desk, pair)
    assert put(desk, pair).status_code == 200
    put(desk, path="/_buckets/second")
    for answer in (
        put(desk, pair, "/_buckets/third"),
        put(desk, pair, "/_buckets/second"),
        patch(desk, pair, "/_buckets/second"),
    ):
        assert (answer.status_code, codes(answer)) == (409, ["conflict"])


BODIES = (
    (b"[]", "application/json", 400, "invalid_body"),
    (b'"x"', "application/json", 400, "invalid_body"),
    (b"{", "application/json", 400, "invalid_json"),
    (b'{"description":"\\ud800"}', "application/json", 400, "invalid_body"),
    (b'{"schema":{"maximum":NaN}}', "application/json", 400, "invalid_body"),
    (b'{"schema":' * 5_000 + b"1" + b"}" * 5_000, "application/json", 400, "invalid_body"),
    (b"{}", "text/plain", 415, "unsupported_media_type"),
)


@pytest.mark.parametrize(("body", "content_type", "status", "code"), BODIES)
@pytest.mark.parametrize(
    ("method", "path"), [("PUT", PATH), ("PATCH", PATH), ("POST", f"{PATH}/tokens")]
)
def test_bodies_that_are_no_object_are_refused(
    desk: Desk, method: str, path: str, body: bytes, content_type: str, status: int, code: str
) -> None:
    """Settings are one object of plain JSON."""
    put(desk)
    headers = desk.admin | {"Content-Type": content_type}
    answer = desk.client.request(method, path, headers=headers, content=body)
    assert (answer.status_code, codes(answer)) == (status, [code])
    assert "records" not in answer.json()["message"]


# -- a token of the client's own ---------------------------------------------------------------


def test_a_bucket_can_be_made_with_a_token_of_ones_own(desk: Desk) -> None:
    """For moving house: the clients keep the token that they have."""
    token = secrets.token_urlsafe(6)
    assert put(desk, {"token": token}).json()["token"] == token
    assert desk.client.post("/things", headers=bearer(token), json=[]).status_code == 200


@pytest.mark.parametrize(
    "token", ["short67", "a" * 201, "with blank", "é" * 8, 12345678, ["x"], ""]
)
def test_an_own_token_must_have_the_form_of_one(desk: Desk, token: Any) -> None:
    """8 to 200 printable characters; the answer doesn't repeat what was sent."""
    answer = put(desk, {"token": token, "foo": 1})
    assert answer.status_code == 400
    assert [e["setting"] for e in answer.json()["errors"]] == ["foo", "token"]
    if isinstance(token, str) and token:
        assert token not in answer.text


def test_an_own_token_is_for_creation_alone(desk: Desk) -> None:
    """In a later PUT or PATCH it is a 400, and the settings stay."""
    put(desk)
    token = secrets.token_urlsafe(16)
    for answer in (
        put(desk, {"token": token, "realtime": True}),
        patch(desk, {"token": token, "realtime": True}),
    ):
        assert answer.status_code == 400
        assert answer.json()["errors"][0]["setting"] == "token"
        assert token not in answer.text
    assert settings(desk) == DEFAULTS
    assert desk.client.post("/things", headers=bearer(token), json=[]).status_code == 401


def test_a_token_opens_one_door_only(desk: Desk) -> None:
    """One that is in use already, by a bucket or by the admin, is a 409."""
    token = put(desk).json()["token"]
    for taken in (token, desk.admin_token):
        answer = put(desk, {"token": taken}, "/_buckets/second")
        assert (answer.status_code, codes(answer)) == (409, ["conflict"])
        assert taken not in answer.text
    assert desk.client.get("/_buckets/second", headers=desk.admin).status_code == 404


# -- tokens ------------------------------------------------------------------------------------


def test_tokens_are_made_listed_and_revoked(desk: Desk) -> None:
    """A token is shown once, when it is made; lists tell all but the token."""
    put(desk)
    wish = {"scope": "read", "label": "dashboard", "expires_at": "2024-06-01T00:00:00+01:00"}
    answer = desk.client.post(f"{PATH}/tokens", headers=desk.admin, json=wish)
    made = answer.json()
    assert answer.status_code == 201
    assert answer.headers["Cache-Control"] == "no-store"
    assert made == {
        "token": made["token"],
        "id": made["id"],
        "scope": "read",
        "label": "dashboard",
        "created_at": "2024-05-01T12:00:00+00:00",
        "expires_at": "2024-05-31T23:00:00+00:00",
    }
    listed = desk.client.get(f"{PATH}/tokens", headers=desk.admin)
    del made["token"]
    assert made | {"last_used_at": None} in listed.json()["tokens"]
    assert len(listed.json()["tokens"]) == 2
    path = f"{PATH}/tokens/{made['id']}"
    answer = desk.client.delete(path, headers=desk.admin)
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert desk.client.delete(path, headers=desk.admin).status_code == 404


def test_a_token_needs_only_a_scope(desk: Desk) -> None:
    """Without a label it has none, and without an end it has no end."""
    put(desk)
    answer = desk.client.post(
        f"{PATH}/tokens", headers=desk.admin, json={"scope": "write", "expires_at": None}
    )
    assert (answer.json()["label"], answer.json()["expires_at"]) == ("", None)


BAD_WISHES: tuple[tuple[dict[str, Any], list[str]], ...] = (
    ({}, ["scope"]),
    ({"scope": "admin"}, ["scope"]),
    ({"scope": None, "label": 5}, ["scope", "label"]),
    ({"scope": "read", "label": "x" * 201}, ["label"]),
    ({"scope": "read", "expires_at": "soon"}, ["expires_at"]),
    ({"scope": "read", "expires_at": 5}, ["expires_at"]),
    ({"scope": "read", "expires_at": "2024-05-01T12:00:00Z"}, ["expires_at"]),
    ({"scope": "read", "token": "abcdefgh"}, ["token"]),
    ({"scope": ["read"], "foo": 1}, ["foo", "scope"]),
)


@pytest.mark.parametrize(("wish", "problems"), BAD_WISHES)
def test_a_bad_wish_for_a_token_is_refused(
    desk: Desk, wish: dict[str, Any], problems: list[str]
) -> None:
    """All that is wrong with it is told at once, and none is made."""
    put(desk)
    answer = desk.client.post(f"{PATH}/tokens", headers=desk.admin, json=wish)
    assert answer.status_code == 400
    assert [error["setting"] for error in answer.json()["errors"]] == problems
    assert len(desk.client.get(f"{PATH}/tokens", headers=desk.admin).json()["tokens"]) == 1


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/tokens"), ("POST", "/tokens"), ("DELETE", "/tokens/x")],
)
def test_tokens_of_a_bucket_that_is_not_there_are_not_found(
    desk: Desk, method: str, path: str
) -> None:
    """No bucket, no tokens."""
    answer = desk.client.request(
        method, f"/_buckets/missing{path}", headers=desk.admin, json={"scope": "read"}
    )
    assert (answer.status_code, codes(answer)) == (404, ["not_found"])


# -- who is the admin --------------------------------------------------------------------------

REQUESTS = (
    ("GET", "/_buckets"),
    ("GET", PATH),
    ("PUT", PATH),
    ("PUT", "/_buckets/fresh"),
    ("PATCH", PATH),
    ("DELETE", PATH),
    ("GET", f"{PATH}/tokens"),
    ("POST", f"{PATH}/tokens"),
    ("DELETE", f"{PATH}/tokens/x"),
    ("GET", "/_buckets/missing"),
)


@pytest.mark.parametrize(("method", "path"), REQUESTS)
def test_only_the_admin_token_opens(desk: Desk, method: str, path: str) -> None:
    """None and unknown are 401, a bucket's token 403, an expired one 401; and nothing happens."""
    writer = desk.make("things")
    reader = desk.token("things", scope="read")
    expired = desk.token("things", scope="write", expires_at="2024-05-01T12:00:01Z")
    desk.clock.move(1)
    unknown = bearer(secrets.token_urlsafe(16))
    cases: tuple[dict[str, str], ...] = (
        {},
        unknown,
        bearer(desk.admin_token + "x"),
        expired,
        writer,
        reader,
    )
    statuses = []
    for headers in cases:
        answer = desk.client.request(method, path, headers=headers, json={"scope": "read"})
        statuses.append(answer.status_code)
        assert ("WWW-Authenticate" in answer.headers) == (answer.status_code == 401)
    assert statuses == [401, 401, 401, 401, 403, 403]
    assert settings(desk) == DEFAULTS
    assert len(desk.client.get("/_buckets", headers=desk.admin).json()["buckets"]) == 1
    assert len(desk.client.get(f"{PATH}/tokens", headers=desk.admin).json()["tokens"]) == 3


def test_without_an_admin_token_nobody_passes_and_is_told_why(desk: Desk) -> None:
    """A 401 that names the setting; a bucket's token stays a 403."""
    writer = desk.make("things")
    client = desk.clients(admin_token=None)
    answer = client.get("/_buckets", headers=desk.admin)
    assert answer.status_code == 401
    assert "BACKDROP_ADMIN_TOKEN" in answer.json()["message"]
    assert client.get("/_buckets", headers=writer).status_code == 403
    assert client.post("/things", headers=writer, json=[]).status_code == 200


@pytest.mark.parametrize("token", ["", "two words", "naïve", "line\n"])
def test_an_admin_token_that_no_header_could_carry_is_refused(desk: Desk, token: str) -> None:
    """A deployment that nobody could administer does not start."""
    with pytest.raises(ValueError, match="admin token"):
        desk.clients(admin_token=token)


def test_only_hashes_are_kept(desk: Desk) -> None:
    """What the store holds of a token is 64 hexadecimal digits."""
    text = put(desk).json()["token"]
    (token,) = desk.storage.tokens("things")
    assert re.fullmatch("[0-9a-f]{64}", token.hash)
    assert text not in repr(token)
