"""Understanding a file in a process of its own, with bounds on its memory and its time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from tempfile import TemporaryFile
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
    rows_file: IO[bytes]
    ids_file: IO[bytes]

    def parts(self) -> Iterator[bytes]:
        """The frames of the raw rows, a MiB at a time."""
        self.rows_file.seek(0)
        while part := self.rows_file.read(_PART):
            yield part

    def ids(self) -> Iterator[list[str]]:
        """The different ids that the records bring along, some at a time."""
        self.ids_file.seek(0)
        while lines := list(islice(self.ids_file, _IDS_AT_ONCE)):
            yield [msgspec.json.decode(line, type=str) for line in lines]


@contextmanager
def read_apart(
    file: IO[bytes], name: str, bucket: Bucket, running: set[subprocess.Popen[bytes]]
) -> Iterator[Read]:
    """What a process makes of the file, which must have a descriptor, from its beginning.

    The process is in `running` while it runs. Raises BadFile where it came to its bounds, or a
    library broke down; RuntimeError for a fault of ours.

    The two share files without a name, of which nothing is left however they end.
    """
    with (
        TemporaryFile() as job_file,
        TemporaryFile() as understood_file,
        TemporaryFile() as rows_file,
        TemporaryFile() as ids_file,
        TemporaryFile() as told,
    ):
        job = Job(name, bucket.as_json(), MOST_MEMORY, MOST_SECONDS, _MOST_WRITTEN)
        job_file.write(msgspec.json.encode(job))
        job_file.seek(0)
        file.seek(0)
        shared = [one.fileno() for one in (job_file, understood_file, rows_file, ids_file)]
        ended = _end_of_child(file, shared, told, running)
        if ended == _FAULT:
            told.seek(0)
            raise RuntimeError(told.read().decode(errors="replace")[-_MOST_TOLD:])
        if ended != 0:
            raise BadFile(_TOO_MUCH)
        understood_file.seek(0)
        understood = msgspec.json.decode(understood_file.read(), type=Understood)
        yield Read(understood, rows_file, ids_file)


def _end_of_child(
    file: IO[bytes],
    shared: Sequence[int],
    told: IO[bytes],
    running: set[subprocess.Popen[bytes]],
) -> int | None:
    """What the process returns; None where it was stopped."""
    command = [sys.executable, "-P", "-m", "backdrop.uploads.child", *map(str, shared)]
    with subprocess.Popen(  # noqa: S603  our own module
        command,
        stdin=file,
        stdout=told,
        stderr=told,
        pass_fds=shared,
        env=_environment(),
        process_group=0,  # Ctrl-C is for the server, which lets this go on while it may
    ) as process:
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
