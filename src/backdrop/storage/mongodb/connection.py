"""The client with the guarantees that the store gives."""

from __future__ import annotations

import math
import random
import re
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from itertools import count
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar
from urllib.parse import parse_qsl, urlsplit

import pymongo
from bson import ObjectId
from pymongo import MongoClient, WriteConcern
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import (
    OperationFailure,
    PyMongoError,
)
from pymongo.monitoring import (
    TopologyClosedEvent,
    TopologyDescriptionChangedEvent,
    TopologyListener,
    TopologyOpenedEvent,
)
from pymongo.read_concern import ReadConcern

from backdrop.errors import StorageUnavailable
from backdrop.storage.mongodb.failures import (
    SNAPSHOT_UNAVAILABLE,
    TRANSIENT,
    UNKNOWN_RESULT,
    driver_errors,
    has_label,
    is_of_an_election,
    outcome_unknown,
    reason,
)

Session = ClientSession
Records = Database[dict[str, Any]]
T = TypeVar("T")

LONGEST_WRITE = 60.0
"""Seconds for which a transaction is tried; the server ends one after as many, too."""

TRIES = 10
"""How often a step is begun again that others keep getting ahead of."""

DURABLE = WriteConcern("majority", j=True, wtimeout=int(LONGEST_WRITE * 500))
"""The time-out is for sets that keep a primary without a majority that stores: with an arbiter."""
SOON = WriteConcern(1)
"""Of what may be lost where a primary is."""

DEFAULT_DATABASE = "backdrop"

LONGEST_START = 30.0
"""Seconds for which a set that is there is given time to elect a primary, when a store is opened.
"""

_DEFAULTS = {
    "serverSelectionTimeoutMS": 7_000,
    "connectTimeoutMS": 3_000,
    "heartbeatFrequencyMS": 1_000,
    "appName": "backdrop",
}
"""Options that a URL may give another value.

A member that falls silent is noticed after a heartbeat and a connect timeout, and what waits for it
is broken off. Then, or at once where it refuses connections, a primary is waited for. No time-out
of sockets: an answer that takes long is none that doesn't come.
"""

_PATIENCE = 0.75
"""Of the time for which a primary is waited for. So long after it went, nobody begins to wait: less
than the whole, since the driver tells of it up to a second late.
"""

_LONGEST_SETTLING_MS = 7_000

_SHORT_PAUSE = 0.05
_LONGEST_PAUSE = 0.5
"""Seconds between two tries."""

_OLDEST_WIRE_VERSION = 13
"""Of MongoDB 5.0, the first to read in snapshots outside of transactions."""


class _Primary(TopologyListener):
    """Since when the set has had no primary, in monotonic seconds; None where it has one."""

    def __init__(self) -> None:
        self.gone_since: float | None = time.monotonic()

    def opened(self, event: TopologyOpenedEvent) -> None:
        pass

    def description_changed(self, event: TopologyDescriptionChangedEvent) -> None:
        if event.new_description.has_writable_server():
            self.gone_since = None
        elif self.gone_since is None:
            self.gone_since = time.monotonic()

    def closed(self, event: TopologyClosedEvent) -> None:
        pass


class Connection:
    """A client and its database.

    Reads go to the primary and see what a majority has; writes return once a majority has them on
    disk, whatever the URL says. Where no primary can be had, what is asked fails within a bounded
    time, and at once where that is known.
    Raises StorageUnavailable for a URL that can't be used.
    """

    def __init__(self, url: str) -> None:
        _refuse_unquoted(url)
        given = {name.lower() for name, _ in parse_qsl(urlsplit(url).query)}
        options: dict[str, Any] = {k: v for k, v in _DEFAULTS.items() if k.lower() not in given}
        self._primary = _Primary()
        self._settled: list[ObjectId | None] = []
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", UserWarning)  # of options that would be passed over
                self._client: MongoClient[dict[str, Any]] = MongoClient(
                    url, retryWrites=True, event_listeners=[self._primary], **options
                )
        except UserWarning as error:
            raise StorageUnavailable(f"can't use the store's URL: {error}") from None
        except (PyMongoError, ValueError) as error:
            # What PyMongo says may hold a part of the URL, and so of a password.
            why = _HOW_TO_QUOTE if "@" in url else str(error)
            raise StorageUnavailable(f"can't use the store's URL: {why}") from None
        self.database: Records = self._client.get_database(
            self._client.get_default_database(DEFAULT_DATABASE).name,
            write_concern=DURABLE,
            read_concern=ReadConcern("majority"),
            read_preference=pymongo.ReadPreference.PRIMARY,
        )

    def open(self, prepare: Callable[[], None], say: Callable[[str], None]) -> None:
        """Call `prepare` once the database answers; again where an election comes between.

        Tells `say` where that has to be waited for. Raises StorageUnavailable, with the reason in
        its message, where the server can't be reached, or can't give what the store needs.
        """
        until = time.monotonic() + LONGEST_START
        for attempt in count():
            try:
                _check(self._client.admin.command("hello"))
                prepare()
                return
            except PyMongoError as error:
                waited = is_of_an_election(error) and self._is_there()
                if not waited or time.monotonic() > until:
                    why = "no primary was elected" if waited else reason(error, self.database.name)
                    raise StorageUnavailable(f"can't open the store: {why}") from error
            if not attempt:
                say("The store has no primary at the moment: waiting for one to be elected")
            time.sleep(_LONGEST_PAUSE)

    def close(self) -> None:
        self._client.close()

    @contextmanager
    def asked(self) -> Iterator[None]:
        """Within, no exception of the driver leaves, and nothing begins that can't be answered."""
        self.refuse_if_gone()
        with driver_errors():
            self._settle()
            yield

    @contextmanager
    def reading(self, work: Callable[[Session], T]) -> Iterator[T]:
        """What `work` returns, whose session reads all as it was at one moment, and stays open.

        It may be called more than once: a new primary has no such moment at first.
        """
        until = time.monotonic() + self._client.options.server_selection_timeout
        while True:
            with self._client.start_session(snapshot=True) as session:
                try:
                    found = work(session)
                except OperationFailure as error:
                    if error.code != SNAPSHOT_UNAVAILABLE or time.monotonic() > until:
                        raise
                else:
                    yield found
                    return
            time.sleep(_SHORT_PAUSE)

    def again(self, work: Callable[[], T]) -> T:
        """What `work` returns, which may be done twice: so it is where an election comes between.

        For what the driver does not ask again by itself: commands that make or fill a collection.
        """
        until = math.inf
        while True:
            try:
                return work()
            except PyMongoError as error:
                if not is_of_an_election(error) or time.monotonic() > until:
                    raise
                patience = self._client.options.server_selection_timeout
                until = min(until, time.monotonic() + patience)
            self.refuse_if_gone()
            time.sleep(_SHORT_PAUSE)

    def transact(self, work: Callable[[Session], T]) -> T:
        """What `work` returns, once all that it did is durable. It may be called more than once.

        Raises StorageUnavailable with the code `outcome_unknown` where the server was asked to
        commit and never said whether it did.
        """
        until = time.monotonic() + LONGEST_WRITE
        with self._client.start_session() as session:
            for attempt in count():
                session.start_transaction(ReadConcern("snapshot"), DURABLE, _PRIMARY)
                try:
                    result = work(session)
                    self._commit(session, until)
                    return result
                except BaseException as error:
                    if session.in_transaction:
                        session.abort_transaction()
                    if not has_label(error, TRANSIENT) or time.monotonic() > until:
                        raise
                self.refuse_if_gone()
                time.sleep(random.random() * min(0.005 * 1.5**attempt, _LONGEST_PAUSE))  # noqa: S311  no secret
        raise AssertionError  # the loop has no other end

    def _commit(self, session: Session, until: float) -> None:
        """Commit, again and again until the server says whether it did: that changes nothing."""
        unknown = False
        while True:
            try:
                session.commit_transaction()
                return
            except PyMongoError as error:
                unknown = unknown or has_label(error, UNKNOWN_RESULT)
                if not unknown or has_label(error, TRANSIENT):
                    raise
                is_over = not has_label(error, UNKNOWN_RESULT) or time.monotonic() > until
                if is_over or self._is_gone():
                    raise outcome_unknown() from error
            time.sleep(_SHORT_PAUSE)

    def _settle(self) -> None:
        """Have a new primary commit something: until it has, it may not show the last writes."""
        members = self._client.topology_description.server_descriptions().values()
        elections = [member.election_id for member in members if member.is_writable]
        if elections and elections != self._settled:
            only_once_committed = ReadConcern("linearizable")
            store = self.database.get_collection("store", read_concern=only_once_committed)
            store.find_one({"_id": "format"}, max_time_ms=_LONGEST_SETTLING_MS)
            self._settled = elections

    def refuse_if_gone(self) -> None:
        """Raise StorageUnavailable where nothing that is asked now can be answered."""
        if self._is_gone():
            raise StorageUnavailable("the store does not answer")

    def _is_gone(self) -> bool:
        """Whether there has been no primary for so long that it's not worth waiting for one."""
        since = self._primary.gone_since
        if since is None or self._client.topology_description.has_writable_server():
            return False
        return time.monotonic() - since > _PATIENCE * self._client.options.server_selection_timeout

    def _is_there(self) -> bool:
        """Whether any member answers."""
        members = self._client.topology_description.server_descriptions().values()
        return any(member.is_server_type_known for member in members)


class _Connected(Protocol):
    connection: Connection


A = TypeVar("A", bound=_Connected)
P = ParamSpec("P")


def asks(method: Callable[Concatenate[A, P], T]) -> Callable[Concatenate[A, P], T]:
    """A method that asks its object's connection, within `Connection.asked`."""

    @wraps(method)
    def ask(self: A, /, *args: P.args, **named: P.kwargs) -> T:
        with self.connection.asked():
            return method(self, *args, **named)

    return ask


def _refuse_unquoted(url: str) -> None:
    """What stands before an @ is a name or a password: none may be taken for a host or an option,
    which messages show.
    """
    _, *after_hosts = re.split("[/?]", url.partition("://")[2], maxsplit=1)
    if "@" in "".join(after_hosts):
        raise StorageUnavailable(f"can't use the store's URL: {_HOW_TO_QUOTE}")


_HOW_TO_QUOTE = (
    "expected mongodb://user:password@host:27017/database?replicaSet=name, and in the user's name "
    "and password each of : / ? # [ ] @ % as its percent code, such as %2F for /"
)

_PRIMARY = pymongo.ReadPreference.PRIMARY


def _check(hello: dict[str, Any]) -> None:
    if hello["maxWireVersion"] < _OLDEST_WIRE_VERSION:
        raise StorageUnavailable("can't open the store: it takes MongoDB 5.0 or newer")
    if "setName" not in hello and hello.get("msg") != "isdbgrid":
        raise StorageUnavailable(
            "can't open the store: transactions take a replica set (one of one member will do: "
            "start mongod with --replSet, and call rs.initiate() once)"
        )
