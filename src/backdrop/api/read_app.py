"""The read API. Its one great handler is THE READ PATH's first and last steps, in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import Response

from backdrop.answer import Rows, answer
from backdrop.api.auth import looked_up, readable
from backdrop.api.caching import cache_control, etag_of, has_etag
from backdrop.api.encode import (
    CSV,
    JSON,
    UNPUBLISHED,
    Form,
    StreamedAnswer,
    csv_form,
    json_form,
    rows_answer,
)
from backdrop.api.middleware import Trace, trace
from backdrop.api.params import Asked, parse_query
from backdrop.api.routes import BUCKET, Resources, Site
from backdrop.api.status import get_buckets_status, get_status
from backdrop.domain.bucket import Bucket
from backdrop.domain.protection import problems
from backdrop.errors import InvalidQuery, NotFound, TooManyRequests
from backdrop.storage.port import BucketState, Reading


async def get_bucket(request: Request, site: Site) -> Response:
    asked = await looked_up(_understood, request, site)
    known = _known_answer(asked, request, site)
    if known is not None:
        return known
    _refuse_past_the_queue(site)
    return await run_sync(_answer, asked, site, trace(request.scope), limiter=site.readers)


def _refuse_past_the_queue(site: Site) -> None:
    running, most = site.readers.statistics(), site.limits.waiting_queries
    if running.borrowed_tokens >= running.total_tokens and running.tasks_waiting >= most:
        message = f"{site.limits.readers:,} queries run here and {most:,} wait: no more may"
        raise TooManyRequests(message, code="too_many_queries")


@dataclass(frozen=True, slots=True)
class _Question:
    """What is asked, of which state of which bucket."""

    asked: Asked
    state: BucketState
    etag: str

    @property
    def headers(self) -> dict[str, str]:
        return {"ETag": self.etag, "Cache-Control": cache_control(self.state.bucket)}


def _understood(request: Request, site: Site) -> _Question:
    state = readable(request, site)
    asked = parse_query(
        request.scope["query_string"],
        timezone=state.bucket.timezone,
        now=site.now(),
        most_rows=site.limits.most_rows,
    )
    _refuse_forbidden(asked, state.bucket)
    return _Question(asked, state, etag_of(asked, state))


def _known_answer(question: _Question, request: Request, site: Site) -> Response | None:
    """The answer where it costs no query: the client has it, or it is kept here."""
    if has_etag(request.headers.get("if-none-match"), question.etag):
        return Response(status_code=304, headers=question.headers)
    body = site.answers.get(question.etag)
    return None if body is None else _kept(question, body)


def _kept(question: _Question, body: bytes) -> Response:
    asked, bucket = question.asked, question.state.bucket
    headers = question.headers | _extra_headers(asked, bucket)
    return Response(body, headers=headers, media_type=_MEDIA_TYPES[asked.format])


def _answer(question: _Question, site: Site, traced: Trace) -> Response:
    asked, state, etag = question.asked, question.state, question.etag
    with site.answers.making(etag):
        body = site.answers.get(etag)
        if body is not None:
            return _kept(question, body)
        site.answers.missed()
        headers = question.headers | _extra_headers(asked, state.bucket)
        response, version = _computed(asked, state.bucket, site, headers, traced)
        if version != state.version:
            # A write came between: this may be its answer, which has another ETag.
            del response.headers["ETag"]
        elif not isinstance(response, StreamedAnswer):
            site.answers.put(etag, bytes(response.body))
    return response


def _computed(
    asked: Asked, bucket: Bucket, site: Site, headers: Mapping[str, str], traced: Trace
) -> tuple[Response, int | None]:
    """The answer, and the version of the bucket that it is of: None where the bucket is gone."""
    is_csv = asked.format == "csv"
    pages = answer(
        site.storage,
        bucket,
        asked.query,
        with_fields=is_csv,
        most_rows=site.limits.most_rows,
        most_seconds=site.limits.query_seconds,
    )

    version: int | None = None

    def form_of(reading: Reading) -> Form:
        nonlocal version
        version = reading.version
        if is_csv:
            return _counted(csv_form(sorted(reading.fields)), traced)
        return _counted(json_form(None if bucket.published else UNPUBLISHED), traced)

    response = rows_answer(pages, form_of, headers)
    # What was the same before and after was the same in between, too.
    return response, _version(site, bucket) if version is None else version


def _counted(form: Form, traced: Trace) -> Form:
    """The form, which counts the rows that it encodes."""
    traced.rows = 0

    def encode(rows: Rows) -> bytes:
        traced.rows = (traced.rows or 0) + len(rows)
        return form.encode(rows)

    return replace(form, encode=encode)


def _version(site: Site, bucket: Bucket) -> int | None:
    """The bucket's version now; None where it is gone."""
    try:
        return site.storage.state(bucket.name).version
    except NotFound:
        return None


_MEDIA_TYPES = {"json": JSON, "csv": CSV}


def _extra_headers(asked: Asked, bucket: Bucket) -> dict[str, str]:
    """What a table of records needs beside its rows."""
    if asked.format != "csv":
        return {}
    headers = {"Content-Disposition": f'attachment; filename="{bucket.name}.csv"'}
    if not bucket.published:
        headers["Warning"] = f'299 - "{UNPUBLISHED}"'
    return headers


def _refuse_forbidden(asked: Asked, bucket: Bucket) -> None:
    found = problems(asked.query, bucket, zone=asked.zone, ends=asked.ends)
    if found:
        raise InvalidQuery(found[0].message, problems=found)


RESOURCES: Resources = {
    BUCKET: {"GET": get_bucket},
    "/_status": {"GET": get_status},
    "/_status/buckets": {"GET": get_buckets_status},
}
