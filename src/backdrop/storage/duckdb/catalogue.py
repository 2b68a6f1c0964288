"""What the file's tables look like: one table of records a bucket, one column a (field, kind).

DuckDB's column names don't tell case apart, and one field may hold several types, so a field's
values live in a column for each kind of value that has occurred, named by number (`c1`, `c2`, …).
A null that was given is `true` in a column of kind `null`; absence is NULL in all of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from backdrop.domain.bucket import Bucket
from backdrop.domain.values import ID, TIMESTAMP
from backdrop.storage.port import BucketState

Kind: TypeAlias = Literal["boolean", "integer", "float", "string", "null", "time"]

SQL_TYPES: Mapping[Kind, str] = {
    "boolean": "BOOLEAN",
    "integer": "BIGINT",
    "float": "DOUBLE",
    "string": "VARCHAR",
    "null": "BOOLEAN",
    "time": "TIMESTAMP",  # of UTC; TIMESTAMPTZ would cost an ICU call in every grouping
}

SEQUENCE = "_seq"
"""The column that orders the records of a table as they were stored."""

FIXED_COLUMNS: Mapping[tuple[str, Kind], str] = {
    (ID, "string"): ID,
    (TIMESTAMP, "time"): TIMESTAMP,
}
"""Every table has these and `_seq` from the start; any other comes with its first value."""

STORE_TABLES = """
CREATE TABLE store (format INTEGER NOT NULL, version_floor BIGINT NOT NULL);
CREATE TABLE buckets (
    name VARCHAR NOT NULL, settings VARCHAR NOT NULL, records_table VARCHAR NOT NULL,
    version BIGINT NOT NULL, records BIGINT NOT NULL, last_written TIMESTAMP
);
CREATE TABLE fields (
    records_table VARCHAR NOT NULL, field VARCHAR NOT NULL, kind VARCHAR NOT NULL,
    column_name VARCHAR NOT NULL
);
CREATE TABLE tokens (
    id VARCHAR NOT NULL, bucket VARCHAR NOT NULL, hash VARCHAR NOT NULL, scope VARCHAR NOT NULL,
    label VARCHAR NOT NULL, created_at TIMESTAMP NOT NULL, expires_at TIMESTAMP,
    last_used_at TIMESTAMP
);
"""
ENTRIES_TABLE = """
CREATE TABLE IF NOT EXISTS entries (
    kind VARCHAR NOT NULL, key VARCHAR NOT NULL, value BLOB NOT NULL, expires_at TIMESTAMP
)
"""
"""Made in a file that was here before there were entries, too."""
DONE_TABLE = """
CREATE TABLE IF NOT EXISTS done (
    bucket VARCHAR NOT NULL, key VARCHAR NOT NULL, fingerprint VARCHAR NOT NULL,
    records BIGINT NOT NULL, expires_at TIMESTAMP NOT NULL
)
"""
OPENED_TABLE = "CREATE TABLE IF NOT EXISTS opened (since TIMESTAMP NOT NULL)"
"""It has a row while a process has the file open, or has left it without closing it."""
FORMAT = 1
"""The number of this layout; a file with another is refused."""


@dataclass(frozen=True, slots=True)
class Table:
    """One bucket as it stood at one commit: its settings, its table, and what is in it."""

    bucket: Bucket
    name: str
    version: int
    records: int
    last_written: datetime | None
    columns: Mapping[tuple[str, Kind], str] = dataclasses.field(
        default_factory=lambda: dict(FIXED_COLUMNS)
    )

    @property
    def state(self) -> BucketState:
        return BucketState(self.bucket, self.version, self.records, self.last_written)

    def kinds(self, field: str) -> dict[Kind, str]:
        """The columns of one field, by kind; none where it has never been given."""
        return {kind: name for (known, kind), name in self.columns.items() if known == field}

    def with_columns(self, added: Iterable[tuple[str, Kind]]) -> Table:
        """The table with one more column for each of `added`."""
        columns = dict(self.columns)
        for place, key in enumerate(added, start=len(columns)):
            columns[key] = f"c{place}"
        return dataclasses.replace(self, columns=columns)


def quoted(identifier: str) -> str:
    """An identifier as SQL spells it. Every name in every statement passes here."""
    return '"' + identifier.replace('"', '""') + '"'


def create_table(table: Table) -> str:
    columns = [f"{SEQUENCE} BIGINT NOT NULL", f"{ID} VARCHAR NOT NULL", f"{TIMESTAMP} TIMESTAMP"]
    return f"CREATE TABLE {quoted(table.name)} ({', '.join(columns)})"


def add_columns(table: Table, added: Iterable[tuple[str, Kind]]) -> Iterator[str]:
    """The statements that give the table's columns `added`, which `table` names already."""
    for key in added:
        column = f"{quoted(table.columns[key])} {SQL_TYPES[key[1]]}"
        yield f"ALTER TABLE {quoted(table.name)} ADD COLUMN {column}"
