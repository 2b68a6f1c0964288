"""Rows -> batches -> the server: how an import sends, and sends again."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from backdrop.cli.connect import connect, no_admin_token
from backdrop.cli.output import Stop, note
from backdrop.client import Client
from backdrop.file_rows import Row
from backdrop.refusals import NoAnswer, Refused
from backdrop.settings import Settings, variable

MOST_BATCH_BYTES = 8 * 2**20
_TOKEN_LASTS = timedelta(hours=24)
_WAITS = (0.25, 0.5, 1, 2, 4, 8)
"""Seconds before each further try: enough for a server that is started again."""


@dataclass(frozen=True, kw_only=True)
class Destination:
    """The bucket that is written to, and a token for it."""

    client: Client
    bucket: str
    token: str
    settings: dict[str, Any] | None
    """The bucket's settings; None where there is no admin token to ask for them."""

    @property
    def where_to_read(self) -> str:
        """An address that is sure to be allowed, and shows some of the bucket."""
        raw = self.settings is not None and self.settings["raw_queries_allowed"]
        target = f"/{self.bucket}?{'limit=10' if raw else 'period=month'}"
        if self.client.reads(self.bucket):
            return f"{self.client.url}{target}"
        return f"the read API's address, with {target}"

    def replaces(self, rows: Sequence[Row]) -> bool:
        """Whether each of the rows would replace itself if it was sent again."""
        return self._makes_ids or all(row.has_id for row in rows)

    def send(self, rows: Sequence[Row], *, origin: str) -> bool:
        """Store the rows as one batch, once; whether that has been done now, not by another import.

        A server that gives no answer, or one of a fault or of too much at once, is asked
        again for a while: with its key
        the batch can't be stored twice. The same rows of the same `origin` have the same key in
        every import, unless each of them replaces itself: those are stored as they are now.
        Raises Refused or NoAnswer.
        """
        body = b"[" + b",\n".join(row.json for row in rows) + b"]"
        origin = secrets.token_hex() if self.replaces(rows) else origin
        key = hashlib.sha256(f"{origin}\n".encode() + body).hexdigest()
        for attempt, wait in enumerate(_WAITS):
            try:
                # What a further attempt finds stored may be of the one whose answer was lost.
                return self.client.post(self.bucket, body, token=self.token, key=key) or attempt > 0
            except NoAnswer as error:
                failure: NoAnswer | Refused = error
            except Refused as error:
                if not error.may_pass:
                    raise
                failure = error
            note.print(f"{failure}; trying again in {wait} s", markup=False)
            time.sleep(wait)
        self.client.post(self.bucket, body, token=self.token, key=key)
        return True

    @property
    def _makes_ids(self) -> bool:
        return self.settings is not None and bool(self.settings["auto_ids"])


def batches(rows: Iterable[Row], most: int) -> Iterator[list[Row]]:
    """The rows in lists of at most `most`, each handed out as soon as it is full.

    A batch is full at `MOST_BATCH_BYTES` too, but holds one row at least.
    """
    batch: list[Row] = []
    size = 0
    for row in rows:
        if batch and size + len(row.json) > MOST_BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += len(row.json) + 2
        if len(batch) == most:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


@contextmanager
def destination_of(bucket: str, settings: Settings) -> Iterator[Destination]:
    """The bucket to import into, with the token that is set, or one made for the time being."""
    with connect(settings) as client:
        client.status()  # whether there is a server at all
        known = _settings_of(bucket, client, settings)
        if settings.token is not None:
            token = settings.token.reveal()
            yield Destination(client=client, bucket=bucket, token=token, settings=known)
            return
        ends = datetime.now(UTC) + _TOKEN_LASTS
        made = client.create_token(bucket, scope="write", label="import", expires_at=ends)
        try:
            yield Destination(client=client, bucket=bucket, token=made["token"], settings=known)
        finally:
            try:
                client.revoke_token(bucket, made["id"])
            except (NoAnswer, Refused) as error:
                text = f"The token {made['id']} of this import could not be revoked ({error}); "
                note.print(f"{text}it ends at {ends:%Y-%m-%d %H:%M} UTC", markup=False)


def _settings_of(bucket: str, client: Client, settings: Settings) -> dict[str, Any] | None:
    """The bucket's settings, or None where a write token does without and they can't be had."""
    needed = settings.token is None
    if not client.is_admin:
        if needed:
            raise Stop(
                f"no token: set {variable('token')} to a write token of the bucket "
                f"(backdrop token create {bucket}), or let the admin token make one; but there is "
                f"{no_admin_token(settings)}"
            )
        return None
    try:
        return client.bucket(bucket)
    except Refused as error:
        if error.status == 404:
            hint = f"make it with `backdrop bucket create {bucket}`"
            raise Stop(f"there is no bucket {bucket!r} at {client.url}: {hint}") from None
        if needed:
            raise
        return None
