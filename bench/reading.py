"""Questions: the six standard ones beside hand-written SQL, small answers, readers beside writers,
streams of all records.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import httpx2
import msgspec
from tests.live import live_server

from bench.data import bodies
from bench.limit import Limit
from bench.load import Load, kept_connection, request_bytes, send_all
from bench.questions import QUESTIONS
from bench.report import Row, interleaved
from bench.server import Backdrop, resident_bytes

ROUNDS = 9
LONDON = "&timezone=Europe/London"


def measure_questions(
    server: Backdrop,
    limit: Limit,
    name: str,
    questions: Mapping[str, tuple[str, str]] = QUESTIONS,
) -> list[Row]:
    """Each question in turns with the limit's, in UTC, then in London's time beside UTC's."""
    rows, in_london = [], []
    with httpx2.Client(timeout=600) as client, kept_connection(server.url) as ask:
        for what, (query, method) in questions.items():
            target = f"{server.url}/{name}?{query}"
            by_hand = msgspec.json.decode(limit.call(method)[1])
            if client.get(target).json() != by_hand:
                raise SystemExit(f"{what}: the answers differ")
            in_utc, in_zone = request_bytes(target), request_bytes(target + LONDON)
            ours, best, london = interleaved(
                ROUNDS,
                lambda request=in_utc: ask(request),
                lambda method=method: limit.call(method)[0],
                lambda request=in_zone: ask(request),
            )
            allowed = best.median * 1.5 + 0.003
            ratio = ours.median / best.median
            met = ours.median <= allowed
            rows.append(Row(what, str(ours), str(best), ratio, "≤ 1.5, plus 3 ms", met))
            zoned = london.median / ours.median
            words = f"{what}, in Europe/London"
            in_london.append(
                Row(words, str(london), f"{ours} in UTC", zoned, "≤ 1.3", zoned <= 1.3)
            )
    return rows + in_london


def measure_small_answers(server: Backdrop, name: str) -> list[Row]:
    """A 304, and a cached answer of about 5 KB, beside a bare route: requests a second."""
    query = "period=week&start_at=2013-01-01&end_at=2014-01-01"
    with _with_cache(server) as url, _bare_route(5_000) as bare:
        target = f"{url}/{name}?{query}"
        answer = httpx2.get(target)
        etag = answer.headers["etag"]
        cases = {
            "304": (target, request_bytes(target, {"If-None-Match": etag}), 304),
            f"a cached 200 of {len(answer.content) / 1000:.1f} KB": (
                target,
                request_bytes(target),
                200,
            ),
            "bare": (bare, request_bytes(bare), 200),
        }
        rates: dict[str, list[float]] = {}
        for _ in range(6):
            for what, (where, request, status) in cases.items():
                load = send_all(where, [request] * 3_000, status, connections=16)
                rates.setdefault(what, []).append(load.requests_a_second)
    middle = {what: sorted(found[1:])[2] for what, found in rates.items()}
    base = middle.pop("bare")
    return [
        Row(
            f"{what}, 16 connections",
            f"{rate:,.0f}/s",
            f"{base:,.0f}/s",
            rate / base,
            "≥ 0.6 of a bare route",
            rate / base >= 0.6,
        )
        for what, rate in middle.items()
    ]


@contextmanager
def _with_cache(server: Backdrop) -> Iterator[str]:
    """A second server, which caches answers, on a bucket of few records."""
    folder = server.folder / "cached"
    folder.mkdir()
    env = {"BACKDROP_ADMIN_TOKEN": server.admin_token}
    with live_server("serve", cwd=folder, env=env) as cached:
        other = Backdrop(cached.url, cached.process.pid, folder, server.admin_token)
        token = other.make_bucket("records")
        other.post_all("records", token, bodies(20_000, batch=10_000), connections=1)
        yield cached.url


@contextmanager
def _bare_route(size: int) -> Iterator[str]:
    with subprocess.Popen(  # noqa: S603  our own module
        [sys.executable, "-m", "bench.bare", str(size)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None  # noqa: S101  it was asked for
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/"
        finally:
            process.terminate()


def measure_beside_a_writer(server: Backdrop, name: str) -> Row:
    """A question's p99 while ten batches of 1,000 a second are posted to another bucket."""
    target = f"/{name}?{QUESTIONS['50 groups, with a sum'][0]}"
    quiet = server.get_all(target, times=300)
    token = server.make_bucket("written")
    batches = bodies(1_000_000, batch=1_000, prefix="w")
    stop = threading.Event()

    def write() -> None:
        due = time.perf_counter()
        while not stop.is_set():
            server.post_all("written", token, [next(batches)], connections=1)
            due += 0.1
            stop.wait(max(0.0, due - time.perf_counter()))

    writer = threading.Thread(target=write)
    writer.start()
    busy = server.get_all(target, times=300)
    stop.set()
    writer.join()
    return Row(
        "p99 of a question beside 10 batches of 1,000 a second",
        f"{busy.p99 * 1e3:,.1f} ms",
        f"{quiet.p99 * 1e3:,.1f} ms quiet",
        busy.p99 / quiet.p99,
        "≤ 2",
        busy.p99 <= 2 * quiet.p99,
    )


def measure_streams(server: Backdrop, limit: Limit, name: str) -> list[Row]:
    """All records, as JSON and as CSV: megabytes a second, and how the server's memory grows."""
    rows = []
    for form in ("json", "csv"):
        seconds, size = limit.call("stream", form)
        best = size / seconds
        before = resident_bytes(server.pid)
        most = [before]
        stop = threading.Event()

        def watch(most: list[int] = most, stop: threading.Event = stop) -> None:
            while not stop.wait(0.1):
                most.append(resident_bytes(server.pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        load: Load = server.get_all(f"/{name}?format={form}", times=1)
        stop.set()
        watcher.join()
        rate = load.bytes_received / load.seconds
        grown = (max(most) - before) / 2**20
        met = rate >= 0.5 * best and grown < 64
        rows.append(
            Row(
                f"all records as {form.upper()} (memory up by {grown:,.0f} MB)",
                f"{rate / 1e6:,.0f} MB/s",
                f"{best / 1e6:,.0f} MB/s",
                rate / best,
                "≥ 0.5, under 64 MB",
                met,
            )
        )
    return rows
