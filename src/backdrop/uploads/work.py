"""The work of uploads: reading files and storing them, in a few threads beside the requests."""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from threading import Lock
from typing import IO

from backdrop.domain.audit import by_user
from backdrop.domain.bucket import Bucket
from backdrop.errors import BackdropError, InvalidRecords, NotFound
from backdrop.file_rows import BadFile
from backdrop.ingest import ingest_parts
from backdrop.observe import Observe, ServerFault
from backdrop.storage.port import Storage
from backdrop.uploads.apart import MOST_SECONDS, Read, read_apart
from backdrop.uploads.frames import rows_of
from backdrop.uploads.kept import Upload, put_parts, put_upload, take_parts, take_ticket
from backdrop.uploads.understand import Fault, Understood

AT_ONCE = 2
"""Files that are read at the same time; others wait their turn. They are stored one by one."""
MOST_OF_ONE = 3
MOST_BEGUN = 8
"""Files that are read or wait for it, of one user and of all: each takes its size on disk."""
GIVEN_UP_AFTER = timedelta(seconds=MOST_SECONDS * MOST_BEGUN // AT_ONCE + 300)
"""When no process can still be at work on an upload, or have it wait."""

_INTERRUPTED = "the server stopped in between: look at the bucket's records before you try again"
_STOPPED = "the server was stopped before it was done: nothing was stored, choose the file again"
_FAULT = "something went wrong on our side"


_SWITCH_SECONDS = 0.001
"""After which a thread that computes lets others go on. While 500,000 records are stored, every
twentieth read of others takes 130 ms with Python's own 5 ms, and 40 with this. It is for that time
alone, since it costs the API some of its queries a second (docs/adr/0007).
"""


@contextmanager
def _letting_others_on() -> Iterator[None]:
    """For one thread at a time, since it holds for the whole process."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)


def _stopped(upload: Upload) -> Upload:
    return dataclasses.replace(upload, state="failed", message=_STOPPED)


class Uploads:
    """The uploads that one application works on."""

    def __init__(self, storage: Storage, *, now: Callable[[], datetime], observe: Observe) -> None:
        self._storage, self._now, self._observe = storage, now, observe
        self._readers = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="reading")
        self._writers = ThreadPoolExecutor(1, thread_name_prefix="storing")
        self._children: set[subprocess.Popen[bytes]] = set()
        self._begun: dict[Future[Upload], str] = {}
        """What is read or waits for it, and whose it is."""
        self._lock = Lock()
        self._closing = False

    def read(self, upload: Upload, file: IO[bytes], bucket: Bucket) -> Future[Upload] | None:
        """Begin to read the file, which is closed in the end. The future has how far it came.

        None where the user, or all together, have as many begun as may be.
        """

        def work() -> Upload:
            return self._kept(upload, lambda: self._read(upload, file, bucket))

        with ExitStack() as left, self._lock:
            left.callback(file.close)
            self._begun = {one: whose for one, whose in self._begun.items() if not one.done()}
            theirs = sum(whose == upload.email for whose in self._begun.values())
            if theirs >= MOST_OF_ONE or len(self._begun) >= MOST_BEGUN:
                return None
            put_upload(self._storage, upload)
            future = self._submit(self._readers, upload, work)
            future.add_done_callback(lambda _: file.close())
            self._begun[future] = upload.email
            left.pop_all()
        return future

    def store(self, upload: Upload) -> Future[Upload] | None:
        """Begin to store an upload that is understood; None where that was begun before."""
        if not take_ticket(self._storage, upload):
            return None
        storing = dataclasses.replace(upload, state="storing", since=self._now())
        put_upload(self._storage, storing)
        return self._submit(
            self._writers, storing, lambda: self._kept(storing, lambda: self._store(storing))
        )

    def as_of_now(self, upload: Upload) -> Upload:
        """The upload, as failed where nobody can be at work on it any more."""
        at_work = upload.state in ("reading", "storing")
        if at_work and self._now() - upload.since > GIVEN_UP_AFTER:
            return dataclasses.replace(upload, state="failed", message=_INTERRUPTED)
        return upload

    def close(self) -> None:
        """Give up what is being read or waits, and finish what is being stored."""
        self._closing = True
        self._readers.shutdown(wait=False, cancel_futures=True)
        for child in list(self._children):
            child.kill()
        self._readers.shutdown()
        self._writers.shutdown(cancel_futures=True)

    def _submit(
        self, threads: ThreadPoolExecutor, upload: Upload, work: Callable[[], Upload]
    ) -> Future[Upload]:
        def ended(future: Future[Upload]) -> None:
            if future.cancelled():
                self._keep(_stopped(upload))

        future = threads.submit(work)
        future.add_done_callback(ended)
        return future

    def _keep(self, upload: Upload) -> None:
        with contextlib.suppress(BackdropError):  # the page goes by the time, then
            put_upload(self._storage, upload)

    # -- in a thread of its own -----------------------------------------------------------------

    def _kept(self, upload: Upload, work: Callable[[], Upload]) -> Upload:
        """What the work comes to, or that it failed: kept for the pages that ask."""
        try:
            done = work()
        except Exception as error:  # noqa: BLE001  nobody else would learn of it
            self._observe(ServerFault(request_id=upload.id, exception=error))
            message = error.message if isinstance(error, BackdropError) else _FAULT
            done = dataclasses.replace(upload, state="failed", message=message)
        self._keep(done)
        return done

    def _read(self, upload: Upload, file: IO[bytes], bucket: Bucket) -> Upload:
        try:
            with read_apart(file, upload.file_name, bucket, self._children) as read:
                return self._understood(upload, read)
        except BadFile as bad:
            if self._closing:
                return _stopped(upload)
            refused = Understood(faults=[Fault(bad.message)], fault_count=1)
            return dataclasses.replace(upload, state="understood", understood=refused)

    def _understood(self, upload: Upload, read: Read) -> Upload:
        understood = read.understood
        done = dataclasses.replace(upload, state="understood", understood=understood)
        if understood.fault_count:
            return done
        replacing = sum(self._storage.count_held(upload.bucket, ids) for ids in read.ids())
        new = understood.records - understood.repeated_ids - replacing
        parts = put_parts(self._storage, upload, read.parts())
        return dataclasses.replace(done, new=new, replacing=replacing, parts=parts)

    def _store(self, upload: Upload) -> Upload:
        rows = rows_of(take_parts(self._storage, upload))
        try:
            bucket = self._storage.bucket(upload.bucket)  # as it is now: its turn may come late
            with _letting_others_on():
                receipt = ingest_parts(self._storage, bucket, rows, by=by_user(upload.email))
        except (InvalidRecords, NotFound) as error:  # it changed since the file was understood
            return dataclasses.replace(upload, state="refused", message=error.message)
        return dataclasses.replace(
            upload, state="stored", new=receipt.new, replacing=receipt.replaced
        )
