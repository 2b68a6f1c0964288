"""Backdrop on MongoDB beside PyMongo by hand, on the same replica set of three.

    python -m bench.mongodb [RECORDS]

By hand: msgspec decodes the same bodies, times become numbers of microseconds, `insert_many` writes
with the same guarantee (a majority, on disk), and pipelines written for these very fields ask the
six questions, in a snapshot as Backdrop does. They give the same JSON in the same order, but know
these records: each has a whole number as its fee, every key, and a time of a whole second, for
which the quotient of floats is exact; so they need not look. Backdrop's answers come over HTTP,
with the ETag of their bucket's version.
"""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

import httpx2
import msgspec
from pymongo import MongoClient, WriteConcern
from pymongo.client_session import ClientSession
from tests.live import live_server
from tests.storage import mongodb as servers

from bench.data import bodies
from bench.load import kept_connection, request_bytes
from bench.questions import QUESTIONS
from bench.report import Row, interleaved, markdown
from bench.server import Backdrop

ROUNDS = 11
_YEAR_1 = datetime(1, 1, 1, tzinfo=UTC)
_WEEK_US = 7 * 24 * 3_600_000_000
_DAY = (datetime(2013, 6, 1, tzinfo=UTC), datetime(2013, 6, 2, tzinfo=UTC))
_YEAR = (datetime(2013, 1, 1, tzinfo=UTC), datetime(2014, 1, 1, tzinfo=UTC))
_WEEK = {"$floor": {"$divide": ["$_timestamp", _WEEK_US]}}


def _us(time_: datetime) -> int:
    return (time_ - _YEAR_1) // timedelta(microseconds=1)


def _text(us: int) -> str:
    return (_YEAR_1 + timedelta(microseconds=us)).isoformat()


def _week(number: float) -> dict[str, str]:
    begin = int(number) * _WEEK_US
    return {"_start_at": _text(begin), "_end_at": _text(begin + _WEEK_US)}


class ByHand:
    """A collection of one's own, with an index on the time."""

    def __init__(self, url: str) -> None:
        self._client: MongoClient[dict[str, Any]] = MongoClient(url)
        name = f"by_hand_{time.time_ns()}"
        durable = WriteConcern("majority", j=True)
        self._records = self._client["by_hand"].get_collection(name, write_concern=durable)
        self._records.create_index("_timestamp")

    def insert(self, body: bytes) -> float:
        begun = time.perf_counter()
        rows = msgspec.json.decode(body)
        for row in rows:
            row["_timestamp"] = _us(datetime.fromisoformat(row["_timestamp"]))
        self._records.insert_many(rows, ordered=False)
        return time.perf_counter() - begun

    def ask(self, method: str) -> tuple[float, bytes]:
        begun = time.perf_counter()
        with self._client.start_session(snapshot=True) as session:
            answer = getattr(self, method)(session)
        body = msgspec.json.encode({"data": answer})
        return time.perf_counter() - begun, body

    def _grouped(self, session: ClientSession, *stages: dict[str, Any]) -> Iterator[Any]:
        return iter(self._records.aggregate([*stages, {"$sort": {"_id": 1}}], session=session))

    def weeks(self, session: ClientSession) -> list[Any]:
        within = {"_timestamp": {"$gte": _us(_YEAR[0]), "$lt": _us(_YEAR[1])}}
        group = {"_id": _WEEK, "count": {"$sum": 1}}
        found = self._grouped(session, {"$match": within}, {"$group": group})
        return [{**_week(one["_id"]), "_count": one["count"]} for one in found]

    def authorities_by_week(self, session: ClientSession) -> list[Any]:
        key = {"authority": "$authority", "week": _WEEK}
        group = {"_id": key, "count": {"$sum": 1}, "fee": {"$sum": "$fee"}}
        answer = []
        rows = self._grouped(session, {"$group": group})
        for authority, found in groupby(rows, key=lambda row: row["_id"]["authority"]):
            weeks = list(found)
            answer.append(
                {
                    "authority": authority,
                    "_count": sum(one["count"] for one in weeks),
                    "_group_count": len(weeks),
                    "fee:sum": sum(one["fee"] for one in weeks),
                    "values": [
                        {
                            **_week(one["_id"]["week"]),
                            "_count": one["count"],
                            "fee:sum": one["fee"],
                        }
                        for one in weeks
                    ],
                }
            )
        return answer

    def kinds(self, session: ClientSession) -> list[Any]:
        group = {"_id": "$kind", "count": {"$sum": 1}, "fee": {"$sum": "$fee"}}
        return [
            {"kind": one["_id"], "_count": one["count"], "fee:sum": one["fee"]}
            for one in self._grouped(session, {"$group": group})
        ]

    def kinds_of_a_place(self, session: ClientSession) -> list[Any]:
        group = {"_id": "$kind", "count": {"$sum": 1}}
        match = {"$match": {"place": "place-3"}}
        return [
            {"kind": one["_id"], "_count": one["count"]}
            for one in self._grouped(session, match, {"$group": group})
        ]

    def kinds_by_place(self, session: ClientSession) -> list[Any]:
        group = {"_id": "$place", "count": {"$sum": 1}, "kinds": {"$addToSet": "$kind"}}
        return [
            {"place": one["_id"], "_count": one["count"], "kind:set": sorted(one["kinds"])}
            for one in self._grouped(session, {"$group": group})
        ]

    def records_of_a_day(self, session: ClientSession) -> list[Any]:
        within = {"_timestamp": {"$gte": _us(_DAY[0]), "$lt": _us(_DAY[1])}}
        found = self._records.find(within, session=session).sort("_timestamp", 1).limit(1000)
        return [{**one, "_timestamp": _text(one["_timestamp"])} for one in found]


def main(records: int) -> None:
    given = os.environ.get("BACKDROP_TEST_MONGODB")
    with (
        _given(given) if given else servers.replica_set() as url,
        tempfile.TemporaryDirectory() as t,
    ):
        token = secrets.token_urlsafe(24)
        store = servers.database(url, f"bench-{time.time_ns()}")
        env = {"BACKDROP_MAX_CACHED": "1", "BACKDROP_ADMIN_TOKEN": token, "BACKDROP_STORE": store}
        with live_server("serve", cwd=Path(t), env=env) as server:
            backdrop = Backdrop(server.url, server.process.pid, Path(t), token)
            print(markdown(f"{records:,} records on MongoDB", _measure(backdrop, url, records)))
        servers.drop(store)


@contextmanager
def _given(url: str) -> Iterator[str]:
    yield url


def _measure(server: Backdrop, url: str, records: int) -> list[Row]:
    by_hand = ByHand(url)
    token = server.make_bucket("records")
    sent = list(bodies(records, batch=10_000))
    ours = best = 0.0
    for body in sent:
        ours += server.post_all("records", token, [body], connections=1).seconds
        best += by_hand.insert(body)
    rows = [
        _row(
            "loading, batches of 10,000",
            f"{records / ours:,.0f}/s",
            f"{records / best:,.0f}/s",
            ours / best,
        )
    ]
    for what, (query, method) in QUESTIONS.items():
        target = f"{server.url}/records?{query}"
        if not _same(httpx2.get(target, timeout=600).json(), by_hand.ask(method)[1]):
            raise SystemExit(f"{what}: the answers differ")
        request = request_bytes(target)
        with kept_connection(server.url) as ask:
            mine, hand = interleaved(
                ROUNDS,
                lambda ask=ask, request=request: ask(request),
                lambda method=method: by_hand.ask(method)[0],
            )
        rows.append(_row(what, str(mine), str(hand), mine.median / hand.median))
    return rows


def _same(ours: Any, by_hand: bytes) -> bool:
    """Whether the answers are equal, ties of single records apart."""
    other = msgspec.json.decode(by_hand)
    if "_id" in other["data"][0]:
        return [row["_timestamp"] for row in ours["data"]] == [
            row["_timestamp"] for row in other["data"]
        ]
    return bool(ours == other)


def _row(what: str, ours: str, limit: str, ratio: float) -> Row:
    return Row(what, ours, limit, ratio, "≤ 1.3", ratio <= 1.3)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500_000)
