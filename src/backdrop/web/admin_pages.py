"""The pages of admins: making buckets, their settings and tokens, and who may use them.

They check as the admin API does, and show each problem beside the field that has it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import msgspec
from anyio.to_thread import run_sync
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response

from backdrop.api.admin_app import (
    TokenWish,
    checked_bucket,
    grant,
    new_text,
    new_token,
    parse_token_wish,
    revocation_act,
    settings_act,
    token_act,
)
from backdrop.api.routes import Resources, Site
from backdrop.domain.bucket import SETTINGS, Bucket, parse_bucket
from backdrop.domain.token import SCOPES, hash_token
from backdrop.domain.user import User, folded, is_email
from backdrop.errors import Conflict, InvalidSettings, NotFound, Problem
from backdrop.schema import refuse_bad_schema
from backdrop.users import drop_user, forget_bucket, list_users
from backdrop.web.access import own_url, require_admin_visitor, visitor_of_bucket
from backdrop.web.filled import Filled
from backdrop.web.forms import read_form, text_of
from backdrop.web.render import done_before, moved, page
from backdrop.web.sessions import Visitor, sent_cookie, set_cookie

# -- buckets --------------------------------------------------------------------------------------

_FLAGS = ("raw_queries_allowed", "published", "queryable", "read_token_required", "realtime")
_TEXTS = ("name", *(name for name in SETTINGS if name not in _FLAGS))


async def get_new(request: Request, site: Site) -> Response:
    visitor = await run_sync(require_admin_visitor, request, site)
    return _new_page(visitor, Filled(_shown(Bucket(name="")) | {"name": ""}))


async def post_new(request: Request, site: Site) -> Response:
    visitor, form = await _sent(request, site)
    return await run_sync(_make, request, site, visitor, form)


def _make(request: Request, site: Site, visitor: Visitor, form: FormData) -> Response:
    values = _values(form)
    name, text = values["name"], new_text()
    try:
        bucket = checked_bucket(name, _settings(values))
        if any(one.name == name for one in site.storage.buckets()):
            raise _taken(name)
        forget_bucket(site.storage, name, by=visitor.by)  # whose it was when there was one before
        token = new_token(text, name, TokenWish(scope="write", label="first token"), site.now())
        act = settings_act(visitor.by, name, _settings(values))
        if not site.storage.put_bucket(bucket, first_token=token, act=act):
            raise _taken(name)
    except (InvalidSettings, Conflict) as error:
        return _new_page(visitor, Filled.refused(values, error), status=400)
    return _made(request, site, f"/_user/buckets/{name}/tokens?made=bucket", text)


def _taken(name: str) -> InvalidSettings:
    message = f"there is a bucket {name!r} already: choose another name"
    return InvalidSettings(message, problems=[_about("name", message)])


def _about(setting: str, message: str) -> Problem:
    return Problem("invalid_setting", message, {"setting": setting})


def _new_page(visitor: Visitor, filled: Filled, *, status: int = 200) -> Response:
    return page("new_bucket.html", visitor=visitor, form=filled, status=status)


async def get_settings(request: Request, site: Site) -> Response:
    visitor, bucket = await run_sync(_admin_and_bucket, request, site)
    return _settings_page(visitor, bucket, Filled(_shown(bucket)))


async def post_settings(request: Request, site: Site) -> Response:
    visitor, form = await _sent(request, site)
    return await run_sync(_change, request, site, visitor, form)


def _change(request: Request, site: Site, visitor: Visitor, form: FormData) -> Response:
    _, bucket = _admin_and_bucket(request, site)
    values = _values(form)
    settings = _settings(values)

    def change(base: Bucket) -> Bucket:
        changed = parse_bucket(bucket.name, settings, base=base)
        refuse_bad_schema(changed)
        return changed

    try:
        was = bucket.as_json()
        given = {name: value for name, value in settings.items() if was[name] != value}
        act = settings_act(visitor.by, bucket.name, given)
        site.storage.change_bucket(bucket.name, change, act=act)
    except (InvalidSettings, Conflict) as error:
        filled = Filled.refused(values, error)
        return _settings_page(visitor, bucket, filled, status=400)
    return moved(f"/_user/buckets/{bucket.name}", done="settings")


def _settings_page(
    visitor: Visitor, bucket: Bucket, filled: Filled, *, status: int = 200
) -> Response:
    return page("settings.html", visitor=visitor, bucket=bucket, form=filled, status=status)


def _shown(bucket: Bucket) -> dict[str, Any]:
    """The settings as they stand in the form's fields."""
    settings = bucket.as_json()
    shown = {name: "" if value is None else value for name, value in settings.items()}
    shown["auto_ids"] = ", ".join(bucket.auto_ids)
    if bucket.schema is not None:
        shown["schema"] = json.dumps(bucket.schema, indent=2, ensure_ascii=False)
    return shown


def _values(form: FormData) -> dict[str, Any]:
    """What stands in the form's fields, as it was sent."""
    return {name: text_of(form, name) for name in _TEXTS} | {name: name in form for name in _FLAGS}


def _settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as the admin API takes them. What can't be read is left to be refused there."""
    settings = {name: values[name] for name in SETTINGS}
    for name in ("data_group", "data_type"):
        settings[name] = values[name] or None
    settings["auto_ids"] = values["auto_ids"].replace(",", " ").split()
    age = values["max_age_expected"]
    settings["max_age_expected"] = int(age) if age.isdecimal() and len(age) < 20 else age or None
    settings["schema"] = _json(values["schema"])
    return settings


def _json(text: str) -> Any:
    """The value that is written there; the text itself, which is no schema, where it is no JSON."""
    try:
        return msgspec.json.decode(text) if text else None
    except (msgspec.DecodeError, RecursionError):
        return text


# -- tokens ---------------------------------------------------------------------------------------


async def get_tokens(request: Request, site: Site) -> Response:
    def shown() -> Response:
        visitor, bucket = _admin_and_bucket(request, site)
        text = sent_cookie(request, site, _MADE) or ""
        if hash_token(text) not in {one.hash for one in site.storage.tokens(bucket.name)}:
            return _tokens_page(request, site, visitor, bucket)
        made = request.query_params.get("made") == "bucket"
        response = _tokens_page(request, site, visitor, bucket, shown=text, made=made)
        set_cookie(response, request, site, "", name=_MADE)
        return response

    return await run_sync(shown)


async def post_tokens(request: Request, site: Site) -> Response:
    """Makes a token or, with `revoke`, ends one."""
    visitor, form = await _sent(request, site)
    return await run_sync(_change_tokens, request, site, visitor, form)


def _change_tokens(request: Request, site: Site, visitor: Visitor, form: FormData) -> Response:
    _, bucket = _admin_and_bucket(request, site)
    if "revoke" in form:
        token_id = text_of(form, "revoke")
        act = revocation_act(visitor.by, bucket.name, token_id)
        site.storage.drop_token(bucket.name, token_id, act=act)
        return moved(f"/_user/buckets/{bucket.name}/tokens", done="token_revoked")
    values = {name: text_of(form, name) for name in ("scope", "label", "days")}
    try:
        wish = parse_token_wish(_wish(values, site), site.now())
    except InvalidSettings as error:
        filled = Filled.refused(values, error)
        return _tokens_page(request, site, visitor, bucket, form=filled)
    text = new_text()
    token = new_token(text, bucket.name, wish, site.now())
    site.storage.add_token(token, act=token_act(visitor.by, token))
    return _made(request, site, f"/_user/buckets/{bucket.name}/tokens", text)


_MADE = "new-token"
_SHOWN_WITHIN = timedelta(minutes=1)


def _made(request: Request, site: Site, path: str, text: str) -> Response:
    """To the page that shows a new token, once: so loading it again makes no other.

    The browser brings the text along in a cookie that this page takes away: no store keeps it.
    """
    response = moved(path)
    set_cookie(response, request, site, text, name=_MADE, lasts=_SHOWN_WITHIN)
    return response


def _wish(values: Mapping[str, str], site: Site) -> dict[str, Any]:
    wish: dict[str, Any] = {"scope": values["scope"], "label": values["label"]}
    if values["days"]:
        if not (_is_few_digits(values["days"]) and 1 <= int(values["days"]) <= _MOST_DAYS):
            message = f"a token lasts 1 to {_MOST_DAYS:,} days; leave it empty for one without end"
            raise InvalidSettings(message, problems=[_about("days", message)])
        wish["expires_at"] = (site.now() + timedelta(days=int(values["days"]))).isoformat()
    return wish


_MOST_DAYS = 3_650
_is_few_digits = re.compile(r"[0-9]{1,5}").fullmatch


def _tokens_page(
    request: Request,
    site: Site,
    visitor: Visitor,
    bucket: Bucket,
    *,
    shown: str = "",
    made: bool = False,
    form: Filled | None = None,
) -> Response:
    """The tokens of a bucket. `shown`: the text of one just made; `made`: with the bucket."""
    return page(
        "tokens.html",
        visitor=visitor,
        status=400 if form else 200,
        done=done_before(request),
        bucket=bucket,
        tokens=site.storage.tokens(bucket.name),
        scopes=SCOPES,
        shown=shown,
        made=made,
        now=site.now(),
        base=own_url(request, site),
        form=form or Filled({"scope": "write", "label": "", "days": ""}),
    )


# -- users ----------------------------------------------------------------------------------------


async def get_users(request: Request, site: Site) -> Response:
    def shown() -> Response:
        visitor = require_admin_visitor(request, site)
        known = _known(site, request.query_params.get("email", ""))
        form = Filled(_wanted("", [], admin=False) if known is None else _held(known))
        return _users_page(site, visitor, form, done=done_before(request))

    return await run_sync(shown)


async def post_users(request: Request, site: Site) -> Response:
    """Grants buckets to a user or, with `revoke`, takes everything back."""
    visitor, form = await _sent(request, site)
    return await run_sync(_change_users, site, visitor, form)


def _change_users(site: Site, visitor: Visitor, form: FormData) -> Response:
    revoked = text_of(form, "revoke")
    try:
        if revoked:
            _refuse_own(visitor, revoked, admin=False)
            if not drop_user(site.storage, revoked, by=visitor.by):
                raise NotFound("there is no such user any more")
            return moved("/_user/users", done="user_revoked")
        return _grant(site, visitor, form)
    except InvalidSettings as error:
        filled = Filled.refused(_wanted("", [], admin=False), error)
        return _users_page(site, visitor, filled, status=400)


def _grant(site: Site, visitor: Visitor, form: FormData) -> Response:
    """Grants what the form says. What a user had before is replaced only where it was shown."""
    email, before = text_of(form, "email"), text_of(form, "known")
    buckets = [one for one in form.getlist("buckets") if isinstance(one, str)]
    wanted = _wanted(email, buckets, admin="admin" in form, known=before)
    known = _known(site, email)
    if known is not None and known.email != folded(before):
        message = f"{known.email} has something already, as it is shown: change it, and press Save"
        error = InvalidSettings(message, problems=[_about("email", message)])
        return _users_page(site, visitor, Filled.refused(_held(known), error), status=400)
    try:
        _refuse_own(visitor, email, admin=wanted["admin"])
        if is_email(email) and not buckets and not wanted["admin"]:
            message = "tick a bucket, or “An admin”; to take everything back, use Revoke"
            raise InvalidSettings(message, problems=[_about("buckets", message)])
        body = {"buckets": buckets, "admin": wanted["admin"]}
        grant(site.storage, email, body, by=visitor.by)
    except InvalidSettings as error:
        return _users_page(site, visitor, Filled.refused(wanted, error), status=400)
    return moved("/_user/users", done="user_saved")


def _refuse_own(visitor: Visitor, email: str, *, admin: bool) -> None:
    """Raises InvalidSettings for admins who would shut themselves out."""
    if not admin and folded(email) == visitor.session.email:
        message = "this would end your own right as an admin: have another admin do it"
        raise InvalidSettings(message, problems=[_about("admin", message)])


def _known(site: Site, email: str) -> User | None:
    return next((one for one in list_users(site.storage) if one.email == folded(email)), None)


def _held(user: User) -> dict[str, Any]:
    return _wanted(user.email, list(user.buckets), admin=user.admin, known=user.email)


def _wanted(email: str, buckets: list[str], *, admin: bool, known: str = "") -> dict[str, Any]:
    """The form's fields. `known`: the user whose rights it was filled with."""
    return {"email": email, "buckets": buckets, "admin": admin, "known": known}


def _users_page(
    site: Site, visitor: Visitor, form: Filled, *, done: str = "", status: int = 200
) -> Response:
    return page(
        "users.html",
        visitor=visitor,
        status=status,
        done=done,
        users=list_users(site.storage),
        buckets=[bucket.name for bucket in site.storage.buckets()],
        form=form,
    )


# -- what all share -------------------------------------------------------------------------------


def _admin_and_bucket(request: Request, site: Site) -> tuple[Visitor, Bucket]:
    visitor = require_admin_visitor(request, site)
    return visitor, visitor_of_bucket(request, site)[1]


async def _sent(request: Request, site: Site) -> tuple[Visitor, FormData]:
    """The admin who sends a form of their own, and the form."""
    visitor = await run_sync(require_admin_visitor, request, site)
    form = await read_form(request, limits=site.limits)
    visitor.require_form_token(form.get("form_token"))
    return visitor, form


_BUCKET = "/_user/buckets/{bucket:bucket}"
RESOURCES: Resources = {
    "/_user/new": {"GET": get_new, "POST": post_new},
    f"{_BUCKET}/settings": {"GET": get_settings, "POST": post_settings},
    f"{_BUCKET}/tokens": {"GET": get_tokens, "POST": post_tokens},
    "/_user/users": {"GET": get_users, "POST": post_users},
}
