"""The work of uploads: reading files and storing them, in a few threads beside the requests."""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import IO

from backdrop.domain.audit import by_user
from backdrop.domain.bucket import Bucket
from backdrop.errors import BackdropError, InvalidRecords
from backdrop.file_rows import BadFile
from backdrop.ingest import ingest_parts
from backdrop.observe import Observe, ServerFault
from backdrop.storage.port import Storage
from backdrop.uploads.apart import MOST_SECONDS, Read, read_apart
from backdrop.uploads.frames import rows_of
from backdrop.uploads.kept import Upload, put_parts, put_upload, take_parts, take_ticket
from backdrop.uploads.understand import Fault, Understood

AT_ONCE = 2
"""Files that are read or stored at the same time; others wait their turn."""
GIVEN_UP_AFTER = timedelta(seconds=MOST_SECONDS + 300)

_INTERRUPTED = "the server stopped in between: look at the bucket's records before you try again"
_FAULT = "something went wrong on our side"


class Uploads:
    """The uploads that one application works on."""

    def __init__(self, storage: Storage, *, now: Callable[[], datetime], observe: Observe) -> None:
        self._storage, self._now, self._observe = storage, now, observe
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="upload")
        self._children: set[subprocess.Popen[bytes]] = set()

    def read(self, upload: Upload, file: IO[bytes], bucket: Bucket) -> Future[Upload]:
        """Begin to read the file, which is closed in the end. The future has how far it came."""

        def work() -> Upload:
            with file:
                return self._kept(upload, lambda: self._read(upload, file, bucket))

        put_upload(self._storage, upload)
        return self._threads.submit(work)

    def store(self, upload: Upload, bucket: Bucket) -> Future[Upload] | None:
        """Begin to store an upload that is understood; None where that was begun before."""
        if not take_ticket(self._storage, upload):
            return None
        storing = dataclasses.replace(upload, state="storing", since=self._now())
        put_upload(self._storage, storing)
        return self._threads.submit(
            lambda: self._kept(storing, lambda: self._store(storing, bucket))
        )

    def as_of_now(self, upload: Upload) -> Upload:
        """The upload, as failed where nobody can be at work on it any more."""
        at_work = upload.state in ("reading", "storing")
        if at_work and self._now() - upload.since > GIVEN_UP_AFTER:
            return dataclasses.replace(upload, state="failed", message=_INTERRUPTED)
        return upload

    def close(self) -> None:
        """Give up what is being read or waits, and finish what is being stored."""
        for child in list(self._children):
            child.kill()
        self._threads.shutdown(cancel_futures=True)

    # -- in a thread of its own -----------------------------------------------------------------

    def _kept(self, upload: Upload, work: Callable[[], Upload]) -> Upload:
        """What the work comes to, or that it failed: kept for the pages that ask."""
        try:
            done = work()
        except Exception as error:  # noqa: BLE001  nobody else would learn of it
            self._observe(ServerFault(request_id=upload.id, exception=error))
            message = error.message if isinstance(error, BackdropError) else _FAULT
            done = dataclasses.replace(upload, state="failed", message=message)
        with contextlib.suppress(BackdropError):  # the page goes by the time, then
            put_upload(self._storage, done)
        return done

    def _read(self, upload: Upload, file: IO[bytes], bucket: Bucket) -> Upload:
        try:
            with read_apart(file, upload.file_name, bucket, self._children) as read:
                return self._understood(upload, read)
        except BadFile as bad:
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

    def _store(self, upload: Upload, bucket: Bucket) -> Upload:
        rows = rows_of(take_parts(self._storage, upload))
        try:
            receipt = ingest_parts(self._storage, bucket, rows, by=by_user(upload.email))
        except InvalidRecords as error:  # settings or records changed since it was understood
            return dataclasses.replace(upload, state="refused", message=error.message)
        replaced = receipt.replaced or 0
        repeated = upload.understood.repeated_ids if upload.understood else 0
        new = receipt.records - repeated - replaced
        return dataclasses.replace(upload, state="stored", new=new, replacing=replaced)
