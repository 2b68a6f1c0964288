"""The process that reads one uploaded file: `python -m backdrop.uploads.child 3 4 5 6 < file`.

A file from outside may be made to take any amount of memory or time, within libraries too; here it
takes what this process is allowed, and no other request waits for it. The numbers are those of open
files: the first holds the `Job`, the others get what was understood, the rows (frames), and the ids
(one of each, as lines of JSON).
"""

from __future__ import annotations

import os
import resource
import sys
from typing import Any

import msgspec

from backdrop.domain.bucket import Bucket
from backdrop.uploads.frames import frame
from backdrop.uploads.understand import understand


class Job(msgspec.Struct):
    """What is to be read, and what it may take."""

    name: str
    bucket: dict[str, Any]
    most_memory: int
    most_seconds: int
    most_written: int


def main(job_file: int, understood_file: int, rows_file: int, ids_file: int) -> None:
    with os.fdopen(job_file, "rb") as file:
        job = msgspec.json.decode(file.read(), type=Job)
    for limit, most in (
        (resource.RLIMIT_AS, job.most_memory),
        (resource.RLIMIT_CPU, job.most_seconds),
        (resource.RLIMIT_FSIZE, job.most_written),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (most, most))
    os.nice(10)  # others' requests go first
    settings = job.bucket | {"auto_ids": tuple(job.bucket["auto_ids"])}
    known: set[str] = set()
    with os.fdopen(rows_file, "wb") as rows_kept, os.fdopen(ids_file, "wb") as ids_kept:

        def put(rows: list[dict[str, Any]], ids: list[str]) -> None:
            rows_kept.write(frame(rows))
            new = [one for one in dict.fromkeys(ids) if one not in known]
            known.update(new)
            ids_kept.writelines(msgspec.json.encode(one) + b"\n" for one in new)

        with os.fdopen(os.dup(0), "rb") as given:
            understood = understand(given, job.name, Bucket(**settings), put)
    understood.repeated_ids = understood.ids - len(known) if not understood.fault_count else 0
    with os.fdopen(understood_file, "wb") as result:
        result.write(msgspec.json.encode(understood))


TOO_MUCH = 3
"""What the process returns where the file is to blame: it needs too much, or breaks a library."""


def _is_panic(error: BaseException) -> bool:
    """Whether a library written in Rust gave up: the class is nowhere to be imported from."""
    return type(error).__name__ == "PanicException"


if __name__ == "__main__":
    try:
        main(*map(int, sys.argv[1:]))
    except MemoryError:
        sys.exit(TOO_MUCH)
    except BaseException as error:
        if _is_panic(error):
            sys.exit(TOO_MUCH)
        raise
