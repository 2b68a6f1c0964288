"""`backdrop import`, against a real server, and against one that fails on purpose."""

from __future__ import annotations

import gzip
import json
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any, TypeAlias

import httpx2
import pytest

from backdrop.client import Client
from tests.cli.scripted import ScriptedServer, scripted_server
from tests.eventually import eventually
from tests.live import BACKDROP, Server, call, clean_environment, live_server, run
from tests.sheets import MAKERS

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


def test_the_command_that_goes_on_holds_no_password(server: Server, make: Make) -> None:
    """Whether it came by flag or from the environment."""
    token = make("without")
    path = server.folder / "secret.ndjson"
    path.write_text('{"aa": 1}\n{"a-b": 1}')
    store = "mongodb://user:the-password@localhost/backdrop?tlsCertificateKeyFilePassword=another"
    for flags, env in (([f"--store={store}"], {}), ([], {"BACKDROP_STORE": store})):
        done = run(
            *("import", "without", path.name, "--batch=1", f"--url={server.url}", *flags),
            cwd=server.folder,
            env=clean_environment(BACKDROP_TOKEN=token, **env),
        )
        assert f"--skip=1 --batch=1 --url={server.url}\n" in done.stderr
        assert "password" not in done.stderr
        assert "another" not in done.stderr


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
    assert (
        "The first 4 records of to mend.ndjson are stored, and so are the files before it "
        "(3 records). Once it is mended, go on with\n"
    ) in done.stderr
    assert [one["_id"] for one in _records(server, "mended")] == [
        *("a1", "a2", "a3"),
        *("m0", "m1", "m2", "m3"),
    ]
    path.write_text("\n\n".join(lines))
    again = _go_on(server, done.stderr)
    assert again.returncode == 0, again.stderr
    assert "6 records in" in again.stderr
    assert [one["_id"] for one in _records(server, "mended")][7:] == [f"m{n}" for n in range(4, 10)]


def test_a_batch_that_is_too_large_is_told_with_the_remedy(tmp_path: Path) -> None:
    env = {"BACKDROP_STORE": "memory:", "BACKDROP_MAX_RECORDS": "5"}
    (tmp_path / "many.ndjson").write_text('{"n0":1}\n' * 8)
    with live_server("serve", cwd=tmp_path, env=env) as server:
        assert server.run("bucket", "create", "things", "--store", "memory:").returncode == 0
        done = server.run("import", "things", "many.ndjson", "--store", "memory:")
        assert done.returncode == 1
        assert "more than 5 records (max_records)" in done.stderr
        assert "(--batch 4)" in done.stderr
        again = server.run("import", "things", "many.ndjson", "--batch", "4", "--store", "memory:")
        assert again.returncode == 0, again.stderr


def test_a_file_that_breaks_off_names_the_line(server: Server, make: Make) -> None:
    make("broken")
    (server.folder / "broken.ndjson").write_text('{"n0":1}\n{"n0":2}\n{"n0"\n')
    done = server.run("import", "broken", "broken.ndjson", "--batch", "1")
    assert done.returncode == 1
    assert "Error: broken.ndjson, line 3: not JSON" in done.stderr
    assert shlex.split(done.stderr.splitlines()[-1])[4:6] == ["--skip=2", "--batch=1"]
    assert len(_records(server, "broken")) == 2


def test_what_may_not_be_meant_is_remarked(server: Server, make: Make) -> None:
    """Fields that could be the time, columns of numbers and texts, no records, no ids."""
    make("remarked")
    (server.folder / "fees.csv").write_text("day,fee,note\n2013-01-31,1.25,x\n2013-02-01,2.50,\n")
    (server.folder / "empty.ndjson").write_text("\n")
    done = server.run("import", "remarked", "fees.csv", "empty.ndjson")
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert lines[0].startswith("fees.csv: column fee: 1 number, and 1 text such as '2.50'")
    assert "These fields hold times: --timestamp day (2013-01-31)" in lines[1]
    assert lines[2] == "empty.ndjson holds no records"
    assert (
        "2 of them have no _id: importing the same again after 24 hours stores them twice" in lines
    )
    with_ids = server.run("import", "remarked", "a.ndjson", "fees.csv", "--timestamp", "day")
    assert "These fields" not in with_ids.stderr


def test_records_that_replace_themselves_are_not_remarked(server: Server, make: Make) -> None:
    make("replacing", auto_ids=["n0"])
    assert "twice" not in server.run("import", "replacing", "-", stdin='{"n0":1}').stderr
    make("replacing-too")
    assert "twice" not in server.run("import", "replacing-too", "a.ndjson").stderr


def test_the_same_file_is_stored_once_unless_it_is_asked_for_again(
    server: Server, make: Make
) -> None:
    """Batches whose records all have ids are always sent, and replace what is there."""
    make("again")
    path = server.folder / "again.ndjson"
    path.write_text('{"n0":1}\n{"n0":1}\n{"n0":1}\n{"_id":"x","n0":1}\n')
    once_more = ["--again=2"]
    for more, stored, before in ([], 4, 0), ([], 4, 3), (once_more, 7, 0), (once_more, 7, 3):
        done = server.run("import", "again", path.name, "--batch=3", *more)
        assert done.returncode == 0, done.stderr
        assert len(_records(server, "again")) == stored
        assert (f"{before} of them were stored before" in done.stderr) == bool(before)
    path.write_text('{"n0":1}\n{"n0":1}\n{"n0":1}\n{"_id":"x","n0":2}\n{"n0":3}\n')
    assert server.run("import", "again", path.name, "--batch=3").returncode == 0
    found = [record["n0"] for record in _records(server, "again")]
    assert sorted(found) == [1] * 6 + [2, 3]


def test_a_wrong_column_is_not_told_again(server: Server, make: Make) -> None:
    """The columns that are there are listed; what was stored before is not imported again."""
    make("columns")
    (server.folder / "days.csv").write_text("date,fee\n2013-01-31,1\n")
    done = server.run("import", "columns", "days.csv", "--timestamp", "dat")
    assert done.stderr == (
        "Error: days.csv, line 1: there is no field 'dat' to become _timestamp; there are date, "
        "fee\nNothing was stored.\n"
    )
    (server.folder / "dat.csv").write_text("dat,fee\n2013-01-31,1\n")
    done = server.run("import", "columns", "dat.csv", "days.csv", "--timestamp", "dat")
    assert "Nothing of days.csv is stored; the files before it are (1 record)" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("  ")
    assert "import columns days.csv --timestamp=TIMESTAMP" in done.stderr


def test_a_file_of_no_known_format_is_refused(server: Server, make: Make) -> None:
    make("unknown")
    (server.folder / "some.txt").write_text("n0,n1\n1,2\n")
    (server.folder / "some.data").write_text('{"n0":1}\n')
    done = server.run("import", "unknown", "some.data", "some.txt")
    assert done.returncode == 1
    assert "some.txt: neither its name nor its beginning tells the format" in done.stderr
    assert "import unknown some.txt --format=FORMAT" in done.stderr
    assert len(_records(server, "unknown")) == 1
    assert server.run("import", "unknown", "some.txt", "--format", "csv").returncode == 0


def test_the_token_of_an_import_lasts_no_longer(server: Server, admin: Client, make: Make) -> None:
    token = make("tokenless")
    assert server.run("import", "tokenless", "a.ndjson").returncode == 0
    assert [one["label"] for one in admin.tokens("tokenless")] == ["first token"]
    env = clean_environment(BACKDROP_URL=server.url, BACKDROP_TOKEN=token)
    done = run("import", "tokenless", "d.json", cwd=server.folder, env=env)
    assert done.returncode == 0, done.stderr
    assert len(_records(server, "tokenless")) == 5


@pytest.mark.parametrize("kind", MAKERS)
def test_spreadsheets_are_imported(server: Server, make: Make, kind: str) -> None:
    make(f"sheets-{kind}")
    table = [["_id", "day", "fee"], ["s1", date(2013, 1, 31), 27.0], ["s2", None, "007"]]
    (server.folder / f"s.{kind}").write_bytes(MAKERS[kind](table, ("more", [["aa"]])))
    done = server.run("import", f"sheets-{kind}", f"s.{kind}", "--timestamp", "day")
    assert "s." + kind + ", line 3: there is no 'day' to become _timestamp" in done.stderr
    done = server.run("import", f"sheets-{kind}", f"s.{kind}")
    assert done.returncode == 0, done.stderr
    assert "only the sheet 'Sheet' is read; 1 sheet is left out: 'more'" in done.stderr
    assert _records(server, f"sheets-{kind}") == [
        {"_id": "s1", "day": "2013-01-31", "fee": 27},
        {"_id": "s2", "fee": "007"},
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.ndjson"], "make it with `backdrop bucket create no-such`"),
        (["a.ndjson", "none.csv"], "none.csv can't be read: No such file"),
        (["none.xlsx"], "none.xlsx can't be read: No such file"),
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


def _skips(stderr: str) -> list[str]:
    """What the commands that a message tells to type pass over."""
    return re.findall(r"^  \S*backdrop import .*(--skip=\d+)", stderr, re.MULTILINE)


def _import(url: str, folder: Path, lines: str, *more: str) -> subprocess.CompletedProcess[str]:
    (folder / "some.ndjson").write_text(lines)
    env = clean_environment(BACKDROP_URL=url, BACKDROP_TOKEN="a-write-token")  # noqa: S106
    return run("import", "any", "some.ndjson", "--batch", "1", *more, cwd=folder, env=env)


def test_what_was_not_stored_is_sent_again(tmp_path: Path) -> None:
    with scripted_server("store", "unavailable", "store") as server:
        done = _import(server.url, tmp_path, '{"n0":1}\n{"n0":2}\n')
    assert done.returncode == 0, done.stderr
    assert "the store is away; trying again" in done.stderr
    second = ("store", [{"n0": 2}])
    assert server.received == [("store", [{"n0": 1}]), ("unavailable", [{"n0": 2}]), second]


def test_what_there_was_no_room_for_is_sent_again(tmp_path: Path) -> None:
    with scripted_server("busy", "store") as server:
        done = _import(server.url, tmp_path, '{"n0":1}\n')
    assert done.returncode == 0, done.stderr
    assert "there is no room now; trying again" in done.stderr


@pytest.mark.parametrize("line", ['{"n0":1}\n', '{"_id":"1"}\n'])
def test_what_may_be_stored_is_sent_again_with_its_key(tmp_path: Path, line: str) -> None:
    with scripted_server("store", "drop", "fault", "unknown", "store") as server:
        done = _import(server.url, tmp_path, line * 2)
    assert done.returncode == 0, done.stderr
    first, *others = server.keys
    assert set(others) == {others[0]} != {first}


def test_what_this_import_has_stored_is_not_called_an_others(tmp_path: Path) -> None:
    with scripted_server("drop", "replay", "replay") as server:
        done = _import(server.url, tmp_path, '{"n0":1}\n{"n0":2}\n')
    assert "1 of them was stored before" in done.stderr


def test_a_batch_is_not_sent_for_ever(tmp_path: Path) -> None:
    """The message says how to go on, and no token."""
    with scripted_server("store", *["fault"] * 7) as server:
        done = _import(server.url, tmp_path, '{"n0":1}\n{"n0":2}\n{"n0":3}\n')
    assert done.returncode == 1
    assert len(server.received) == 8
    assert "line 2: this record may have been stored, or not" in done.stderr
    assert _skips(done.stderr) == ["--skip=1"]
    assert "a-write-token" not in done.stderr


def test_the_same_file_has_the_same_keys(tmp_path: Path) -> None:
    """Each batch another one, by its place in the file; with another word all are others."""
    line, seen = '{"n0":1}\n', []
    for more in ((), (), ("--skip=1",), ("--again=2",), ("--again=2",), ("--again=3",)):
        with scripted_server(*["store"] * 3) as server:
            assert _import(server.url, tmp_path, line * 3, *more).returncode == 0
        seen.append(server.keys)
    assert seen[0] == seen[1]
    assert seen[2] == seen[0][1:]
    assert seen[3] == seen[4]
    assert len({*seen[0], *seen[3], *seen[5]}) == 9
    (tmp_path / "other").mkdir()
    with scripted_server("store", "store") as server:
        for folder in (tmp_path, tmp_path / "other"):
            assert _import(server.url, folder, '{"n0":2}\n').returncode == 0
    assert len({*server.keys, *seen[0]}) == 5


def test_a_refused_token_is_no_fault_of_the_file(tmp_path: Path) -> None:
    with scripted_server("refuse") as server:
        done = _import(server.url, tmp_path, '{"n0":1}\n')
    assert done.stderr == (
        "Error: the write token from BACKDROP_TOKEN was refused: this token is not known\n"
        "Nothing was stored.\n"
    )


# -- Ctrl-C -----------------------------------------------------------------------------------


@contextmanager
def _interrupted_at(
    count: int, server: ScriptedServer, folder: Path, lines: str
) -> Iterator[subprocess.Popen[str]]:
    """An import that was interrupted while its batch number `count` was under way, and waits."""
    (folder / "some.ndjson").write_text(lines)
    with subprocess.Popen(
        [BACKDROP, "import", "any", "some.ndjson", "--batch=1", f"--url={server.url}"],
        cwd=folder,
        env=clean_environment(BACKDROP_TOKEN="a-write-token"),  # noqa: S106
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        eventually(lambda: len(server.received) >= count, seconds=20)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        for line in process.stderr:
            if "Waiting for the batch under way" in line:
                break
        yield process


def test_an_interrupt_waits_for_the_batch_and_says_how_far_it_came(tmp_path: Path) -> None:
    lines = "".join(f'{{"n0":{number}}}\n' for number in range(3))
    with (
        scripted_server("store", "store late") as server,
        _interrupted_at(2, server, tmp_path, lines) as process,
    ):
        server.go_on.set()
        _, stderr = process.communicate(timeout=20)
    assert process.returncode == 130
    assert stderr.startswith(
        "Interrupted.\nThe first 2 records of some.ndjson are stored. Go on with\n  "
    )
    assert _skips(stderr) == ["--skip=2"]


@pytest.mark.parametrize("line", ['{"n0":1}\n', '{"_id":"1"}\n'])
def test_a_second_interrupt_stops_at_once(tmp_path: Path, line: str) -> None:
    """What it leaves unsure is safely sent again, by one command."""
    with (
        scripted_server("store", "hang") as server,
        _interrupted_at(2, server, tmp_path, line * 3) as process,
    ):
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "may have been stored, or not" in stderr
    assert _skips(stderr) == ["--skip=1"]


def test_an_interrupt_while_there_is_nothing_to_wait_for(tmp_path: Path) -> None:
    """Standard input that gives no row is not waited for."""
    with (
        scripted_server() as server,
        subprocess.Popen(
            [BACKDROP, "import", "any", "-", f"--url={server.url}", "--batch=1"],
            cwd=tmp_path,
            env=clean_environment(BACKDROP_TOKEN="a-write-token"),  # noqa: S106
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        eventually(lambda: server.asked, seconds=20)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert process.stderr is not None
        assert process.stderr.read().startswith("Interrupted")


def test_an_interrupt_while_the_program_loads_is_no_fault() -> None:
    program = """
import sys

class Interrupted:
    def find_spec(name, *_):
        if name == "typer":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupted)
from backdrop.cli import main
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "Interrupted\n")
