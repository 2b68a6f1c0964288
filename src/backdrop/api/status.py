"""Whether the store answers, and which buckets are out of date."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import Response

from backdrop.api.encode import json_answer
from backdrop.api.routes import Site
from backdrop.domain.bucket import Bucket
from backdrop.domain.times import format_instant
from backdrop.errors import NotFound
from backdrop.storage.port import Storage

_NEVER_CACHED = {"Cache-Control": "no-cache"}


async def get_status(request: Request, site: Site) -> Response:  # noqa: ARG001
    await run_sync(site.storage.check)
    return json_answer({"status": "ok", "message": "the database answers"}, headers=_NEVER_CACHED)


async def get_buckets_status(request: Request, site: Site) -> Response:  # noqa: ARG001
    writes = await run_sync(_last_writes, site.storage)
    return json_answer(buckets_status(writes, site.now()), headers=_NEVER_CACHED)


def _last_writes(storage: Storage) -> list[tuple[Bucket, datetime | None]]:
    """Each bucket that is expected to be written, with when it was."""
    found = []
    for bucket in storage.buckets():
        if bucket.max_age_expected is None:
            continue
        try:
            found.append((bucket, storage.state(bucket.name).last_written))
        except NotFound:
            continue  # dropped between
    return found


def buckets_status(
    writes: Iterable[tuple[Bucket, datetime | None]], now: datetime
) -> dict[str, Any]:
    """The buckets whose last write is older than their `max_age_expected`, and by how much."""
    late = []
    for bucket, written in writes:
        if bucket.max_age_expected is None or written is None:
            continue
        over = (now - written).total_seconds() - bucket.max_age_expected
        if over > 0:
            late.append(
                {
                    "name": bucket.name,
                    "seconds-out-of-date": int(over),
                    "last-updated": format_instant(written),
                    "max-age-expected": bucket.max_age_expected,
                }
            )
    if not late:
        return {"status": "ok", "message": "every bucket is up to date", "buckets": []}
    count = "1 bucket is" if len(late) == 1 else f"{len(late)} buckets are"
    return {"status": "not okay", "message": f"{count} out of date", "buckets": late}
