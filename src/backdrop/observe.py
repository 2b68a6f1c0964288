"""What can be observed of a running Backdrop, as data, and the one place that renders it.

No observation holds a token, a header's value or a query string: what isn't there can't be logged.
What happens is rendered as log lines (`json_lines`) and counted (`Metrics`); what lasts is measured
when somebody asks for the metrics.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.util import Finalize
from typing import TextIO, TypeAlias, cast

import msgspec
import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The application is ready to answer."""

    apis: str
    version: str


class RequestAnswered(msgspec.Struct, frozen=True, kw_only=True):
    """One request is over. `route` is the pattern of its path, None where there is none.

    `bucket` is one that exists. `status` is None where the client left before an answer began.
    `seconds` are rounded to the microsecond. `rows` are the records that were received, or the rows
    that were answered; None where there are none, or an answer was not computed but kept. `bytes`
    are those of the answer's body. `broken`: the answer began and did not come to its end. Fields
    are in the order in which a log line has them.
    """

    method: str
    route: str | None
    bucket: str | None
    status: int | None
    seconds: float
    request_id: str
    rows: int | None = None
    bytes: int = 0
    broken: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFault:
    """Something went wrong that is not the client's doing."""

    request_id: str
    exception: BaseException


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreAway:
    """A request that the store did not answer. An outage has many: so each is one short line."""

    request_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerDied:
    """A process that answered ended untold: another one begins in so many seconds.

    `exit_code` is that of the process, or the signal that ended it, below zero. `reason` is there
    where it could not start.
    """

    worker: int
    pid: int
    exit_code: int
    reason: str | None
    replaced_in: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSetAside:
    """Something stood in the way of opening the store, and was set aside: so many bytes.

    `kept_in` is the file that they are in, where there are any.
    """

    reason: str
    kept_in: str | None
    bytes: int


Observation: TypeAlias = (
    Started | RequestAnswered | ServerFault | StoreAway | StoreSetAside | WorkerDied
)
Observe: TypeAlias = Callable[[Observation], None]

_EVENTS: Mapping[type[Observation], tuple[str, str, tuple[str, ...]]] = {
    kind: (level, event, tuple(field.name for field in dataclasses.fields(kind)))
    for kind, level, event in (
        (Started, "info", "started"),
        (ServerFault, "error", "fault"),
        (StoreAway, "warning", "store_away"),
        (StoreSetAside, "error", "store_set_aside"),
        (WorkerDied, "error", "worker_died"),
    )
}
"""Of each observation but requests: the level and the name of its log line, and its fields."""


_encode = msgspec.json.Encoder().encode


def _as_json(line: Mapping[str, object], **_: object) -> str:
    return _encode(line).decode()


def _request_line(request: RequestAnswered, at: datetime) -> str:
    """The line as structlog would make it, in a tenth of the time: nearly all lines are these."""
    rest = b',"event":"request","level":"info","timestamp":' + _encode(at) + b"}"
    return (_encode(request)[:-1] + rest).decode()


class _Gathered:
    """A file whose lines are written together, those of a moment at once.

    To write one takes as long as to answer a request that costs no query. The thread that writes
    renders the lines of requests, too. It begins with the first line, so that a process that forks
    before has none. Where the file takes none for long, the oldest lines are dropped.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._lines: deque[str | tuple[RequestAnswered, datetime]] = deque(maxlen=_MOST_LINES)
        self._there_are_lines = threading.Event()
        self._writing = threading.Lock()
        self._thread: threading.Thread | None = None

    def write(self, line: str | tuple[RequestAnswered, datetime]) -> None:
        """A whole line, or a request that is over, and when."""
        self._lines.append(line)
        if not self._there_are_lines.is_set():
            self._there_are_lines.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="backdrop-log", daemon=True)
            self._thread.start()
            Finalize(self, self.write_all, exitpriority=0)  # atexit is nothing to a forked process

    def write_all(self) -> None:
        with self._writing:
            lines = []
            while self._lines:
                line = self._lines.popleft()
                with contextlib.suppress(ValueError):  # one that can't be rendered stops no other
                    lines.append(line if isinstance(line, str) else f"{_request_line(*line)}\n")
            with contextlib.suppress(OSError, ValueError):  # a log that is full stops nothing
                self._file.write("".join(lines))
                self._file.flush()

    def flush(self) -> None:
        """For structlog, which asks for it after each line."""

    def _run(self) -> None:
        while True:
            self._there_are_lines.wait()
            time.sleep(_A_MOMENT)
            self._there_are_lines.clear()
            self.write_all()


_A_MOMENT = 0.01
_MOST_LINES = 100_000


def json_lines(file: TextIO | None = None) -> Observe:
    """What renders each observation as one line of JSON, to `file` at once, or soon to stderr."""
    gathered = _Gathered(sys.stderr) if file is None else None
    lines = structlog.WriteLogger(file or cast("TextIO", gathered))
    logger = structlog.wrap_logger(
        lines,
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,  # a plain traceback: it shows no variables
            structlog.processors.JSONRenderer(_as_json),
        ],
    ).bind()  # now, not at each line

    may_be_full = contextlib.suppress(OSError, ValueError)  # a log that is full stops nothing

    def observe(observation: Observation) -> None:
        with may_be_full:
            if not isinstance(observation, RequestAnswered):
                level, event, names = _EVENTS[type(observation)]
                fields = {name: getattr(observation, name) for name in names}
                if "exception" in fields:
                    fields["exc_info"] = fields.pop("exception")
                getattr(logger, level)(event, **fields)
            elif gathered is not None:
                gathered.write((observation, datetime.now(UTC)))
            else:
                lines.info(_request_line(observation, datetime.now(UTC)))

    return observe


# -- metrics ----------------------------------------------------------------------------------

METRICS_TYPE = CONTENT_TYPE_PLAIN_0_0_4

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What an application and its store are like at one moment, or have done so far.

    None is what this store does not know.
    """

    queries: int = 0
    queries_waiting: int = 0
    cache_hits: int = 0
    cache_misses: int = 0
    cache_bytes: int = 0
    commits: int | None = None
    writes: int | None = None
    writes_waiting: int | None = None
    engine_bytes: int | None = None


_MEASURED: Mapping[str, tuple[type[CounterMetricFamily | GaugeMetricFamily], str, str]] = {
    "queries": (GaugeMetricFamily, "queries", "Queries that run."),
    "queries_waiting": (GaugeMetricFamily, "queries_waiting", "Queries that wait for their turn."),
    "cache_hits": (CounterMetricFamily, "cache_hits", "Answers that were kept."),
    "cache_misses": (CounterMetricFamily, "cache_misses", "Answers that had to be computed."),
    "cache_bytes": (GaugeMetricFamily, "cache_bytes", "Of the answers that are kept."),
    "commits": (CounterMetricFamily, "commits", "Commits of the store: writes share them."),
    "writes": (CounterMetricFamily, "writes", "Writes that these commits were of."),
    "writes_waiting": (GaugeMetricFamily, "writes_waiting", "Writes that wait for a commit."),
    "engine_bytes": (GaugeMetricFamily, "engine_memory_bytes", "Memory that the engine holds."),
}
"""Of each part of what is measured: its kind, its name after `backdrop_`, and what it is."""


class Metrics:
    """What is observed of one application, counted, in the text format of Prometheus.

    `measure` is called when the metrics are asked for. No label can take ever more values: routes
    are patterns, a method that none of them knows is `none`, and buckets have no label. Where
    several workers answer on one port, each has its number as a label on all that it tells.
    """

    def __init__(self, measure: Callable[[], Measured], *, worker: int | None = None) -> None:
        self._measure, self._worker = measure, worker
        self._registry = registry = CollectorRegistry()
        labels = ("method", "route")
        self._requests = Counter(
            "backdrop_requests", "Requests answered.", (*labels, "status"), registry=registry
        )
        self._seconds = Histogram(
            "backdrop_request_seconds",
            "From a request's head to the end of its answer.",
            labels,
            registry=registry,
            buckets=_SECONDS,
        )
        self._received = Counter(
            "backdrop_records_stored", "Records received and stored.", registry=registry
        )
        self._answered = Counter(
            "backdrop_rows_answered", "Rows of answers that were computed.", registry=registry
        )
        self._sent = Counter(
            "backdrop_answer_bytes", "Bytes of the bodies of answers.", registry=registry
        )
        self._faults = Counter("backdrop_faults", "Faults of the server.", registry=registry)
        ProcessCollector(registry=registry)

    def observe(self, observation: Observation) -> None:
        if isinstance(observation, ServerFault):
            self._faults.inc()
        if isinstance(observation, RequestAnswered):
            self._count(observation)

    def _count(self, request: RequestAnswered) -> None:
        method = request.method if request.method in _METHODS else _NONE
        route = request.route or _NONE
        status = _NONE if request.status is None else str(request.status)
        self._requests.labels(method, route, status).inc()
        self._seconds.labels(method, route).observe(request.seconds)
        self._sent.inc(request.bytes)
        is_read = method in ("GET", "HEAD")
        if request.rows is not None and (is_read or status.startswith("2")):
            (self._answered if is_read else self._received).inc(request.rows)

    def text(self) -> bytes:
        """All of them as they are now, of the media type `METRICS_TYPE`."""
        return generate_latest(self)

    def collect(self) -> Iterator[Metric]:
        for metric in (*self._registry.collect(), *_families(self._measure())):
            if self._worker is not None:
                worker = {"worker": str(self._worker)}
                metric.samples = [
                    sample._replace(labels={**sample.labels, **worker}) for sample in metric.samples
                ]
            yield metric


def _families(measured: Measured) -> Iterable[Metric]:
    for part, (family, name, words) in _MEASURED.items():
        value = getattr(measured, part)
        if value is not None:
            yield family(f"backdrop_{name}", words, value=value)
