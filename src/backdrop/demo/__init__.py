"""Two buckets to try: `flights`, with real records, and `test`, to write to."""

from __future__ import annotations

import gzip
import secrets
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.resources import files

import msgspec

from backdrop.domain.bucket import Bucket
from backdrop.domain.token import Token, hash_token
from backdrop.ingest import ingest
from backdrop.storage.port import Storage

SAMPLE = "flights.ndjson.gz"

FLIGHTS = Bucket(
    name="flights",
    description="A sample of the flights that left New York City in 2013: every 32nd",
    raw_queries_allowed=True,
    auto_ids=("_timestamp", "carrier", "flight", "origin"),
)
TEST = Bucket(
    name="test",
    description="A bucket to try writing with",
    raw_queries_allowed=True,
    realtime=True,
)


def fill(storage: Storage, *, test_token: str) -> None:
    """Make what is missing of the two buckets. `test_token` writes to `test`, also to an older one.

    A bucket that is there is left as it is; `flights` is filled only if it was never written.
    """
    now = datetime.now(UTC)
    known = {bucket.name for bucket in storage.buckets()}
    if FLIGHTS.name not in known:
        storage.put_bucket(FLIGHTS)
    if storage.state(FLIGHTS.name).last_written is None:
        ingest(storage, storage.bucket(FLIGHTS.name), read_sample())
    hashed = hash_token(test_token)
    token = Token(
        id=secrets.token_hex(8),
        bucket=TEST.name,
        hash=hashed,
        scope="write",
        label="demo",
        created_at=now,
    )
    if TEST.name not in known:
        storage.put_bucket(TEST, first_token=token)
    elif storage.token(hashed) is None:
        storage.add_token(token)


def read_sample() -> list[object]:
    """The raw rows of `flights`."""
    packed = files(__name__).joinpath(SAMPLE).read_bytes()
    return msgspec.json.Decoder().decode_lines(gzip.decompress(packed))


def hints(url: str, token_file: str) -> Sequence[str]:
    """Commands to try, as they are typed."""
    token = f'"Authorization: Bearer $(cat {shlex.quote(token_file)})"'
    record = """'{"_timestamp": "2026-01-31T09:30:00Z", "pets": "cats", "count": 3}'"""
    return [
        "",
        "Flights a month, the mean delay by airport, and one carrier's weeks:",
        "",
        f"  curl '{url}/flights?period=month'",
        f"  curl '{url}/flights?group_by=origin&collect=dep_delay:mean'",
        f"  curl '{url}/flights?period=week&filter_by=carrier:UA'",
        "",
        "Write a record, and read it:",
        "",
        f"  curl {url}/test -H {token} -H 'Content-Type: application/json' -d {record}",
        f"  curl {url}/test",
        "",
    ]
