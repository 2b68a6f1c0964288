"""Who may see which page, and about which bucket. To be called in worker threads."""

from __future__ import annotations

from starlette.requests import Request

from backdrop.api.middleware import trace
from backdrop.api.routes import Site
from backdrop.domain.bucket import Bucket
from backdrop.errors import NotFound
from backdrop.storage.port import not_found
from backdrop.web.sessions import Visitor, find_visitor


def visitor_of_bucket(request: Request, site: Site) -> tuple[Visitor, Bucket]:
    """The visitor, and the path's bucket, which is theirs.

    Raises Unauthorized for a stranger, and NotFound for a bucket that is not theirs, there or not.
    """
    visitor = find_visitor(request, site)
    path = request.path_params
    shown = path["bucket"] if "bucket" in path else f"{path['group']}/{path['type']}"
    try:
        if "bucket" in path:
            bucket = site.storage.bucket(path["bucket"])
        else:
            bucket = site.storage.bucket_at(path["group"], path["type"])
    except NotFound:
        bucket = None
    if bucket is None or not visitor.user.may_use(bucket.name):
        raise NotFound(not_found(shown))
    trace(request.scope).bucket = bucket.name
    return visitor, bucket


def require_admin_visitor(request: Request, site: Site) -> Visitor:
    """The visitor, if an admin: to anyone else the page is not there."""
    visitor = find_visitor(request, site)
    if not visitor.user.admin:
        raise NotFound("there is no such page, or it is not for you: it is for admins")
    return visitor


def reading_url(request: Request, site: Site, bucket: Bucket) -> str:
    """Where the bucket is read, without a query."""
    return f"{site.read_url or own_url(request, site)}/{bucket.name}"


def own_url(request: Request, site: Site) -> str:
    """Where the write API is reached, as the browser has it: https, if a proxy ends TLS."""
    base = request.base_url.replace(scheme="https") if site.https else request.base_url
    return str(base).rstrip("/")
