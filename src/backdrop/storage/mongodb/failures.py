"""The driver's errors: what each means, and what is said of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from bson.errors import BSONError
from pymongo.errors import (
    BulkWriteError,
    ConnectionFailure,
    DocumentTooLarge,
    OperationFailure,
    PyMongoError,
)

from backdrop.errors import BodyTooLarge, StorageFull, StorageUnavailable

TRANSIENT = "TransientTransactionError"
"""The label of an error after which a transaction is begun again."""

UNKNOWN_RESULT = "UnknownTransactionCommitResult"

_UNAUTHORIZED = 13
SNAPSHOT_UNAVAILABLE = 246
_TOO_LARGE_FOR_CACHE = 388
_TOO_LARGE_OBJECT = 10334
_OUT_OF_DISK_SPACE = 14031
_STATE_CHANGES = (91, 189, 10107, 11600, 11602, 13435, 13436)
"""Codes of a member that ceases to be the primary. Where they come as a write concern's error, the
driver does not take them for an election.
"""
_TOO_LARGE_GROUPS = (_TOO_LARGE_OBJECT, 17419, 17420, 146, 292)
"""BSONObjectTooLarge as the stages of a pipeline say it, and too much memory."""
_TOO_LARGE_TO_INSERT = "object to insert too large"
"""The server gives it the code of any bad value."""


@contextmanager
def driver_errors() -> Iterator[None]:
    """No exception of the driver leaves the engine."""
    try:
        yield
    except (PyMongoError, BSONError) as error:
        if _is_too_large_a_record(error):
            message = "a record, or a value that is looked for, is past this store's limit of 16 MB"
            raise BodyTooLarge(message) from None
        cause = _without_records(error)
        if any(code == _OUT_OF_DISK_SPACE for code, _ in _failures(error)):
            raise StorageFull("the database's disk is full: nothing was stored") from cause
        raise StorageUnavailable("the store does not answer") from cause


def _failures(error: Exception) -> list[tuple[int, str]]:
    """The server's code and message of each thing that went wrong, in a batch of writes too."""
    if not isinstance(error, OperationFailure):
        return []
    details = error.details or {}
    failures = [details, *details.get("writeErrors", ())]
    return [(one.get("code", 0), one.get("errmsg", "")) for one in failures]


def _is_too_large_a_record(error: Exception) -> bool:
    return isinstance(error, DocumentTooLarge) or any(
        code == _TOO_LARGE_OBJECT or _TOO_LARGE_TO_INSERT in message
        for code, message in _failures(error)
    )


def _without_records(error: Exception) -> Exception:
    """The error as it may be logged: that of a batch holds the records that were to be stored."""
    if not isinstance(error, BulkWriteError):
        return error
    code, message = _failures(error)[-1]
    return OperationFailure(message, code)


def is_too_large_a_group(error: Exception) -> bool:
    """Whether a group's document, or what gathers in it, passed a limit of the server's."""
    return any(code in _TOO_LARGE_GROUPS for code, _ in _failures(error))


def is_too_large(error: Exception) -> bool:
    """Whether a transaction changed more than the server's cache takes."""
    return any(code == _TOO_LARGE_FOR_CACHE for code, _ in _failures(error))


def is_of_an_election(error: PyMongoError) -> bool:
    return isinstance(error, ConnectionFailure) or any(
        code in _STATE_CHANGES for code, _ in _failures(error)
    )


def has_label(error: BaseException, label: str) -> bool:
    return isinstance(error, PyMongoError) and error.has_error_label(label)


def outcome_unknown() -> StorageUnavailable:
    return StorageUnavailable(
        "the store did not say whether the write was stored: it is whole, or not there at all",
        code="outcome_unknown",
    )


def reason(error: PyMongoError, database: str) -> str:
    """Why the store can't be opened, in a line."""
    if any(code == _UNAUTHORIZED for code, _ in _failures(error)):  # it quotes the whole command
        return (
            f"its user may not do all that Backdrop does in the database {database}: find, insert, "
            "update, remove, createIndex and dropCollection"
        )
    return _first_line(error)


def _first_line(error: Exception) -> str:
    """The reason without what follows it: time-outs, the topology, the server's whole answer."""
    return re.split(", Timeout:|, full error:| \\(configured timeouts", str(error))[0].splitlines()[
        0
    ]
