"""The commit log: a small file beside the store that says what each commit came to.

DuckDB opens a WAL that was cut short as if nothing were missing, so what it must hold is noted
outside it: for each commit where in the WAL it stands and its checksum, and how many records the
buckets that it changed have since. A line is written before the commit is acknowledged, without a
sync of its own (ADR 10).

The first line is the base: the store whole as it stood at one moment. With each checkpoint, which
empties the WAL, the file is replaced by one with a new base.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from zlib import compress, crc32, decompress

import msgspec


def commit_log_of(store: Path) -> Path:
    """Where a store's commit log is."""
    return store.with_name(f"{store.name}.commits")


def wal_of(store: Path) -> Path:
    """Where DuckDB keeps a store's WAL."""
    return store.with_name(f"{store.name}.wal")


class Commit(msgspec.Struct, frozen=True):
    """One commit, or several: the bytes of the WAL that they are, and what the store then had."""

    begin: int
    end: int
    checksum: int
    """CRC-32 of the WAL from `begin` to `end`."""
    version: int
    """The highest version of any bucket."""
    records: dict[str, int | None]
    """Of each bucket that was changed, how many records it had; None where it was dropped."""


class Base(msgspec.Struct, frozen=True):
    """What a commit log begins with. The commit is all of the WAL, and tells of all buckets."""

    header: bytes
    """The first `HEADER_BYTES` of the store's file, compressed."""
    commit: Commit


@dataclass(frozen=True, slots=True)
class CommitLog:
    """What a commit log says. Lines that can't be read are left out."""

    header: bytes
    commits: Sequence[Commit]

    @property
    def end(self) -> int:
        """How many bytes of the WAL were acknowledged."""
        return self.commits[-1].end

    @property
    def version(self) -> int:
        return self.commits[-1].version

    def whole(self, wal: bytes) -> int:
        """How many bytes of the WAL are as they were acknowledged, up to the end of a commit."""
        for commit in self.commits:
            part = wal[commit.begin : commit.end]
            if len(part) < commit.end - commit.begin or crc32(part) != commit.checksum:
                return commit.begin
        return self.end

    def since(self, end: int) -> Sequence[Commit]:
        """The commits that are not within so many bytes of the WAL."""
        return [commit for commit in self.commits if commit.end > end]

    def records(self, end: int | None = None) -> dict[str, int]:
        """How many records each bucket had: at the end, or with so many bytes of the WAL."""
        counts: dict[str, int | None] = {}
        for place, commit in enumerate(self.commits):
            if end is None or commit.end <= end or place == 0:
                counts |= commit.records
        return {name: count for name, count in counts.items() if count is not None}


HEADER_BYTES = 3 * 4096
"""The file's header, and two of the database, in turns: each checkpoint writes one of them."""


def checkpoints(header: bytes) -> int:
    """How many checkpoints a file with that header has had."""
    return max(int.from_bytes(header[at + 8 : at + 16], "little") for at in (4096, 8192))


def read_commit_log(path: Path) -> CommitLog | None:
    """What the file says; None where there is none, or nothing can be made of it."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return None
    base = _parsed(lines[0], Base) if lines else None
    if base is None:
        return None
    found = (_parsed(line, Commit) for line in lines[1:])
    commits = [base.commit, *(commit for commit in found if commit is not None)]
    return CommitLog(decompress(base.header), commits)


def write_commit_log(path: Path, header: bytes, commit: Commit, owner: os.stat_result) -> None:
    """Put a file with that base in the place of the one there is, in one step, and durably.

    It is the `owner`'s, that of the store's file, if that can be: root may have run the command.
    """
    new = path.with_name(f"{path.name}.new")
    line = _line(Base(compress(header), commit))
    new.unlink(missing_ok=True)  # one that was left may be somebody else's
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:  # noqa: PTH123  a Path can't give the mode
        with suppress(OSError):
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        file.write(line)
        file.flush()
        os.fsync(descriptor)
    new.replace(path)
    sync_folder(path)  # before the file is marked as one that has a commit log


def sync_folder(path: Path) -> None:
    """Have the name of the file on the disk. Raises OSError."""
    folder = os.open(path.absolute().parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def append_commit(descriptor: int, commit: Commit) -> None:
    """Add a line to the open file: all of it, or OSError is raised."""
    line = _line(commit)
    if os.write(descriptor, line) < len(line):
        raise OSError("a line of the commit log was cut short")


_encode = msgspec.json.Encoder().encode
T = TypeVar("T", Base, Commit)


def _line(what: Base | Commit) -> bytes:
    text = _encode(what)
    return b"%08x %s\n" % (crc32(text), text)


def _parsed(line: bytes, kind: type[T]) -> T | None:
    """What stands in a line; None where it is torn or damaged."""
    checksum, _, text = line.partition(b" ")
    if checksum != b"%08x" % crc32(text):
        return None
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.DecodeError:
        return None
