"""The made-up records of the measurements: seeded, so that every run has the same ones.

A record has an id, a second of the year 2013, three strings of 10, 50 and 200 values, an integer
and a boolean.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec

SEED = 2013
YEAR_BEGINS = int(datetime(2013, 1, 1, tzinfo=UTC).timestamp())
SECONDS_OF_THE_YEAR = 365 * 24 * 3600

_PLACES = [f"place-{n}" for n in range(10)]
_KINDS = [f"kind-{n:02}" for n in range(50)]
_AUTHORITIES = [f"authority-{n:03}" for n in range(200)]


def bodies(records: int, *, batch: int, first: int = 0, prefix: str = "") -> Iterator[bytes]:
    """The records as bodies of POSTs, `batch` to each; ids are numbers after `prefix`."""
    for begin in range(first, first + records, batch):
        chance = random.Random(SEED + begin)  # noqa: S311  nothing secret
        count = min(batch, first + records - begin)
        pick = chance.choices
        columns = zip(
            range(begin, begin + count),
            chance.choices(range(SECONDS_OF_THE_YEAR), k=count),
            pick(_PLACES, k=count),
            pick(_KINDS, k=count),
            pick(_AUTHORITIES, k=count),
            chance.choices(range(-1_000, 100_000), k=count),
            pick((True, False), k=count),
            strict=True,
        )
        yield msgspec.json.encode(
            [
                {
                    "_id": f"{prefix}{number}",
                    "_timestamp": time_text(second),
                    "place": place,
                    "kind": kind,
                    "authority": authority,
                    "fee": fee,
                    "online": online,
                }
                for number, second, place, kind, authority, fee, online in columns
            ]
        )


def time_text(second: int) -> str:
    return datetime.fromtimestamp(YEAR_BEGINS + second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
