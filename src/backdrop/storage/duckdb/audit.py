"""The audit log in the file: one row an act, written by the commit of what it tells of."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import duckdb
import msgspec
import pyarrow as pa

from backdrop.domain.audit import Act, AuditEntry
from backdrop.storage.duckdb.inserts import Inserts
from backdrop.storage.duckdb.sql import naive
from backdrop.storage.port import audit_number

AUDIT_TABLE = """
CREATE TABLE IF NOT EXISTS audit (
    number BIGINT NOT NULL, done_at TIMESTAMP NOT NULL, by_whom VARCHAR NOT NULL,
    action VARCHAR NOT NULL, bucket VARCHAR, records BIGINT, details VARCHAR NOT NULL
)
"""
"""Made in a file that was here before there was a log, too. Numbers grow, and are the ids."""

_COLUMNS = pa.schema(
    {
        "number": pa.int64(),
        "done_at": pa.timestamp("us"),
        "by_whom": pa.string(),
        "action": pa.string(),
        "bucket": pa.string(),
        "records": pa.int64(),
        "details": pa.string(),
    }
)


def insert_acts(inserts: Inserts, acts: Sequence[Act], first_number: int, now: datetime) -> None:
    """One statement, whose cost hardly depends on how many acts share the commit."""
    rows = [
        (number, naive(now), act.by, act.action, act.bucket, act.records, _text(act))
        for number, act in enumerate(acts, start=first_number)
    ]
    columns = zip(*rows, strict=True)
    inserts.run(
        "audit",
        {
            field.name: pa.array(values, field.type)
            for field, values in zip(_COLUMNS, columns, strict=True)
        },
    )


def read_audit(
    connection: duckdb.DuckDBPyConnection, bucket: str | None, before: str | None, limit: int
) -> list[AuditEntry]:
    select = "SELECT * FROM audit WHERE number < $1"
    parameters: list[Any] = [2**63 - 1 if before is None else audit_number(before)]
    if bucket is not None:
        select += " AND bucket = $2"
        parameters.append(bucket)
    rows = connection.execute(f"{select} ORDER BY number DESC LIMIT {limit}", parameters).fetchall()
    return [_entry(*row) for row in rows]


def last_number(connection: duckdb.DuckDBPyConnection) -> int:
    (found,) = connection.execute("SELECT max(number) FROM audit").fetchall()[0]
    return int(found or 0)


def prune(connection: duckdb.DuckDBPyConnection, before: datetime) -> None:
    connection.execute("DELETE FROM audit WHERE done_at < $1", [naive(before)])


def _text(act: Act) -> str:
    return msgspec.json.encode(act.details).decode()


def _entry(
    number: int, at: datetime, by: str, action: Any, bucket: Any, records: Any, details: str
) -> AuditEntry:
    found = msgspec.json.decode(details)
    act = Act(by=by, action=action, bucket=bucket, records=records, details=found)
    return AuditEntry(str(number), at.replace(tzinfo=UTC), act)
