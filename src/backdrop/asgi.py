"""The composition root: a store and settings -> one ASGI application."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Literal, TypeAlias

import anyio
from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from starlette.responses import Response
from starlette.types import ASGIApp, Scope

from backdrop import __version__
from backdrop.api import admin_app, audit_app, backup_app, read_app, write_app
from backdrop.api import metrics as metrics_app
from backdrop.api.arriving import Arriving
from backdrop.api.body import Limits
from backdrop.api.caching import AnswerCache, Questions
from backdrop.api.describe import described
from backdrop.api.errors import error_answer
from backdrop.api.metrics import MetricsWish, measuring
from backdrop.api.middleware import ErrorAnswers, Observed, Unambiguous
from backdrop.api.routes import BUCKET, Resources, Site, merge, serve
from backdrop.api.throttle import Throttled
from backdrop.domain.token import hash_token
from backdrop.errors import BackdropError
from backdrop.observe import Metrics, Observation, Observe, ServerFault, Started, json_lines
from backdrop.storage.port import Storage
from backdrop.uploads.work import Uploads
from backdrop.web import admin_pages, bucket_pages, static_files, upload_pages
from backdrop.web.render import error_page, is_page
from backdrop.web.sign_in import SignIn
from backdrop.web.sign_in import resources as sign_in_resources

Apis: TypeAlias = Literal["both", "read", "write"]

_WRITE = merge(write_app.RESOURCES, admin_app.RESOURCES, audit_app.RESOURCES, backup_app.RESOURCES)
_RESOURCES: Mapping[Apis, Resources] = {
    "both": merge(read_app.RESOURCES, _WRITE),
    "read": read_app.RESOURCES,
    "write": _WRITE,
}
_PAGES = merge(
    static_files.RESOURCES,
    upload_pages.RESOURCES,  # before the records, whose pattern its path fits
    bucket_pages.RESOURCES,
    admin_pages.RESOURCES,
)
_TITLES: Mapping[Apis, str] = {
    "both": "Backdrop",
    "read": "Backdrop's read API",
    "write": "Backdrop's write API",
}

_can_be_sent = re.compile(r"[\x21-\x7e]+").fullmatch


def create_app(
    storage: Storage,
    *,
    apis: Apis = "both",
    admin_token: str | None = None,
    limits: Limits | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    observe: Observe | None = None,
    sign_in: SignIn | None = None,
    read_url: str | None = None,
    metrics: MetricsWish | None = None,
    audited_for: timedelta = timedelta(days=90),
) -> ASGIApp:
    """The application that serves the APIs over `storage`, which stays the caller's to close.

    With the write API come the pages for people, to which they sign in as `sign_in` says. They name
    `read_url` as the read API's address, or without it their own.

    Without an `admin_token` nobody passes the admin API's door. Raises ValueError for one that no
    header could carry. `observe` writes JSON lines to stderr if nothing else is given. There are
    metrics where `metrics` asks for them. What the audit log has is forgotten after `audited_for`,
    by the write API.
    """
    observe = observe or json_lines()
    limits, sign_in = limits or Limits(), sign_in or SignIn()
    answers, readers = AnswerCache(limits.cached_answers), CapacityLimiter(limits.readers)
    served = _RESOURCES[apis]
    if metrics is not None:
        counted = Metrics(measuring(storage, answers, readers), worker=metrics.worker)
        observe = _both(observe, counted.observe)
        served = merge(served, metrics_app.resources(counted))
    site = Site(
        storage=storage,
        admin_hash=_hash("admin", admin_token),
        metrics_hash=_hash("metrics", metrics.token if metrics else None),
        limits=limits,
        answers=answers,
        questions=Questions(_MOST_QUESTIONS),
        readers=readers,
        streams=CapacityLimiter(limits.streams),
        writers=CapacityLimiter(limits.writers),
        now=now,
        uploads=Uploads(storage, now=now, observe=observe),
        https=sign_in.https,
        read_url=read_url,
    )
    resources = described(served, title=_TITLES[apis])
    pages = {} if apis == "read" else merge(sign_in_resources(sign_in), _PAGES)
    resources = merge({BUCKET: {}}, pages, resources)  # tried first: what is asked for the most
    routed = serve(resources, site, lifespan=partial(_lifespan, site, apis, audited_for, observe))
    return _surrounded(routed, site, apis, observe)


def _hash(name: str, token: str | None) -> str | None:
    if token is None:
        return None
    if not _can_be_sent(token):
        raise ValueError(f"the {name} token must be printable ASCII characters without blanks")
    return hash_token(token)


def _surrounded(app: ASGIApp, site: Site, apis: Apis, observe: Observe) -> ASGIApp:
    """The application with what stands around every request."""
    if apis != "read":
        limits = site.limits
        app = Arriving(app, most=limits.bodies, most_of_one=limits.body_as_sent)
    if site.limits.requests_a_second:
        app = Throttled(app, a_second=site.limits.requests_a_second, clock=site.now)
    answer = _error_as_json if apis == "read" else _error_answer
    answered = ErrorAnswers(Unambiguous(app), answer=answer, observe=observe)
    return Observed(answered, observe=observe, is_open=_CORS_APPLIES[apis], https=site.https)


@asynccontextmanager
async def _lifespan(
    site: Site, apis: Apis, audited_for: timedelta, observe: Observe, _: ASGIApp
) -> AsyncIterator[None]:
    observe(Started(apis=apis, version=__version__))
    async with anyio.create_task_group() as group:
        if apis != "read":
            group.start_soon(_prune_audit, site, audited_for, observe)
        yield
        group.cancel_scope.cancel()
    await run_sync(site.uploads.close)


async def _prune_audit(site: Site, kept_for: timedelta, observe: Observe) -> None:
    while True:
        try:
            await run_sync(site.storage.prune_audit, site.now() - kept_for)
        except BackdropError as error:  # the store is away: the next time will do
            observe(ServerFault(request_id=_PRUNING, exception=error))
        await anyio.sleep(_PRUNED_EVERY.total_seconds())


_MOST_QUESTIONS = 1_000
"""Of which is remembered what was asked."""

_PRUNED_EVERY = timedelta(hours=1)
_PRUNING = "pruning_the_audit_log"


def _both(first: Observe, second: Observe) -> Observe:
    def observe(observation: Observation) -> None:
        first(observation)
        second(observation)

    return observe


def _reads(scope: Scope) -> bool:
    """Whether a request to the two APIs in one is the read API's."""
    path = scope["path"]
    return (
        scope["method"] in ("GET", "HEAD", "OPTIONS")
        and path.removeprefix("/").partition("/")[0]
        not in ("_buckets", "_users", "_audit", "_backup", "_metrics")
        and not is_page(scope)
    )


def _error_answer(scope: Scope, error: Exception, request_id: str) -> Response:
    if is_page(scope):
        return error_page(error, request_id=request_id, scope=scope)
    return _error_as_json(scope, error, request_id)


def _error_as_json(scope: Scope, error: Exception, request_id: str) -> Response:  # noqa: ARG001
    return error_answer(error, request_id=request_id)


_CORS_APPLIES: Mapping[Apis, Callable[[Scope], bool]] = {
    "both": _reads,
    "read": lambda _: True,
    "write": lambda _: False,
}
