"""A store that was killed, damaged at any place, and what then comes of opening and repairing it.

What is done to it is done in processes of their own, as a damaged file could take one down.
"""

from __future__ import annotations

import multiprocessing
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random

from backdrop.domain.bucket import Bucket
from backdrop.domain.entry import Entry
from backdrop.domain.values import Record
from backdrop.errors import StorageUnavailable
from backdrop.storage.duckdb.engine import DuckDBStorage
from backdrop.storage.duckdb.repair import BeyondRepair, repair
from tests.storage.exact import batch, stored

NAME = "store.duckdb"
BUCKETS = ("alpha", "beta", "gamma")
COMMITS = 45
HEADER_BYTES = 3 * 4096

Files = dict[str, bytes]
"""A store's files, by how their names end."""
Contents = dict[str, list[Record]]
"""The records of each bucket, in the order of storing."""


def files(path: Path) -> Files:
    """The store's files as they are: while it is open, what `kill -9` would leave."""
    names = ("", ".wal", ".commits")
    found = {name: path.with_name(path.name + name) for name in names}
    return {name: one.read_bytes() for name, one in found.items() if one.exists()}


def put(folder: Path, store: Files) -> Path:
    """The store in that folder, with nothing beside it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    path = folder / NAME
    for name, content in store.items():
        path.with_name(path.name + name).write_bytes(content)
    return path


def fill(storage: DuckDBStorage, first: int, commits: int) -> Iterator[Contents]:
    """Make that many commits of records; after each, what the store holds."""
    for number in range(first, first + commits):
        name = BUCKETS[number % len(BUCKETS)]
        rows = [
            {"_id": f"{number}-{place}", f"only_{name}": place * 0.5, "text": f"of {number}"}
            for place in range(1 + number * 7 % 20)
        ]
        storage.save(name, batch(*rows))
        yield contents(storage)


def contents(storage: DuckDBStorage) -> Contents:
    return {bucket.name: stored(storage, bucket.name) for bucket in storage.buckets()}


@dataclass
class Killed:
    """A store whose process was killed in mid-life: closed once, opened again and written to."""

    files: Files
    moments: list[Contents]
    """What it held after each commit since it was opened."""

    @property
    def whole(self) -> Contents:
        return self.moments[-1]


def killed(folder: Path) -> Killed:
    path = folder / NAME
    with closing(DuckDBStorage(path)) as storage:
        for name in BUCKETS:
            storage.put_bucket(Bucket(name=name))
        storage.put_entry(Entry("user", "a@b.example", b"{}"))
        for _ in fill(storage, 0, COMMITS):
            pass
    with closing(DuckDBStorage(path)) as storage:
        moments = [contents(storage), *fill(storage, COMMITS, COMMITS)]
        return Killed(files(path), moments)


Harm = Callable[[Files, Random], Files]


def cut_short(name: str, store: Files, chance: Random) -> Files:
    return store | {name: store[name][: chance.randrange(len(store[name]))]}


def zeroed_tail(name: str, store: Files, chance: Random) -> Files:
    at = chance.randrange(len(store[name]))
    return store | {name: store[name][:at] + bytes(len(store[name]) - at)}


def flipped(name: str, store: Files, chance: Random, *, within: int | None = None) -> Files:
    damaged = bytearray(store[name])
    damaged[chance.randrange(within or len(damaged))] ^= 1 << chance.randrange(8)
    return store | {name: bytes(damaged)}


HARMS: Mapping[str, Harm] = {
    "WAL cut short": partial(cut_short, ".wal"),
    "WAL with a zeroed tail": partial(zeroed_tail, ".wal"),
    "WAL with a flipped bit": partial(flipped, ".wal"),
    "flipped bit in the head of the WAL": partial(flipped, ".wal", within=64),
    "flipped bit in the file": partial(flipped, ""),
    "flipped bit in the file's header": partial(flipped, "", within=HEADER_BYTES),
    "file cut short": partial(cut_short, ""),
    "flipped bit in the commit log": partial(flipped, ".commits"),
    "commit log cut short": partial(cut_short, ".commits"),
}


def blocks(store: Files) -> Iterator[Files]:
    """The store with one of its blocks damaged, each in turn."""
    for first in range(HEADER_BYTES, len(store[""]), 262_144):
        damaged = bytearray(store[""])
        damaged[first + 1_000] ^= 1
        yield store | {"": bytes(damaged)}


@dataclass
class Outcomes:
    """How often each thing came of it. `wrong` names the places of what must not be."""

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def damage(store: Killed, harm: str, places: range, folder: Path, repair_every: int) -> Outcomes:
    """Damage the store at each place, a number that the harm is drawn from: what comes of it."""
    found = Outcomes()
    path = put(folder, store.files)
    for place in places:
        damaged = HARMS[harm](store.files, Random(f"{harm}-{place}"))  # noqa: S311  places
        for name in damaged.keys() - {n for n in damaged if damaged[n] is store.files[n]}:
            path.with_name(path.name + name).write_bytes(damaged[name])
        outcome = opening(path, store.whole)
        if outcome == "refused" and files(path) != damaged:
            outcome = "refused, and changed"
        found.counts[outcome] += 1
        if outcome == "refused" and place % repair_every == 0:
            put(folder, damaged)
            outcome = repairing(path, store)
            found.counts[outcome] += 1
        if outcome != "refused":
            put(folder, store.files)
        if outcome not in RIGHT:
            found.wrong.append(f"{harm}, place {place}: {outcome}")
    return found


RIGHT = (
    *("correct", "reported", "refused"),
    *("repaired whole", "repaired to a commit", "salvaged", "beyond repair"),
)


def opening(path: Path, whole: Contents) -> str:
    """What comes of opening the store, reading all of it, writing to it, and closing it."""
    reports: list[str] = []
    try:
        with closing(DuckDBStorage(path, report=lambda *said: reports.append(said[0]))) as storage:
            right = contents(storage) == whole
            storage.save("alpha", batch({"_id": "later", "text": "later"}))
    except StorageUnavailable as error:
        return "refused" if "`backdrop repair" in str(error) else f"refused with {error}"
    if not right:
        return "SILENTLY WRONG" if not reports else "reported, and wrong"
    return "reported" if reports else "correct"


def repairing(path: Path, store: Killed) -> str:
    """What comes of the repair, and whether it said so."""
    try:
        found = repair(path)
    except BeyondRepair as error:
        known = {name: len(records) for name, records in store.whole.items()}
        return "beyond repair" if error.acknowledged in (known, {}) else "beyond repair, unsaid"
    with closing(DuckDBStorage(path)) as storage:
        there = contents(storage)
    lost = {one.name: one.lost for one in found.buckets if one.lost}
    missing = {
        name: len(records) - len(there.get(name, ()))
        for name, records in store.whole.items()
        if len(records) != len(there.get(name, ()))
    }
    if lost != missing:
        return f"repaired, but {missing} are missing and {lost} said to be"
    if there == store.whole:
        return "repaired whole"
    if not found.lost and not lost:
        return "repaired, and nothing said"
    if there in store.moments:
        return "repaired to a commit"
    parts = all(
        all(record in store.whole[name] for record in records) for name, records in there.items()
    )
    return "salvaged" if parts else "repaired to records that were never there"


def damage_all(
    store: Killed, harm: str, places: int, folder: Path, *, repair_every: int
) -> Outcomes:
    """The same at all places, in two processes; BrokenProcessPool where one of them dies."""
    shares = [range(first, places, 2) for first in range(2)]
    context = multiprocessing.get_context("forkserver")
    total = Outcomes()
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        work = [
            pool.submit(damage, store, harm, share, folder / f"{number}", repair_every)
            for number, share in enumerate(shares)
        ]
        for done in work:
            found = done.result(timeout=1_800)
            total.counts += found.counts
            total.wrong += found.wrong
    return total


def without(store: Files, *names: str) -> Files:
    return {name: content for name, content in store.items() if name not in names}


def said(reports: Sequence[tuple[str, Path | None, int]]) -> str:
    return "; ".join(words for words, _, _ in reports)
