"""What is kept of an upload between its steps: in the store, so that any process can go on.

The entry `u` says how far an upload is; its raw rows are `u/1`, `u/2`, …; and `u/ticket` is what
one gets to store it, once.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, TypeAlias

import msgspec

from backdrop.domain.entry import Entry
from backdrop.storage.port import Storage
from backdrop.uploads.understand import Understood

KIND = "upload"
KEPT_FOR = timedelta(hours=1)

State: TypeAlias = Literal["reading", "understood", "refused", "storing", "stored", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """One file of one user for one bucket, and how far it is.

    `new` and `replacing` are expected while `understood`, and what was done once `stored`.
    `message` says why it was `refused` in the second step, or `failed`.
    """

    id: str
    email: str
    bucket: str
    file_name: str
    since: datetime
    state: State = "reading"
    understood: Understood | None = None
    new: int = 0
    replacing: int = 0
    parts: int = 0
    message: str = ""


def new_id() -> str:
    """Of an upload; no secret, as only who sent the file gets at it, so a log may have it."""
    return uuid.uuid4().hex


def put_upload(storage: Storage, upload: Upload) -> None:
    entry = Entry(KIND, upload.id, msgspec.json.encode(upload), upload.since + KEPT_FOR)
    storage.put_entry(entry)


def find_upload(storage: Storage, upload_id: str, *, email: str, bucket: str) -> Upload | None:
    """The upload, if it is that user's for that bucket and not yet forgotten."""
    entry = storage.entry(KIND, upload_id)
    if entry is None or "/" in upload_id:
        return None
    upload = msgspec.json.decode(entry.value, type=Upload)
    return upload if (upload.email, upload.bucket) == (email, bucket) else None


def put_parts(storage: Storage, upload: Upload, parts: Iterable[bytes]) -> int:
    """Keep the raw rows, and the ticket to store them; how many parts they are."""
    until = upload.since + KEPT_FOR
    number = 0
    for number, part in enumerate(parts, 1):
        storage.put_entry(Entry(KIND, f"{upload.id}/{number}", part, until))
    storage.put_entry(Entry(KIND, _ticket(upload), b"", until))
    return number


def take_ticket(storage: Storage, upload: Upload) -> bool:
    """Whether the upload may be stored now: of several who ask, one may."""
    return storage.take_entry(KIND, _ticket(upload)) is not None


def take_parts(storage: Storage, upload: Upload) -> Iterator[bytes]:
    for number in range(1, upload.parts + 1):
        entry = storage.take_entry(KIND, f"{upload.id}/{number}")
        if entry is None:
            raise LookupError(f"part {number} of an upload is gone")
        yield entry.value


def _ticket(upload: Upload) -> str:
    return f"{upload.id}/ticket"
