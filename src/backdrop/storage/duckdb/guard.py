"""Opening a file only if it is whole, and noting each commit so that the next opening can tell."""

from __future__ import annotations

import contextlib
import fcntl
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from zlib import crc32

import duckdb

from backdrop.errors import StorageUnavailable
from backdrop.storage.duckdb.commit_log import (
    HEADER_BYTES,
    Commit,
    CommitLog,
    append_commit,
    checkpoints,
    commit_log_of,
    read_commit_log,
    wal_of,
    write_commit_log,
)
from backdrop.storage.duckdb.disk import NotSynced, keep, sync, wal_size
from backdrop.storage.duckdb.opening import (
    Damaged,
    Room,
    breaks_at,
    damaged,
    drop_left_over,
    gone,
    half_repaired,
    is_marked,
    open_file,
    refuse_if_held,
)
from backdrop.storage.duckdb.repairing import repairing_of
from backdrop.storage.duckdb.state import State
from backdrop.storage.port import Report


@dataclass(frozen=True, slots=True)
class WalEnd:
    """Where a WAL ended while the file had that header: what was acknowledged is before it."""

    header: bytes
    size: int


class Guard:
    """Stands before one file from its opening to its closing.

    `left_over` is where the WAL ended before a write that was refused, and has left a part there;
    `is_repair`, whether this is the end of one, before which nobody else may open the file.
    Raises Damaged where what was acknowledged is not there, before DuckDB sees it, and OSError.
    """

    def __init__(
        self,
        path: Path,
        room: Room,
        report: Report,
        left_over: WalEnd | None = None,
        *,
        is_repair: bool = False,
    ) -> None:
        self._path, self._room, self._report = path, room, report
        self._log_path, self._wal = commit_log_of(path), wal_of(path)
        self._file = self._log = -1
        self._header, self._end = b"", 0
        self._is_behind = False
        self._is_marked = False
        """Whether the file says, or will say with the next checkpoint, that it is open."""
        self._acknowledged = 0
        try:
            self._take_file()
            self._known = read_commit_log(self._log_path)
            if repairing_of(path).exists() and not is_repair:
                raise half_repaired(path, repairing_of(path))
            self._check()
            if left_over is not None:
                self._cut_off(left_over)
        except BaseException:
            self.release()
            raise

    def open(self) -> duckdb.DuckDBPyConnection:
        """The file's connection. What is not known to be acknowledged does not stand in its way:

        a WAL that breaks past those bytes is cut where it breaks, and the rest kept aside.
        """
        try:
            connection = self._connected()
        except BaseException:
            self.release()
            raise
        if self._file < 0:
            try:
                self._take_file()
            except BaseException:
                connection.close()
                self.release()
                raise
        return connection

    def begin(
        self, connection: duckdb.DuckDBPyConnection, state: State, *, is_writing: bool
    ) -> None:
        """The store is open, and holds what `state` says: note it, and mark the file as open.

        All that it holds is on the disk from now on, as it may be told to who asks. Where the disk
        refuses, duckdb.Error is raised: then open it again without writing. What the commit log
        says goes on to be true, and is all that is known until the next commit.
        """
        known, self._known = self._known, None
        if known is not None and state.version < known.version:
            raise damaged(self._path, "it is older than its commit log")
        self._is_marked = is_marked(connection)
        # What follows the acknowledged bytes a killed process may not have synced; and how much of
        # it DuckDB has replayed, nobody but DuckDB knows, which cuts off the rest when it commits.
        has_more = self._size() > self._acknowledged
        if not is_writing:
            self._is_behind = True
            if has_more:
                self._sync_wal()
            return
        drop_left_over(connection)
        was_marked = self._is_marked
        if has_more or not was_marked:
            self.mark(connection)
        try:
            self._rebase(state)
            if not was_marked:
                # The file itself has the mark then, should it be copied:
                connection.execute("CHECKPOINT")
                self._rebase(state)
        except OSError:  # a disk that is full: what the log says so far goes on to be true
            self._is_behind = True
            if known is None and self._log < 0:  # marked, and alone, it would be taken for a copy
                self.unmark(connection)

    @property
    def lacks_mark(self) -> bool:
        """Whether the file could not be marked as open when it was opened, and can be now: one that
        is, without a commit log, is taken for a copy.
        """
        return not self._is_marked and self._log >= 0 and not self._is_behind

    def mark(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Have the file say that it is open, from the next checkpoint on. Raises duckdb.Error."""
        connection.execute("INSERT INTO opened VALUES ($1)", [datetime.now(UTC)])
        self._is_marked = True

    def wal_end(self) -> WalEnd:
        """Where the WAL ends now. Raises OSError."""
        return WalEnd(os.pread(self._file, HEADER_BYTES, 0), self._size())

    def note(self, before: State, state: State) -> None:
        """A commit was made, which led to `state`: from now on it must be found.

        Never raises: the commit stands. What can't be noted now is noted with the next one.
        """
        try:
            if self._is_behind or self._checkpointed():
                self._rebase(state)
            else:
                part = self._wal_from(self._end)
                self._append(part, _version(state), _changed(before, state))
            self._is_behind = False
        except OSError:
            self._is_behind = True

    def unmark(self, connection: duckdb.DuckDBPyConnection) -> None:
        """The file is about to be closed: from then on it stands alone. Raises duckdb.Error."""
        connection.execute("DELETE FROM opened")
        self._is_marked = False

    def end(self, state: State) -> None:
        """The file was closed, by which DuckDB has let go of the lock on it.

        Where that left a WAL, what the log says of it is as true as before.
        """
        if self._file < 0:
            return
        with contextlib.suppress(OSError):  # another process has it: the log is that one's
            lock(self._file)
            if not self._wal.exists():
                self._rebase(state)
        self.release()

    def release(self) -> None:
        for descriptor in (self._file, self._log):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._log = -1

    # -- opening ----------------------------------------------------------------------------

    def _take_file(self) -> None:
        """Open the file and lock it, if it is there.

        The descriptor is kept until the end: to close it would undo DuckDB's lock as well.
        """
        try:
            self._file = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            lock(self._file)
        except BlockingIOError:
            refuse_if_held(self._path)
            self._take_lock()
        self._header = os.pread(self._file, HEADER_BYTES, 0)

    def _take_lock(self) -> None:
        try:
            lock(self._file)
        except BlockingIOError as error:
            raise StorageUnavailable(
                f"can't open {self._path}: another process reads it: stop that one, or choose "
                "another file"
            ) from error

    def _check(self) -> None:
        """Raise Damaged where the file or its WAL is not what the commit log says."""
        known = self._known
        if self._file < 0:
            if not self._path.exists() and (known or self._wal.exists()):
                beside = self._wal if known is None else self._log_path
                raise gone(self._path, f"the file is gone, and {beside.name} is there")
            return
        if known is None:
            if self._log_path.exists():
                self._report(f"{self._log_path} can't be read: it is made anew", None, 0)
            return
        if self._header == known.header:
            self._check_wal(known)
        elif checkpoints(self._header) <= checkpoints(known.header):
            raise damaged(
                self._path,
                "its header is not the one that was written last: it is damaged, or another file",
            )

    def _check_wal(self, known: CommitLog) -> None:
        wal = self._wal.read_bytes() if self._wal.exists() else b""
        whole = known.whole(wal)
        if whole < known.end:
            state = f"is damaged past byte {whole:,}" if len(wal) > whole else "is cut short"
            what = "is missing" if not wal else state
            raise damaged(
                self._path,
                f"{self._wal.name} {what}: it has {whole:,} of {known.end:,} bytes that were "
                "acknowledged",
            )
        self._acknowledged = known.end

    def _cut_off(self, left_over: WalEnd) -> None:
        """Take from the WAL what a write that was refused has left, if it is still that WAL."""
        at = left_over.size
        if self._header != left_over.header or not self._acknowledged <= at < self._size():
            return
        kept, size = cut(self._wal, at)
        self._report(f"{self._wal.name} had a part of a write that was refused", kept, size)

    def _connected(self) -> duckdb.DuckDBPyConnection:
        known = self._known
        is_alone = known is None and not self._wal.exists()
        self._sync_header()
        try:
            connection = open_file(self._path, self._room)
        except Damaged as error:
            cause = error.__cause__
            at = breaks_at(cause) if isinstance(cause, duckdb.Error) else None
            if known is None or self._header != known.header or at is None:
                raise
            if not known.end <= at < self._size():
                raise
            self._take_lock()
            kept, size = cut(self._wal, at)
            self._report(
                f"{self._wal.name} breaks off at byte {at:,}, past the {known.end:,} that are "
                "known to be acknowledged",
                kept,
                size,
            )
            connection = open_file(self._path, self._room)
        if is_alone:
            self._refuse_lone_copy(connection)
        return connection

    def _sync_header(self) -> None:
        """Have a header on the disk of which the commit log does not know: of a checkpoint in which
        the process ended. DuckDB takes it for one that is there, and removes the WAL.
        """
        if self._file < 0 or (self._known is not None and self._header == self._known.header):
            return
        with contextlib.suppress(OSError):  # after a sync that failed it is not written any more
            os.pwrite(self._file, self._header, 0)
        sync(self._file, self._path)

    def _refuse_lone_copy(self, connection: duckdb.DuckDBPyConnection) -> None:
        """A file marked as open, alone: copied from under a server, or robbed of its WAL."""
        if is_marked(connection):
            connection.close()
            raise damaged(
                self._path,
                f"it was copied while it was open, without {self._wal.name} and "
                f"{self._log_path.name}, or they are lost",
            )

    # -- noting -----------------------------------------------------------------------------

    def _checkpointed(self) -> bool:
        """Whether the WAL is not the one that was added to before."""
        return os.pread(self._file, HEADER_BYTES, 0) != self._header or self._size() < self._end

    def _size(self) -> int:
        return wal_size(self._path)

    def _wal_from(self, begin: int) -> bytes:
        try:
            with self._wal.open("rb") as wal:
                wal.seek(begin)
                return wal.read()
        except FileNotFoundError:
            return b""

    def _sync_wal(self) -> None:
        with self._wal.open("rb+") as wal:
            sync(wal.fileno(), self._wal)

    def _append(self, part: bytes, version: int, records: dict[str, int | None]) -> None:
        end = self._end + len(part)
        append_commit(self._log, Commit(self._end, end, crc32(part), version, records))
        self._end = end

    def _rebase(self, state: State) -> None:
        """Begin the commit log anew, with the store as it is now."""
        header, wal = os.pread(self._file, HEADER_BYTES, 0), self._wal_from(0)
        records: dict[str, int | None] = {name: t.records for name, t in state.tables.items()}
        commit = Commit(0, len(wal), crc32(wal), _version(state), records)
        write_commit_log(self._log_path, header, commit, os.fstat(self._file))
        if self._log >= 0:
            os.close(self._log)
        self._log = os.open(self._log_path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._header, self._end = header, len(wal)


def lock(descriptor: int) -> None:
    """Raise OSError where another process has the file."""
    fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def cut(wal: Path, at: int) -> tuple[Path, int]:
    """Cut a WAL at that byte; where what came after it is kept from now on, and its bytes.

    Raises OSError, and then has changed nothing; or NotSynced.
    """
    with wal.open("rb+") as file:
        file.seek(at)
        rest = file.read()
        kept = keep(rest, new_name(wal, f"cut-at-{at}"))
        try:
            file.truncate(at)
        except OSError:
            kept.unlink()
            raise
        try:
            sync(file.fileno(), wal)
        except NotSynced as error:
            told = f"{error}; {len(rest):,} bytes are in {kept.name}"
            raise NotSynced(told) from error
    if at == 0:
        wal.unlink()
    return kept, len(rest)


def new_name(path: Path, ending: str) -> Path:
    """A name beside the path that nothing has yet."""
    names = (f"{path.name}.{ending}{f'-{again}' if again else ''}" for again in range(1_000))
    return next(one for one in map(path.with_name, names) if not one.exists())


def _version(state: State) -> int:
    """The highest that a bucket has: the file holds it, as it may not the highest one given out."""
    return max((table.version for table in state.tables.values()), default=0)


def _changed(before: State, state: State) -> dict[str, int | None]:
    """How many records the buckets have that a commit changed."""
    changed: dict[str, int | None] = {
        name: table.records
        for name, table in state.tables.items()
        if before.tables.get(name) is not table
    }
    return changed | dict.fromkeys(before.tables.keys() - state.tables.keys())
