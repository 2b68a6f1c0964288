"""Which ids are certainly new, so that storing them needs no look into the table."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from itertools import chain

import duckdb
from rbloom import Bloom

from backdrop.domain.values import ID
from backdrop.storage.duckdb.catalogue import Table, quoted
from backdrop.storage.duckdb.pages import batches

_SPACE = 3.1
_FALSE_POSITIVES = 1e-3
"""Made for so many times the ids that it gets, a filter with this rate says yes of one in some ten
millions (at worst (1 - e^(-10 ln 2 / 3.1))^10): a batch of 10,000 new ids meets one in hundreds of
batches. It looks at 10 bits for each id; one made for just that rate and those ids would need a
third less room, and look at 23.
"""
_SMALLEST = 250_000
_GROWTH = 4
"""Every id is looked for in each filter: twenty million are in four of them, and not in seven."""


class KnownIds:
    """A set of ids that may say yes of an id it doesn't hold (one in ten million), never no.

    Bloom filters have a fixed size, so each that is full is followed by a larger one; about 6 bytes
    for each id that there is room for. The first has room for those that are `expected`, and some
    more.
    """

    def __init__(self, *, expected: int = 0) -> None:
        self._lock = threading.Lock()
        self._filters: list[Bloom] = []
        self._next_size = max(_SMALLEST, expected + expected // 4)
        self._room = 0

    def add(self, ids: Sequence[str]) -> None:
        with self._lock:
            if self._room < len(ids):
                self._room = max(self._next_size, 4 * len(ids))
                self._next_size = _GROWTH * self._room
                self._filters.append(Bloom(int(_SPACE * self._room), _FALSE_POSITIVES))
            self._filters[-1].update(ids)
            self._room -= len(ids)

    def maybe_held(self, ids: Sequence[str]) -> list[str]:
        """Those of the ids that may have been added."""
        with self._lock:
            held = ([one for one in ids if one in bloom] for bloom in self._filters)
            return list(set(chain.from_iterable(held)))


class IdsByTable:
    """The known ids of each table. Those that change it are for the writer's thread alone.

    A thread that has read a table puts its filter among the known ones, by one assignment.

    Of a table that held records when the file was opened nothing is known, so that all ids may be
    held, until looking for them was in vain: then its ids are read in the background. Records that
    are sent again, and are all there, need none of that.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, tables: Iterable[Table]) -> None:
        self._connection = connection
        self._known = {table.name: KnownIds() for table in tables if not table.records}
        self._unfinished: dict[str, KnownIds] = {}
        """Those that are being read, or could not be."""
        self._wanted: dict[str, int] = {}
        """Those that are to be read, and about how many ids they have."""
        self._readers: list[threading.Thread] = []
        self._closing = False

    def start(self, table: str) -> None:
        """A table was made."""
        self._known[table] = KnownIds()

    def add(self, table: str, ids: Sequence[str]) -> None:
        known = self._known.get(table) or self._unfinished.get(table)
        if known is not None:
            known.add(ids)

    def maybe_held(self, table: str, ids: Sequence[str]) -> Sequence[str]:
        known = self._known.get(table)
        return ids if known is None else known.maybe_held(ids)

    def looked_in_vain(self, table: str, held: int) -> None:
        """Ids that might have been held were not; the table has about so many."""
        if table not in self._known and table not in self._unfinished:
            self._wanted[table] = held

    def committed(self, tables: Iterable[str]) -> None:
        """A commit was made, after which these are all the tables there are.

        What is read from now on has all that was committed; what comes later is added.
        """
        all_known = self._known.keys() | self._unfinished.keys() | self._wanted.keys()
        for gone in all_known.difference(tables):
            self._known.pop(gone, None)
            self._unfinished.pop(gone, None)
            self._wanted.pop(gone, None)
        self._readers = [reader for reader in self._readers if reader.is_alive()]
        while self._wanted:
            table, expected = self._wanted.popitem()
            self._unfinished[table] = known = KnownIds(expected=expected)
            reader = threading.Thread(target=self._read, args=(table, known), daemon=True)
            self._readers.append(reader)
            reader.start()

    def close(self) -> None:
        self._closing = True
        for reader in self._readers:
            reader.join()

    def _read(self, table: str, known: KnownIds) -> None:
        """Add all the ids that the table holds."""
        try:
            with self._connection.cursor() as cursor:
                for batch in batches(cursor, f"SELECT {ID} FROM {quoted(table)}"):
                    for at in range(0, len(batch), _READ_AT_ONCE):
                        if self._closing:
                            return
                        known.add(batch.column(0).slice(at, _READ_AT_ONCE).to_pylist())
        except duckdb.Error:
            return  # dropped meanwhile; if not, every look goes into the table, and is right
        self._known[table] = known


_READ_AT_ONCE = 5_000
"""Few, so that requests go on while a large table is read."""
