"""The table of writes that were made under a key, and which keys are certainly new."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import duckdb
import pyarrow as pa

from backdrop.domain.once import Once
from backdrop.storage.duckdb.known_ids import KnownIds
from backdrop.storage.duckdb.sql import naive


class DoneWrites:
    """What is kept of them. A key that is certainly new needs no look into the table."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._known = KnownIds()
        rows = connection.execute("SELECT bucket, key FROM done").fetchall()
        if rows:
            self._known.add([_name(bucket, key) for bucket, key in rows])

    def find(
        self, connection: duckdb.DuckDBPyConnection, bucket: str, key: str, *, now: datetime
    ) -> Once | None:
        """What is kept under the key, if it has not expired."""
        if not self._known.maybe_held([_name(bucket, key)]):
            return None
        select = (
            "SELECT key, fingerprint, records, expires_at FROM done "
            "WHERE bucket = $1 AND key = $2 AND expires_at > $3"
        )
        rows = connection.execute(select, [bucket, key, naive(now)]).fetchall()
        for name, fingerprint, records, until in rows:
            return Once(name, fingerprint, records, until.replace(tzinfo=UTC))
        return None

    def keep(
        self,
        connection: duckdb.DuckDBPyConnection,
        kept: Mapping[tuple[str, str], Once],
        *,
        now: datetime,
    ) -> None:
        """Keep these, by bucket and key, and let go of what has expired."""
        if not kept:
            return
        self._known.add([_name(bucket, key) for bucket, key in kept])
        connection.execute("DELETE FROM done WHERE expires_at <= $1", [naive(now)])
        columns = {
            "bucket": [bucket for bucket, _ in kept],
            "key": [key for _, key in kept],
            "fingerprint": [once.fingerprint for once in kept.values()],
            "records": [once.records for once in kept.values()],
            "expires_at": [naive(once.expires_at) for once in kept.values()],
        }
        connection.register("kept", pa.table(columns))
        connection.execute("INSERT INTO done SELECT * FROM kept")

    def forget(self, connection: duckdb.DuckDBPyConnection, bucket: str) -> None:
        """Let go of all that is kept of a bucket's writes."""
        connection.execute("DELETE FROM done WHERE bucket = $1", [bucket])


def _name(bucket: str, key: str) -> str:
    return f"{bucket}/{key}"
