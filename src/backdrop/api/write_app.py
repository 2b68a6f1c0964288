"""The write API: records. Each handler is THE WRITE PATH's first steps, in order."""

from __future__ import annotations

import asyncio

from anyio import CancelScope
from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import Response

from backdrop.api.auth import looked_up, writer
from backdrop.api.body import SentBody, read_records_body, unpack
from backdrop.api.decode import parse_row, parse_rows
from backdrop.api.encode import json_answer
from backdrop.api.idempotency import REPLAYED, idempotency_key, once
from backdrop.api.middleware import trace
from backdrop.api.routes import BUCKET, RECORD, Resources, Site
from backdrop.api.status import get_status
from backdrop.domain.audit import Act
from backdrop.domain.bucket import Bucket
from backdrop.ingest import Receipt, earlier, ingest, ingest_patch, ingest_soon


async def post_records(request: Request, site: Site) -> Response:
    return await _store(request, site, replace=False)


async def put_records(request: Request, site: Site) -> Response:
    return await _store(request, site, replace=True)


async def _store(request: Request, site: Site, *, replace: bool) -> Response:
    bucket, by = await looked_up(writer, request, site)
    key = idempotency_key(request)
    body = await read_records_body(request, site.limits)
    if not replace and key is None and _is_small(body, bucket, site):
        rows = parse_rows(body.data, most=site.limits.records)
        async with site.writers:
            receipt, stored = ingest_soon(site.storage, bucket, rows, by=by)
            with CancelScope(shield=True):  # as for a thread: a place is one's own to the end
                await asyncio.wrap_future(stored)
        return _answer(receipt, request)

    def store() -> Receipt:
        data = unpack(body, site.limits)
        write = once(request, key, data, now=site.now())
        return earlier(site.storage, bucket, write) or ingest(
            site.storage,
            bucket,
            parse_rows(data, most=site.limits.records),
            replace=replace,
            by=by,
            once=write,
        )

    return _answer(await run_sync(store, limiter=site.writers), request)


_SMALL = 8 * 1024
_FEW_COMMAS = 64
"""Bytes, and commas, without which there are neither many records nor many fields: to hand so
little to a thread takes longer than to check it.
"""


def _is_small(body: SentBody, bucket: Bucket, site: Site) -> bool:
    """Whether it is stored from the event loop, where nothing may wait or take long."""
    return (
        site.storage.state_is_at_hand
        and len(body.data) <= min(_SMALL, site.limits.body_unpacked)
        and body.data.count(b",") <= _FEW_COMMAS
        and body.encoding == "identity"
        and bucket.schema is None  # which may have patterns that take long
    )


async def patch_record(request: Request, site: Site) -> Response:
    bucket, by = await looked_up(writer, request, site)
    key = idempotency_key(request)
    body = await read_records_body(request, site.limits)

    def merge() -> Receipt:
        data = unpack(body, site.limits)
        write = once(request, key, data, now=site.now())
        return earlier(site.storage, bucket, write) or ingest_patch(
            site.storage, bucket, request.path_params["id"], parse_row(data), by=by, once=write
        )

    return _answer(await run_sync(merge, limiter=site.writers), request)


async def delete_record(request: Request, site: Site) -> Response:
    def remove() -> None:
        bucket, by = writer(request, site)
        record_id = request.path_params["id"]
        act = Act(
            by=by,
            action="record_removed",
            bucket=bucket.name,
            records=1,
            details={"_id": record_id},
        )
        site.storage.delete(bucket.name, record_id, act=act)

    await run_sync(remove, limiter=site.writers)
    return json_answer({"status": "ok"})


def _answer(receipt: Receipt, request: Request) -> Response:
    if not receipt.replayed:
        trace(request.scope).rows = receipt.records
    headers = REPLAYED if receipt.replayed else None
    return json_answer({"status": "ok", "records": receipt.records}, headers=headers)


RESOURCES: Resources = {
    BUCKET: {"POST": post_records, "PUT": put_records},
    RECORD: {"PATCH": patch_record, "DELETE": delete_record},
    "/_status": {"GET": get_status},
}
