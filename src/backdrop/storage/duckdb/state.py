"""What a file holds, read: the state that readers need, and the entries."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import duckdb
import msgspec

from backdrop.domain.bucket import Bucket
from backdrop.domain.entry import Entry
from backdrop.domain.token import Token
from backdrop.storage.duckdb.audit import last_number
from backdrop.storage.duckdb.catalogue import SEQUENCE, Table, quoted
from backdrop.storage.duckdb.sql import naive


@dataclass(frozen=True, slots=True)
class State:
    """What readers need to know of the file as it stood after one commit."""

    tables: dict[str, Table]
    """By the bucket's name."""
    tokens: dict[str, Token]
    """By hash."""
    version: int
    """The highest version given to any bucket so far."""
    next_sequence: int
    """The place of the next record that is stored, over all tables."""
    audited: int
    """The highest number of an entry of the audit log so far."""

    def buckets(self) -> list[Bucket]:
        return [self.tables[name].bucket for name in sorted(self.tables)]

    def tokens_of(self, bucket: str) -> list[Token]:
        found = (token for token in self.tokens.values() if token.bucket == bucket)
        return sorted(found, key=lambda token: (token.created_at, token.id))


def read_entries(
    connection: duckdb.DuckDBPyConnection, kind: str, key: str | None = None, *, now: datetime
) -> list[Entry]:
    """The entries of a kind, or the one with that key, that have not expired."""
    select = (
        "SELECT kind, key, value, expires_at FROM entries WHERE kind = $1 "
        "AND ($2 IS NULL OR key = $2) AND (expires_at IS NULL OR expires_at > $3) ORDER BY key"
    )
    rows = connection.execute(select, [kind, key, naive(now)]).fetchall()
    return [Entry(kind, key, value, _utc(until)) for kind, key, value, until in rows]


def read_lasting_entries(connection: duckdb.DuckDBPyConnection) -> list[Entry]:
    """The entries that do not expire."""
    select = "SELECT kind, key, value FROM entries WHERE expires_at IS NULL ORDER BY kind, key"
    return [Entry(*row) for row in _rows(connection, select)]


def read_state(connection: duckdb.DuckDBPyConnection) -> State:
    """The state that the file holds."""
    (floor,) = _rows(connection, "SELECT version_floor FROM store")[0]
    columns: dict[str, list[tuple[Any, ...]]] = {}
    for name, *entry in _rows(connection, "SELECT * FROM fields ORDER BY rowid"):
        columns.setdefault(name, []).append(tuple(entry))
    tables = {}
    sequence = 0
    for row in _rows(connection, "SELECT * FROM buckets"):
        name, settings, table_name, version, records, last_written = row
        bucket = Bucket(**_settings(settings))
        table = Table(bucket, table_name, version, records, _utc(last_written))
        known = {(field, kind): column for field, kind, column in columns.get(table_name, ())}
        tables[name] = dataclasses.replace(table, columns=dict(table.columns) | known)
        last = _rows(connection, f"SELECT max({SEQUENCE}) FROM {quoted(table_name)}")[0][0]
        sequence = max(sequence, -1 if last is None else last)
    tokens = {}
    for row in _rows(connection, "SELECT * FROM tokens"):
        values: list[Any] = [_utc(v) if isinstance(v, datetime) else v for v in row]
        token = Token(**dict(zip(_TOKEN_COLUMNS, values, strict=True)))
        tokens[token.hash] = token
    version = max([floor, *(table.version for table in tables.values())])
    return State(tables, tokens, version, sequence + 1, last_number(connection))


_TOKEN_COLUMNS = tuple(field.name for field in dataclasses.fields(Token))


def _rows(connection: duckdb.DuckDBPyConnection, statement: str) -> list[Any]:
    return connection.execute(statement).fetchall()


def as_text(bucket: Bucket) -> str:
    """The settings as the file holds them."""
    return msgspec.json.encode(dataclasses.asdict(bucket)).decode()


def _settings(text: str) -> dict[str, Any]:
    settings: dict[str, Any] = msgspec.json.decode(text)
    return settings | {"auto_ids": tuple(settings["auto_ids"])}


def _utc(value: datetime | None) -> datetime | None:
    return None if value is None else value.replace(tzinfo=UTC)
