"""One's buckets, and what is in one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from typing import TypeGuard

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import Response

from backdrop.api.routes import Resources, Site
from backdrop.domain.bucket import Bucket
from backdrop.domain.query import Query, Sort
from backdrop.domain.values import ID, TIMESTAMP, Record
from backdrop.errors import NotFound
from backdrop.storage.port import BucketState
from backdrop.uploads.understand import kind_of
from backdrop.web.access import reading_url, visitor_of_bucket
from backdrop.web.render import page
from backdrop.web.sessions import find_visitor

ROWS_SHOWN = 10
_LOOKED_AT = 200
"""The newest records, which tell what a field holds."""


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
            except NotFound:
                continue  # dropped between
            shelves.append(_shelf(request, site, state, now))
    return page("home.html", visitor=visitor, shelves=shelves, now=now)


async def get_bucket(request: Request, site: Site) -> Response:
    return await run_sync(_bucket, request, site)


def _bucket(request: Request, site: Site) -> Response:
    visitor, bucket = visitor_of_bucket(request, site)
    now = site.now()
    shelf = _shelf(request, site, site.storage.state(bucket.name), now)
    newest = Query(sort=Sort(TIMESTAMP, descending=True), limit=_LOOKED_AT)
    with site.storage.records(bucket.name, newest) as reading:
        records = list(chain.from_iterable(reading))
    columns = sorted({name for record in records for name in record}, key=_place_of_field)
    return page(
        "bucket.html",
        visitor=visitor,
        shelf=shelf,
        bucket=bucket,
        now=now,
        columns=columns,
        fields=[(name, _kinds(name, records)) for name in columns],
        looked_at=len(records),
        records=records[:ROWS_SHOWN],
        chart_url=f"{shelf.url}?period={_period(records)}",
    )


def _shelf(request: Request, site: Site, state: BucketState, now: datetime) -> Shelf:
    bucket, late_by = state.bucket, None
    if bucket.max_age_expected is not None and state.last_written is not None:
        over = now - state.last_written - timedelta(seconds=bucket.max_age_expected)
        late_by = over if over > timedelta() else None
    return Shelf(state, reading_url(request, site, bucket), late_by)


def _place_of_field(name: str) -> tuple[int, str]:
    """The time first, and the id last."""
    return (0 if name == TIMESTAMP else 2 if name == ID else 1, name)


def _kinds(name: str, records: list[Record]) -> dict[str, int]:
    """What the field holds in these records, and how often."""
    found: dict[str, int] = {}
    for record in records:
        if name in record:
            kind = kind_of(name, record[name])
            found[kind] = found.get(kind, 0) + 1
    return found


def _period(records: list[Record]) -> str:
    """A period by which the newest records make a chart that is not one long line of ones."""
    times = [one for one in (record.get(TIMESTAMP) for record in records) if _is_time(one)]
    if len(times) < 2:
        return "month"
    step = (max(times) - min(times)) / len(times)
    return "day" if step < timedelta(hours=12) else "week" if step < timedelta(days=4) else "month"


def _is_time(value: object) -> TypeGuard[datetime]:
    return isinstance(value, datetime)


RESOURCES: Resources = {
    "/_user": {"GET": get_home},
    "/_user/buckets/{bucket:bucket}": {"GET": get_bucket},
}
