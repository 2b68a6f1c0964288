"""What can be observed of a running Backdrop, as data, and the one place that renders it.

No observation holds a token, a header's value or a query string: what isn't there can't be logged.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TextIO, TypeAlias

import structlog


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The application is ready to answer."""

    apis: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestAnswered:
    """One request is over. `route` is the pattern of its path, None where there is none.

    `bucket` is one that exists. `status` is None where the client left before an answer began.
    """

    method: str
    route: str | None
    bucket: str | None
    status: int | None
    seconds: float
    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFault:
    """Something went wrong that is not the client's doing."""

    request_id: str
    exception: BaseException


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


Observation: TypeAlias = Started | RequestAnswered | ServerFault | WorkerDied
Observe: TypeAlias = Callable[[Observation], None]

_EVENTS: Mapping[type, tuple[str, str]] = {
    Started: ("info", "started"),
    RequestAnswered: ("info", "request"),
    ServerFault: ("error", "fault"),
    WorkerDied: ("error", "worker_died"),
}
"""Of each observation: the level and the name of its log line."""


def json_lines(file: TextIO | None = None) -> Observe:
    """What renders each observation as one line of JSON, to stderr if not to `file`."""
    logger = structlog.wrap_logger(
        structlog.WriteLogger(file or sys.stderr),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,  # a plain traceback: it shows no variables
            structlog.processors.JSONRenderer(),
        ],
    )

    def observe(observation: Observation) -> None:
        level, event = _EVENTS[type(observation)]
        fields = {
            field.name: getattr(observation, field.name)
            for field in dataclasses.fields(observation)
        }
        if "exception" in fields:
            fields["exc_info"] = fields.pop("exception")
        if "seconds" in fields:
            fields["seconds"] = round(fields["seconds"], 6)
        with contextlib.suppress(OSError, ValueError):  # a log that is full stops nothing
            getattr(logger, level)(event, **fields)

    return observe
