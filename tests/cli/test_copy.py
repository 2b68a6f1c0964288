"""`backdrop copy`, as it is typed."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from backdrop.domain.bucket import Bucket
from backdrop.domain.entry import Entry
from backdrop.domain.record import parse_records
from backdrop.errors import NotFound
from backdrop.storage.open import open_storage
from backdrop.storage.port import Storage
from tests.eventually import eventually
from tests.flights import flights
from tests.live import BACKDROP, clean_environment, live_server, run
from tests.storage import mongodb as server
from tests.storage.contract import token
from tests.storage.exact import batch, exact, stored

BUCKETS = 12  # so that most are still to come when the first is seen
FLIGHTS_A_BUCKET = 2_000


@pytest.fixture
def mongodb_url(mongodb: str) -> Iterator[str]:
    url = server.database(mongodb)
    yield url
    server.drop(url)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a store `flights.duckdb` of several buckets, and a user."""
    with closing(open_storage(f"duckdb://{tmp_path}/flights.duckdb")) as storage:
        for number in range(BUCKETS):
            bucket = Bucket(name=f"flights-{number:02}")
            storage.put_bucket(bucket, first_token=token(bucket.name, bucket.name))
            rows = flights()[number : number + FLIGHTS_A_BUCKET]
            raw = [{k: v for k, v in row.items() if k != "time"} for row in rows]
            ids = (f"{number}-{place}" for place in range(len(rows)))
            storage.save(bucket.name, parse_records(raw, bucket, new_ids=ids))
        storage.put_entry(Entry("user", "a@b.example", b"{}"))
    return tmp_path


def contents(storage: Storage) -> dict[str, object]:
    found = {
        bucket.name: (
            bucket,
            storage.tokens(bucket.name),
            storage.state(bucket.name).last_written,
            exact(stored(storage, bucket.name)),
        )
        for bucket in storage.buckets()
    }
    return {**found, "entries": storage.lasting_entries()}


def contents_of(url: str) -> dict[str, object]:
    with closing(open_storage(url)) as storage:
        return contents(storage)


def test_a_store_goes_to_mongodb_and_back(folder: Path, mongodb_url: str) -> None:
    """The table tells what was made, and the second time what was there."""
    for source, destination in (
        ("duckdb:flights.duckdb", mongodb_url),
        (mongodb_url, "duckdb:back.duckdb"),
    ):
        for outcome in ("made", "was there"):
            done = run("copy", source, destination, cwd=folder)
            assert done.returncode == 0, done.stderr
            rows = done.stdout.splitlines()[1:]
            assert [row.split()[:2] for row in rows] == [
                [f"flights-{n:02}", f"{FLIGHTS_A_BUCKET:,}"] for n in range(BUCKETS)
            ]
            assert all(row.strip().endswith(f"{outcome}, the same") for row in rows)
            assert "'user': 1 entries, the same" in done.stderr
    assert (folder / "back.duckdb").stat().st_mode & 0o077 == 0
    assert contents_of(f"duckdb://{folder}/back.duckdb") == contents_of(
        f"duckdb://{folder}/flights.duckdb"
    )


def test_a_copy_that_was_killed_goes_on(folder: Path, mongodb_url: str) -> None:
    """Killed once its first bucket is there: what there is, is whole, and is not made again."""
    whole = contents_of(f"duckdb://{folder}/flights.duckdb")
    command = ("copy", "duckdb:flights.duckdb", mongodb_url)
    with closing(open_storage(mongodb_url)) as watching:
        watching.check()  # the first look at a set takes longer than those that follow
        process = start(*command, cwd=folder)
        eventually(watching.buckets, seconds=60, every=0.005)
        process.kill()
        process.communicate()
        assert process.returncode == -9
        there = contents(watching)
        assert 0 < len(there) - 1 < BUCKETS
        assert all(there[name] == whole[name] for name in there.keys() - {"entries"})
        versions = {bucket.name: watching.state(bucket.name) for bucket in watching.buckets()}
        done = run(*command, cwd=folder)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("was there, the same") == len(versions)
        assert done.stdout.count("made, the same") == BUCKETS - len(versions)
        assert contents(watching) == whole
        assert all(watching.state(name) == state for name, state in versions.items())


@pytest.mark.parametrize("seconds", [0.6, 0.8])
def test_a_copy_into_a_file_that_was_killed_goes_on(folder: Path, seconds: float) -> None:
    """Wherever it was."""
    whole = contents_of(f"duckdb://{folder}/flights.duckdb")
    command = ("copy", "duckdb:flights.duckdb", "duckdb:copy.duckdb")
    process = start(*command, cwd=folder)
    time.sleep(seconds)
    process.kill()
    process.communicate()
    there = contents_of(f"duckdb://{folder}/copy.duckdb")
    assert all(there[name] == whole[name] for name in there.keys() - {"entries"})
    assert run(*command, cwd=folder).returncode == 0
    assert contents_of(f"duckdb://{folder}/copy.duckdb") == whole


def test_an_interrupted_copy_says_how_to_go_on(folder: Path, mongodb_url: str) -> None:
    """Ctrl-C is no fault, and leaves nothing half there. Nor is it lost, wherever it comes: the
    command hears of it at once, and ends where it can.
    """
    with closing(open_storage(mongodb_url)) as watching:
        watching.check()  # the first look at a set takes longer than those that follow
        process = start("copy", "duckdb:flights.duckdb", mongodb_url, cwd=folder)
        eventually(watching.buckets, seconds=60, every=0.005)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        assert (process.returncode, errors.count(b"Interrupted")) == (130, 1), errors
        assert errors.startswith(b"Waiting for the records under way; Ctrl-C again stops at once")
        assert {watching.state(one.name).records for one in watching.buckets()} == {
            FLIGHTS_A_BUCKET
        }


def start(*arguments: str, cwd: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [BACKDROP, *arguments],
        cwd=cwd,
        env=clean_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def test_a_clash_stops_it_before_anything_is_changed(folder: Path) -> None:
    """And --replace is the way past it."""
    url = f"duckdb://{folder}/other.duckdb"
    with closing(open_storage(url)) as storage:
        storage.put_bucket(Bucket(name="flights-03", description="another"))
        storage.save("flights-03", batch({"_id": "x"}))
    before = contents_of(url)
    done = run("copy", "duckdb:flights.duckdb", "duckdb:other.duckdb", cwd=folder)
    assert done.returncode == 1
    assert done.stderr.startswith(
        "Error: nothing was copied: the destination has its own bucket 'flights-03' (its settings, "
    )
    assert "--replace" in done.stderr
    assert contents_of(url) == before
    done = run("copy", "duckdb:flights.duckdb", "duckdb:other.duckdb", "--replace", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert contents_of(url) == contents_of(f"duckdb://{folder}/flights.duckdb")


def test_a_file_that_a_server_has_is_not_copied(tmp_path: Path) -> None:
    """It is told which process to stop, on either side."""
    with live_server("serve", cwd=tmp_path) as running:
        with closing(open_storage(f"duckdb://{tmp_path}/free.duckdb")) as storage:
            storage.put_bucket(Bucket(name="things"))
        held, free = "duckdb:backdrop.duckdb", "duckdb:free.duckdb"
        for role, urls in (("source", (held, free)), ("destination", (free, held))):
            done = run("copy", *urls, cwd=tmp_path)
            assert done.returncode == 1
            assert f"the {role}: can't open backdrop.duckdb" in done.stderr
            assert f"process {running.process.pid} has it open" in done.stderr


@pytest.mark.parametrize(
    ("urls", "message"),
    [
        (("memory:", "duckdb:a.duckdb"), "gone with its process"),
        (("duckdb:a.duckdb", "memory:"), "gone with its process"),
        (("duckdb:a.duckdb", "duckdb:./a.duckdb"), "are one store"),
        (("mongodb://h/a", "mongodb://h/a"), "are one store"),
        (("duckdb:a.duckdb", "duckdb:b.duckdb"), "there is no file a.duckdb"),
        (("sqlite:x", "duckdb:b.duckdb"), "no store 'sqlite'"),
    ],
)
def test_what_can_not_be_copied_is_refused(
    tmp_path: Path, urls: tuple[str, str], message: str
) -> None:
    """And makes no file."""
    done = run("copy", *urls, cwd=tmp_path)
    assert done.returncode == 1
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_one_database_by_two_urls_is_one_store(mongodb_url: str, tmp_path: Path) -> None:
    """To replace its buckets by themselves would undo what is written meanwhile."""
    with closing(open_storage(mongodb_url)) as storage:
        storage.put_bucket(Bucket(name="things"))
        other = f"{mongodb_url}{'&' if '?' in mongodb_url else '?'}maxPoolSize=5"
        done = run("copy", mongodb_url, other, "--replace", cwd=tmp_path)
        assert (done.returncode, "are one store" in done.stderr) == (1, True), done.stderr
        assert storage.entries("copy") == []


def test_an_empty_source_is_taken_for_a_mistake(tmp_path: Path) -> None:
    open_storage(f"duckdb://{tmp_path}/empty.duckdb").close()
    done = run("copy", "duckdb:empty.duckdb", "duckdb:b.duckdb", cwd=tmp_path)
    assert (done.returncode, "holds nothing" in done.stderr) == (1, True)
    assert not (tmp_path / "b.duckdb").exists()


def test_no_password_is_printed(folder: Path, mongodb_url: str) -> None:
    """Be it right, wrong, or not even spelled as a URL needs it; nor need it be in the command."""
    _, rest = mongodb_url.split("//")
    urls = [
        f"mongodb://me:hunter2hunter2@{rest}",
        f"mongodb://me:hunter2/hunter2@{rest}",
        f"mongodb://me:hunter2@hunter2@{rest}",
        f"mongodb://me:hunter2%hunter2@{rest}",
        "mongodb://me:hunter2@127.0.0.1:1/x?serverSelectionTimeoutMS=100",
    ]
    source = "duckdb:flights.duckdb"
    env = clean_environment(BACKDROP_COPY_FROM=source, BACKDROP_COPY_TO=urls[0])
    outcomes = [run("copy", cwd=folder, env=env)]
    del env["BACKDROP_COPY_FROM"]
    outcomes += [run("copy", source, cwd=folder, env=env)]
    outcomes += [run("copy", cwd=folder, env=env | {"BACKDROP_COPY_FROM": source})]
    outcomes += [run("copy", source, url, cwd=folder) for url in urls]
    for done in outcomes:
        assert done.returncode == 1
        assert "the destination: can't" in done.stderr
        assert "hunter2" not in done.stdout + done.stderr


def test_a_bucket_is_seen_only_whole(folder: Path, mongodb_url: str) -> None:
    """By whoever reads the destination meanwhile."""
    with closing(open_storage(mongodb_url)) as watching:
        watching.check()  # the first look at a set takes longer than those that follow
        process = start("copy", "duckdb:flights.duckdb", mongodb_url, cwd=folder)
        seen = set()
        while process.poll() is None:
            for number in range(BUCKETS):
                try:
                    seen.add(watching.state(f"flights-{number:02}").records)
                except NotFound:
                    seen.add(None)
        process.communicate()
        assert process.returncode == 0
    assert seen == {None, FLIGHTS_A_BUCKET}
