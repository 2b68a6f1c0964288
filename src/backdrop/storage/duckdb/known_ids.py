"""Which ids are certainly new, so that storing them needs no look into the table."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from itertools import chain

import duckdb
from rbloom import Bloom

from backdrop.domain.values import ID
from backdrop.storage.duckdb.catalogue import Table, quoted

_SPACE = 3.1
_FALSE_POSITIVES = 1e-3
"""Made for so many times the ids that it gets, a filter with this rate says yes of one in some ten
millions (at worst (1 - e^(-10 ln 2 / 3.1))^10): a batch of 10,000 new ids meets one in hundreds of
batches. It looks at 10 bits for each id; one made for just that rate and those ids would need a
third less room, and look at 23.
"""
_SMALLEST = 250_000


class KnownIds:
    """A set of ids that may say yes of an id it doesn't hold (one in ten million), never no.

    Bloom filters have a fixed size, so each that is full is followed by one twice as large; about
    6 bytes an id. Not `complete`, it can't answer: the ids that the table held before are not all
    in it yet.
    """

    def __init__(self, *, complete: bool) -> None:
        self.complete = complete
        self._lock = threading.Lock()
        self._filters: list[Bloom] = []
        self._size = self._room = 0

    def add(self, ids: Sequence[str]) -> None:
        with self._lock:
            if self._room < len(ids):
                self._size = max(2 * self._size, 4 * len(ids), _SMALLEST)
                self._room = self._size
                self._filters.append(Bloom(int(_SPACE * self._size), _FALSE_POSITIVES))
            self._filters[-1].update(ids)
            self._room -= len(ids)

    def maybe_held(self, ids: Sequence[str]) -> list[str]:
        """Those of the ids that may have been added; all of them while not `complete`."""
        if not self.complete:
            return list(ids)
        with self._lock:
            held = ([one for one in ids if one in bloom] for bloom in self._filters)
            return list(set(chain.from_iterable(held)))


class IdsByTable:
    """The known ids of each table.

    A table that held records when the file was opened is read in the background, when it is first
    asked about; until that is done all ids may be held.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, tables: Iterable[Table]) -> None:
        self._connection = connection
        self._known = {table.name: KnownIds(complete=not table.records) for table in tables}
        self._readers: dict[str, threading.Thread] = {}
        self._closing = False

    def start(self, table: str) -> None:
        """A table was made."""
        self._known[table] = KnownIds(complete=True)

    def found(self, table: str) -> None:
        """A table that holds records came in."""
        self._known[table] = KnownIds(complete=False)

    def keep(self, tables: Iterable[str]) -> None:
        """These are all the tables there are: forget any other."""
        for gone in self._known.keys() - set(tables):
            del self._known[gone]

    def add(self, table: str, ids: Sequence[str]) -> None:
        self._known[table].add(ids)

    def maybe_held(self, table: str, ids: Sequence[str]) -> list[str]:
        known = self._known[table]
        if not known.complete and table not in self._readers:
            reader = threading.Thread(target=self._read, args=(table, known), daemon=True)
            self._readers[table] = reader
            reader.start()
        return known.maybe_held(ids)

    def close(self) -> None:
        self._closing = True
        for reader in self._readers.values():
            reader.join()

    def _read(self, table: str, known: KnownIds) -> None:
        """Add all the ids that the table holds. Those that are stored meanwhile are added too."""
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(f"SELECT {ID} FROM {quoted(table)}")
                while rows := cursor.fetchmany(_READ_AT_ONCE):
                    if self._closing:
                        return
                    known.add([one for (one,) in rows])
        except duckdb.Error:
            return  # dropped meanwhile; if not, every look goes into the table, and is right
        known.complete = True


_READ_AT_ONCE = 5_000
"""Few, so that requests go on while a large table is read."""
