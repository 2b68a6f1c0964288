"""`open_storage(url)`: the only module that names the engines, and imports their drivers late."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from backdrop.domain.audit import Act
from backdrop.domain.values import MOST_FIELDS, MOST_FIELDS_EVER
from backdrop.errors import InvalidRequest
from backdrop.storage.port import Report, Snapshot, Storage
from backdrop.storage.repaired import Repair

STORE_EXPECTED = (
    "duckdb:///path/to/file.duckdb, mongodb://host:27017/database?replicaSet=name or memory:"
)


def duckdb_path(url: str) -> Path | None:
    """The file that a `duckdb:` URL names, or None for another kind of URL.

    `duckdb:///abs.duckdb` is absolute; `duckdb:rel.duckdb` and `duckdb://rel.duckdb` are relative
    to the working folder.
    """
    parts = _split(url)
    if parts.scheme != "duckdb":
        return None
    text = unquote(parts.netloc + parts.path)
    if not text or parts.query or parts.fragment:
        raise InvalidRequest(f"the store {url!r} names no file; expected {STORE_EXPECTED}")
    return Path(text)


def is_mongodb(url: str) -> bool:
    """Whether the URL is one of MongoDB: a store that many processes can have open."""
    return _split(url).scheme in ("mongodb", "mongodb+srv")


def without_credentials(url: str) -> str:
    """The URL as it may be shown: of MongoDB's, the hosts and the database."""
    if not is_mongodb(url):
        return url
    scheme, _, rest = url.partition("://")
    shown = rest.rpartition("@")[2].partition("?")[0]  # the last @: a / may stand before it
    return f"{scheme}://{shown}"


def open_storage(url: str) -> Storage:
    """The store that the URL names, opened for a command, which bounds no bucket's fields.

    Raises InvalidRequest for a URL of no engine.
    """
    return opener(url, most_fields=MOST_FIELDS_EVER)()


def opener(
    url: str,
    *,
    say: Callable[[str], None] = lambda _: None,
    report: Report = lambda *_: None,
    engine_memory: int | None = None,
    engine_files: int = 10 * 2**30,
    most_fields: int = MOST_FIELDS,
) -> Callable[[], Storage]:
    """What opens the store that the URL names. Raises InvalidRequest, before anything is opened.

    `say` is told, for people, what has to be waited for then, and `report` what was set aside.
    `engine_memory` and `engine_files` are the bytes that an engine within this process may take,
    and a bucket may have `most_fields`.
    """
    if url == "memory:":
        from backdrop.storage.memory import MemoryStorage

        return partial(MemoryStorage, most_fields=most_fields)
    path = duckdb_path(url)
    if path is not None:
        if not path.parent.is_dir():
            raise InvalidRequest(f"can't open {path}: there is no folder {path.parent}")
        from backdrop.storage.duckdb.engine import DuckDBStorage
        from backdrop.storage.duckdb.opening import Room

        room = Room(memory=engine_memory, files=engine_files)
        return partial(
            DuckDBStorage, path, room=room, most_fields=most_fields, say=say, report=report
        )
    if is_mongodb(url):
        from backdrop.storage.mongodb.engine import MongoDBStorage

        return partial(MongoDBStorage, url, most_fields=most_fields, say=say)
    raise InvalidRequest(f"there is no store {url.split(':')[0]!r}; expected {STORE_EXPECTED}")


def opened_backup(path: Path) -> AbstractContextManager[Snapshot]:
    """What a backup's file holds. Raises InvalidRequest where it is none, and StorageUnavailable
    where it can't be read.
    """
    from backdrop.storage.duckdb import snapshot

    return snapshot.opened_backup(path)


def make_store_of(path: Path, act: Act) -> None:
    """Make a backup's file a store, in which no version comes again that was given out since.

    Its audit log gets the act.
    """
    from backdrop.storage.duckdb import snapshot

    snapshot.make_store_of(path, act)


def repair_store(url: str) -> Repair:
    """Make the damaged store that the URL names one that can be opened again.

    Raises InvalidRequest for a store that is no file, BeyondRepair where nothing can be read, and
    StorageUnavailable where another process has it open or there is no room for what can be.
    """
    path = duckdb_path(url)
    if path is None:
        raise InvalidRequest(
            "what can be repaired is a store such as duckdb:backdrop.duckdb, not "
            f"{without_credentials(url)}"
        )
    from backdrop.storage.duckdb.repair import repair

    return repair(path)


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:  # whose message may hold a password
        raise InvalidRequest(f"the store's URL is not one; expected {STORE_EXPECTED}") from None
