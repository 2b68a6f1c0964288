"""How the stores compare: `python -m bench.stores URL URL…` with the same records in each.

Each URL's store gets a bucket `bench`, which is dropped at the end. Prints seconds, the median of
some runs, and each as a multiple of the first store's.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from itertools import chain, count
from zoneinfo import ZoneInfo

from tests.flights import flights

from backdrop.answer import answer
from backdrop.domain.bucket import Bucket
from backdrop.domain.period import Period
from backdrop.domain.query import Collect, Equals, Query, Sort
from backdrop.domain.record import parse_records
from backdrop.domain.table import Records
from backdrop.domain.times import parse_instant
from backdrop.storage.open import open_storage, without_credentials
from backdrop.storage.port import Storage

BUCKET = Bucket(name="bench", raw_queries_allowed=True)
_A_BATCH = 10_000
_MONTH, _DAY = Period("month"), Period("day")
_LONDON_WEEK = Period("week", ZoneInfo("Europe/London"))
_DELAYS = (Collect("dep_delay", "mean"), Collect("dep_delay", "max"))
_SPRING = parse_instant("2013-03-01"), parse_instant("2013-03-08")
QUERIES = {
    "count by month": Query(period=_MONTH),
    "mean and max by origin": Query(group_by=("origin",), collect=_DELAYS),
    "week in London by carrier": Query(period=_LONDON_WEEK, group_by=("carrier",)),
    "day of one carrier": Query(period=_DAY, filters=(Equals("carrier", ("UA",)),)),
    "one week by dest": Query(group_by=("dest",), start=_SPRING[0], end=_SPRING[1]),
    "100 latest records": Query(sort=Sort("_timestamp", descending=True), limit=100),
    "all records": Query(),
}


def measured(storage: Storage) -> dict[str, float]:
    rows = [{k: v for k, v in row.items() if k != "time"} for row in flights()]
    batches = [
        parse_records(rows[at : at + _A_BATCH], BUCKET, new_ids=(f"{at}-{n}" for n in count()))
        for at in range(0, len(rows), _A_BATCH)
    ]
    storage.put_bucket(BUCKET)
    found = {"storing all, in batches": _seconds(lambda: [_save(storage, one) for one in batches])}
    singles = (Records.of([{"_id": f"single-{n}", "aa": n}]) for n in count())
    found["storing one record"] = _median(lambda: _save(storage, next(singles)), 50)
    for name, query in QUERIES.items():
        found[name] = _median(lambda query=query: _ask(storage, query), 5)  # type: ignore[misc]
    storage.drop_bucket(BUCKET.name)
    return found


def _save(storage: Storage, records: Records) -> None:
    storage.save(BUCKET.name, records)


def _ask(storage: Storage, query: Query) -> None:
    with answer(storage, BUCKET, query) as pages:
        sum(1 for _ in chain.from_iterable(pages))


def _median(run: Callable[[], object], times: int) -> float:
    return statistics.median(_seconds(run) for _ in range(times))


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def main(urls: list[str]) -> None:
    outcomes = []
    for url in urls:
        storage = open_storage(url)
        outcomes.append(measured(storage))
        storage.close()
        print(without_credentials(url), flush=True)
    for name, first in outcomes[0].items():
        ratios = "  ".join(f"{one[name]:9.4f} s  x{one[name] / first:<6.1f}" for one in outcomes)
        print(f"{name:28}{ratios}")


if __name__ == "__main__":
    main(sys.argv[1:])
