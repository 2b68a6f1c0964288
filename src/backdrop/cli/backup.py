"""`backdrop backup` and `backdrop restore`: a whole store to a file, and back."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from backdrop.backups import Backup, BadBackup, backup_file, chunks, records_in, verify_backup
from backdrop.cli import INTERRUPTED
from backdrop.cli.connect import connect
from backdrop.cli.options import CONNECTION, takes_settings
from backdrop.cli.output import Stop, as_table, note
from backdrop.cli.progress import reporting
from backdrop.domain.audit import HOST, Act
from backdrop.domain.times import format_instant
from backdrop.errors import BackdropError, StorageUnavailable
from backdrop.refusals import NoAnswer
from backdrop.settings import Settings
from backdrop.storage.open import duckdb_path, make_store_of, open_storage
from backdrop.storage.port import HasSnapshots

Bytes: TypeAlias = tuple[int, Iterator[bytes]]
"""How many there will be, and they."""

_SHOWN_OF_CHECKSUM = 16


@takes_settings(*CONNECTION)
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="the backup, a new file")],
    *,
    settings: Settings,
) -> None:
    """Copy a store on DuckDB into one file, while its server goes on reading and writing.

    The file holds all that the store held at one moment, and is compared with it before it gets
    its name. Where no server runs, the store is opened instead.
    """
    if os.path.lexists(file):
        raise Stop(f"there is a file {file} already: choose another name")
    with _made_beside(file, "part") as part:
        with _a_backup(settings) as (size, found):
            _receive(part, size, found)
        held = _verified(part, file)
        _put_in_place(part, file)
    _show(held)
    note.print(f"{file} holds all of it, as of {_time(held)}", markup=False)


@takes_settings("store")
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="what `backdrop backup` has made")],
    *,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="put it in the place of the store there is, which is kept"),
    ] = False,
    settings: Settings,
) -> None:
    """Make a store of a backup, once all of it has been read and compared. No server may run."""
    store = duckdb_path(settings.store)
    if store is None:
        raise Stop(f"a backup becomes a store such as duckdb:backdrop.duckdb, not {settings.store}")
    if not file.is_file():
        raise Stop(f"there is no file {file}")
    with _locked(store):
        there = [one for one in _files_of(store) if os.path.lexists(one)]
        if there and not replace:
            raise Stop(f"there is {there[0]} already: --replace puts the backup in its place")
        with _made_beside(store, "restoring") as part:
            with file.open("rb") as source:
                _receive(part, file.stat().st_size, chunks(source))
            held = _verified(part, file)
            try:
                make_store_of(part, _act(held))
            except BackdropError as error:
                raise Stop(f"{part}: {error}") from None
            kept = _set_aside(there)
            if store.exists():
                part.replace(store)
                _sync_folder(store)
            else:
                _put_in_place(part, store)
    _show(held)
    for one in kept:
        note.print(f"What was there is kept as {one}", markup=False)
    note.print(f"{store} holds what the backup held, as of {_time(held)}", markup=False)


# -- the bytes --------------------------------------------------------------------------------


@contextmanager
def _a_backup(settings: Settings) -> Iterator[Bytes]:
    """From the server, or from the store itself where there is none."""
    try:
        with connect(settings) as client:
            client.status()
            note.print(f"The server at {settings.url} makes the backup", markup=False)
            with client.backup() as found:
                yield found
            return
    except NoAnswer as error:
        path = duckdb_path(settings.store)
        if path is None or not path.is_file() or "no server" not in str(error):
            raise
    note.print(f"No server at {settings.url}: opening {path}", markup=False)
    with closing(open_storage(settings.store)) as storage:
        assert isinstance(storage, HasSnapshots)  # noqa: S101  as every one with a path is
        with _progress(sum(storage.state(one.name).records for one in storage.buckets())) as told:
            try:
                source, size = backup_file(storage, told)
            except StorageUnavailable as error:
                raise Stop(f"{path}: {error}") from None
        with source:
            yield size, chunks(source)


def _receive(part: Path, size: int, found: Iterator[bytes]) -> None:
    received = 0
    with part.open("wb") as file:
        for chunk in found:
            file.write(chunk)
            received += len(chunk)
        file.flush()
        os.fsync(file.fileno())
    if received != size:
        raise Stop(f"the backup broke off after {received:,} of {size:,} bytes")


def _verified(part: Path, file: Path) -> Backup:
    """What the part holds, which is that of the file as whoever typed the command knows it."""
    try:
        with _progress(records_in(part)) as told:
            return verify_backup(part, told)
    except BadBackup as error:
        said = str(error)  # which may quote DuckDB, with the whole path
        for name in (part.resolve(), part.absolute(), part):
            said = said.replace(str(name), str(file))
        raise Stop(said) from None


@contextmanager
def _progress(total: int) -> Iterator[Callable[[str, int], None]]:
    read = 0
    with reporting(total) as report:

        def progress(at_work: str, records: int) -> None:
            nonlocal read
            read += records
            report(at_work, read, read)

        yield progress


# -- the files --------------------------------------------------------------------------------


@contextmanager
def _made_beside(path: Path, what: str) -> Iterator[Path]:
    """A new file, for its owner alone, in the folder of the path; gone where it got no name."""
    part = path.with_name(f"{path.name}.{what}-{secrets.token_hex(4)}")
    os.umask(0o077)
    try:
        part.touch(0o600, exist_ok=False)
    except OSError as error:
        raise Stop(f"can't make a file in {path.parent}: {error.strerror}") from None
    try:
        yield part
    except OSError as error:
        raise Stop(f"{part}: {error.strerror}") from error
    except KeyboardInterrupt:
        note.print("Interrupted: nothing was made")
        raise typer.Exit(INTERRUPTED) from None
    finally:
        part.unlink(missing_ok=True)


def _put_in_place(part: Path, path: Path) -> None:
    """Give the file its name, in one step, and only where nothing else has it."""
    try:
        path.hardlink_to(part)
    except FileExistsError:
        raise Stop(f"there is a file {path} by now: choose another name") from None
    part.unlink()
    _sync_folder(path)


def _set_aside(files: list[Path]) -> list[Path]:
    """Give the files that a store may consist of other names.

    The store itself has its own as well, until another file takes it: there is no moment without
    one, in which a server that starts would make an empty one.
    """
    since = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    kept = []
    for one in files:
        kept.append(one.with_name(f"{one.name}.replaced-{since}"))
        if one.suffix in _BESIDE:
            one.rename(kept[-1])
        else:
            kept[-1].hardlink_to(one)
    return kept


_BESIDE = (".wal", ".commits", ".repairing")


def _files_of(store: Path) -> list[Path]:
    """The files that a store may consist of, the one that makes it a store first."""
    return [store.with_name(store.name + ending) for ending in ("", *_BESIDE)]


def _sync_folder(path: Path) -> None:
    folder = os.open(path.absolute().parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _locked(store: Path) -> Iterator[None]:
    """Within, no process opens the store; it is locked as DuckDB does."""
    if not store.exists():
        yield
        return
    try:
        file = store.open("rb+")
    except OSError as error:
        raise Stop(f"can't open {store}: {error.strerror}") from None
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Stop(f"a process has {store} open: stop the server first") from None
        yield


# -- what to say ------------------------------------------------------------------------------


def _show(held: Backup) -> None:
    as_table(
        ("bucket", "records", f"sha256, first {_SHOWN_OF_CHECKSUM}"),
        [
            (name, f"{one.records:,}", (one.checksum or "")[:_SHOWN_OF_CHECKSUM])
            for name, one in sorted(held.buckets.items())
        ],
    )


def _act(held: Backup) -> Act:
    """What the audit log of the restored store says of it."""
    records = sum(one.records for one in held.buckets.values())
    made_at = {"backup_made_at": format_instant(held.made_at)}
    return Act(by=HOST, action="store_restored", records=records, details=made_at)


def _time(held: Backup) -> str:
    return held.made_at.isoformat(sep=" ", timespec="seconds")
