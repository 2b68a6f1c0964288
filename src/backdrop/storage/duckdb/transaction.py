"""One transaction of the writer: what it changes in the file, and the state that it leads to."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

import duckdb
import pyarrow as pa

from backdrop.domain.audit import Act
from backdrop.domain.bucket import Bucket
from backdrop.domain.entry import Entry
from backdrop.domain.once import AlreadyDone, Once
from backdrop.domain.table import Records, joined
from backdrop.domain.token import Token
from backdrop.domain.values import ID, Record
from backdrop.errors import Conflict, NotFound
from backdrop.storage.duckdb.audit import insert_acts, prune
from backdrop.storage.duckdb.catalogue import (
    SEQUENCE,
    Kind,
    Table,
    add_columns,
    create_table,
    quoted,
)
from backdrop.storage.duckdb.columns import Batch, to_records
from backdrop.storage.duckdb.disk import unknown_if_fatal
from backdrop.storage.duckdb.done import DoneWrites
from backdrop.storage.duckdb.inserts import Inserts
from backdrop.storage.duckdb.known_ids import IdsByTable
from backdrop.storage.duckdb.sql import naive
from backdrop.storage.duckdb.state import State, as_text, read_entries
from backdrop.storage.port import (
    KNOWN_HASH,
    address_taken,
    no_record,
    no_token,
    not_found,
    refuse_too_many_fields,
)


class Transaction:
    """Operations on the open transaction. Each checks first, and changes something only then.

    Records to save are gathered, and go in together before anything else touches their bucket. The
    state of the buckets, and the acts for the audit log, go in at the end.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        state: State,
        ids: IdsByTable,
        inserts: Inserts,
        done: DoneWrites,
        *,
        now: datetime,
        most_fields: int,
        publish: Callable[[State], None],
    ) -> None:
        self._connection = connection
        self._tables = dict(state.tables)
        self._tokens = dict(state.tokens)
        self._version = state.version
        self._sequence = state.next_sequence
        self._ids = ids
        self._inserts = inserts
        self._done = done
        self._now = now
        self._most_fields = most_fields
        self._publish = publish
        self._gathered: dict[str, list[Records]] = {}
        self._stale: set[str] = set()
        """The buckets whose row in the file does not say what they have come to."""
        self._audited = state.audited
        self._acts: list[Act] = []
        self._kept: dict[tuple[str, str], Once] = {}  # by bucket and key
        connection.begin()

    def commit(self) -> None:
        for name in list(self._gathered):
            self._store_gathered(name)
        self._store_changed()
        self._store_acts()
        self._done.keep(self._connection, self._kept, now=self._now)
        with unknown_if_fatal():
            self._connection.commit()
        self._publish(
            State(self._tables, self._tokens, self._version, self._sequence, self._audited)
        )

    def rollback(self) -> None:
        with contextlib.suppress(duckdb.Error):  # a commit that failed has rolled back already
            self._connection.rollback()
        self._inserts.forget()

    # -- buckets ----------------------------------------------------------------------------

    def put_bucket(self, bucket: Bucket, first_token: Token | None) -> bool:
        self._refuse_taken(bucket)
        if bucket.name in self._tables:
            self._store_gathered(bucket.name)
            table = dataclasses.replace(self._tables[bucket.name], bucket=bucket)
            update = "UPDATE buckets SET settings = $1 WHERE name = $2"
            self._execute(update, as_text(bucket), bucket.name)
            self._changed(table)
            return False
        if first_token is not None:
            self._refuse_known(first_token)
        table = Table(bucket, self._new_table_name(), self._version, 0, None)
        self._execute(create_table(table))
        self._add(table)
        self._ids.start(table.name)
        if first_token is not None:
            self.add_token(first_token)
        return True

    def change_bucket(self, name: str, change: Callable[[Bucket], Bucket]) -> Bucket:
        bucket = change(self._table(name).bucket)
        self.put_bucket(bucket, None)
        return bucket

    def drop_bucket(self, name: str) -> None:
        table = self._table(name)
        self._gathered.pop(name, None)
        self._execute(f"DROP TABLE {quoted(table.name)}")
        self._execute("DELETE FROM fields WHERE records_table = $1", table.name)
        self._execute("DELETE FROM buckets WHERE name = $1", name)
        self._execute("DELETE FROM tokens WHERE bucket = $1", name)
        self._done.forget(self._connection, name)
        self._kept = {known: once for known, once in self._kept.items() if known[0] != name}
        self._execute("UPDATE store SET version_floor = $1", self._version)
        del self._tables[name]
        self._tokens = {k: token for k, token in self._tokens.items() if token.bucket != name}

    # -- tokens -----------------------------------------------------------------------------

    def add_token(self, token: Token) -> None:
        self._table(token.bucket)
        self._refuse_known(token)
        values = dataclasses.asdict(token)
        times = ("created_at", "expires_at", "last_used_at")
        values |= {name: naive(values[name]) for name in times if values[name] is not None}
        places = ", ".join(f"${place + 1}" for place in range(len(values)))
        names = ", ".join(values)
        self._execute(f"INSERT INTO tokens ({names}) VALUES ({places})", *values.values())
        self._tokens[token.hash] = token

    def drop_token(self, bucket: str, token_id: str) -> None:
        self._table(bucket)
        for token in self._tokens.values():
            if (token.bucket, token.id) == (bucket, token_id):
                self._execute("DELETE FROM tokens WHERE hash = $1", token.hash)
                del self._tokens[token.hash]
                return
        raise NotFound(no_token(bucket, token_id))

    def token_used(self, token_hash: str, now: datetime) -> None:
        token = self._tokens.get(token_hash)
        if token is not None:
            update = "UPDATE tokens SET last_used_at = $1 WHERE hash = $2"
            self._execute(update, naive(now), token_hash)
            self._tokens[token_hash] = dataclasses.replace(token, last_used_at=now)

    # -- records ----------------------------------------------------------------------------

    def save(self, bucket: str, records: Records | Batch, once: Once | None) -> None:
        """Gather the records; a batch that is ready goes in at once, by itself."""
        table = self._table(bucket)
        self._refuse_done(bucket, once)
        gathered = self._gathered.get(bucket, [])
        known = [_fields(table.columns), *(before.columns for before in gathered)]
        if isinstance(records, Batch):
            refuse_too_many_fields(self._most_fields, *known, _fields(records.columns))
            self._store_gathered(bucket)
            self._store(self._table(bucket), records)
        else:
            refuse_too_many_fields(self._most_fields, *known, records.columns)
            self._gathered.setdefault(bucket, []).append(records)
        self._keep(bucket, once)

    def replace(self, bucket: str, batch: Batch, once: Once | None) -> None:
        table = self._table(bucket)
        self._refuse_done(bucket, once)
        refuse_too_many_fields(self._most_fields, _fields(batch.columns))
        self._gathered.pop(bucket, None)
        self._execute(f"DROP TABLE {quoted(table.name)}")
        self._execute("DELETE FROM fields WHERE records_table = $1", table.name)
        name = self._new_table_name()
        self._tables[bucket] = table = Table(table.bucket, name, table.version, 0, None)
        self._execute(create_table(table))
        self._execute("UPDATE buckets SET records_table = $1 WHERE name = $2", name, bucket)
        self._ids.start(name)
        self._insert(table, batch)
        self._keep(bucket, once)

    def update(
        self,
        bucket: str,
        record_id: str,
        change: Callable[[Record], Record],
        once: Once | None,
    ) -> None:
        self._store_gathered(bucket)
        table = self._table(bucket)
        self._refuse_done(bucket, once)
        columns = ", ".join(map(quoted, table.columns.values()))
        select = f"SELECT {columns} FROM {quoted(table.name)} WHERE {ID} = $1"
        stored = to_records(self._execute(select, record_id).fetchall(), list(table.columns))
        if not stored:
            raise NotFound(no_record(bucket, record_id))
        changed = change(stored[0])
        refuse_too_many_fields(self._most_fields, _fields(table.columns), changed)
        batch = Batch.of(Records.of([changed]))
        self._insert(table, batch, deleted=self._delete(table, [record_id]))
        self._keep(bucket, once)

    def delete(self, bucket: str, record_id: str) -> None:
        self._store_gathered(bucket)
        table = self._table(bucket)
        deleted = self._delete(table, [record_id])
        if not deleted:
            raise NotFound(no_record(bucket, record_id))
        self._written(table, deleted=deleted)

    def _refuse_done(self, bucket: str, once: Once | None) -> None:
        if once is None:
            return
        found = self._kept.get((bucket, once.key))
        if found is None:
            found = self._done.find(self._connection, bucket, once.key, now=self._now)
        if found is not None:
            raise AlreadyDone(found)

    def _keep(self, bucket: str, once: Once | None) -> None:
        if once is not None:
            self._kept[bucket, once.key] = once

    def _store_gathered(self, bucket: str) -> None:
        gathered = self._gathered.pop(bucket, None)
        if gathered is not None:
            self._store(self._table(bucket), Batch.of(joined(gathered)))

    def _store(self, table: Table, batch: Batch) -> None:
        maybe_held = () if batch.ids_are_new else self._ids.maybe_held(table.name, batch.ids)
        deleted = self._delete(table, maybe_held)
        if deleted < len(maybe_held):
            self._ids.looked_in_vain(table.name, table.records)
        self._insert(table, batch, deleted=deleted)

    def _delete(self, table: Table, ids: Sequence[str]) -> int:
        """Remove the records of those ids; how many there were."""
        if not ids or not table.records:
            return 0
        statement = f"DELETE FROM {quoted(table.name)} WHERE {ID}"
        if len(ids) == 1:
            deleted = self._execute(f"{statement} = $1", ids[0])
        else:
            self._connection.register("ids", pa.table({"id": pa.array(ids, pa.string())}))
            deleted = self._execute(f"{statement} IN (SELECT id FROM ids)")
        (count,) = deleted.fetchall()[0]
        return int(count)

    def _insert(self, table: Table, batch: Batch, *, deleted: int = 0) -> None:
        table = self._append(table, batch)
        if len(batch):
            self._ids.add(table.name, batch.ids)
        self._written(table, added=len(batch), deleted=deleted)

    def _append(self, table: Table, batch: Batch) -> Table:
        """Put the records at the table's end; the table with the columns that it then has."""
        added = [key for key in batch.columns if key not in table.columns]
        if added:
            table = table.with_columns(added)
            for statement in add_columns(table, added):
                self._execute(statement)
            for field, kind in added:
                self._execute(
                    "INSERT INTO fields VALUES ($1, $2, $3, $4)",
                    table.name,
                    field,
                    kind,
                    table.columns[field, kind],
                )
        if len(batch):
            sequence = range(self._sequence, self._sequence + len(batch))
            self._sequence = sequence.stop
            columns = {SEQUENCE: pa.arange(sequence.start, sequence.stop)}
            columns |= {table.columns[key]: column for key, column in batch.columns.items()}
            self._inserts.run(table.name, columns)
        return table

    # -- restoring --------------------------------------------------------------------------

    def set_up(self, bucket: Bucket, tokens: Sequence[Token]) -> Table:
        """An empty table that no bucket has yet: what is left of it is dropped at the next start.

        Raises Conflict where it could not be put in its place.
        """
        self._refuse_taken(bucket, tokens)
        table = Table(bucket, self._new_table_name(), self._version, 0, None)
        self._execute(create_table(table))
        return table

    def fill(self, table: Table, batch: Batch) -> Table:
        refuse_too_many_fields(self._most_fields, _fields(table.columns), _fields(batch.columns))
        filled = self._append(table, batch)
        return dataclasses.replace(filled, records=table.records + len(batch))

    def put_in_place(self, table: Table, tokens: Sequence[Token]) -> None:
        """Make it the table of its bucket, whose tokens these are from now on."""
        bucket = table.bucket
        self._refuse_taken(bucket, tokens)
        if bucket.name in self._tables:
            self.drop_bucket(bucket.name)
        self._add(table)
        self._changed(table)
        for token in tokens:
            self.add_token(token)

    def discard(self, table: Table) -> None:
        """Drop the table, unless it has been put in its place."""
        if any(placed.name == table.name for placed in self._tables.values()):
            return
        self._execute(f"DROP TABLE {quoted(table.name)}")
        self._execute("DELETE FROM fields WHERE records_table = $1", table.name)

    # -- entries ----------------------------------------------------------------------------

    def put_entry(self, entry: Entry) -> None:
        self._execute("DELETE FROM entries WHERE expires_at <= $1", naive(self._now))
        self._execute("DELETE FROM entries WHERE kind = $1 AND key = $2", entry.kind, entry.key)
        expires_at = None if entry.expires_at is None else naive(entry.expires_at)
        insert = "INSERT INTO entries VALUES ($1, $2, $3, $4)"
        self._execute(insert, entry.kind, entry.key, entry.value, expires_at)

    def change_entry(self, kind: str, key: str, change: Callable[[bytes], bytes]) -> bool:
        found = read_entries(self._connection, kind, key, now=self._now)
        for entry in found:
            self.put_entry(dataclasses.replace(entry, value=change(entry.value)))
        return bool(found)

    def take_entry(self, kind: str, key: str) -> Entry | None:
        found = read_entries(self._connection, kind, key, now=self._now)
        self._execute("DELETE FROM entries WHERE kind = $1 AND key = $2", kind, key)
        return next(iter(found), None)

    # -- the audit log ----------------------------------------------------------------------

    def note(self, act: Act) -> None:
        """Keep the act of an operation that was done in this transaction."""
        self._acts.append(act)

    def prune_audit(self, before: datetime) -> None:
        prune(self._connection, before)

    def _store_acts(self) -> None:
        if self._acts:
            first = max(self._audited + 1, int(self._now.timestamp() * 1_000_000))
            insert_acts(self._inserts, self._acts, first, self._now)
            self._audited = first + len(self._acts) - 1

    # -- within -----------------------------------------------------------------------------

    def _table(self, bucket: str) -> Table:
        if bucket not in self._tables:
            raise NotFound(not_found(bucket))
        return self._tables[bucket]

    def _written(self, table: Table, *, added: int = 0, deleted: int = 0) -> None:
        records = table.records + added - deleted
        self._changed(dataclasses.replace(table, records=records, last_written=self._now))

    def _next_version(self) -> int:
        """Above every other, and above those of a file that was here before this one."""
        self._version = max(self._version + 1, int(self._now.timestamp() * 1_000_000))
        return self._version

    def _changed(self, table: Table) -> None:
        self._next_version()
        table = dataclasses.replace(table, version=self._version)
        self._tables[table.bucket.name] = table
        self._stale.add(table.bucket.name)

    def _store_changed(self) -> None:
        for name in self._stale & self._tables.keys():
            table = self._tables[name]
            self._execute(
                "UPDATE buckets SET version = $1, records = $2, last_written = $3 WHERE name = $4",
                table.version,
                table.records,
                naive(table.last_written) if table.last_written else None,
                name,
            )

    def _new_table_name(self) -> str:
        """A name that no table of this store ever had: versions are not used twice."""
        return f"records_{self._next_version()}"

    def _add(self, table: Table) -> None:
        self._execute(
            "INSERT INTO buckets VALUES ($1, $2, $3, $4, 0, NULL)",
            table.bucket.name,
            as_text(table.bucket),
            table.name,
            table.version,
        )
        self._tables[table.bucket.name] = table

    def _refuse_taken(self, bucket: Bucket, tokens: Sequence[Token] = ()) -> None:
        """Raise Conflict where another bucket has the address, or one of the tokens' hashes."""
        for other in self._tables.values():
            taken = bucket.address is not None and other.bucket.address == bucket.address
            if taken and other.bucket.name != bucket.name:
                raise Conflict(address_taken(bucket, other.bucket))
        for token in tokens:
            if token.hash in self._tokens and self._tokens[token.hash].bucket != bucket.name:
                raise Conflict(KNOWN_HASH)

    def _refuse_known(self, token: Token) -> None:
        if token.hash in self._tokens:
            raise Conflict(KNOWN_HASH)

    def _execute(self, statement: str, *parameters: Any) -> duckdb.DuckDBPyConnection:
        return self._connection.execute(statement, parameters)


def _fields(columns: Iterable[tuple[str, Kind]]) -> Iterable[str]:
    return (field for field, _ in columns)
