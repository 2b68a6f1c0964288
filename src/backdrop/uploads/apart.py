"""Understanding a file in a process of its own, with bounds on its memory and its time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

import msgspec

from backdrop.domain.bucket import Bucket
from backdrop.file_rows import BadFile
from backdrop.uploads.child import Job
from backdrop.uploads.understand import Understood

MOST_MEMORY = 2 * 2**30
"""Of address space: 500,000 rows of ten columns take half a GiB."""
MOST_SECONDS = 180
_MOST_WRITTEN = 2**30
_PART = 2**20
_IDS_AT_ONCE = 10_000
_FAULT = 1
"""What Python returns after an exception that nobody expected."""
_MOST_TOLD = 4_000


@dataclass(frozen=True, slots=True)
class Read:
    """A file that was read: what was understood, and what it holds, as long as it is open."""

    understood: Understood
    folder: Path

    def parts(self) -> Iterator[bytes]:
        """The frames of the raw rows, a MiB at a time."""
        with (self.folder / "rows").open("rb") as file:
            while part := file.read(_PART):
                yield part

    def ids(self) -> Iterator[list[str]]:
        """The different ids that the records bring along, some at a time."""
        with (self.folder / "ids").open("rb") as file:
            while lines := list(islice(file, _IDS_AT_ONCE)):
                yield [msgspec.json.decode(line, type=str) for line in lines]


@contextmanager
def read_apart(
    file: IO[bytes], name: str, bucket: Bucket, running: set[subprocess.Popen[bytes]]
) -> Iterator[Read]:
    """What a process makes of the file, which must have a descriptor, from its beginning.

    The process is in `running` while it runs. Raises BadFile where it came to its bounds, or a
    library broke down; RuntimeError for a fault of ours.
    """
    with TemporaryDirectory(prefix="backdrop-upload-") as made:
        folder = Path(made)
        job = Job(name, bucket.as_json(), MOST_MEMORY, MOST_SECONDS, _MOST_WRITTEN)
        (folder / "job.json").write_bytes(msgspec.json.encode(job))
        file.seek(0)
        ended = _end_of_child(folder, file, running)
        if ended == _FAULT:
            raise RuntimeError((folder / "stderr").read_text(errors="replace")[-_MOST_TOLD:])
        if ended != 0:
            raise BadFile(_TOO_MUCH)
        written = (folder / "understood.json").read_bytes()
        yield Read(msgspec.json.decode(written, type=Understood), folder)


def _end_of_child(
    folder: Path, file: IO[bytes], running: set[subprocess.Popen[bytes]]
) -> int | None:
    """What the process returns; None where it was stopped."""
    command = [sys.executable, "-P", "-m", "backdrop.uploads.child", str(folder)]
    with (
        (folder / "stderr").open("wb") as told,
        subprocess.Popen(  # noqa: S603  our own module
            command, stdin=file, stdout=told, stderr=told, env=_environment()
        ) as process,
    ):
        running.add(process)
        try:
            return process.wait(MOST_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            return None
        finally:
            running.discard(process)


def _environment() -> dict[str, str]:
    """What Python needs to start, and no secret: the libraries read files from outside."""
    return {name: os.environ[name] for name in _VARIABLES if name in os.environ}


_VARIABLES = ("PATH", "PYTHONPATH", "PYTHONHOME", "LANG", "LC_ALL", "TMPDIR", "TZ")

_TOO_MUCH = (
    "this file can't be read: it takes more memory or time than there is for one, or it is broken. "
    "Is there something far below the table, or far to its right? Else save it as CSV, or split it"
)
