"""Making what can be saved of a damaged file readable, and saying what is lost.

Nothing is thrown away: what is cut off or replaced is kept beside the store.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import duckdb
import pyarrow as pa

from backdrop.domain.words import counted
from backdrop.errors import StorageUnavailable
from backdrop.storage.duckdb.catalogue import quoted
from backdrop.storage.duckdb.commit_log import (
    HEADER_BYTES,
    CommitLog,
    checkpoints,
    commit_log_of,
    read_commit_log,
    sync_folder,
    wal_of,
)
from backdrop.storage.duckdb.disk import keep
from backdrop.storage.duckdb.guard import Guard, cut, lock, new_name
from backdrop.storage.duckdb.opened import OpenFile
from backdrop.storage.duckdb.opening import (
    Damaged,
    Room,
    breaks_at,
    how_to_put_back,
    is_marked,
    open_file,
    refuse_if_held,
    says_damaged,
    wording,
)
from backdrop.storage.duckdb.pages import batches, copy_rows
from backdrop.storage.duckdb.repairing import Begun, lose, repairing_of
from backdrop.storage.repaired import BeyondRepair, Repair, Saved


def repair(path: Path) -> Repair:
    """Make the store one that can be opened. Raises BeyondRepair, or StorageUnavailable where
    another process has it open or what is to be kept can't be written.
    """
    if not path.is_file():
        raise StorageUnavailable(f"there is no file {path}. {how_to_put_back(path)}")
    found, file = Repair(), _Held(path)
    try:
        _repair(file, found)
    except BeyondRepair as error:
        error.done = found.done
        repairing_of(path).unlink(missing_ok=True)  # it says all there is to say
        raise
    except (duckdb.Error, OSError, StorageUnavailable) as error:
        so_far = [*found.done, *found.lost]
        raise StorageUnavailable(
            f"the repair of {path} broke off: {str(error).splitlines()[0]}. No record was given "
            "up. Make as much room as the store takes, and repair it again"
            + (f". Done so far: {'; '.join(so_far)}" if so_far else "")
        ) from error
    repairing_of(path).unlink()
    return found


def _repair(file: _Held, found: Repair) -> None:
    path = file.path
    with contextlib.closing(file):
        known = read_commit_log(commit_log_of(path))
        begun = Begun.of(path, found) or Begun(known.records() if known else None)
        _clear_away(begun, path)
        if begun.is_in_place(path):
            known = None  # it tells of the file that was there before
        begun.keep(path, found)
        if known is not None:
            _mend_header(file, known, found)
            _mend_wal(file, known, found)
            begun.keep(path, found)
        with contextlib.closing(_opened(file, found, begun.had or {})) as connection:
            tables = _tables(connection)
            records = _records_tables(connection, path, begun.had or {})
            broken = [name for name in tables if not _is_readable(connection, name)]
            of_buckets = {table: name for name, (table, _) in records.items()}
            if begun.had is None and found.is_counted:
                if _may_be_marked(connection):
                    _take_as_it_is([of_buckets[one] for one in broken if one in of_buckets], found)
                else:
                    begun.had = {name: count for name, (_, count) in records.items()}
            salvaged = None
            if broken:
                salvaged, left = _salvage(path, connection, tables, broken)
                for name in broken:
                    if name not in of_buckets:
                        lose(_left_of(name, left[name]), found)
        kept = new_name(path, "damaged")
        if salvaged is not None:
            begun.kept = kept.name
            found.done.append(
                f"put what can be read into a new file: the damaged one is {kept.name}"
            )
        begun.keep(path, found)  # what shows it may be gone from here on
        file.lock()
        if salvaged is not None:
            _put_in_place(salvaged, path, kept)
    with contextlib.closing(_Held(path)) as file:  # which may be another by now
        with contextlib.closing(open_file(path, Room())) as connection:
            counts = {name: _count(connection, table) for name, (table, _) in records.items()}
            _correct(connection, counts)
            connection.execute("CHECKPOINT")
        file.lock()
        _begin_commit_log(path, found)
    had = begun.had or {}
    found.buckets = [
        Saved(name, had.get(name), counts.get(name)) for name in sorted({*had, *counts})
    ]


def _may_be_marked(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether the file is, or may be, one that was not closed."""
    try:
        return is_marked(connection)
    except duckdb.Error:
        return True


def _take_as_it_is(broken: Sequence[str], found: Repair) -> None:
    found.done.append("took the file as it is: nobody knows what its WAL should hold")
    found.is_counted = False
    for name in broken:
        lose(f"some of the bucket {name}", found)


class _Held:
    """The store's file, locked: no server comes in between.

    To close any other descriptor of it lets go of the lock. So DuckDB does, and it is taken again.
    Raises StorageUnavailable where another process has it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise StorageUnavailable(f"can't open {path}: {error.strerror}") from error
        try:
            self.lock()
        except BaseException:
            self.close()
            raise

    def lock(self) -> None:
        try:
            lock(self._file)
        except BlockingIOError:
            with contextlib.suppress(Damaged):
                refuse_if_held(self.path)
            raise StorageUnavailable(f"another process has {self.path} open: stop it") from None

    @property
    def header(self) -> bytes:
        return os.pread(self._file, HEADER_BYTES, 0)

    def put_header(self, header: bytes) -> None:
        os.pwrite(self._file, header, 0)
        os.fsync(self._file)

    def close(self) -> None:
        os.close(self._file)


def _mend_wal(file: _Held, known: CommitLog, found: Repair) -> None:
    """Cut the WAL after the last commit that is as it was acknowledged."""
    wal, header = wal_of(file.path), file.header
    if header != known.header and checkpoints(header) > checkpoints(known.header):
        return  # what the log says of the WAL is in the file by now
    if not wal.exists():
        if known.end:
            found.done.append(f"{wal.name} is missing, with {known.end:,} acknowledged bytes")
            lose(_changes(known, 0), found)
        return
    whole = known.whole(wal.read_bytes())
    if whole < known.end:
        lose(_changes(known, whole), found)
        if wal.stat().st_size > whole:
            kept, size = cut(wal, whole)
            told = f"cut {wal.name} after byte {whole:,}: {size:,} bytes are in {kept.name}"
            found.done.append(told)


def _changes(known: CommitLog, end: int) -> str:
    """What was acknowledged and is not within so many bytes of the WAL: counts don't show all."""
    buckets = sorted({name for commit in known.since(end) for name in commit.records})
    of_buckets = f"in {', '.join(buckets)}, or " if buckets else ""
    return (
        f"what the last {known.end - end:,} acknowledged bytes of the WAL changed: {of_buckets}in "
        "settings and tokens, so that one that was revoked may open its bucket again"
    )


def _mend_header(file: _Held, known: CommitLog, found: Repair) -> None:
    """Put the header back as it was written last, where it is not one that can be used."""
    header = file.header
    if header == known.header:
        return
    can_be_used = _opens(file.path)
    file.lock()
    if can_be_used:
        file.put_header(header)  # of a checkpoint that was cut off it may not be on the disk
        if checkpoints(header) <= checkpoints(known.header):
            found.done.append("took the file as it is: it is not the one of the commit log")
            lose("what was changed since that file, if it is an older one", found)
        return
    kept = keep(header, new_name(file.path, "header"))
    file.put_header(known.header)
    found.done.append(f"put the header back from the commit log: what it was is in {kept.name}")


def _opens(path: Path) -> bool:
    """Whether the file itself can be opened, whatever its WAL."""
    try:
        duckdb.connect(str(path), read_only=True).close()
    except duckdb.Error as error:
        return "WAL" in wording(error)
    return True


def _opened(file: _Held, found: Repair, had: Mapping[str, int]) -> duckdb.DuckDBPyConnection:
    """A connection that only reads, once the WAL holds nothing that stands in the way."""
    wal = wal_of(file.path)
    while True:
        try:
            return duckdb.connect(str(file.path), read_only=True)
        except duckdb.Error as error:
            file.lock()
            reason = str(error)
            if not wal.exists() or not (says_damaged(error) and "WAL" in wording(error)):
                raise _beyond_repair(file.path, reason, had) from error
            at = breaks_at(error)
            if at is not None and 0 < at < wal.stat().st_size:
                kept, size = cut(wal, at)
                found.done.append(f"cut {wal.name} at byte {at}: {size:,} bytes are in {kept.name}")
                lose(f"what was changed in {kept.name}, if it was acknowledged", found)
            else:
                kept = new_name(wal, "set-aside")
                wal.rename(kept)
                lose(f"what was changed in {kept.name}, if it is this file's", found)
                found.done.append(f"set {wal.name} aside as {kept.name}: {reason.splitlines()[0]}")


def _beyond_repair(path: Path, reason: str, had: Mapping[str, int]) -> BeyondRepair:
    return BeyondRepair(
        f"nothing in {path} can be read: {reason.splitlines()[0]}. {how_to_put_back(path)}",
        had,
    )


_LOST_WITHOUT = ("store", "buckets", "fields")
"""Without one of these tables, nobody knows what the others are."""


def _tables(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """The statement that makes each table of the file."""
    rows = connection.execute("SELECT table_name, sql FROM duckdb_tables()").fetchall()
    return dict(rows)


def _records_tables(
    connection: duckdb.DuckDBPyConnection, path: Path, had: Mapping[str, int]
) -> dict[str, tuple[str, int]]:
    """The table of each bucket, and how many records it should have."""
    try:
        for name in _LOST_WITHOUT:
            connection.execute(f"SELECT * FROM {quoted(name)}").fetchall()
        rows = connection.execute("SELECT name, records_table, records FROM buckets").fetchall()
    except duckdb.Error as error:
        raise _beyond_repair(path, str(error), had) from error
    return {name: (table, records) for name, table, records in rows}


def _is_readable(connection: duckdb.DuckDBPyConnection, table: str) -> bool:
    try:
        for _ in batches(connection, f"SELECT * FROM {quoted(table)}"):
            pass
    except duckdb.Error:
        return False
    return True


def _left_of(table: str, rows: int) -> str:
    told = f"some of the table {table}, which has {counted(rows, 'row')} now"
    if table == "tokens":
        told += ": whose token is refused needs a new one (`backdrop token create`)"
    return told


_ROWS_TOGETHER = 122_880
"""Rows whose columns DuckDB keeps in the same blocks: a row group."""


def _count(connection: duckdb.DuckDBPyConnection, table: str) -> int:
    (count,) = connection.execute(f"SELECT count(*) FROM {quoted(table)}").fetchall()[0]
    return int(count)


def _correct(connection: duckdb.DuckDBPyConnection, counts: Mapping[str, int]) -> None:
    """Have each bucket know how many records it has, and the file stand alone."""
    version = int(datetime.now(UTC).timestamp() * 1_000_000)
    for name, count in counts.items():
        update = (
            "UPDATE buckets SET records = $1, version = greatest(version + 1, $2) WHERE name = $3"
        )
        connection.execute(update, [count, version, name])
    connection.execute("DELETE FROM opened")


def _salvage(
    path: Path,
    connection: duckdb.DuckDBPyConnection,
    tables: Mapping[str, str],
    broken: Sequence[str],
) -> tuple[Path, dict[str, int]]:
    """A new file with all that can be read, and how many rows that is of each table."""
    fresh, owner = new_name(path, "salvaged"), path.stat()
    try:
        with contextlib.closing(duckdb.connect(str(fresh))) as new:
            fresh.chmod(0o600)
            with contextlib.suppress(OSError):
                os.chown(fresh, owner.st_uid, owner.st_gid)
            for name, statement in tables.items():
                new.execute(statement)
                for select in _selects(connection, name, broken):
                    copy_rows(_up_to_damage(connection, select), new, name)
            new.execute("CHECKPOINT")  # closing would say nothing of one that fails
            left = {name: _count(new, name) for name in tables}
    except BaseException:
        for file in (fresh, wal_of(fresh)):
            file.unlink(missing_ok=True)
        raise
    return fresh, left


def _up_to_damage(connection: duckdb.DuckDBPyConnection, select: str) -> Iterator[pa.RecordBatch]:
    with contextlib.suppress(duckdb.Error):
        yield from batches(connection, select)


def _put_in_place(fresh: Path, path: Path, kept: Path) -> None:
    """Make it the store's file; the one there is, and its WAL, are kept under another name.

    There is no moment without a file, nor one with a part of the two.
    """
    wal = wal_of(path)
    _keep_as(path, kept)
    if wal.exists():
        _keep_as(wal, wal_of(kept))
    fresh.replace(path)
    wal.unlink(missing_ok=True)
    sync_folder(path)


def _clear_away(begun: Begun, path: Path) -> None:
    """Remove what a repair that was cut off has left, and nobody needs: new files that are not in
    place, and the WAL of the file before one that is, which has all of it.
    """
    for fresh in path.parent.glob(f"{glob.escape(path.name)}.salvaged*"):
        fresh.unlink()
    if begun.kept is not None and begun.is_in_place(path):
        wal, its = wal_of(path), wal_of(path.with_name(begun.kept))
        if wal.exists() and its.exists() and wal.samefile(its):
            wal.unlink()


def _keep_as(path: Path, kept: Path) -> None:
    try:
        os.link(path, kept)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        path.rename(kept)  # a file system that has no links


def _selects(
    connection: duckdb.DuckDBPyConnection, table: str, broken: Sequence[str]
) -> Iterator[str]:
    """The questions that read a table: one, or one for each part that may be damaged by itself."""
    select = f"SELECT * FROM {quoted(table)}"
    if table not in broken:
        yield select
        return
    last = connection.execute(f"SELECT max(rowid) FROM {quoted(table)}").fetchall()[0][0] or 0
    for first in range(0, last + 1, _ROWS_TOGETHER):
        yield f"{select} WHERE rowid BETWEEN {first} AND {first + _ROWS_TOGETHER - 1}"


def _begin_commit_log(path: Path, found: Repair) -> None:
    log = commit_log_of(path)
    if log.exists() and found.done:
        kept = new_name(log, "before")
        log.rename(kept)
        found.done.append(f"began the commit log anew: what it was is in {kept.name}")
    else:
        log.unlink(missing_ok=True)
    opened = OpenFile(path, partial(Guard, path, Room(), lambda *_: None, is_repair=True))
    opened.close(state=opened.state)
