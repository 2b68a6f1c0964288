"""Every operation of the APIs, with every kind of token, on every application and every engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pytest

from backdrop.api.operations import OPERATIONS
from backdrop.asgi import Apis
from backdrop.domain.audit import Action
from backdrop.storage.port import HasSnapshots
from tests.api.conftest import codes
from tests.security.conftest import APIS, RECORDS, Deployment

_UNKNOWN = (
    *("none", "malformed: empty", "malformed: no token", "malformed: no scheme"),
    *("malformed: two words", "malformed: another scheme", "malformed: two at once"),
    *("unknown", "unknown: shortened", "unknown: another case"),
    *("revoked, read", "revoked, write", "expired, read", "expired, write"),
)
_OF_BUCKETS = ("read of guarded", "write of guarded", "read of others", "write of others")
_REFUSED = {
    **dict.fromkeys([*_UNKNOWN, "watcher"], (401, "unauthorized")),
    **dict.fromkeys([*_OF_BUCKETS, "admin"], (403, "forbidden")),
}

KEYS = tuple(_REFUSED)
FEW_KEYS = ("none", "unknown", "write of others", "read of guarded", "write of guarded", "admin")
OPENED_BY = {
    "anyone": KEYS,
    "readers": ("read of guarded",),
    "writers": ("write of guarded",),
    "admin": ("admin",),
    "watchers": ("admin", "watcher"),
}
"""What opens a door, of each kind of door. To all else it is shut as `_REFUSED` says."""


@dataclass(frozen=True)
class Door:
    """One operation: a request that would do it, whom it is for, and what it answers them.

    `apis` stands for the application in the path. `read` and `write`: the status, for whoever asks,
    where that API alone does not have it.
    """

    path: str
    of: Literal["anyone", "readers", "writers", "admin", "watchers"]
    status: int = 200
    body: Any = None
    action: Action | None = None
    read: int | None = None
    write: int | None = None
    of_files: bool = False
    """Whether only a store that is a file has it."""


DOORS = {
    ("/{bucket}", "GET"): Door("/guarded", "readers", write=405),
    ("/{bucket}", "POST"): Door("/guarded", "writers", 200, {"aa": 1}, "records_stored", read=405),
    ("/{bucket}", "PUT"): Door("/guarded", "writers", 200, RECORDS, "records_replaced", read=405),
    ("/{bucket}/{id}", "PATCH"): Door(
        "/guarded/kept-{apis}", "writers", 200, {"aa": 1}, "record_changed", read=404
    ),
    ("/{bucket}/{id}", "DELETE"): Door(
        "/guarded/doomed-{apis}", "writers", 200, None, "record_removed", read=404
    ),
    ("/_buckets", "GET"): Door("/_buckets", "admin", read=404),
    ("/_buckets/{name}", "GET"): Door("/_buckets/guarded", "admin", read=404),
    ("/_buckets/{name}", "PUT"): Door(
        "/_buckets/new-{apis}", "admin", 201, {}, "bucket_created", read=404
    ),
    ("/_buckets/{name}", "PATCH"): Door(
        "/_buckets/guarded", "admin", 200, {"realtime": True}, "settings_changed", read=404
    ),
    ("/_buckets/{name}", "DELETE"): Door(
        "/_buckets/doomed-{apis}", "admin", 200, None, "bucket_dropped", read=404
    ),
    ("/_buckets/{name}/tokens", "GET"): Door("/_buckets/guarded/tokens", "admin", read=404),
    ("/_buckets/{name}/tokens", "POST"): Door(
        "/_buckets/guarded/tokens", "admin", 201, {"scope": "read"}, "token_made", read=404
    ),
    ("/_buckets/{name}/tokens/{id}", "DELETE"): Door(
        "/_buckets/guarded/tokens/{id}", "admin", 200, None, "token_revoked", read=404
    ),
    ("/_users", "GET"): Door("/_users", "admin", read=404),
    ("/_users/{email}", "PUT"): Door(
        "/_users/new-{apis}@example.org", "admin", 201, {}, "user_granted", read=404
    ),
    ("/_users/{email}", "DELETE"): Door(
        "/_users/doomed-{apis}@example.org", "admin", 200, None, "user_revoked", read=404
    ),
    ("/_audit", "GET"): Door("/_audit", "admin", read=404),
    ("/_backup", "GET"): Door("/_backup", "admin", read=404, of_files=True),
    ("/_status", "GET"): Door("/_status", "anyone"),
    ("/_status/buckets", "GET"): Door("/_status/buckets", "anyone", write=404),
    ("/_metrics", "GET"): Door("/_metrics", "watchers"),
    ("/_openapi.json", "GET"): Door("/_openapi.json", "anyone"),
    ("/_docs", "GET"): Door("/_docs", "anyone"),
}
_NAMES = {f"{method} {path}": (path, method) for path, method in DOORS}
_IN_MEMORY = pytest.mark.parametrize("deployment", ["memory"], indirect=True)
"""For what no engine has a part in."""
_PATHS = sorted({path for path, _ in DOORS})


def test_every_operation_is_a_door_here() -> None:
    """And each that changes something says what the audit log then has."""
    assert set(DOORS) == set(OPERATIONS)
    for (_, method), door in DOORS.items():
        assert (door.action is None) == (method == "GET")
    assert set(_REFUSED) >= {name for names in OPENED_BY.values() for name in names}


@pytest.mark.parametrize("apis", APIS)
@pytest.mark.parametrize("name", _NAMES)
def test_a_door_opens_to_those_whom_it_is_for(
    deployment: Deployment, apis: Apis, name: str
) -> None:
    """To nobody else, who changes nothing and learns no token; what is done is in the audit log."""
    door, method = DOORS[_NAMES[name]], _NAMES[name][1]
    client, path = deployment.clients[apis], _path(deployment, door, apis)
    authorizations = deployment.authorizations()
    assert set(authorizations) == set(_REFUSED)
    before = deployment.contents()
    opening = _opening(door, apis)
    for who in sorted(authorizations, key=lambda who: who in opening):  # those refused first
        if who in opening and door.action:
            assert deployment.contents() == before
        headers = _headers(authorizations[who])
        answer = client.request(method, path, headers=headers, json=door.body)
        status, code = _expected(door, apis, who)
        if status == 200 and door.of_files and not isinstance(deployment.storage, HasSnapshots):
            status, code = 404, "not_found"
        assert answer.status_code == status, (who, answer.text)
        if code:
            assert codes(answer) == [code], who
        assert ("WWW-Authenticate" in answer.headers) == (status == 401)
        _holds_no_token(answer, [*deployment.texts.values(), deployment.admin, deployment.watcher])
    if opening and door.action:
        assert deployment.storage.audit(limit=1)[0].act.action == door.action
    else:
        assert deployment.contents() == before


@_IN_MEMORY
@pytest.mark.parametrize("apis", APIS)
@pytest.mark.parametrize("path", _PATHS)
def test_head_asks_as_get_does_and_options_opens_nothing(
    deployment: Deployment, apis: Apis, path: str
) -> None:
    """HEAD has GET's status, or 405; OPTIONS names the methods; neither changes anything."""
    methods = {method: door for (one, method), door in DOORS.items() if one == path}
    served = {method for method, door in methods.items() if _missing(door, apis) is None}
    door = methods.get("GET") or next(iter(methods.values()))
    client, url = deployment.clients[apis], _path(deployment, door, apis)
    before = deployment.contents()
    for who in FEW_KEYS:
        authorization = deployment.authorizations()[who]
        headers = _headers(authorization)
        head = client.head(url, headers=headers)
        assert head.content == b""
        assert head.status_code == client.get(url, headers=headers).status_code, who
        options = client.options(url, headers=headers)
        if served:
            allowed = {*served, "OPTIONS"} | ({"HEAD"} if "GET" in served else set())
            assert (options.status_code, options.content) == (204, b"")
            assert set(options.headers["Allow"].split(", ")) == allowed
        else:
            assert options.status_code == 404
    assert deployment.contents() == before


@_IN_MEMORY
@pytest.mark.parametrize("apis", ["both", "read"])
def test_a_bucket_for_all_is_read_with_any_token_and_with_none(
    deployment: Deployment, apis: Apis
) -> None:
    client = deployment.clients[apis]
    for who, authorization in deployment.authorizations().items():
        answer = client.get("/open", headers=_headers(authorization))
        assert answer.status_code == 200, who


@_IN_MEMORY
@pytest.mark.parametrize("apis", APIS)
def test_the_second_address_has_the_same_doors(deployment: Deployment, apis: Apis) -> None:
    client = deployment.clients[apis]
    for who, authorization in deployment.authorizations().items():
        headers = _headers(authorization)
        for method, body in (("GET", None), ("POST", []), ("PUT", [])):
            if who == "write of guarded" and method == "PUT":
                continue
            answers = [
                client.request(method, path, headers=headers, json=body).status_code
                for path in ("/guarded", "/data/group/type")
            ]
            assert answers[0] == answers[1], (who, method)


@_IN_MEMORY
def test_whether_a_bucket_exists_is_its_own_tokens_to_know(deployment: Deployment) -> None:
    """A write to one that is not there is refused as one to another's is, word for word."""
    client = deployment.clients["both"]
    for who, authorization in deployment.authorizations().items():
        if who == "write of guarded":
            continue
        there, missing = (
            client.post(f"/{name}", headers=_headers(authorization), json=[]).text
            for name in ("guarded", "missing")
        )
        assert there == missing, who


@_IN_MEMORY
@pytest.mark.parametrize("apis", APIS)
@pytest.mark.parametrize(
    "way",
    [
        *("token", "access_token", "authorization", "bearer", "admin_token"),
        *("X-Auth-Token", "X-Api-Key", "Proxy-Authorization", "Authentication", "Cookie"),
    ],
)
def test_a_token_opens_in_its_header_alone(deployment: Deployment, apis: Apis, way: str) -> None:
    """Not in the query, where logs and browsers' histories would have it, nor in other headers."""
    client = deployment.clients[apis]
    before = deployment.contents()
    for door in (one for one in DOORS.values() if one.of != "anyone"):
        method = next(method for (_, method), one in DOORS.items() if one is door)
        for token in (deployment.admin, deployment.texts["write of guarded"]):
            query = {way: token} if way.islower() else None
            value = f"session={token}" if way == "Cookie" else f"Bearer {token}"
            headers = {} if way.islower() else {way: value}
            path = _path(deployment, door, apis)
            answer = client.request(method, path, params=query, headers=headers, json=door.body)
            assert answer.status_code in (401, 404, 405), (way, method, path)
    assert deployment.contents() == before


def _missing(door: Door, apis: Apis) -> int | None:
    return {"read": door.read, "write": door.write, "both": None}[apis]


def _expected(door: Door, apis: Apis, who: str) -> tuple[int, str | None]:
    """The status, and the error's code."""
    missing = _missing(door, apis)
    if missing is not None:
        return missing, {404: "not_found", 405: "method_not_allowed"}[missing]
    if who in _opening(door, apis):
        return door.status, None
    return (401, "unauthorized") if (who, apis) == ("admin", "read") else _REFUSED[who]


def _opening(door: Door, apis: Apis) -> set[str]:
    """Who gets in."""
    if _missing(door, apis) is not None:
        return set()
    no_admin = apis == "read" and door.of != "anyone"  # which has no admin token
    return set(OPENED_BY[door.of]) - ({"admin"} if no_admin else set())


def _path(deployment: Deployment, door: Door, apis: Apis) -> str:
    return door.path.format(apis=apis, id=deployment.ids[apis])


def _headers(authorization: str | None) -> dict[str, str]:
    return {} if authorization is None else {"Authorization": authorization}


def _holds_no_token(answer: Any, tokens: list[str]) -> None:
    shown = answer.text + str(answer.headers)
    assert not any(token in shown for token in tokens)
