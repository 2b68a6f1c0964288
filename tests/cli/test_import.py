"""`backdrop import`, against a real server, and against one that fails on purpose."""

from __future__ import annotations

import gzip
import json
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import httpx2
import pytest

from backdrop.client import Client
from tests.cli.scripted import scripted_server
from tests.live import BACKDROP, Server, call, clean_environment, run

Make: TypeAlias = Callable[..., str]


@pytest.fixture(autouse=True)
def _files(server: Server) -> None:
    """The files that the tests import."""
    files = {
        "a.ndjson": b'{"_id":"a1","n0":5}\n{"_id":"a2","n0":5.0}\n{"_id":"a3","n0":"007"}\n',
        "b.json": b'[{"_id":"b1","n0":null},\n {"_id":"b2","n0":9007199254740993}]',
        "c.csv": b"_id,n0,comment\nc1,27,x\n# no\nc2,007,\n,,\n3,,\n",
        "d.json": b'{"_id":"d1"}\n{"_id":"d2"}\n',
    }
    for name, data in files.items():
        (server.folder / name).write_bytes(data)
        (server.folder / f"{name}.gz").write_bytes(gzip.compress(data))


@pytest.fixture
def make(admin: Client) -> Make:
    """Makes a bucket; returns its first token."""

    def make_bucket(name: str, **settings: Any) -> str:
        token: str = admin.put_bucket(name, {"raw_queries_allowed": True, **settings})["token"]
        return token

    return make_bucket


def _records(server: Server, name: str) -> Any:
    return httpx2.get(f"{server.url}/{name}").json()["data"]


def _go_on(server: Server, stderr: str) -> subprocess.CompletedProcess[str]:
    """Type the last command that a message told to type."""
    program, *arguments = shlex.split(stderr.rstrip().rpartition("\n")[2])
    assert program in ("backdrop", BACKDROP)
    return server.run(*arguments)


def test_every_format_goes_in_as_it_is_written(server: Server, make: Make) -> None:
    """Types survive, packed or not; the summary counts, and tells where to read."""
    make("formats")
    done = server.run("import", "formats", "a.ndjson", "b.json.gz", "c.csv.gz", "d.json")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^10 records in \d+\.\d s \([\d,]+/s\)$", done.stderr, re.MULTILINE)
    assert f"{server.url}/formats?limit=10" in done.stderr
    found = {record.pop("_id"): record for record in _records(server, "formats")}
    assert {key: json.dumps(record) for key, record in found.items()} == {
        "a1": '{"n0": 5}',
        "a2": '{"n0": 5.0}',
        "a3": '{"n0": "007"}',
        "b1": '{"n0": null}',
        "b2": '{"n0": 9007199254740993}',
        "c1": '{"n0": 27}',
        "c2": '{"n0": "007"}',
        "3": "{}",
        "d1": "{}",
        "d2": "{}",
    }


def test_standard_input_and_the_buckets_csv_types(server: Server, make: Make) -> None:
    make("piped", csv_types="text")
    csv = b"when,n0\n2013-01-31,27\n"
    done = server.run("import", "piped", "-", "--timestamp", "when", stdin=csv)
    assert done.returncode == 0, done.stderr
    done = server.run("import", "piped", "-", "--csv-types", "auto", stdin=gzip.compress(csv))
    assert done.returncode == 0, done.stderr
    for record in (records := _records(server, "piped")):
        del record["_id"]
    assert records == [
        {"_timestamp": "2013-01-31T00:00:00+00:00", "n0": "27"},
        {"when": "2013-01-31", "n0": 27},
    ]


def test_a_bad_batch_names_the_line_and_how_to_go_on(server: Server, make: Make) -> None:
    """Batches before it are stored, nothing of it is; the command that is told imports the rest."""
    make("mended")
    lines = [f'{{"_id":"m{number}","n0":{number}}}' for number in range(10)]
    bad = [*lines[:5], '{"_id":"m5","n0":[]}', '{"_id":"m6","n-0":6}', *lines[7:]]
    path = server.folder / "to mend.ndjson"
    path.write_text("\n\n".join(bad))
    done = server.run("import", "mended", "a.ndjson", path.name, "--batch", "4")
    assert done.returncode == 1
    assert "to mend.ndjson, line 11, field n0: n0 must be" in done.stderr
    assert "to mend.ndjson, line 13, field n-0: a field's name" in done.stderr
    assert "the first 4 records are stored, and 3 of the files before it" in done.stderr
    assert [one["_id"] for one in _records(server, "mended")] == [
        *("a1", "a2", "a3"),
        *("m0", "m1", "m2", "m3"),
    ]
    path.write_text("\n\n".join(lines))
    again = _go_on(server, done.stderr)
    assert again.returncode == 0, again.stderr
    assert "6 records in" in again.stderr
    assert [one["_id"] for one in _records(server, "mended")][7:] == [f"m{n}" for n in range(4, 10)]


def test_a_file_that_breaks_off_names_the_line(server: Server, make: Make) -> None:
    make("broken")
    (server.folder / "broken.ndjson").write_text('{"n0":1}\n{"n0":2}\n{"n0"\n')
    done = server.run("import", "broken", "broken.ndjson", "--batch", "1")
    assert done.returncode == 1
    assert "Error: broken.ndjson, line 3: not JSON" in done.stderr
    assert shlex.split(done.stderr.splitlines()[-1])[4:6] == ["--skip=2", "--batch=1"]
    assert len(_records(server, "broken")) == 2


def test_the_token_of_an_import_lasts_no_longer(server: Server, admin: Client, make: Make) -> None:
    token = make("tokenless")
    assert server.run("import", "tokenless", "a.ndjson").returncode == 0
    assert [one["label"] for one in admin.tokens("tokenless")] == ["first token"]
    env = clean_environment(BACKDROP_URL=server.url, BACKDROP_TOKEN=token)
    done = run("import", "tokenless", "d.json", cwd=server.folder, env=env)
    assert done.returncode == 0, done.stderr
    assert len(_records(server, "tokenless")) == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.ndjson"], "make it with `backdrop bucket create no-such`"),
        (["a.ndjson", "none.csv"], "none.csv can't be read: No such file"),
        (["a.xlsx"], "save it as CSV"),
        (["a.ndjson", "--format", "xml"], "--format must be one of ndjson"),
        (["a.ndjson", "--url", "http://127.0.0.1:9"], "no server at http://127.0.0.1:9"),
    ],
)
def test_what_cannot_be_imported_is_said(
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    (server.folder / "a.xlsx").touch()
    there = ["--url", server.url, "--store", "memory:"]
    done = call(
        *("import", "no-such", *there, *arguments),
        cwd=server.folder,
        monkeypatch=monkeypatch,
        capsys=capsys,
    )
    assert done.returncode == 1
    assert message in done.stderr


# -- when the server fails --------------------------------------------------------------------


def _import(url: str, folder: Path, lines: str) -> subprocess.CompletedProcess[str]:
    (folder / "some.ndjson").write_text(lines)
    env = clean_environment(BACKDROP_URL=url, BACKDROP_TOKEN="a-write-token")  # noqa: S106
    return run("import", "any", "some.ndjson", "--batch", "1", cwd=folder, env=env)


def test_what_was_not_stored_is_sent_again(tmp_path: Path) -> None:
    with scripted_server("store", "unavailable", "store") as server:
        done = _import(server.url, tmp_path, '{"n0":1}\n{"n0":2}\n')
    assert done.returncode == 0, done.stderr
    assert "the store is away; trying again" in done.stderr
    second = ("store", [{"n0": 2}])
    assert server.received == [("store", [{"n0": 1}]), ("unavailable", [{"n0": 2}]), second]


def test_what_replaces_itself_is_sent_again(tmp_path: Path) -> None:
    with scripted_server("drop", "fault", "store") as server:
        done = _import(server.url, tmp_path, '{"_id":"1"}\n')
    assert done.returncode == 0, done.stderr
    assert [step for step, _ in server.received] == ["drop", "fault", "store"]


@pytest.mark.parametrize("step", ["drop", "fault"])
def test_what_may_be_stored_is_not_sent_again(tmp_path: Path, step: Any) -> None:
    """Two commands are told: for when it was not stored, and for when it was."""
    with scripted_server("store", step) as server:
        done = _import(server.url, tmp_path, '{"n0":1}\n{"n0":2}\n{"n0":3}\n')
    assert done.returncode == 1
    assert len(server.received) == 2
    assert "line 2: this record may have been stored, or not" in done.stderr
    commands = [line for line in done.stderr.splitlines() if line.startswith("  ")]
    assert ["--skip=2" in commands[0], "--skip=1" in commands[1]] == [True, True]
    assert "a-write-token" not in done.stderr


def test_an_interrupt_says_how_far_it_came(tmp_path: Path) -> None:
    (tmp_path / "some.ndjson").write_text('{"n0":1}\n{"n0":2}\n')
    with scripted_server("store", "hang") as server:
        with subprocess.Popen(
            [BACKDROP, "import", "any", "some.ndjson", "--batch=1", f"--url={server.url}"],
            cwd=tmp_path,
            env=clean_environment(BACKDROP_TOKEN="a-write-token"),  # noqa: S106
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            until = time.monotonic() + 20
            while len(server.received) < 2 and time.monotonic() < until:
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=20)
        assert process.returncode == 130
    assert "may have been stored, or not" in stderr
    assert "--skip=1" in stderr
