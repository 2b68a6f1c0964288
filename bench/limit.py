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
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import duckdb
import msgspec
import pyarrow as pa

CREATE = """
CREATE TABLE IF NOT EXISTS records (
    _id VARCHAR, _timestamp TIMESTAMP, place VARCHAR, kind VARCHAR, authority VARCHAR,
    fee BIGINT, online BOOLEAN
)
"""
_NAMES = ("_id", "_timestamp", "place", "kind", "authority", "fee", "online")
_TYPES = (
    pa.string(), pa.string(), pa.string(), pa.string(), pa.string(), pa.int64(), pa.bool_(),
)  # fmt: skip
_WEEK = timedelta(days=7)


def _text(time_: datetime) -> str:
    return time_.isoformat() + "+00:00"


class _Table:
    def __init__(self, path: str) -> None:
        self.connection = duckdb.connect(path)
        self.connection.execute("SET enable_progress_bar = false")
        self.connection.execute(CREATE)

    def insert(self, body: bytes) -> None:
        rows = msgspec.json.decode(body)
        columns = {
            name: pa.array([row[name] for row in rows], kind)
            for name, kind in zip(_NAMES, _TYPES, strict=True)
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

    # -- the six questions ------------------------------------------------------------------

    def weeks(self) -> bytes:
        found = self.rows(
            "SELECT date_trunc('week', _timestamp) AS w, count(*) FROM records WHERE _timestamp >= "
            "'2013-01-01' AND _timestamp < '2014-01-01' GROUP BY w ORDER BY w"
        )
        return _encoded(
            [
                {"_start_at": _text(week), "_end_at": _text(week + _WEEK), "_count": count}
                for week, count in found
            ]
        )

    def authorities_by_week(self) -> bytes:
        found = self.rows(
            "SELECT authority, date_trunc('week', _timestamp) AS w, count(*), sum(fee)::BIGINT "
            "FROM records GROUP BY authority, w ORDER BY authority, w"
        )
        weeks = {week: (_text(week), _text(week + _WEEK)) for _, week, _, _ in found}
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
        return _encoded(answer)

    def kinds(self) -> bytes:
        found = self.rows(
            "SELECT kind, count(*), sum(fee)::BIGINT FROM records GROUP BY kind ORDER BY kind"
        )
        return _encoded(
            [{"kind": kind, "_count": count, "fee:sum": fee} for kind, count, fee in found]
        )

    def kinds_of_a_place(self) -> bytes:
        found = self.rows(
            "SELECT kind, count(*) FROM records WHERE place = 'place-3' GROUP BY kind ORDER BY kind"
        )
        return _encoded([{"kind": kind, "_count": count} for kind, count in found])

    def kinds_by_place(self) -> bytes:
        found = self.rows(
            "SELECT place, count(*), list_sort(list(DISTINCT kind)) "
            "FROM records GROUP BY place ORDER BY place"
        )
        return _encoded(
            [{"place": place, "_count": count, "kind:set": kinds} for place, count, kinds in found]
        )

    def records_of_a_day(self) -> bytes:
        found = self.rows(
            "SELECT * FROM records WHERE _timestamp >= '2013-06-01' AND _timestamp < '2013-06-02' "
            "ORDER BY _timestamp, rowid LIMIT 1000"
        )
        return _encoded([_record(row) for row in found])

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
        (id_, _text(time_), place, kind, authority, fee, "true" if online else "false")
        for id_, time_, place, kind, authority, fee, online in rows
    )
    return text.getvalue().encode()


def _record(row: tuple[Any, ...]) -> dict[str, Any]:
    record = dict(zip(_NAMES, row, strict=True))
    record["_timestamp"] = _text(row[1])
    return record


def _encoded(data: list[Any]) -> bytes:
    return msgspec.json.encode({"data": data})


def _serve(path: str, pipe: Connection) -> None:
    table = _Table(path)
    while (command := pipe.recv()) is not None:
        name, arguments = command
        call: Callable[..., Any] = getattr(table, name)
        begun = time.perf_counter()
        result = call(*arguments)
        pipe.send((time.perf_counter() - begun, result))
    table.connection.close()


class Limit:
    """The process of the limit. `call` gives the seconds that it took in there, and the answer."""

    def __init__(self, path: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, inner = context.Pipe()
        self._process = context.Process(target=_serve, args=(str(path), inner))
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
