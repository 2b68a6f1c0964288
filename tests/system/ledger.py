"""Writers of every kind, and a ledger of what the server acknowledged to them.

A round: eight writers send to one bucket until the server is killed. Their records say in which
round and batch they were sent, so that two small questions tell whether a round is right.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any

import httpx2

WRITERS = 8
SIZES = (1, 1, 1, 2, 10, 60, 300)
OWN = "own"
"""The batch of the records that each writer has for itself, to replace, change and delete."""

Fields = dict[str, Any]
State = tuple[int, int | None] | None
"""Of a writer's own record: `value` and `changed`; None where it has none."""


@dataclass
class Batch:
    """Records that were sent together. `again`: they may be sent twice, and are stored once."""

    number: str
    round: int
    size: int
    headers: dict[str, str]
    records: list[Fields]
    again: bool
    acknowledged: bool = False


@dataclass
class Ledger:
    """What was sent to one bucket, and what was said of it."""

    batches: dict[str, Batch] = field(default_factory=dict)
    own: dict[int, set[State]] = field(default_factory=dict)
    """By writer: what its record may be like. One state, but where no answer came."""
    open: dict[int, Batch] = field(default_factory=dict)
    """By writer: what got no answer and is to be sent again."""
    faults: list[str] = field(default_factory=list)
    acknowledged: int = 0
    """How many batches were. Only ever waited for, and shown: threads may lose one."""

    def check(self, client: httpx2.Client, path: str, round_: int) -> None:
        """Two questions: the batches of the round one by one, and the number of all others."""
        assert not self.faults, self.faults
        found = _counts(client, path, "batch", filter_by=f"round:{round_}")
        self._check_batches(found, [one for one in self.batches.values() if one.round == round_])
        sure, possible = Counter[int](), Counter[int]()
        for batch in self.batches.values():
            possible[batch.round] += batch.size
            sure[batch.round] += batch.size if batch.acknowledged else 0
        for number, count in _counts(client, path, "round").items():
            assert sure[number] <= count <= possible[number], f"round {number}: {count} records"
        self._check_own(_records(client, path, filter_by=f"batch:{OWN}"))

    def check_everything(self, client: httpx2.Client, path: str) -> None:
        """Every record, by its batch and its place in it."""
        records = _records(client, path)
        places = Counter((one["batch"], one["place"]) for one in records if one["batch"] != OWN)
        assert set(places.values()) <= {1}, "a record is there twice"
        self._check_batches(Counter(batch for batch, _ in places), list(self.batches.values()))
        self._check_own([one for one in records if one["batch"] == OWN])

    def _check_batches(self, found: Counter[Any], batches: list[Batch]) -> None:
        for batch in batches:
            count, words = found[batch.number], f"batch {batch.number} of {batch.size} records"
            assert count in (0, batch.size), f"{words}: {count} are there"
            assert count or not batch.acknowledged, f"{words}: acknowledged, and not there"
        assert not found.keys() - self.batches.keys()

    def _check_own(self, records: list[Fields]) -> None:
        found = {one["writer"]: (one["value"], one.get("changed")) for one in records}
        assert len(found) == len(records)
        for writer, states in self.own.items():
            assert found.get(writer) in states, f"writer {writer}: {found.get(writer)}, {states}"


def _counts(client: httpx2.Client, path: str, group: str, **more: str) -> Counter[Any]:
    answer = client.get(path, params={"group_by": group, **more})
    assert answer.status_code == 200, answer.text
    return Counter({row[group]: row["_count"] for row in answer.json()["data"]})


def _records(client: httpx2.Client, path: str, **more: str) -> list[Fields]:
    answer = client.get(path, params=more)
    assert answer.status_code == 200, answer.text
    records: list[Fields] = answer.json()["data"]
    return records


class Writer(threading.Thread):
    """Sends one request after the other, until the server is gone."""

    def __init__(
        self, url: str, token: str, number: int, round_: int, ledger: Ledger, seed: str
    ) -> None:
        super().__init__()
        self.url, self.number, self.round, self.ledger = url, number, round_, ledger
        self.headers = {"Authorization": f"Bearer {token}"}
        self.chance = Random(f"{seed}-{number}")  # noqa: S311  sizes and kinds, not secrets
        self.sent = 0

    def run(self) -> None:
        try:
            with httpx2.Client(timeout=90, headers=self.headers) as self.client:
                unanswered = self.ledger.open.pop(self.number, None)
                if unanswered is not None:
                    self._send(unanswered)
                for _ in range(100_000):
                    own_turn = self.chance.random() < 0.25
                    self._change_own() if own_turn else self._send(self._batch())
        except httpx2.TransportError:
            return
        except Exception as error:  # noqa: BLE001  the round has to fail, not the thread alone
            self.ledger.faults.append(repr(error))

    def _batch(self) -> Batch:
        self.sent += 1
        number, size = f"{self.round}-{self.number}-{self.sent}", self.chance.choice(SIZES)
        kind = self.chance.choice(("plain", "ids", "key"))
        records = [
            {"round": self.round, "batch": number, "place": place, f"only_{size}": place * 0.5}
            | ({"_id": f"{number}-{place}"} if kind == "ids" else {})
            for place in range(size)
        ]
        headers = {"Idempotency-Key": f'"{number}"'} if kind == "key" else {}
        batch = Batch(number, self.round, size, headers, records, again=kind != "plain")
        self.ledger.batches[number] = batch
        return batch

    def _send(self, batch: Batch) -> None:
        if batch.again:
            self.ledger.open[self.number] = batch
        body = batch.records if len(batch.records) > 1 else batch.records[0]
        answer = self.client.post(self.url, json=body, headers=batch.headers)
        assert answer.status_code == 200, answer.text
        batch.acknowledged = True
        self.ledger.acknowledged += 1
        self.ledger.open.pop(self.number, None)

    def _change_own(self) -> None:
        """Replace, change or delete the writer's own record."""
        before = self.ledger.own.get(self.number, {None})
        self.sent += 1
        value = self.round * 1_000_000 + self.sent
        address = f"{self.url}/{OWN}-{self.number}"
        kind = self.chance.choice(("replace", "change", "change", "delete"))
        after: set[State]
        if kind == "replace":
            after = {(value, None)}
            record = {"_id": f"{OWN}-{self.number}", "batch": OWN, "writer": self.number}
            asked = self.client.build_request("POST", self.url, json=record | {"value": value})
        elif kind == "change":
            after = {(state[0], value) if state else None for state in before}
            asked = self.client.build_request("PATCH", address, json={"changed": value})
        else:
            after = {None}
            asked = self.client.build_request("DELETE", address)
        self.ledger.own[self.number] = before | after
        answer = self.client.send(asked)
        if answer.status_code == 404 and None in before and kind != "replace":
            self.ledger.own[self.number] = {None}
            return
        assert answer.status_code == 200, answer.text
        self.ledger.own[self.number] = after - {None} if kind == "change" else after
