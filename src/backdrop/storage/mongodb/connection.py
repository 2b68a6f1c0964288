"""The client with the guarantees that the store gives, and the end of the driver's errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

import pymongo
from bson.errors import BSONError
from pymongo import MongoClient, WriteConcern
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import (
    BulkWriteError,
    DocumentTooLarge,
    OperationFailure,
    PyMongoError,
)
from pymongo.read_concern import ReadConcern

from backdrop.errors import BodyTooLarge, StorageUnavailable

Session = ClientSession
Records = Database[dict[str, Any]]
T = TypeVar("T")

DURABLE = WriteConcern("majority", j=True)
SOON = WriteConcern(1)
"""Of what may be lost where a primary is."""

DEFAULT_DATABASE = "backdrop"

LONGEST_WRITE = 60.0
"""Seconds for which a transaction is tried; the server ends one after as many, too."""

_DEFAULTS = {"serverSelectionTimeoutMS": 5_000, "connectTimeoutMS": 5_000, "appName": "backdrop"}
"""Options that a URL may give another value."""

_OLDEST_WIRE_VERSION = 13
"""Of MongoDB 5.0, the first to read in snapshots outside of transactions."""

_TOO_LARGE_FOR_CACHE = 388
_TOO_LARGE_OBJECT = 10334
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
        raise StorageUnavailable("the store does not answer") from _without_records(error)


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


def is_too_large(error: Exception) -> bool:
    """Whether a transaction changed more than the server's cache takes."""
    return any(code == _TOO_LARGE_FOR_CACHE for code, _ in _failures(error))


def connect(url: str) -> tuple[MongoClient[dict[str, Any]], Records]:
    """The client and its database, which answers.

    Reads go to the primary and see what a majority has; writes return once a majority has them on
    disk, whatever the URL says. Raises StorageUnavailable, with the reason in its message, where
    the server can't be reached, or can't give what the store needs.
    """
    given = {name.lower() for name, _ in parse_qsl(urlsplit(url).query)}
    options: dict[str, Any] = {k: v for k, v in _DEFAULTS.items() if k.lower() not in given}
    try:
        client: MongoClient[dict[str, Any]] = MongoClient(url, retryWrites=True, **options)
    except (PyMongoError, ValueError) as error:
        raise StorageUnavailable(f"can't use the store's URL: {_reason(url, error)}") from None
    try:
        hello = client.admin.command("hello")
        _check(hello)
        name = _database_name(client)
    except PyMongoError as error:
        client.close()
        raise StorageUnavailable(f"can't open the store: {_first_line(error)}") from error
    except StorageUnavailable:
        client.close()
        raise
    database = client.get_database(
        name,
        write_concern=DURABLE,
        read_concern=ReadConcern("majority"),
        read_preference=pymongo.ReadPreference.PRIMARY,
    )
    return client, database


def transact(client: MongoClient[dict[str, Any]], work: Callable[[Session], T]) -> T:
    """What `work` returns, once all that it did is durable. It may be called more than once."""
    with pymongo.timeout(LONGEST_WRITE), client.start_session() as session:
        return session.with_transaction(
            work,
            read_concern=ReadConcern("snapshot"),
            write_concern=DURABLE,
            read_preference=pymongo.ReadPreference.PRIMARY,
        )


def _database_name(client: MongoClient[dict[str, Any]]) -> str:
    return client.get_default_database(DEFAULT_DATABASE).name


def _check(hello: dict[str, Any]) -> None:
    if hello["maxWireVersion"] < _OLDEST_WIRE_VERSION:
        raise StorageUnavailable("can't open the store: it takes MongoDB 5.0 or newer")
    if "setName" not in hello and hello.get("msg") != "isdbgrid":
        raise StorageUnavailable(
            "can't open the store: transactions take a replica set (one of one member will do: "
            "start mongod with --replSet, and call rs.initiate() once)"
        )


def _reason(url: str, error: Exception) -> str:
    """The driver quotes what stands after a `/`, which may be half of a password."""
    if "@" in urlsplit(url).path:
        return "its user's name and password must be percent-encoded: / is %2F, and @ is %40"
    return str(error)


def _first_line(error: Exception) -> str:
    """The reason without the topology's description that follows it."""
    return str(error).split(", Timeout:")[0].splitlines()[0]
