"""Exceptions -> answers: the one table of statuses, and the one form that all errors have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from backdrop.api.encode import json_answer
from backdrop.errors import (
    CODES,
    AmbiguousRequest,
    BackdropError,
    BodyBrokeOff,
    BodyTooLarge,
    ClientTooSlow,
    Conflict,
    Forbidden,
    InvalidRecords,
    InvalidRequest,
    KeyReused,
    MethodNotAllowed,
    NotFound,
    ProviderFailed,
    ProviderTimedOut,
    QueryTooLarge,
    QueryTooSlow,
    SignInRefused,
    StorageFull,
    StorageUnavailable,
    TooManyRequests,
    Unauthorized,
    UnsupportedMediaType,
)

STATUSES: Mapping[type[BackdropError], int] = {
    InvalidRequest: 400,
    Unauthorized: 401,
    Forbidden: 403,
    SignInRefused: 403,
    NotFound: 404,
    MethodNotAllowed: 405,
    ClientTooSlow: 408,
    Conflict: 409,
    BodyTooLarge: 413,
    UnsupportedMediaType: 415,
    KeyReused: 422,
    ProviderFailed: 502,
    TooManyRequests: 429,
    QueryTooSlow: 503,
    QueryTooLarge: 503,
    StorageUnavailable: 503,
    ProviderTimedOut: 504,
    StorageFull: 507,
}
"""The status of an exception and of those that derive from it. Anything else is a 500."""

FAULT_CODE = "internal_error"

CODE_STATUSES: Mapping[str, int] = {
    **dict.fromkeys(CODES, STATUSES[InvalidRequest]),
    **{kind.default_code: status for kind, status in STATUSES.items()},
    "unsupported_content_encoding": STATUSES[UnsupportedMediaType],
    "outcome_unknown": STATUSES[StorageUnavailable],
    "storage_write_failed": STATUSES[StorageFull],
    "too_many_queries": STATUSES[TooManyRequests],
    "too_many_bodies": STATUSES[TooManyRequests],
    FAULT_CODE: 500,
}
"""The status of an answer whose errors have the code: what is nowhere else is a bad request."""


RETRY_AFTER_SECONDS = 5
"""What a client is told to wait where the store does not answer."""


def status_of(error: Exception) -> int:
    known = (STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)
    return next(known, 500)


def error_headers(error: Exception) -> dict[str, str]:
    """What an answer of that status must tell beside its body, on a page too."""
    if isinstance(error, Unauthorized):
        return {"WWW-Authenticate": "Bearer"}
    if isinstance(error, MethodNotAllowed):
        return {"Allow": ", ".join(error.allowed)}
    if isinstance(error, (ClientTooSlow, AmbiguousRequest, BodyBrokeOff)):
        return {"Connection": "close"}  # where the next request begins is not known
    if isinstance(error, (StorageUnavailable, QueryTooSlow, QueryTooLarge)):
        return {"Retry-After": str(RETRY_AFTER_SECONDS)}
    if isinstance(error, TooManyRequests):
        return {"Retry-After": str(error.retry_after)}
    return {}


def error_answer(error: Exception, *, request_id: str) -> Response:
    """The answer to a request that failed so. Of a fault of ours it tells no more than its id."""
    status = status_of(error)
    headers = {"Cache-Control": "no-cache", **error_headers(error)}
    if not isinstance(error, BackdropError) or status == 500:
        message = "something went wrong here; the log says what, under this request_id"
        problem: dict[str, Any] = {"code": FAULT_CODE, "message": message}
        fault = {"message": message, "request_id": request_id, "errors": [problem]}
        return json_answer({"status": "error", **fault}, status=500, headers=headers)
    body: dict[str, Any] = {"status": "error", "message": error.message}
    if isinstance(error, InvalidRecords):
        body["error_count"] = error.count
    body["errors"] = [problem.as_json() for problem in error.problems]
    return json_answer(body, status=status, headers=headers)
