"""Real flights go in by the command line and come out right.

What is right is computed here from the file, with nothing of Backdrop's.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx2
import pytest

from tests.flights import FILE, flights
from tests.live import Server, live_server

IDENTITY = "_timestamp,carrier,flight,origin"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("flights")
    with live_server("serve", cwd=folder) as server:
        create = ("bucket", "create", "flights", "--raw-queries-allowed", "--auto-ids", IDENTITY)
        backdrop(server, *create)
        backdrop(server, "import", "flights", str(FILE))
        yield server


def backdrop(server: Server, *arguments: str) -> None:
    """Run the command as a user would."""
    done = server.run(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr


def get(server: Server, query: str) -> list[dict[str, Any]]:
    answer = httpx2.get(f"{server.url}/flights?{query}", timeout=60)
    assert answer.status_code == 200, answer.text
    data: list[dict[str, Any]] = answer.json()["data"]
    return data


def month(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-01T00:00:00+00:00")


def day(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT00:00:00+00:00")


def week(time: datetime) -> str:
    date = time.astimezone(UTC).date()
    return f"{date - timedelta(days=date.weekday())}T00:00:00+00:00"


def hour(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:00:00+00:00")


def quarter(time: datetime) -> str:
    time = time.astimezone(UTC)
    return f"{time.year}-{(time.month - 1) // 3 * 3 + 1:02d}-01T00:00:00+00:00"


def counted(key: Callable[[dict[str, Any]], Any]) -> dict[Any, int]:
    return dict(Counter(map(key, flights())))


def test_every_flight_is_stored_once(server: Server) -> None:
    """The import stores each flight of the file, and the answer without groups gives each back."""
    assert len(get(server, "")) == len(flights())
    shown = get(server, "limit=1")[0]
    first = min(flights(), key=lambda flight: flight["time"])
    assert shown == {k: v for k, v in first.items() if k != "time"} | {
        "_id": shown["_id"],
        "_timestamp": first["time"].astimezone(UTC).isoformat(),
    }


def test_a_second_import_replaces(server: Server) -> None:
    """With auto_ids the same file again leaves the count as it was."""
    backdrop(server, "import", "flights", str(FILE))
    assert sum(row["_count"] for row in get(server, "group_by=origin")) == len(flights())


@pytest.mark.parametrize("period", [hour, day, week, month, quarter], ids=lambda f: f.__name__)
def test_counts_by_period(server: Server, period: Callable[[datetime], str]) -> None:
    """Each period's count is that of the flights whose time lies in it."""
    rows = get(server, f"period={period.__name__}")
    assert {row["_start_at"]: row["_count"] for row in rows} == counted(
        lambda flight: period(flight["time"])
    )


def local_start(time: datetime, period: str, zone: ZoneInfo) -> str:
    """Where the local period of a flight begins, from `zoneinfo` alone.

    New York and London change their clocks at full hours of UTC and never at midnight.
    """
    if period == "hour":
        return hour(time)
    midnight = datetime.combine(time.astimezone(zone).date(), datetime.min.time())
    if period == "week":
        midnight -= timedelta(days=midnight.weekday())
    if period == "month":
        midnight = midnight.replace(day=1)
    return midnight.replace(tzinfo=zone).astimezone(UTC).isoformat()


@pytest.mark.parametrize("period", ["hour", "day", "week", "month"])
@pytest.mark.parametrize("zone", ["America/New_York", "Europe/London"])
def test_counts_by_local_period(server: Server, zone: str, period: str) -> None:
    """Hours, days, weeks and months of a zone agree with what zoneinfo says of each flight."""
    rows = get(server, f"period={period}&timezone={zone}")
    assert {row["_start_at"]: row["_count"] for row in rows} == counted(
        lambda flight: local_start(flight["time"], period, ZoneInfo(zone))
    )
    assert all(row["_start_at"] < row["_end_at"] for row in rows)


@pytest.mark.parametrize(
    ("zone", "date", "hours"),
    [
        ("America/New_York", "2013-03-10", 23),
        ("America/New_York", "2013-11-03", 25),
        ("Europe/London", "2013-03-31", 23),
        ("Europe/London", "2013-10-27", 25),
    ],
)
def test_days_on_which_clocks_change(server: Server, zone: str, date: str, hours: int) -> None:
    """Such a day is one row of 23 or 25 hours, and has as many hours, filled, that sum to it."""
    following = (datetime.fromisoformat(date) + timedelta(days=1)).date()
    range_ = f"timezone={zone}&start_at={date}&end_at={following}"
    (whole,) = get(server, f"period=day&{range_}")
    rows = get(server, f"period=hour&{range_}")
    begin, end = (datetime.fromisoformat(whole[key]) for key in ("_start_at", "_end_at"))
    assert end - begin == timedelta(hours=hours)
    assert [row["_start_at"] for row in rows] == [
        (begin + timedelta(hours=n)).isoformat() for n in range(hours)
    ]
    assert sum(row["_count"] for row in rows) == whole["_count"]
    assert whole["_count"] == sum(begin <= flight["time"] < end for flight in flights())


def test_mean_delay_by_origin_and_month(server: Server) -> None:
    """Means by month and over all months, with cancelled flights (no delay) left out of them."""
    delays: dict[tuple[str, str], list[int]] = defaultdict(list)
    for flight in flights():
        if "dep_delay" in flight:
            delays[flight["origin"], month(flight["time"])].append(flight["dep_delay"])
            delays[flight["origin"], ""].append(flight["dep_delay"])
    found = {}
    for group in get(server, "period=month&group_by=origin&collect=dep_delay:mean"):
        found[group["origin"], ""] = group["dep_delay:mean"]
        for row in group["values"]:
            found[group["origin"], row["_start_at"]] = row["dep_delay:mean"]
    assert found.keys() == delays.keys()
    for key, numbers in delays.items():
        assert math.isclose(found[key], sum(numbers) / len(numbers), rel_tol=1e-15), key


def test_group_by_two_fields(server: Server) -> None:
    """Combinations of two fields, sorted by the first and then the second."""
    rows = get(server, "group_by=origin&group_by=carrier")
    expected = counted(lambda flight: (flight["origin"], flight["carrier"]))
    assert [((row["origin"], row["carrier"]), row["_count"]) for row in rows] == sorted(
        expected.items()
    )


def test_sums_counts_and_extremes(server: Server) -> None:
    """sum, count, min and max of a field that some records lack."""
    collect = "&".join(f"collect=air_time:{method}" for method in ("sum", "count", "min", "max"))
    for row in get(server, f"group_by=carrier&{collect}"):
        times = [
            flight["air_time"]
            for flight in flights()
            if flight["carrier"] == row["carrier"] and "air_time" in flight
        ]
        assert (
            row["air_time:sum"],
            row["air_time:count"],
            row["air_time:min"],
            row["air_time:max"],
        ) == (sum(times), len(times), min(times, default=None), max(times, default=None))


def test_sets(server: Server) -> None:
    """The carriers of each origin, each once and sorted."""
    carriers: dict[str, set[str]] = defaultdict(set)
    for flight in flights():
        carriers[flight["origin"]].add(flight["carrier"])
    rows = get(server, "group_by=origin&collect=carrier")
    assert {row["origin"]: row["carrier"] for row in rows} == {
        origin: sorted(found) for origin, found in carriers.items()
    }


def test_filters_and_range(server: Server) -> None:
    """Two filters, a prefix and a half-open range together."""
    query = (
        "filter_by=origin:JFK&filter_by=cancelled:false&filter_by_prefix=tailnum:N3"
        "&start_at=2013-03-01&end_at=2013-06-01&group_by=dest&sort_by=_count:descending&limit=7"
    )
    begin, end = datetime(2013, 3, 1, tzinfo=UTC), datetime(2013, 6, 1, tzinfo=UTC)
    expected = Counter(
        flight["dest"]
        for flight in flights()
        if flight["origin"] == "JFK"
        and flight["cancelled"] is False
        and flight.get("tailnum", "").startswith("N3")
        and begin <= flight["time"] < end
    )
    rows = get(server, query)
    assert [(row["dest"], row["_count"]) for row in rows] == sorted(
        expected.items(), key=lambda item: (-item[1], item[0])
    )[:7]


def test_sorted_records(server: Server) -> None:
    """The longest delays, by record."""
    rows = get(server, "sort_by=dep_delay:descending&limit=20")
    delays = sorted((f["dep_delay"] for f in flights() if "dep_delay" in f), reverse=True)
    assert [row["dep_delay"] for row in rows] == delays[:20]


def test_gaps_are_filled_within_a_range(server: Server) -> None:
    """A carrier that did not fly on some days has rows of 0 for them, with null sums."""
    query = (
        "period=day&filter_by=carrier:OO&collect=distance:sum&start_at=2013-01-01&end_at=2014-01-01"
    )
    rows = get(server, query)
    counts = Counter(day(f["time"]) for f in flights() if f["carrier"] == "OO")
    days = [datetime(2013, 1, 1, tzinfo=UTC) + timedelta(days=n) for n in range(365)]
    assert [row["_start_at"] for row in rows] == [one.isoformat() for one in days]
    assert [row["_count"] for row in rows] == [counts[one.isoformat()] for one in days]
    assert {row["distance:sum"] is None for row in rows if row["_count"] == 0} == {True}


@pytest.mark.parametrize("query", ["", "format=csv", "sort_by=tailnum:descending"])
def test_memory_does_not_grow_with_the_answer(server: Server, query: str) -> None:
    """All the records stream through the server without being held there (65 MB of JSON)."""
    get(server, "limit=2000")  # what any answer needs once
    before = resident_bytes(server.process.pid)
    with httpx2.stream("GET", f"{server.url}/flights?{query}", timeout=60) as answer:
        size = sum(len(chunk) for chunk in answer.iter_bytes())
    assert size > 50 * len(flights())
    assert resident_bytes(server.process.pid) - before < 64 * 2**20


def resident_bytes(pid: int) -> int:
    """The process's resident set size, as the kernel tells it."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024
