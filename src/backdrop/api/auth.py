"""Who may do what: bearer tokens, and the buckets that they open.

To be called in worker threads, but for `looked_up`. The admin token opens the admin API alone: for
records it is a token of another door (403).
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable
from datetime import timedelta
from typing import NamedTuple, TypeVar

from anyio.to_thread import run_sync
from starlette.requests import Request

from backdrop.api.middleware import trace
from backdrop.api.routes import Site
from backdrop.domain.audit import by_token
from backdrop.domain.bucket import Bucket
from backdrop.domain.token import Scope, Token, hash_token
from backdrop.errors import Forbidden, NotFound, Unauthorized
from backdrop.storage.port import BucketState, not_found

T = TypeVar("T")

_has_token = re.compile(r"bearer +([\x21-\x7e]+) *", re.IGNORECASE).fullmatch

_UNKNOWN = "this token is not known, or not any more"
USE_NOTED_EVERY = timedelta(seconds=60)


async def looked_up(find: Callable[[Request, Site], T], request: Request, site: Site) -> T:
    """What `find` returns: at once where the store's state is at hand, else from a thread."""
    if site.storage.state_is_at_hand:
        return find(request, site)
    return await run_sync(find, request, site)


class Writer(NamedTuple):
    """One who may write to the bucket; `by` is who, for the audit log."""

    bucket: Bucket
    by: str


def writer(request: Request, site: Site) -> Writer:
    """The path's bucket, for one who may write to it.

    Raises Unauthorized or Forbidden, never NotFound: only its own tokens learn of a bucket.
    """
    token = _known_token(request, site)
    bucket, token = _opened(request, token, _find_bucket(request, site), "write")
    return Writer(bucket, by_token(token.id))


def readable(request: Request, site: Site) -> BucketState:
    """The path's bucket and its state, for one who may read it.

    Raises NotFound where there is none or it is not queryable, then Unauthorized or Forbidden.
    """
    state = _find_state(request, site)
    if state is None or not state.bucket.queryable:
        raise NotFound(not_found("/".join(request.path_params.values())))
    if state.bucket.read_token_required:
        _opened(request, _known_token(request, site), state.bucket, "read")
    trace(request.scope).bucket = state.bucket.name
    return state


def require_admin(request: Request, site: Site) -> None:
    """Raises Unauthorized or, for a bucket's token, Forbidden."""
    token_hash = _sent_hash(request)
    if _is_admin(token_hash, site):
        return
    token = site.storage.token(token_hash)
    if token is not None and not token.expired(site.now()):
        raise Forbidden("this is a bucket's token; here the admin token is needed")
    if site.admin_hash is None:
        raise Unauthorized("no admin token is set here: set BACKDROP_ADMIN_TOKEN and start again")
    raise Unauthorized(_UNKNOWN)


def require_watcher(request: Request, site: Site) -> None:
    """The metrics' own token opens them, if there is one, and the admin token. Raises as
    `require_admin` does.
    """
    known = site.metrics_hash
    if known is None or not hmac.compare_digest(_sent_hash(request), known):
        require_admin(request, site)


def _find_bucket(request: Request, site: Site) -> Bucket | None:
    path = request.path_params
    try:
        if "bucket" in path:
            return site.storage.bucket(path["bucket"])
        return site.storage.bucket_at(path["group"], path["type"])
    except NotFound:
        return None


def _find_state(request: Request, site: Site) -> BucketState | None:
    path = request.path_params
    try:
        if "bucket" in path:
            return site.storage.state(path["bucket"])
        return site.storage.state(site.storage.bucket_at(path["group"], path["type"]).name)
    except NotFound:
        return None


def _opened(
    request: Request, token: Token | None, bucket: Bucket | None, scope: Scope
) -> tuple[Bucket, Token]:
    if token is None or bucket is None or (token.bucket, token.scope) != (bucket.name, scope):
        raise Forbidden(f"this token does not open this bucket with the scope {scope!r}")
    trace(request.scope).bucket = bucket.name
    return bucket, token


def _known_token(request: Request, site: Site) -> Token | None:
    """The bucket's token that was sent; None for the admin token, which is of no bucket."""
    token_hash = _sent_hash(request)
    if _is_admin(token_hash, site):
        return None
    token, now = site.storage.token(token_hash), site.now()
    if token is None or token.expired(now):
        raise Unauthorized(_UNKNOWN)
    if token.last_used_at is None or now - token.last_used_at > USE_NOTED_EVERY:
        site.storage.token_used(token_hash, now)
    return token


def _sent_hash(request: Request) -> str:
    header = request.headers.get("authorization")
    if header is None:
        raise Unauthorized("a token is needed: Authorization: Bearer <token>")
    token = bearer(header)
    if token is None:
        raise Unauthorized("the Authorization header must have the form: Bearer <token>")
    return hash_token(token)


def bearer(header: str) -> str | None:
    """The token in an Authorization header, however it is spelt (RFC 6750, 2.1); else None."""
    found = _has_token(header)
    return found[1] if found else None


def _is_admin(token_hash: str, site: Site) -> bool:
    return site.admin_hash is not None and hmac.compare_digest(token_hash, site.admin_hash)
