"""What SQL within DuckDB could reach, and how much memory and disk a query may take."""

from __future__ import annotations

import os
import resource
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import duckdb
import httpx2
import pyarrow as pa
import pytest

from backdrop.api.body import Limits
from backdrop.domain.bucket import Bucket
from backdrop.domain.table import Records
from backdrop.observe import ServerFault
from backdrop.storage.duckdb.engine import DuckDBStorage
from backdrop.storage.duckdb.opening import Room, open_file
from tests.api.conftest import Desk, codes
from tests.live import live_server

MIB = 2**20


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """The engine's own, as it is when the store is open."""
    with open_file(tmp_path / "store.duckdb", Room()) as opened:
        yield opened


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_blob('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM glob('/etc/*')",
        "SELECT getenv('PATH')",
        "COPY (SELECT 1) TO '{folder}/out.csv'",
        "EXPORT DATABASE '{folder}/out'",
        "IMPORT DATABASE '{folder}'",
        "ATTACH '{folder}/other.duckdb'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "LOAD '{folder}/any.so'",
        "CREATE PERSISTENT SECRET (TYPE s3)",
    ],
)
def test_sql_reaches_nothing_outside_the_store(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path, statement: str
) -> None:
    before = set(tmp_path.iterdir())
    with pytest.raises((duckdb.PermissionException, duckdb.CatalogException)):
        connection.execute(statement.format(folder=tmp_path)).fetchall()
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "statement",
    [
        "SET enable_external_access = true",
        "RESET enable_external_access",
        "SET lock_configuration = false",
        "SET memory_limit = '1TB'",
        "RESET memory_limit",
        "SET max_temp_directory_size = '1TB'",
        "PRAGMA temp_directory = '/'",
        "SET GLOBAL autoinstall_known_extensions = true",
        "SET allowed_directories = ['/']",
    ],
)
def test_settings_cannot_be_changed_back(
    connection: duckdb.DuckDBPyConnection, statement: str
) -> None:
    """Not in a cursor either, which is a connection of its own."""
    for one in (connection, connection.cursor()):
        with pytest.raises(duckdb.Error, match=r"locked|Cannot change"):
            one.execute(statement)


def test_python_variables_are_no_tables(connection: duckdb.DuckDBPyConnection) -> None:
    secret = pa.table({"text": ["in memory"]})
    with pytest.raises(duckdb.CatalogException):
        connection.execute("SELECT * FROM secret")
    assert secret.num_rows == 1


# -- memory and temporary files --------------------------------------------------------------------

RECORDS = 200_000
HUNGRY = "group_by=aa&collect=bb:set&limit=1"


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("filled") / "store.duckdb"
    with closing(DuckDBStorage(path)) as storage:
        storage.put_bucket(Bucket(name="things", raw_queries_allowed=True))
        numbers = range(RECORDS)
        columns = {
            "_id": [f"{n}" for n in numbers],
            "aa": [f"{n * 7_919 % RECORDS:032x}" for n in numbers],
            "bb": [f"{n * 31 % RECORDS:032x}" for n in numbers],
        }
        storage.save("things", Records(columns, received=RECORDS))
    return path


def test_a_query_past_the_engines_memory_says_so(desk: Desk, filled: Path) -> None:
    """It names the settings; it is nobody's fault; and the store goes on to answer."""
    with closing(DuckDBStorage(filled, room=Room(memory=64 * MIB, files=MIB))) as storage:
        client = desk.clients(storage=storage, limits=Limits())
        for _ in range(2):
            answer = client.get(f"/things?{HUNGRY}")
            assert (answer.status_code, codes(answer)) == (503, ["query_too_large"]), answer.text
            message = answer.json()["message"]
            assert "max_engine_memory" in message
            assert "max_engine_files" in message
            assert int(answer.headers["Retry-After"]) > 0
        assert not any(isinstance(one, ServerFault) for one in desk.seen)
        assert client.get("/things?filter_by=bb:0&group_by=aa").status_code == 200
        assert client.get("/_status").status_code == 200
    with closing(DuckDBStorage(filled, room=Room(memory=64 * MIB, files=2**30))) as storage:
        spilled = desk.clients(storage=storage).get(f"/things?{HUNGRY}")
        assert spilled.status_code == 200, spilled.text


def test_a_query_that_finds_no_room_for_its_files_says_so(filled: Path, tmp_path: Path) -> None:
    """It is not told that something was not stored: it stores nothing."""
    env = {"BACKDROP_STORE": f"duckdb://{filled}", "BACKDROP_MAX_ENGINE_MEMORY": "48MiB"}
    with live_server("serve", cwd=tmp_path, env=env) as server:
        pid, limit = server.process.pid, resource.RLIMIT_FSIZE
        before = resource.prlimit(pid, limit)
        resource.prlimit(pid, limit, (200_000, before[1]))  # stands for a disk that is full
        answer = httpx2.get(f"{server.url}/things?{HUNGRY}", timeout=60)
        resource.prlimit(pid, limit, before)
        assert (answer.status_code, answer.json()["errors"][0]["code"]) == (503, "query_too_large")
        assert httpx2.get(f"{server.url}/_status").status_code == 200


def test_temporary_files_of_a_killed_process_are_removed(filled: Path, tmp_path: Path) -> None:
    """They stand beside the store, and would stay there: nothing else removes them."""
    env = {"BACKDROP_STORE": f"duckdb://{filled}", "BACKDROP_MAX_ENGINE_MEMORY": "48MiB"}
    folder = filled.with_name("store.duckdb.tmp")
    left = []
    for _ in range(5):
        with live_server("serve", cwd=tmp_path, env=env) as server:
            assert not list(folder.glob("duckdb_temp_*"))
            url = f"{server.url}/things?{HUNGRY}"
            with httpx2.Client(timeout=30) as client:
                left = kill_while_it_spills(client, url, server.process.pid, folder)
        if left:
            break
    assert left
    with live_server("serve", cwd=tmp_path, env=env) as server:
        assert not list(folder.glob("duckdb_temp_*"))
        answer = httpx2.get(f"{server.url}/things?group_by=aa&limit=1", timeout=60)
        assert answer.status_code == 200


def kill_while_it_spills(client: httpx2.Client, url: str, pid: int, folder: Path) -> list[Path]:
    """Ask, and kill the server once it has temporary files that hold something; what is left."""

    def ask() -> None:
        with suppress(httpx2.TransportError):
            client.get(url)

    asking = threading.Thread(target=ask)
    asking.start()
    while asking.is_alive():
        if any(file.stat().st_size for file in folder.glob("duckdb_temp_*storage*")):
            break
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    asking.join()
    return list(folder.glob("duckdb_temp_*"))
