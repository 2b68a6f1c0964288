"""One's buckets, and what is in one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import Response

from backdrop.api.routes import NOTHING_HERE, Resources, Site
from backdrop.domain.bucket import Bucket
from backdrop.domain.values import ID, TIMESTAMP
from backdrop.errors import NotFound
from backdrop.storage.port import BucketState
from backdrop.web.access import reading_url, visitor_of_bucket
from backdrop.web.addresses import addresses, kinds_by_field, newest_records
from backdrop.web.render import done_before, moved, page
from backdrop.web.sessions import find_visitor

ROWS_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Shelf:
    """A bucket as the list of them shows it."""

    state: BucketState
    url: str
    late_by: timedelta | None
    """How long it should have been written by now."""

    @property
    def bucket(self) -> Bucket:
        return self.state.bucket


async def ask_root(request: Request, site: Site) -> Response:  # noqa: ARG001
    """Who typed no more than the server's name looks for the pages; a program finds nothing."""
    is_read = request.method in ("GET", "HEAD")
    if is_read and "text/html" in request.headers.get("accept", ""):
        return moved("/_user")
    raise NotFound(NOTHING_HERE)


async def get_home(request: Request, site: Site) -> Response:
    return await run_sync(_home, request, site)


def _home(request: Request, site: Site) -> Response:
    visitor = find_visitor(request, site)
    now = site.now()
    shelves = []
    for bucket in site.storage.buckets():
        if visitor.user.may_use(bucket.name):
            try:
                state = site.storage.state(bucket.name)
                url = _first_url(request, site, bucket)
            except NotFound:
                continue  # dropped between
            shelves.append(_shelf(state, url, now))
    return page("home.html", visitor=visitor, shelves=shelves, now=now)


async def get_bucket(request: Request, site: Site) -> Response:
    return await run_sync(_bucket, request, site)


def _bucket(request: Request, site: Site) -> Response:
    visitor, bucket = visitor_of_bucket(request, site)
    now = site.now()
    url = reading_url(request, site, bucket)
    shelf = _shelf(site.storage.state(bucket.name), url, now)
    records = newest_records(site.storage, bucket)
    kinds = kinds_by_field(records)
    columns = sorted(kinds, key=_place_of_field)
    return page(
        "bucket.html",
        visitor=visitor,
        done=done_before(request),
        shelf=shelf,
        bucket=bucket,
        now=now,
        columns=columns,
        fields=[(name, kinds[name]) for name in columns],
        looked_at=len(records),
        records=records[:ROWS_SHOWN],
        addresses=addresses(url, bucket, records),
    )


def _shelf(state: BucketState, url: str, now: datetime) -> Shelf:
    bucket, late_by = state.bucket, None
    if bucket.max_age_expected is not None and state.last_written is not None:
        over = now - state.last_written - timedelta(seconds=bucket.max_age_expected)
        late_by = over if over > timedelta() else None
    return Shelf(state, url, late_by)


def _first_url(request: Request, site: Site, bucket: Bucket) -> str:
    """An address of the bucket that gives an answer, whoever asks."""
    url = reading_url(request, site, bucket)
    if bucket.raw_queries_allowed:
        return url
    return addresses(url, bucket, newest_records(site.storage, bucket))[0].url


def _place_of_field(name: str) -> tuple[int, str]:
    """The time first, and the id last."""
    return (0 if name == TIMESTAMP else 2 if name == ID else 1, name)


RESOURCES: Resources = {
    "/": dict.fromkeys(("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"), ask_root),
    "/_user": {"GET": get_home},
    "/_user/buckets/{bucket:bucket}": {"GET": get_bucket},
}
