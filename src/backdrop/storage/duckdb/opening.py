"""Opening the file: a store's tables made, or found to be ones that are understood."""

from __future__ import annotations

import os
import re
import secrets
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import duckdb

from backdrop.errors import StorageUnavailable
from backdrop.storage.duckdb.audit import AUDIT_TABLE
from backdrop.storage.duckdb.catalogue import (
    DONE_TABLE,
    ENTRIES_TABLE,
    FORMAT,
    OPENED_TABLE,
    STORE_TABLES,
    quoted,
)
from backdrop.storage.duckdb.commit_log import wal_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Bytes that the engine may take, all queries together.

    `memory`: None for four fifths of the machine's. `files`: temporary ones beside the store, for
    what a query sorts or groups past that.
    """

    memory: int | None = None
    files: int = 10 * 2**30


def open_file(path: Path, room: Room) -> duckdb.DuckDBPyConnection:
    """The file's connection. What the WAL holds is taken into the file by CHECKPOINT alone: closing
    leaves both as they are, in case that something is found to be damaged.

    Raises StorageUnavailable, with the reason in its message.
    """
    if not path.parent.is_dir():
        raise StorageUnavailable(f"can't open {path}: there is no folder {path.parent}")
    connection = None
    try:
        if not path.exists():
            _make(path)
        connection = duckdb.connect(str(path), config=CONFIG)
        connection.execute("PRAGMA disable_checkpoint_on_shutdown")
        _remove_left_over_files(connection)  # nobody else has the file open, so they are no one's
        _set_up(connection, room)
        tables = connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()
        if not tables:
            _make_tables(connection)
        elif ("store",) not in tables:
            connection.close()
            raise StorageUnavailable(f"can't open {path}: it is a DuckDB file of something else")
        (found,) = connection.execute("SELECT format FROM store").fetchall()[0]
        if found != FORMAT:
            connection.close()
            raise StorageUnavailable(
                f"can't open {path}: it has layout {found}, and this Backdrop knows {FORMAT}"
            )
        connection.execute(ENTRIES_TABLE)
        connection.execute(AUDIT_TABLE)
        connection.execute(DONE_TABLE)
        connection.execute(OPENED_TABLE)
    except duckdb.Error as error:
        if connection is not None:
            connection.close()  # as long as one is left, DuckDB gives the same broken database
        raise refusal(path, error) from error
    return connection


def is_marked(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether the file says that a process has it open, or has left it without closing it."""
    return bool(connection.execute("SELECT * FROM opened").fetchall())


def _make(path: Path) -> None:
    """Put an empty store there, whole: a file that was only begun is taken for a damaged one.

    Where another process comes first, it is that one's; where the file system has no links, DuckDB
    makes the file itself. Raises duckdb.Error.
    """
    fresh = path.with_name(f"{path.name}.making-{secrets.token_hex(4)}")
    try:
        with closing(duckdb.connect(str(fresh), config=CONFIG)) as connection:
            _make_tables(connection)
            connection.execute("CHECKPOINT")
        with suppress(OSError):
            os.link(fresh, path)
    finally:
        for one in (fresh, wal_of(fresh)):
            one.unlink(missing_ok=True)


def _make_tables(connection: duckdb.DuckDBPyConnection) -> None:
    connection.begin()
    connection.execute(STORE_TABLES)
    connection.execute("INSERT INTO store VALUES ($1, 0)", [FORMAT])
    connection.commit()


class Damaged(StorageUnavailable):
    """The file, or its WAL, is not what was acknowledged. The message names the repair."""


def gone(path: Path, what: str) -> Damaged:
    """There is no file to be repaired."""
    return Damaged(f"can't open {path}: {what}. Nothing was changed. {how_to_put_back(path)}")


def how_to_put_back(path: Path) -> str:
    restore = f"`backdrop restore FILE --replace --store duckdb:{path}`"
    return f"Put the file back as it was, or a backup: {restore}"


def damaged(path: Path, what: str) -> Damaged:
    return Damaged(
        f"can't open {path}: {what}. Nothing was changed. Put back what belongs there, or run "
        f"`backdrop repair duckdb:{path}`, which saves what can be read and says what is lost"
    )


def half_repaired(path: Path, left: Path) -> Damaged:
    return Damaged(
        f"can't open {path}: a repair of it was cut off. Nothing was changed. Run "
        f"`backdrop repair duckdb:{path}` again; or, where the files were put back as they were "
        f"before that repair, remove {left.name}"
    )


def wording(error: duckdb.Error) -> str:
    """What DuckDB says, without what it quotes: paths may hold any word."""
    return re.sub('"[^"]*"', '""', str(error))


_DAMAGED = re.compile(
    "Corrupt|checksum|Could not read enough bytes|not a valid DuckDB database file"
    "|Failed to deserialize|Failure while replaying"
)
_REFUSED = re.compile(
    "Cannot open file|Could not (set lock on|read from|write|write to|truncate|fsync) file"
    "|fsync failed|Out of Memory"
)
"""Words of a machine that refuses, also while a WAL is replayed, whatever is in the file."""


def says_damaged(error: duckdb.Error) -> bool:
    """Whether it is about what the file or its WAL holds."""
    words = wording(error)
    return not _REFUSED.search(words) and _DAMAGED.search(words) is not None


def breaks_at(error: duckdb.Error) -> int | None:
    """The byte of the WAL from which on DuckDB can't read it, where it says so."""
    found = re.search(r"Corrupt.* WAL file: entry .*at byte position (\d+)", wording(error))
    return int(found[1]) if found else None


def not_answering(error: duckdb.Error) -> StorageUnavailable:
    """What to say, to anyone, of a store that was open and failed."""
    if says_damaged(error):
        return Damaged("the store's file is damaged: stop the server, and run `backdrop repair`")
    return StorageUnavailable("the store does not answer")


def refuse_if_held(path: Path) -> None:
    """Raise StorageUnavailable, with who has it, where another process has the file open."""
    try:
        duckdb.connect(str(path), read_only=True, config=CONFIG).close()
    except duckdb.Error as error:
        raise refusal(path, error) from error


def refusal(path: Path, error: duckdb.Error) -> StorageUnavailable:
    """What to say of a file that can't be opened."""
    reason = str(error).splitlines()[0]
    holder = re.search(r"Conflicting lock is held in .*?\(PID (\d+)\)", reason)
    if holder is not None:
        return StorageUnavailable(
            f"can't open {path}: the process {holder[1]} has it open, and only one can: stop that "
            "one, or choose another file"
        )
    if says_damaged(error):
        return damaged(path, reason)
    return StorageUnavailable(f"can't open {path}: {reason}")


def _set_up(connection: duckdb.DuckDBPyConnection, room: Room) -> None:
    """Bound what the engine takes, and lock all settings.

    Given with `CONFIG`, the bound on temporary files would be shown, but not be held.
    """
    if room.memory is not None:
        connection.execute(f"SET memory_limit = '{room.memory} bytes'")
    connection.execute(f"SET max_temp_directory_size = '{room.files} bytes'")
    connection.execute("SET lock_configuration = true")


def _remove_left_over_files(connection: duckdb.DuckDBPyConnection) -> None:
    """Remove the temporary files of a process that was killed."""
    (folder,) = connection.execute("SELECT current_setting('temp_directory')").fetchall()[0]
    for file in Path(folder).glob("duckdb_temp_*"):
        file.unlink(missing_ok=True)


def drop_left_over(connection: duckdb.DuckDBPyConnection) -> None:
    """Drop the tables of buckets that a process began to restore, and did not end."""
    tables = (
        "SELECT table_name FROM duckdb_tables() WHERE starts_with(table_name, 'records_') "
        "AND table_name NOT IN (SELECT records_table FROM buckets)"
    )
    for (name,) in connection.execute(tables).fetchall():
        connection.begin()
        connection.execute("DELETE FROM fields WHERE records_table = $1", [name])
        connection.execute(f"DROP TABLE {quoted(name)}")
        connection.commit()


CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": False,  # no statement can read or write another file
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,
    "checkpoint_threshold": "1TB",  # none within a commit: the engine does it between two
}
