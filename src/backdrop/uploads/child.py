"""The process that reads one uploaded file: `python -m backdrop.uploads.child FOLDER < file`.

A file from outside may be made to take any amount of memory or time, within libraries too; here it
takes what this process is allowed, and no other request waits for it. The folder holds `job.json`,
and gets `understood.json`, `rows` (frames) and `ids` (one of each, as lines of JSON).
"""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path
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


def main(folder: Path) -> None:
    job = msgspec.json.decode((folder / "job.json").read_bytes(), type=Job)
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
    with (folder / "rows").open("wb") as rows_file, (folder / "ids").open("wb") as ids_file:

        def put(rows: list[dict[str, Any]], ids: list[str]) -> None:
            rows_file.write(frame(rows))
            new = [one for one in dict.fromkeys(ids) if one not in known]
            known.update(new)
            ids_file.writelines(msgspec.json.encode(one) + b"\n" for one in new)

        with os.fdopen(os.dup(0), "rb") as file:
            understood = understand(file, job.name, Bucket(**settings), put)
    understood.repeated_ids = understood.ids - len(known) if not understood.fault_count else 0
    (folder / "understood.json").write_bytes(msgspec.json.encode(understood))


TOO_MUCH = 3
"""What the process returns where the file is to blame: it needs too much, or breaks a library."""


def _is_panic(error: BaseException) -> bool:
    """Whether a library written in Rust gave up: the class is nowhere to be imported from."""
    return type(error).__name__ == "PanicException"


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except MemoryError:
        sys.exit(TOO_MUCH)
    except BaseException as error:
        if _is_panic(error):
            sys.exit(TOO_MUCH)
        raise
