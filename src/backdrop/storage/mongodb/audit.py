"""The audit log: one document an act, inserted by the transaction of what it tells of."""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

import msgspec

from backdrop.domain.audit import Act, AuditEntry
from backdrop.domain.period_key import instant, microseconds
from backdrop.storage.mongodb.connection import Connection, Session
from backdrop.storage.mongodb.documents import Document
from backdrop.storage.port import not_an_audit_id

T = TypeVar("T")

_is_id = re.compile(r"[0-9]{20}-[0-9a-f]{8}").fullmatch


class Audit:
    """The collection `audit`. An id is the time, or one above the process's last, and then what no
    other process has; so their order is that of time.
    """

    def __init__(self, connection: Connection, clock: Callable[[], datetime]) -> None:
        self._connection = connection
        self._collection = connection.database["audit"]
        self._clock = clock
        self._process = secrets.token_hex(4)
        self._lock = threading.Lock()
        self._last = 0

    def prepare(self) -> None:
        self._collection.create_index([("bucket", 1), ("_id", -1)])

    def transact(self, work: Callable[[Session], T], act: Act | None) -> T:
        """What the work returns, which is done in a transaction, maybe more than once.

        The act is noted in it, unless the work returns False: that nothing was done.
        """

        def noted(session: Session) -> T:
            result = work(session)
            if act is not None and result is not False:
                self.note(act, session)
            return result

        return self._connection.transact(noted)

    def note(self, act: Act, session: Session | None) -> None:
        at = microseconds(self._clock())
        document = {
            "_id": self._id(at),
            "at": at,
            "by": act.by,
            "action": act.action,
            "bucket": act.bucket,
            "records": act.records,
            "details": msgspec.json.encode(act.details).decode(),
        }
        self._collection.insert_one(document, session=session)

    def last(self, bucket: str | None, before: str | None, limit: int) -> list[AuditEntry]:
        if before is not None and not _is_id(before):
            raise not_an_audit_id(before)
        query: Document = {} if bucket is None else {"bucket": bucket}
        if before is not None:
            query["_id"] = {"$lt": before}
        return [_entry(one) for one in self._collection.find(query).sort("_id", -1).limit(limit)]

    def prune(self, before: datetime) -> None:
        self._collection.delete_many({"_id": {"$lt": f"{microseconds(before):020d}"}})

    def _id(self, at: int) -> str:
        with self._lock:
            self._last = max(self._last + 1, at)
            return f"{self._last:020d}-{self._process}"


def _entry(document: Document) -> AuditEntry:
    act = Act(
        by=document["by"],
        action=document["action"],
        bucket=document["bucket"],
        records=document["records"],
        details=msgspec.json.decode(document["details"]),
    )
    return AuditEntry(document["_id"], instant(document["at"]), act)
