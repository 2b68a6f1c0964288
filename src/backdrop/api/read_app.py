"""The read API. Its one great handler is THE READ PATH's first and last steps, in order."""

from __future__ import annotations

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import Response

from backdrop.answer import answer
from backdrop.api.auth import readable_bucket
from backdrop.api.encode import UNPUBLISHED, rows_answer
from backdrop.api.params import Asked, parse_query
from backdrop.api.routes import BUCKET, Resources, Site
from backdrop.api.status import get_buckets_status, get_status
from backdrop.domain.bucket import Bucket
from backdrop.domain.protection import problems
from backdrop.errors import InvalidQuery


async def get_bucket(request: Request, site: Site) -> Response:
    return await run_sync(_answer, request, site)


def _answer(request: Request, site: Site) -> Response:
    bucket = readable_bucket(request, site)
    asked = parse_query(request.scope["query_string"], timezone=bucket.timezone)
    _refuse_forbidden(asked, bucket)
    pages = answer(site.storage, bucket, asked.query)
    return rows_answer(pages, warning=None if bucket.published else UNPUBLISHED)


def _refuse_forbidden(asked: Asked, bucket: Bucket) -> None:
    found = problems(asked.query, bucket, zone=asked.zone, ends=asked.ends)
    if found:
        raise InvalidQuery(found[0].message, problems=found)


RESOURCES: Resources = {
    BUCKET: {"GET": get_bucket},
    "/_status": {"GET": get_status},
    "/_status/buckets": {"GET": get_buckets_status},
}
