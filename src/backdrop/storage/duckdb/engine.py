"""The DuckDB store: opens the file, reads in snapshots, hands every write to the one writer."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from typing import TypeVar

import duckdb
import pyarrow as pa

from backdrop.domain.audit import Act, AuditEntry
from backdrop.domain.bucket import Bucket
from backdrop.domain.entry import Entry
from backdrop.domain.once import Once
from backdrop.domain.period_key import period_start
from backdrop.domain.query import Query
from backdrop.domain.shape import Groups
from backdrop.domain.table import Records
from backdrop.domain.token import Token
from backdrop.domain.values import ID, MOST_FIELDS, Record
from backdrop.errors import Conflict, NotFound, StorageFull, StorageUnavailable
from backdrop.storage.duckdb.audit import read_audit
from backdrop.storage.duckdb.before import fields_of, record_statements, zone_segments_of
from backdrop.storage.duckdb.catalogue import Table, quoted
from backdrop.storage.duckdb.columns import Batch
from backdrop.storage.duckdb.deadlines import Deadlines
from backdrop.storage.duckdb.disk import Say, unavailable
from backdrop.storage.duckdb.file import LONGEST_WAIT, StoreFile
from backdrop.storage.duckdb.groups import no_groups, to_groups
from backdrop.storage.duckdb.opening import Room
from backdrop.storage.duckdb.pages import pages, run
from backdrop.storage.duckdb.snapshot import FileSnapshot
from backdrop.storage.duckdb.sql import (
    select_groups,
    select_stored,
)
from backdrop.storage.duckdb.state import (
    State,
    read_entries,
    read_lasting_entries,
)
from backdrop.storage.duckdb.transaction import Transaction
from backdrop.storage.duckdb.writer import Writer
from backdrop.storage.port import (
    BucketState,
    Load,
    Reading,
    Report,
    Restore,
    not_found,
    query_too_large,
    too_many_rows,
)

T = TypeVar("T")


class DuckDBStorage:
    """A store in one DuckDB file, which this process alone may have open, with `room` for its work.

    `sorted_at_once`: about how many records a reading sorts in memory at a time. `gathered_below`:
    batches of fewer records than this go into the file together, others by themselves. `say` is
    told what the people who look after the server should know. A disk that fails to sync ends the
    process.
    Raises StorageUnavailable where the file can't be opened, with the reason in its message.
    """

    state_is_at_hand = True

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        sorted_at_once: int = 50_000,
        gathered_below: int = 200,
        room: Room = Room(),  # noqa: B008  frozen
        most_fields: int = MOST_FIELDS,
        say: Say = lambda _: None,
        report: Report = lambda *_: None,
    ) -> None:
        self._clock = clock
        self._sorted_at_once = sorted_at_once
        self._gathered_below = gathered_below
        self.most_fields = most_fields
        self._path = path
        self._one_snapshot = threading.Lock()
        self._file = StoreFile(path, room, say=say, report=report, on_open=self._found)
        self._writer = Writer(self._begin, recover=self._file.recover, rest=self._rest)
        self._deadlines = Deadlines()

    # -- buckets ----------------------------------------------------------------------------

    def buckets(self) -> list[Bucket]:
        return self._state.buckets()

    def bucket(self, name: str) -> Bucket:
        return self._table(name).bucket

    def bucket_at(self, data_group: str, data_type: str) -> Bucket:
        for table in self._state.tables.values():
            if table.bucket.address == (data_group, data_type):
                return table.bucket
        raise NotFound(not_found(f"{data_group}/{data_type}"))

    def put_bucket(
        self, bucket: Bucket, *, first_token: Token | None = None, act: Act | None = None
    ) -> bool:
        def put(transaction: Transaction) -> bool:
            made = transaction.put_bucket(bucket, first_token)
            if act is not None:
                transaction.note(act.instead("bucket_created") if made else act)
            return made

        return self._write(put)

    def change_bucket(
        self, name: str, change: Callable[[Bucket], Bucket], *, act: Act | None = None
    ) -> Bucket:
        return self._write(lambda transaction: transaction.change_bucket(name, change), act)

    def drop_bucket(self, name: str, *, act: Act | None = None) -> None:
        self._write(lambda transaction: transaction.drop_bucket(name), act)

    def state(self, name: str) -> BucketState:
        return self._table(name).state

    # -- tokens -----------------------------------------------------------------------------

    def tokens(self, bucket: str) -> list[Token]:
        state = self._state
        self._table(bucket)
        return state.tokens_of(bucket)

    def add_token(self, token: Token, *, act: Act | None = None) -> None:
        self._write(lambda transaction: transaction.add_token(token), act)

    def drop_token(self, bucket: str, token_id: str, *, act: Act | None = None) -> None:
        self._write(lambda transaction: transaction.drop_token(bucket, token_id), act)

    def token(self, token_hash: str) -> Token | None:
        return self._state.tokens.get(token_hash)

    def token_used(self, token_hash: str, now: datetime) -> None:
        self._writer.submit(lambda transaction: transaction.token_used(token_hash, now))

    # -- writing ----------------------------------------------------------------------------

    def save(
        self, bucket: str, records: Records, *, once: Once | None = None, act: Act | None = None
    ) -> None:
        ready = self._ready(records)
        self._write(lambda transaction: transaction.save(bucket, ready, once), act)

    def save_soon(self, bucket: str, records: Records, *, act: Act | None = None) -> Future[None]:
        ended: Future[None] = Future()
        ended.set_running_or_notify_cancel()

        def tell(written: Future[None]) -> None:
            try:
                with self._looked_after():
                    written.result()
            except BaseException as error:  # noqa: BLE001  as the writer: whatever it is
                ended.set_exception(error)
            else:
                ended.set_result(None)

        ready = self._ready(records)
        saved = _noted(lambda transaction: transaction.save(bucket, ready, None), act)
        self._writer.submit(saved).add_done_callback(tell)
        return ended

    def replace(
        self, bucket: str, records: Records, *, once: Once | None = None, act: Act | None = None
    ) -> None:
        batch = Batch.of(records)
        self._write(lambda transaction: transaction.replace(bucket, batch, once), act)

    def update(
        self,
        bucket: str,
        record_id: str,
        change: Callable[[Record], Record],
        *,
        once: Once | None = None,
        act: Act | None = None,
    ) -> None:
        self._write(lambda transaction: transaction.update(bucket, record_id, change, once), act)

    def delete(self, bucket: str, record_id: str, *, act: Act | None = None) -> None:
        self._write(lambda transaction: transaction.delete(bucket, record_id), act)

    def done(self, bucket: str, key: str) -> Once | None:
        self._table(bucket)
        with self._driver_errors(), self._file.cursor() as cursor:
            return self._file.open.done.find(cursor, bucket, key, now=self._clock())

    @contextmanager
    def restoring(
        self, bucket: Bucket, *, tokens: Sequence[Token], last_written: datetime | None
    ) -> Iterator[Restore]:
        table = self._write(lambda transaction: transaction.set_up(bucket, tokens))

        def put(records: Records) -> None:
            nonlocal table
            filled, batch = table, Batch.of(records)
            table = self._write(lambda transaction: transaction.fill(filled, batch))

        try:
            yield put
            whole = dataclasses.replace(table, last_written=last_written)
            self._write(lambda transaction: transaction.put_in_place(whole, tokens))
        except BaseException:
            self._write(lambda transaction: transaction.discard(table))
            raise

    # -- reading ----------------------------------------------------------------------------

    @contextmanager
    def records(
        self,
        bucket: str,
        query: Query,
        *,
        with_fields: bool = False,
        most_seconds: float | None = None,
    ) -> Iterator[Reading]:
        with self._snapshot(bucket) as (cursor, table):
            with self._deadlines.within(most_seconds, cursor):
                fields = fields_of(cursor, table, query) if with_fields else ()
                statements = record_statements(cursor, table, query, self._sorted_at_once)
                run(cursor, next(statements))
                limit = table.records if query.limit is None else query.limit
                found = pages(cursor, table, statements, limit)
                first = list(islice(found, 1))  # what can go wrong shows before the first page
            yield Reading(chain(first, self._guarded(found)), fields)

    def count_held(self, bucket: str, ids: Sequence[str]) -> int:
        with self._snapshot(bucket) as (cursor, table):
            maybe = self._file.open.ids.maybe_held(table.name, ids) if table.records else []
            if not maybe:
                return 0
            cursor.register("asked", pa.table({"id": pa.array(maybe, pa.string())}))
            held = f"SELECT count(*) FROM {quoted(table.name)} WHERE {ID} IN (SELECT id FROM asked)"
            try:
                (count,) = cursor.execute(held).fetchall()[0]
            finally:
                cursor.unregister("asked")
        return int(count)

    @contextmanager
    def stored(self, bucket: str) -> Iterator[Reading]:
        with self._snapshot(bucket) as (cursor, table):
            run(cursor, select_stored(table))
            yield Reading(self._guarded(pages(cursor, table, iter(()), table.records)))

    def groups(
        self, bucket: str, query: Query, *, most_rows: int, most_seconds: float | None = None
    ) -> Groups:
        with (
            self._snapshot(bucket) as (cursor, table),
            self._deadlines.within(most_seconds, cursor),
        ):
            zone_segments = zone_segments_of(cursor, table, query)
            selected = select_groups(query, table, zone_segments)
            if selected is None:
                return no_groups(query)
            statement, layout = selected
            bounded = f"{statement.text} LIMIT {most_rows + 1}"
            rows = cursor.execute(bounded, statement.parameters).fetchall()
        if len(rows) > most_rows:
            raise too_many_rows(most_rows)
        return to_groups(
            query,
            rows,
            layout,
            lambda key: period_start(query.period, key, zone_segments),  # type: ignore[arg-type]
        )

    # -- entries ----------------------------------------------------------------------------

    def put_entry(self, entry: Entry, *, act: Act | None = None) -> None:
        self._write(lambda transaction: transaction.put_entry(entry), act)

    def entry(self, kind: str, key: str) -> Entry | None:
        with self._driver_errors(), self._file.cursor() as cursor:
            found = read_entries(cursor, kind, key, now=self._clock())
        return next(iter(found), None)

    def entries(self, kind: str) -> list[Entry]:
        with self._driver_errors(), self._file.cursor() as cursor:
            return read_entries(cursor, kind, now=self._clock())

    def lasting_entries(self) -> list[Entry]:
        with self._driver_errors(), self._file.cursor() as cursor:
            return read_lasting_entries(cursor)

    def change_entry(
        self, kind: str, key: str, change: Callable[[bytes], bytes], *, act: Act | None = None
    ) -> bool:
        def changed(transaction: Transaction) -> bool:
            found = transaction.change_entry(kind, key, change)
            if act is not None and found:
                transaction.note(act)
            return found

        return self._write(changed)

    def take_entry(self, kind: str, key: str, *, act: Act | None = None) -> Entry | None:
        if self.entry(kind, key) is None:
            return None  # what isn't there costs no commit, whoever asks for it

        def take(transaction: Transaction) -> Entry | None:
            found = transaction.take_entry(kind, key)
            if act is not None and found is not None:
                transaction.note(act)
            return found

        return self._write(take)

    # -- the audit log ----------------------------------------------------------------------

    def audit(
        self, *, bucket: str | None = None, before: str | None = None, limit: int
    ) -> list[AuditEntry]:
        with self._driver_errors(), self._file.cursor() as cursor:
            return read_audit(cursor, bucket, before, limit)

    def prune_audit(self, before: datetime) -> None:
        self._write(lambda transaction: transaction.prune_audit(before))

    # -- the store itself -------------------------------------------------------------------

    def check(self) -> None:
        with self._driver_errors(), self._file.cursor() as cursor:
            cursor.execute("SELECT format FROM store").fetchall()

    def load(self) -> Load:
        with self._driver_errors(), self._file.cursor() as cursor:
            select = "SELECT sum(memory_usage_bytes) FROM duckdb_memory()"
            (engine_bytes,) = cursor.execute(select).fetchall()[0]
        writer = self._writer
        return Load(
            commits=writer.commits,
            writes=writer.committed,
            writes_waiting=writer.waiting,
            engine_bytes=int(engine_bytes),
        )

    @property
    def path(self) -> Path:
        return self._path.absolute()

    @contextmanager
    def snapshot(self) -> Iterator[FileSnapshot]:
        if not self._one_snapshot.acquire(blocking=False):
            raise Conflict("a backup is being made already: wait for its end")
        try:
            with self._driver_errors(), self._file.cursor() as cursor:
                cursor.begin()
                try:
                    yield FileSnapshot(cursor)
                finally:
                    cursor.rollback()
        finally:
            self._one_snapshot.release()

    def end_queries(self) -> None:
        self._deadlines.end_all()

    def close(self) -> None:
        self._writer.close()
        self._deadlines.close()
        with self._driver_errors():
            self._file.close(self._state)

    # -- within -----------------------------------------------------------------------------

    def _ready(self, records: Records) -> Records | Batch:
        """What is large is made ready in its own thread, not in the writer's, which goes on."""
        return records if len(records) < self._gathered_below else Batch.of(records)

    def _table(self, bucket: str) -> Table:
        try:
            return self._state.tables[bucket]
        except KeyError:
            raise NotFound(not_found(bucket)) from None

    def _write(self, operation: Callable[[Transaction], T], act: Act | None = None) -> T:
        with self._looked_after():
            return self._writer.do(_noted(operation, act))

    def _begin(self) -> Transaction:
        file = self._file.prepare()
        file.inserts.make_room()
        return Transaction(
            file.connection,
            self._state,
            file.ids,
            file.inserts,
            file.done,
            now=self._clock(),
            most_fields=self.most_fields,
            publish=self._publish,
        )

    def _rest(self) -> None:
        if self._file.checkpoint():
            self._file.open.guard.note(self._state, self._state)

    def _found(self, state: State) -> None:
        self._state = state

    def _publish(self, state: State) -> None:
        self._file.open.guard.note(self._state, state)
        self._state = state
        self._file.open.ids.committed(table.name for table in state.tables.values())

    @contextmanager
    def _driver_errors(self) -> Iterator[None]:
        """No exception of the driver leaves the engine, as `_looked_after`; this is for reading,
        which takes memory, and room on the disk, only for what it sorts and groups.
        """
        with self._looked_after():
            try:
                yield
            except duckdb.Error as error:
                is_short = isinstance(error, duckdb.OutOfMemoryException)
                if is_short or isinstance(unavailable(error), StorageFull):
                    raise query_too_large() from None
                raise

    @contextmanager
    def _looked_after(self) -> Iterator[None]:
        try:
            yield
        except duckdb.Error as error:
            if isinstance(error, duckdb.FatalException):
                self._look_after()
            raise unavailable(error) from error
        except StorageUnavailable:
            if self._file.open.is_closed:
                self._look_after()
            raise

    def _look_after(self) -> None:
        """Have the writer find the database as it is, and open the file again if need be."""
        with suppress(StorageUnavailable):  # the store is being closed
            self._writer.submit(lambda _: None)

    @contextmanager
    def _snapshot(self, bucket: str) -> Iterator[tuple[duckdb.DuckDBPyConnection, Table]]:
        """A transaction that sees the bucket as it stood at one commit, and its table then."""
        with self._driver_errors(), self._file.cursor() as cursor:
            table = self._begin_reading(cursor, bucket)
            try:
                yield cursor, table
            finally:
                cursor.rollback()

    def _begin_reading(self, cursor: duckdb.DuckDBPyConnection, bucket: str) -> Table:
        # A commit shows in the file an instant before its state is published here: where the two
        # differ, the transaction is begun again.
        deadline = time.monotonic() + LONGEST_WAIT
        while True:
            table = self._table(bucket)
            cursor.begin()
            select = "SELECT version FROM buckets WHERE name = $1"
            if cursor.execute(select, [bucket]).fetchall() == [(table.version,)]:
                return table
            cursor.rollback()
            if time.monotonic() > deadline:
                raise StorageUnavailable("the store does not answer")
            time.sleep(0.0005)

    def _guarded(self, found: Iterator[Sequence[Record]]) -> Iterator[Sequence[Record]]:
        with self._driver_errors():
            yield from found


def _noted(operation: Callable[[Transaction], T], act: Act | None) -> Callable[[Transaction], T]:
    """The operation, whose act goes into the audit log with it."""

    def done(transaction: Transaction) -> T:
        result = operation(transaction)
        if act is not None:
            transaction.note(act)
        return result

    return done
