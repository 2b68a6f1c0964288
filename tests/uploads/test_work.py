"""The work of uploads beside the requests: how many at once, and what is left when it stops."""

from __future__ import annotations

import io
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from backdrop.domain.audit import Act
from backdrop.domain.bucket import Bucket
from backdrop.domain.once import Once
from backdrop.domain.table import Records
from backdrop.observe import Observation
from backdrop.storage.memory import MemoryStorage
from backdrop.uploads.kept import Upload, find_upload, new_id
from backdrop.uploads.work import AT_ONCE, MOST_BEGUN, MOST_OF_ONE, Uploads
from tests.api.conftest import Clock

THINGS = Bucket(name="things")


class Held(io.FileIO):
    """A file that is not read before `go`."""

    def __init__(self, path: Path, go: threading.Event) -> None:
        super().__init__(path)
        self._go = go

    def seek(self, *place: int) -> int:
        assert self._go.wait(60)
        return super().seek(*place)


class Desk:
    def __init__(self, folder: Path) -> None:
        self.clock, self.go = Clock(), threading.Event()
        self.storage = MemoryStorage(clock=self.clock)
        self.storage.put_bucket(THINGS)
        self.seen: list[Observation] = []
        self.uploads = Uploads(self.storage, now=self.clock, observe=self.seen.append)
        self.path = folder / "a.csv"
        self.path.write_bytes(b"aa\n1\n")
        self.files: list[Held] = []

    def begin(self, email: str = "ann@example.org") -> Any:
        self.files.append(Held(self.path, self.go))
        return self.uploads.read(self.upload(email), self.files[-1], THINGS)

    def upload(self, email: str = "ann@example.org") -> Upload:
        return Upload(
            id=new_id(), email=email, bucket="things", file_name="a.csv", since=self.clock()
        )


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    with closing(made.uploads):
        yield made
        made.go.set()
    assert all(file.closed for file in made.files)


def test_one_user_begins_so_many_and_no_more(desk: Desk) -> None:
    begun = [desk.begin() for _ in range(MOST_OF_ONE)]
    assert desk.begin() is None
    assert desk.files[-1].closed
    begun.append(desk.begin("bob@example.org"))
    desk.go.set()
    assert [one.result(60).state for one in begun] == ["understood"] * len(begun)
    assert desk.begin().result(60).state == "understood"


def test_all_together_begin_so_many_and_no_more(desk: Desk) -> None:
    for number in range(MOST_BEGUN):
        assert desk.begin(f"user-{number}@example.org")
    assert desk.begin("one-more@example.org") is None


def test_what_waits_when_the_server_stops_is_told_so(desk: Desk) -> None:
    waiting = desk.upload()
    held = [desk.begin("bob@example.org") for _ in range(AT_ONCE)]
    desk.files.append(Held(desk.path, desk.go))
    future = desk.uploads.read(waiting, desk.files[-1], THINGS)
    assert future is not None
    closer = threading.Thread(target=desk.uploads.close)
    closer.start()
    with pytest.raises(CancelledError):
        future.result(60)
    desk.go.set()
    closer.join(60)
    assert [one.result(60).state for one in held] == ["understood"] * AT_ONCE
    kept = find_upload(desk.storage, waiting.id, email=waiting.email, bucket="things")
    assert kept is not None
    assert (kept.state, "the server was stopped" in kept.message) == ("failed", True)


class Endless(io.FileIO):
    """A file whose reading is under way once it was asked for its descriptor so often."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.asked = threading.Event()
        self.found: list[str] = []

    def fileno(self) -> int:
        self.found += [str(one) for one in Path(tempfile.gettempdir()).iterdir()]
        self.asked.set()
        return super().fileno()


def test_nothing_of_a_reading_has_a_name(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that nothing is left where the server is killed."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    file = Endless(desk.path)
    future = desk.uploads.read(desk.upload(), file, THINGS)
    assert future is not None
    assert future.result(60).state == "understood"
    assert (file.asked.is_set(), file.found) == (True, [])


class Timed(MemoryStorage):
    """Notes after what time a thread lets others go on while it stores."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock=clock)
        self.found: list[float] = []

    def save(
        self, bucket: str, records: Records, *, once: Once | None = None, act: Act | None = None
    ) -> None:
        self.found.append(sys.getswitchinterval())
        super().save(bucket, records, once=once, act=act)


def test_others_go_first_while_an_upload_is_stored_and_only_then(tmp_path: Path) -> None:
    usual, clock = sys.getswitchinterval(), Clock()
    storage = Timed(clock)
    storage.put_bucket(THINGS)
    (tmp_path / "a.csv").write_bytes(b"aa\n1\n")
    upload = Upload(
        id=new_id(), email="ann@example.org", bucket="things", file_name="a.csv", since=clock()
    )
    with closing(Uploads(storage, now=clock, observe=lambda _: None)) as uploads:
        reading = uploads.read(upload, (tmp_path / "a.csv").open("rb"), THINGS)
        assert reading is not None
        storing = uploads.store(reading.result(60))
        assert storing is not None
        assert storing.result(60).state == "stored"
    assert storage.found == [pytest.approx(0.001)]
    assert sys.getswitchinterval() == usual
