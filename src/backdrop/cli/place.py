"""How far an import is, and what is said of it when it can't go on."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from backdrop.client import Refused
from backdrop.file_rows import BadFile, CsvTypes, Format, Row
from backdrop.settings import FIELDS, Settings

NAME = "backdrop"
DEFAULT_BATCH = 10_000
_MOST_PROBLEMS_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is to be imported, as it was asked for."""

    bucket: str
    files: Sequence[str]
    format: Format | None
    timestamp: str | None
    csv_types: CsvTypes | None
    batch: int
    skip: int
    settings: Settings


@dataclass
class Place:
    """How far an import is."""

    job: Job
    file_number: int = 0
    stored: int = 0
    """Records of this file that are stored, with those that were skipped."""
    stored_by_this_run: int = 0
    batch: Sequence[Row] = field(default_factory=list)
    """The rows that are on their way."""

    @property
    def name(self) -> str:
        """The file's name, as it is said."""
        name = self.job.files[self.file_number]
        return "standard input" if name == "-" else name

    def begin(self, file_number: int) -> None:
        self.file_number = file_number
        self.stored = self.job.skip if file_number == 0 else 0
        self.batch = []

    def sent(self) -> None:
        """The batch is stored."""
        self.stored += len(self.batch)
        self.stored_by_this_run += len(self.batch)
        self.batch = []

    # -- what to say ------------------------------------------------------------------------

    def bad_file(self, error: BadFile) -> str:
        line = f", line {error.line}" if error.line else ""
        return f"{self.name}{line}: {error.message}\n{self._stored_so_far()}"

    def refused(self, error: Refused) -> str:
        """Each problem with its line in the file; the server names records by their index."""
        if not any("index" in one for one in error.errors):
            return f"{self._batch_lines()}: {error}\n{self._stored_so_far()}"
        located = []
        for one in error.errors[:_MOST_PROBLEMS_SHOWN]:
            line = self.batch[one["index"]].line
            of = f", field {one['field']}" if "field" in one else ""
            located.append(f"{self.name}, line {line}{of}: {one.get('message')}")
        more = error.count - len(located)
        located += [f"… and {more:,} more in this batch"] if more > 0 else []
        return "\n".join([*located, self._stored_so_far()])

    def no_answer(self, error: Exception) -> str:
        return f"{error}\n{self._stored_so_far()}"

    def unsure(self, error: object) -> str:
        count = len(self.batch)
        records = f"this batch of {count:,}" if count > 1 else "this record"
        return (
            f"{error}\n"
            f"{self._batch_lines()}: {records} may have been stored, or not, and sending it again "
            "could store it twice: look into the bucket.\n"
            f"If it was stored, go on with\n  {self._command(self.stored + count)}\n"
            f"If not, go on with\n  {self._command(self.stored)}"
        )

    def interrupted(self) -> str:
        if self.batch:
            return self.unsure("Interrupted")
        return f"Interrupted.\n{self._stored_so_far()}"

    def _batch_lines(self) -> str:
        first, last = self.batch[0].line, self.batch[-1].line
        return f"{self.name}, line {first}" + (f" to {last}" if last > first else "")

    def _stored_so_far(self) -> str:
        skipped = self.job.skip if self.file_number == 0 else 0
        passed = f" ({skipped:,} of them skipped)" if skipped else ""
        before = self.stored_by_this_run - (self.stored - skipped)
        others = f", and {before:,} of the files before it" if before else ""
        some = f"the first {self.stored:,} records are" if self.stored else "nothing is"
        return (
            f"Of {self.name} {some} stored{passed}{others}. Once it is mended, go on with\n"
            f"  {self._command(self.stored)}"
        )

    def _command(self, skip: int) -> str:
        """The command that imports the rest. A secret given by flag is left to be typed again."""
        job = self.job
        options = {
            "skip": skip or None,
            "format": job.format,
            "timestamp": job.timestamp,
            "csv-types": job.csv_types,
            "batch": job.batch if job.batch != DEFAULT_BATCH else None,
        }
        for name in ("url", "store"):
            given = getattr(job.settings, name)
            options[name] = None if given == FIELDS[name].default else given
        words = [_program(), "import", job.bucket, *job.files[self.file_number :]]
        for name, value in options.items():
            if value is not None:
                words.append(f"--{name}={value}")
        return shlex.join(words)


def _program() -> str:
    """What was typed to start this program."""
    typed = sys.argv[0]
    return typed if Path(typed).name == NAME and shutil.which(NAME) != typed else NAME
