"""The limit: what the engine and the codec can do by hand, in a process of its own.

Records go from JSON by msgspec into Arrow columns and by one insert into a typed table without an
index, one commit a batch; questions are SQL written for this very table, and msgspec encodes the
same answer that Backdrop gives. Nothing is checked, no type can differ, nothing is shared.
"""

from __future__ import annotations

import csv
import io
import itertools
import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ClassVar, Literal

import duckdb
import msgspec
import pyarrow as pa

TEXT, INTEGER, BOOLEAN = (pa.string(), "VARCHAR"), (pa.int64(), "BIGINT"), (pa.bool_(), "BOOLEAN")
TIME = (pa.string(), "TIMESTAMP")
"""As it comes, and as it is kept."""
_WEEK = timedelta(days=7)


def time_text(time_: datetime) -> str:
    return time_.isoformat() + "+00:00"


class Table:
    """A hand-made table `records` of the fields, each with how it comes and how it is kept."""

    fields: Mapping[str, tuple[pa.DataType, str]]

    def __init__(self, path: str) -> None:
        self.connection = duckdb.connect(path)
        self.connection.execute("SET enable_progress_bar = false")
        kept = ", ".join(f"{name} {kind}" for name, (_, kind) in self.fields.items())
        self.connection.execute(f"CREATE TABLE IF NOT EXISTS records ({kept})")

    def column(self, rows: list[dict[str, Any]], name: str) -> list[Any]:
        return [row[name] for row in rows]

    def insert(self, body: bytes) -> None:
        rows = msgspec.json.decode(body)
        columns = {
            name: pa.array(self.column(rows, name), kind) for name, (kind, _) in self.fields.items()
        }
        time_ = columns["_timestamp"].cast(pa.timestamp("us", "UTC"))
        columns["_timestamp"] = time_.cast(pa.timestamp("us"))
        self.connection.register("batch", pa.table(columns))
        self.connection.execute("INSERT INTO records SELECT * FROM batch")

    def replace(self, body: bytes) -> None:
        """As `insert`, of records whose ids are there."""
        rows = msgspec.json.decode(body)
        self.connection.begin()
        ids = pa.table({"id": pa.array([row["_id"] for row in rows])})
        self.connection.register("ids", ids)
        self.connection.execute("DELETE FROM records WHERE _id IN (SELECT id FROM ids)")
        self.insert(body)
        self.connection.commit()

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        return self.connection.execute(statement).fetchall()


class Records(Table):
    """The made-up records, and the six standard questions."""

    fields: ClassVar = {
        "_id": TEXT,
        "_timestamp": TIME,
        "place": TEXT,
        "kind": TEXT,
        "authority": TEXT,
        "fee": INTEGER,
        "online": BOOLEAN,
    }

    def weeks(self) -> bytes:
        found = self.rows(
            "SELECT date_trunc('week', _timestamp) AS w, count(*) FROM records WHERE _timestamp >= "
            "'2013-01-01' AND _timestamp < '2014-01-01' GROUP BY w ORDER BY w"
        )
        return encoded(
            [
                {"_start_at": time_text(week), "_end_at": time_text(week + _WEEK), "_count": count}
                for week, count in found
            ]
        )

    def authorities_by_week(self) -> bytes:
        found = self.rows(
            "SELECT authority, date_trunc('week', _timestamp) AS w, count(*), sum(fee)::BIGINT "
            "FROM records GROUP BY authority, w ORDER BY authority, w"
        )
        weeks = {week: (time_text(week), time_text(week + _WEEK)) for _, week, _, _ in found}
        answer = []
        for authority, group in itertools.groupby(found, key=lambda row: row[0]):
            rows = list(group)
            answer.append(
                {
                    "authority": authority,
                    "_count": sum(row[2] for row in rows),
                    "_group_count": len(rows),
                    "fee:sum": sum(row[3] for row in rows),
                    "values": [
                        {
                            "_start_at": weeks[week][0],
                            "_end_at": weeks[week][1],
                            "_count": count,
                            "fee:sum": fee,
                        }
                        for _, week, count, fee in rows
                    ],
                }
            )
        return encoded(answer)

    def kinds(self) -> bytes:
        found = self.rows(
            "SELECT kind, count(*), sum(fee)::BIGINT FROM records GROUP BY kind ORDER BY kind"
        )
        return encoded(
            [{"kind": kind, "_count": count, "fee:sum": fee} for kind, count, fee in found]
        )

    def kinds_of_a_place(self) -> bytes:
        found = self.rows(
            "SELECT kind, count(*) FROM records WHERE place = 'place-3' GROUP BY kind ORDER BY kind"
        )
        return encoded([{"kind": kind, "_count": count} for kind, count in found])

    def kinds_by_place(self) -> bytes:
        found = self.rows(
            "SELECT place, count(*), list_sort(list(DISTINCT kind)) "
            "FROM records GROUP BY place ORDER BY place"
        )
        return encoded(
            [{"place": place, "_count": count, "kind:set": kinds} for place, count, kinds in found]
        )

    def records_of_a_day(self) -> bytes:
        found = self.rows(
            "SELECT * FROM records WHERE _timestamp >= '2013-06-01' AND _timestamp < '2013-06-02' "
            "ORDER BY _timestamp, rowid LIMIT 1000"
        )
        return encoded([_record(row) for row in found])

    # -- all of it --------------------------------------------------------------------------

    def stream(self, form: Literal["json", "csv"]) -> int:
        """Every record by time, encoded in pages and dropped; the number of bytes."""
        found = self.connection.execute("SELECT * FROM records ORDER BY _timestamp, rowid")
        encode = _json_page if form == "json" else _csv_page
        size = 0
        while rows := found.fetchmany(2_000):
            size += len(encode(rows))
        return size


def _json_page(rows: list[tuple[Any, ...]]) -> bytes:
    return msgspec.json.encode([_record(row) for row in rows])


def _csv_page(rows: list[tuple[Any, ...]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(
        (id_, time_text(time_), place, kind, authority, fee, "true" if online else "false")
        for id_, time_, place, kind, authority, fee, online in rows
    )
    return text.getvalue().encode()


def _record(row: tuple[Any, ...]) -> dict[str, Any]:
    record = dict(zip(Records.fields, row, strict=True))
    record["_timestamp"] = time_text(row[1])
    return record


def encoded(data: list[Any]) -> bytes:
    return msgspec.json.encode({"data": data})


def _serve(make: type[Table], path: str, pipe: Connection) -> None:
    table = make(path)
    while (command := pipe.recv()) is not None:
        name, arguments = command
        call: Callable[..., Any] = getattr(table, name)
        begun = time.perf_counter()
        result = call(*arguments)
        pipe.send((time.perf_counter() - begun, result))
    table.connection.close()


class Limit:
    """The process of the limit. `call` gives the seconds that it took in there, and the answer."""

    def __init__(self, path: Path, table: type[Table] = Records) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, inner = context.Pipe()
        self._process = context.Process(target=_serve, args=(table, str(path), inner))
        self._process.start()

    @property
    def pid(self) -> int:
        return self._process.pid or 0

    def call(self, name: str, *arguments: Any) -> tuple[float, Any]:
        self._pipe.send((name, arguments))
        seconds, result = self._pipe.recv()
        return float(seconds), result

    def insert_all(self, bodies: Sequence[bytes]) -> float:
        """The seconds that the batches took, one after the other."""
        return sum(self.call("insert", body)[0] for body in bodies)

    def close(self) -> None:
        self._pipe.send(None)
        self._process.join(60)
