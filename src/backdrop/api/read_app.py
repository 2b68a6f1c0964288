"""The read API. Its one great handler is THE READ PATH's first and last steps, in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import anyio
from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import Response

from backdrop.answer import Rows, answer
from backdrop.api.auth import looked_up, readable
from backdrop.api.caching import Question, cache_control, etag_of, has_etag
from backdrop.api.encode import (
    CSV,
    JSON,
    UNPUBLISHED,
    Form,
    KeptAnswer,
    StreamedAnswer,
    csv_form,
    json_form,
    rows_answer,
)
from backdrop.api.middleware import Trace, list_of, trace
from backdrop.api.params import Asked, parse_query
from backdrop.api.routes import BUCKET, Resources, Site
from backdrop.api.status import get_buckets_status, get_status
from backdrop.domain.bucket import Bucket
from backdrop.domain.protection import problems
from backdrop.domain.words import counted
from backdrop.errors import InvalidQuery, NotFound, TooManyRequests
from backdrop.storage.port import BucketState, Reading


async def get_bucket(request: Request, site: Site) -> Response:
    state, question = await looked_up(_understood, request, site)
    known = _known_answer(question, request, site)
    if known is not None:
        return known
    _refuse_past_the_queue(site)
    compute = partial(_answer, question, state, site, trace(request.scope))
    if question.asked.query.is_raw:
        return await _perhaps_streamed(compute, site)
    return await run_sync(compute, limiter=site.readers)


async def _perhaps_streamed(compute: Callable[[], Response], site: Site) -> Response:
    """The answer, which holds one of the places for streamed ones if it is one, and to its end."""
    streams, limits = site.streams, site.limits
    holder = object()
    with anyio.move_on_after(limits.query_seconds) as waiting:
        await streams.acquire_on_behalf_of(holder)
    if waiting.cancelled_caught:
        message = (
            f"{counted(limits.streams, 'client takes', 'clients take')} answers of many records "
            "here, and no more may (max_streams)"
        )
        raise TooManyRequests(message, code="too_many_queries", retry_after=10)
    free = partial(streams.release_on_behalf_of, holder)
    try:
        response = await run_sync(compute, limiter=site.readers)
    except BaseException:
        free()
        raise
    if isinstance(response, StreamedAnswer):
        response.at_end = free
    else:
        free()
    return response


def _refuse_past_the_queue(site: Site) -> None:
    running, most = site.readers.statistics(), site.limits.waiting_queries
    if running.borrowed_tokens >= running.total_tokens and running.tasks_waiting >= most:
        message = (
            f"{counted(site.limits.readers, 'query runs', 'queries run')} here (max_queries) and "
            f"{counted(most, 'waits', 'wait')} (max_waiting): no more may"
        )
        raise TooManyRequests(message, code="too_many_queries")


def _understood(request: Request, site: Site) -> tuple[BucketState, Question]:
    state = readable(request, site)
    query_string: bytes = request.scope["query_string"]
    known = site.questions.get(query_string, state)
    if known is not None:
        return state, known
    asked = parse_query(
        query_string,
        timezone=state.bucket.timezone,
        now=site.now(),
        most_rows=site.limits.most_rows,
    )
    _refuse_forbidden(asked, state.bucket)
    question = question_of(asked, state)
    site.questions.put(query_string, state, question)
    return state, question


def question_of(asked: Asked, state: BucketState) -> Question:
    """What is asked, with all that is the same in each answer to it: encoded here, once."""
    etag = etag_of(asked, state)
    always = {"ETag": etag, "Cache-Control": cache_control(state.bucket)}
    headers = always | _extra_headers(asked, state.bucket)
    kept = Response(None, headers=headers, media_type=_MEDIA_TYPES[asked.format])
    del kept.headers["Content-Length"]
    not_modified = Response(status_code=304, headers=always)
    return Question(asked, etag, headers, kept.raw_headers, not_modified)


def _known_answer(question: Question, request: Request, site: Site) -> Response | None:
    """The answer where it costs no query: the client has it, or it is kept here."""
    if has_etag(list_of(request.scope, b"if-none-match"), question.etag):
        return question.not_modified
    body = site.answers.get(question.etag)
    return None if body is None else KeptAnswer(body, question.kept_headers)


def _answer(question: Question, state: BucketState, site: Site, traced: Trace) -> Response:
    asked, etag = question.asked, question.etag
    with site.answers.making(etag):
        body = site.answers.get(etag)
        if body is not None:
            return KeptAnswer(body, question.kept_headers)
        site.answers.missed()
        response, version = _computed(asked, state.bucket, site, question.headers, traced)
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

    response = rows_answer(pages, form_of, headers, most_seconds=site.limits.answer_seconds)
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
