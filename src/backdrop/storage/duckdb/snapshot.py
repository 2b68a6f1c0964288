"""All that a file holds, as it stood at one commit: to be compared, and copied into a new file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import msgspec

from backdrop.domain.audit import Act
from backdrop.domain.bucket import Bucket
from backdrop.domain.token import Token
from backdrop.errors import InvalidRequest
from backdrop.storage.duckdb.audit import AUDIT_TABLE, insert_acts
from backdrop.storage.duckdb.catalogue import Table, quoted
from backdrop.storage.duckdb.disk import unavailable
from backdrop.storage.duckdb.inserts import Inserts
from backdrop.storage.duckdb.opening import CONFIG, says_damaged, wording
from backdrop.storage.duckdb.pages import batches, copy_rows, pages, run
from backdrop.storage.duckdb.sql import select_stored
from backdrop.storage.duckdb.state import read_state
from backdrop.storage.port import BucketState, Reading

_NOTE = "backup"
"""The table that a backup has and a store has not."""
_OF_THE_PROCESS = frozenset({"opened"})
"""Tables of which a copy has the columns and no row."""
_ROWS_AT_ONCE = 10_000


class FileSnapshot:
    """What the connection's transaction sees. It keeps `backdrop.storage.port.Snapshot`.

    But where what it reads is damaged, that is DuckDB's error: whoever has opened the file knows
    whether it is a store's, which can be repaired.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        with _driver_errors():
            self._connection = connection
            self._state = read_state(connection)

    def buckets(self) -> list[Bucket]:
        return self._state.buckets()

    def state(self, name: str) -> BucketState:
        return self._table(name).state

    def tokens(self, bucket: str) -> list[Token]:
        return self._state.tokens_of(bucket)

    @contextmanager
    def stored(self, bucket: str) -> Iterator[Reading]:
        table = self._table(bucket)
        with _driver_errors():
            run(self._connection, select_stored(table))
            # Not one more than are told of would go unnoticed:
            yield Reading(pages(self._connection, table, iter(()), table.records + 1))

    def digests(self) -> dict[str, str]:
        of_records = {table.name for table in self._state.tables.values()}
        with _driver_errors():
            return {
                name: self._digest(name)
                for name in self._tables()
                if name not in of_records and name not in _OF_THE_PROCESS
            }

    def write(self, path: Path, note: bytes) -> None:
        with _driver_errors(), closing(duckdb.connect(str(path), config=CONFIG)) as new:
            new.begin()
            for name, statement in self._tables().items():
                new.execute(statement)
                if name not in _OF_THE_PROCESS:
                    copy_rows(batches(self._connection, f"SELECT * FROM {quoted(name)}"), new, name)
            new.execute(f"CREATE TABLE {_NOTE} (note BLOB NOT NULL)")
            new.execute(f"INSERT INTO {_NOTE} VALUES ($1)", [note])
            new.commit()
            new.execute("CHECKPOINT")

    def note(self) -> bytes:
        with _driver_errors():
            (note,) = self._connection.execute(f"SELECT note FROM {_NOTE}").fetchall()[0]
        return bytes(note)

    # -- within -----------------------------------------------------------------------------

    def _table(self, bucket: str) -> Table:
        return self._state.tables[bucket]

    def _tables(self) -> Mapping[str, str]:
        """Every table, and the statement that makes it."""
        select = "SELECT table_name, sql FROM duckdb_tables() WHERE table_name <> $1 ORDER BY 1"
        return dict(self._connection.execute(select, [_NOTE]).fetchall())

    def _digest(self, name: str) -> str:
        """How many rows, and the SHA-256 of all of them as they lie."""
        digest, rows = hashlib.sha256(), 0
        self._connection.execute(f"SELECT * FROM {quoted(name)}")
        while found := self._connection.fetchmany(_ROWS_AT_ONCE):
            rows += len(found)
            digest.update(msgspec.json.encode(found))
        return f"{rows} rows, {digest.hexdigest()}"


@contextmanager
def opened_backup(path: Path) -> Iterator[FileSnapshot]:
    """What a backup's file holds. Raises InvalidRequest where it is none, and StorageUnavailable
    where it can't be read.
    """
    with _driver_errors(damage_too=True), closing(_connection(path)) as connection:
        tables = connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()
        if (_NOTE,) not in tables:
            raise InvalidRequest("`backdrop backup` makes them")
        yield FileSnapshot(connection)


def _connection(path: Path) -> duckdb.DuckDBPyConnection:
    try:
        return duckdb.connect(str(path), read_only=True, config=CONFIG)
    except duckdb.Error as error:
        if "not a valid DuckDB database file" not in wording(error):
            raise
        raise InvalidRequest("it does not begin as a DuckDB file does") from error


def make_store_of(path: Path, act: Act) -> None:
    """Make a backup's file a store: it gets versions that no store of this host has given out.

    Its audit log gets the act.
    """
    now = datetime.now(UTC)
    number = int(now.timestamp() * 1_000_000)
    with (
        _driver_errors(damage_too=True),
        closing(duckdb.connect(str(path), config=CONFIG)) as connection,
    ):
        connection.execute(f"DROP TABLE {_NOTE}")
        connection.execute("UPDATE store SET version_floor = greatest(version_floor, $1)", [number])
        connection.execute(AUDIT_TABLE)
        (last,) = connection.execute("SELECT max(number) FROM audit").fetchall()[0]
        insert_acts(Inserts(connection), [act], max(number, (last or 0) + 1), now)
        connection.execute("CHECKPOINT")
    with path.open("rb") as file:
        os.fsync(file.fileno())


@contextmanager
def _driver_errors(*, damage_too: bool = False) -> Iterator[None]:
    """DuckDB's errors with its reasons, as StorageUnavailable."""
    try:
        yield
    except duckdb.Error as error:
        if says_damaged(error) and not damage_too:
            raise
        known = unavailable(error)
        reason = str(error).splitlines()[0]
        raise type(known)(reason, code=known.problems[0].code) from error
