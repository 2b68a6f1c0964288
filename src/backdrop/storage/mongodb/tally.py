"""What is known of a bucket's values without looking: how many of each kind were ever stored.

Each write counts the values that it stores, in its transaction, and nothing is taken off before
the bucket gets another collection. So a field that was given as many integers as there were records
holds an integer in each one that is left. So with times of whole milliseconds, which cost the
server less to divide. The tally says how many records it counted, and of which collection: what was
stored by one who did not count leaves less known, and nothing wrong. Pure.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias, get_args

from backdrop.domain.table import Column, Records
from backdrop.domain.values import ID, TIMESTAMP

Kind: TypeAlias = Literal["integers", "floats", "others"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Tally: TypeAlias = dict[str, Any]
"""As a bucket's document has it: `collection`, `records`, `milliseconds`, and fields by kind."""

_KINDS: Mapping[type, Kind] = {
    int: "integers",
    datetime: "integers",  # as they are stored
    float: "floats",
    str: "others",
    bool: "others",
}
"""Of what is a value at all: null, as absence, is none."""


def new_tally(collection: str) -> Tally:
    kinds: dict[str, Any] = {kind: {} for kind in KINDS}
    return {"collection": collection, "records": 0, "milliseconds": 0, **kinds}


def counted(records: Records) -> Counter[str]:
    """How much the records add, by the path in the tally: `records`, `integers.fee`, …"""
    found = Counter({"records": len(records)})
    for name, column in records.columns.items():
        if name != ID:
            for kind, number in _kinds(column):
                found[f"{kind}.{name}"] += number
    if TIMESTAMP in records.columns:
        found["milliseconds"] = sum(
            isinstance(one, datetime) and one.microsecond % 1_000 == 0
            for one in records.columns[TIMESTAMP]
        )
    return found


def _kinds(column: Column) -> list[tuple[Kind, int]]:
    types = set(map(type, column))
    numbers = {types.pop(): len(column)} if len(types) == 1 else Counter(map(type, column))
    return [(_KINDS[one], number) for one, number in numbers.items() if one in _KINDS]


def add(tally: Tally, records: Records) -> Tally:
    """The tally, which counts these records from now on."""
    for path, number in counted(records).items():
        kind, _, name = path.rpartition(".")
        numbers = tally[kind] if kind else tally
        numbers[name] = numbers.get(name, 0) + number
    return tally


@dataclass(frozen=True, slots=True)
class Known:
    """What is sure of every record of a bucket. Without a tally, nothing is."""

    tally: Mapping[str, Any]

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Known:
        """What the document of a bucket, as it stood at the moment of the reading, says."""
        tally = document.get("tally") or {}
        counts = [tally.get("collection"), tally.get("records")]
        whole = counts == [document["collection"], document["stored"]]
        return cls(tally if whole else {})

    def __bool__(self) -> bool:
        return bool(self.tally)

    def moved(self, collection: str, more: Records) -> Tally:
        """The tally of another collection, which holds the same records, and more."""
        tally = copy.deepcopy(dict(self.tally))
        return add(tally | {"collection": collection}, more) if tally else {}

    def always(self, field: str) -> bool:
        """Whether every record has a value in the field."""
        if field == ID or not self.tally:
            return field == ID
        records: int = self.tally["records"]
        return bool(records == sum(self.tally[kind].get(field, 0) for kind in KINDS))

    def never_of(self, field: str, kind: Kind) -> bool:
        """Whether no record has a value of that kind in the field."""
        counts: Mapping[str, int] | None = self.tally.get(kind)
        return counts is not None and field not in counts

    @property
    def times_are_milliseconds(self) -> bool:
        """Whether every record's time is of whole milliseconds."""
        times = self.tally.get("integers", {}).get(TIMESTAMP, 0)
        return bool(times and times == self.tally.get("milliseconds"))


NOTHING_KNOWN = Known({})
