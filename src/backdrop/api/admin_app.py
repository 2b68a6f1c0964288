"""The admin API: buckets, their tokens, and users. All of it needs the admin token.

It reads a body as the write API does, except that one that is empty counts as `{}`.
"""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import Response

from backdrop.api.auth import require_admin
from backdrop.api.body import read_settings_body, unpack
from backdrop.api.decode import parse_settings
from backdrop.api.encode import json_answer
from backdrop.api.middleware import trace
from backdrop.api.routes import Resources, Site
from backdrop.domain.audit import ADMIN, Act
from backdrop.domain.bucket import Bucket, parse_bucket
from backdrop.domain.times import EXPECTED as TIME_EXPECTED
from backdrop.domain.times import format_instant, parse_instant
from backdrop.domain.token import (
    MOST_LABEL_CHARACTERS,
    SCOPES,
    Scope,
    Token,
    hash_token,
    is_token,
)
from backdrop.domain.user import User, is_email, parse_user
from backdrop.errors import Conflict, InvalidSettings, NotFound, Problem
from backdrop.schema import refuse_bad_schema
from backdrop.storage.port import KNOWN_HASH, Storage
from backdrop.users import drop_user, forget_bucket, list_users, put_user

T = TypeVar("T")
Body = Mapping[str, Any]

_SHOWN_ONCE = {"Cache-Control": "no-store"}
_DONE = {"status": "ok"}


# -- buckets ----------------------------------------------------------------------------------


async def list_buckets(request: Request, site: Site) -> Response:
    buckets = await _as_admin(request, site, site.storage.buckets)
    return json_answer({"buckets": [bucket.as_json() for bucket in buckets]})


async def get_bucket(request: Request, site: Site) -> Response:
    name = request.path_params["name"]
    bucket = await _as_admin(request, site, lambda: site.storage.bucket(name))
    return json_answer(bucket.as_json())


async def put_bucket(request: Request, site: Site) -> Response:
    name = request.path_params["name"]

    def put(body: Body) -> Response:
        text, settings = _split_token(body)
        bucket = checked_bucket(name, settings, text)
        existing = _existing(site.storage, name)
        if existing is not None and text is not None:
            raise _invalid("token", "a token can be given only when the bucket is created")
        if text is not None and hash_token(text) == site.admin_hash:
            raise Conflict(KNOWN_HASH)
        if existing is None:
            forget_bucket(site.storage, name, by=ADMIN)  # whose it was when there was one before
        text = text or new_text()
        token = new_token(text, name, TokenWish(scope="write", label="first token"), site.now())
        act = settings_act(ADMIN, name, settings)
        if not site.storage.put_bucket(bucket, first_token=token, act=act):
            return json_answer(bucket.as_json())
        return json_answer(bucket.as_json() | {"token": text}, status=201, headers=_SHOWN_ONCE)

    return await _with_body(request, site, put)


async def patch_bucket(request: Request, site: Site) -> Response:
    name = request.path_params["name"]

    def patch(body: Body) -> Response:
        if "token" in body:
            raise _invalid("token", "a token can be given only when the bucket is created")

        def change(base: Bucket) -> Bucket:
            bucket = parse_bucket(name, body, base=base)
            refuse_bad_schema(bucket)
            return bucket

        act = settings_act(ADMIN, name, body)
        return json_answer(site.storage.change_bucket(name, change, act=act).as_json())

    return await _with_body(request, site, patch)


async def delete_bucket(request: Request, site: Site) -> Response:
    name = request.path_params["name"]

    def drop() -> None:
        act = Act(by=ADMIN, action="bucket_dropped", bucket=name)
        site.storage.drop_bucket(name, act=act)
        forget_bucket(site.storage, name, by=ADMIN)

    await _as_admin(request, site, drop)
    return json_answer(_DONE)


def _existing(storage: Storage, name: str) -> Bucket | None:
    try:
        return storage.bucket(name)
    except NotFound:
        return None


def _split_token(body: Body) -> tuple[Any, dict[str, Any]]:
    """The client's own token, None where it sent none, and the settings."""
    settings = dict(body)
    return settings.pop("token", None), settings


def checked_bucket(name: str, settings: Body, token: Any = None) -> Bucket:
    """The bucket of these settings. Raises InvalidSettings with every problem, the token's too."""
    problems = []
    if token is not None and not (isinstance(token, str) and is_token(token)):
        problems.append(_problem("token", "token must be 8 to 200 printable characters, no blanks"))
    try:
        bucket = parse_bucket(name, settings)
        refuse_bad_schema(bucket)
    except InvalidSettings as error:
        problems[:0] = error.problems
    if problems:
        raise InvalidSettings(problems[0].message, problems=problems)
    return bucket


# -- tokens -----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TokenWish:
    """What is asked of a new token."""

    scope: Scope
    label: str = ""
    expires_at: datetime | None = None


async def list_tokens(request: Request, site: Site) -> Response:
    name = request.path_params["name"]
    tokens = await _as_admin(request, site, lambda: site.storage.tokens(name))
    return json_answer({"tokens": [_token_json(token) for token in tokens]})


async def post_token(request: Request, site: Site) -> Response:
    name = request.path_params["name"]

    def make(body: Body) -> Response:
        site.storage.bucket(name)
        now = site.now()
        text = new_text()
        token = new_token(text, name, parse_token_wish(body, now), now)
        site.storage.add_token(token, act=token_act(ADMIN, token))
        answer = _token_json(token)
        del answer["last_used_at"]
        return json_answer({"token": text} | answer, status=201, headers=_SHOWN_ONCE)

    return await _with_body(request, site, make)


async def delete_token(request: Request, site: Site) -> Response:
    name, token_id = request.path_params["name"], request.path_params["id"]
    act = revocation_act(ADMIN, name, token_id)
    await _as_admin(request, site, lambda: site.storage.drop_token(name, token_id, act=act))
    return json_answer(_DONE)


def parse_token_wish(body: Body, now: datetime) -> TokenWish:
    """Raises InvalidSettings with a problem for each thing that is not as expected."""
    problems = [
        _problem(
            name, f"there is no {name!r}; there are scope, label, expires_at", "unknown_setting"
        )
        for name in body
        if name not in ("scope", "label", "expires_at")
    ]
    scope, label = body.get("scope"), body.get("label", "")
    if scope not in SCOPES:
        problems.append(_problem("scope", f"scope must be one of {', '.join(SCOPES)}"))
    if not isinstance(label, str) or len(label) > MOST_LABEL_CHARACTERS:
        message = f"label must be a text of at most {MOST_LABEL_CHARACTERS} characters"
        problems.append(_problem("label", message))
    expires_at = None
    try:
        expires_at = _parse_expiry(body.get("expires_at"), now)
    except ValueError as error:
        problems.append(_problem("expires_at", f"expires_at must be null or {error}"))
    if problems:
        raise InvalidSettings(problems[0].message, problems=problems)
    return TokenWish(scope=scope, label=label, expires_at=expires_at)  # type: ignore[arg-type]


def _parse_expiry(value: Any, now: datetime) -> datetime | None:
    if value is None:
        return None
    try:
        instant = parse_instant(value)
    except (TypeError, ValueError):
        raise ValueError(TIME_EXPECTED) from None
    if instant <= now:
        raise ValueError("a time in the future")
    return instant


def new_text() -> str:
    """The text of a token: 256 random bits."""
    return secrets.token_urlsafe(32)


def new_token(text: str, bucket: str, wish: TokenWish, now: datetime) -> Token:
    """What is kept of a token with that text."""
    return Token(
        id=secrets.token_hex(8),
        bucket=bucket,
        hash=hash_token(text),
        scope=wish.scope,
        label=wish.label,
        created_at=now,
        expires_at=wish.expires_at,
    )


def _token_json(token: Token) -> dict[str, Any]:
    def shown(instant: datetime | None) -> str | None:
        return None if instant is None else format_instant(instant)

    return {
        "id": token.id,
        "scope": token.scope,
        "label": token.label,
        "created_at": shown(token.created_at),
        "expires_at": shown(token.expires_at),
        "last_used_at": shown(token.last_used_at),
    }


# -- for the audit log ------------------------------------------------------------------------


def settings_act(by: str, bucket: str, given: Body) -> Act:
    """That settings were given: which, not what they were set to, as a schema may be large."""
    names = sorted(name for name in given if name not in ("name", "token"))
    details = {"settings": names}
    return Act(by=by, action="settings_changed", bucket=bucket, details=details)


def token_act(by: str, token: Token) -> Act:
    details = {"id": token.id, "scope": token.scope, "label": token.label}
    return Act(by=by, action="token_made", bucket=token.bucket, details=details)


def revocation_act(by: str, bucket: str, token_id: str) -> Act:
    return Act(by=by, action="token_revoked", bucket=bucket, details={"id": token_id})


# -- users ------------------------------------------------------------------------------------


async def get_users(request: Request, site: Site) -> Response:
    users = await _as_admin(request, site, lambda: list_users(site.storage))
    return json_answer({"users": [user.as_json() for user in users]})


async def set_user(request: Request, site: Site) -> Response:
    email = request.path_params["email"]

    def put(body: Body) -> Response:
        user, made = grant(site.storage, email, body, by=ADMIN)
        return json_answer(user.as_json(), status=201 if made else 200)

    return await _with_body(request, site, put)


def grant(storage: Storage, email: str, body: Body, *, by: str | None = None) -> tuple[User, bool]:
    """Keep a user; they, and whether they are new. Raises InvalidSettings with every problem."""
    user = parse_user(email, body)
    known = {bucket.name for bucket in storage.buckets()}
    unknown = [
        _problem("buckets", f"there is no bucket {name!r}; make it first")
        for name in user.buckets
        if name not in known
    ]
    if unknown:
        raise InvalidSettings(unknown[0].message, problems=unknown)
    return user, put_user(storage, user, by=by)


async def delete_user(request: Request, site: Site) -> Response:
    email = request.path_params["email"]

    def drop() -> None:
        if not is_email(email) or not drop_user(site.storage, email, by=ADMIN):
            raise NotFound(f"there is no user {email!r}")

    await _as_admin(request, site, drop)
    return json_answer(_DONE)


# -- what all share ---------------------------------------------------------------------------


async def _as_admin(request: Request, site: Site, work: Callable[[], T]) -> T:
    """What `work` gives, for the admin alone: one hop into a worker thread."""

    def authorised() -> T:
        require_admin(request, site)
        return work()

    done = await run_sync(authorised)
    _tell_bucket(request)
    return done


async def _with_body(request: Request, site: Site, work: Callable[[Body], Response]) -> Response:
    """What `work` answers to the body's object, for the admin alone."""
    await run_sync(require_admin, request, site)
    body = await read_settings_body(request, site.limits)
    answer = await run_sync(lambda: work(parse_settings(unpack(body, site.limits))))
    _tell_bucket(request)
    return answer


def _tell_bucket(request: Request) -> None:
    """In the log line: the path's bucket, which there is, or was until now."""
    if "name" in request.path_params:
        trace(request.scope).bucket = request.path_params["name"]


def _problem(setting: str, message: str, code: str = "invalid_setting") -> Problem:
    return Problem(code, message, {"setting": setting})


def _invalid(setting: str, message: str) -> InvalidSettings:
    return InvalidSettings(message, problems=[_problem(setting, message)])


RESOURCES: Resources = {
    "/_buckets": {"GET": list_buckets},
    "/_buckets/{name}": {
        "GET": get_bucket,
        "PUT": put_bucket,
        "PATCH": patch_bucket,
        "DELETE": delete_bucket,
    },
    "/_buckets/{name}/tokens": {"GET": list_tokens, "POST": post_token},
    "/_buckets/{name}/tokens/{id}": {"DELETE": delete_token},
    "/_users": {"GET": get_users},
    "/_users/{email:record_id}": {"PUT": set_user, "DELETE": delete_user},
}
