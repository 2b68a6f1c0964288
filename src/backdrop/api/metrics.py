"""`GET /_metrics`, for Prometheus: off unless it is asked for, and never open to all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import Response

from backdrop.api.auth import require_watcher
from backdrop.api.caching import AnswerCache
from backdrop.api.routes import Resources, Site
from backdrop.errors import StorageUnavailable
from backdrop.observe import METRICS_TYPE, Measured, Metrics
from backdrop.storage.port import Load, Storage


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsWish:
    """That there are to be metrics. `token` opens them, beside the admin token; `worker` is the
    number of this process among those that answer on the port, where there are several.
    """

    token: str | None = None
    worker: int | None = None


def measuring(
    storage: Storage, answers: AnswerCache, readers: CapacityLimiter
) -> Callable[[], Measured]:
    """What measures an application of these parts; it stays of use where the store is away."""

    def measured() -> Measured:
        try:
            load = storage.load()
        except StorageUnavailable:
            load = Load()
        queries = readers.statistics()
        return Measured(
            queries=queries.borrowed_tokens,
            queries_waiting=queries.tasks_waiting,
            cache_hits=answers.hits,
            cache_misses=answers.misses,
            cache_bytes=answers.size,
            commits=load.commits,
            writes=load.writes,
            writes_waiting=load.writes_waiting,
            engine_bytes=load.engine_bytes,
        )

    return measured


def resources(metrics: Metrics) -> Resources:
    def text(request: Request, site: Site) -> bytes:
        require_watcher(request, site)
        return metrics.text()

    async def get_metrics(request: Request, site: Site) -> Response:
        # Several workers share a port by connections: one that was kept would tell of one alone.
        headers = {"Cache-Control": "no-store", "Connection": "close"}
        body = await run_sync(text, request, site)
        return Response(body, headers=headers, media_type=METRICS_TYPE)

    return {"/_metrics": {"GET": get_metrics}}
