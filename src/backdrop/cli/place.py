"""How far an import is, and what is said of it when it can't go on."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from backdrop.cli.batches import Destination
from backdrop.domain.words import counted
from backdrop.file_rows import BadFile, CsvTypes, Format, Row
from backdrop.refusals import Refused
from backdrop.settings import FIELDS, Settings
from backdrop.storage.open import without_credentials

NAME = "backdrop"
DEFAULT_BATCH = 10_000
_MOST_PROBLEMS_SHOWN = 10
_TOO_LARGE = ("batch_too_large", "body_too_large")
_MENDED = "Once it is mended, go on"


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
    again: str | None
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
    stored_before: int = 0
    """Of the records of this run, those that an earlier one has stored."""
    stored_without_id: int = 0
    """Of the records of this run, those that can be stored twice, some day."""

    @property
    def name(self) -> str:
        """The file's name, as it is said."""
        name = self.job.files[self.file_number]
        return "standard input" if name == "-" else name

    @property
    def origin(self) -> str:
        """Where the batch that comes next is from: what it shares with no other."""
        name = self.job.files[self.file_number]
        path = name if name == "-" else str(Path(name).resolve())
        return json.dumps([path, self.stored, self.job.again])

    def begin(self, file_number: int) -> None:
        self.file_number = file_number
        self.stored = self.job.skip if file_number == 0 else 0
        self.batch = []

    def send(self, batch: Sequence[Row], destination: Destination) -> None:
        """Store the batch, which is under way meanwhile."""
        self.batch = batch
        count = len(batch)
        if not destination.send(batch, origin=self.origin):
            self.stored_before += count
        self.stored += count
        self.stored_by_this_run += count
        if not destination.replaces(batch):
            self.stored_without_id += sum(not row.has_id for row in batch)
        self.batch = []

    # -- what to say ------------------------------------------------------------------------

    def bad_file(self, error: BadFile) -> str:
        line = f", line {error.line}" if error.line else ""
        return f"{self.name}{line}: {error.message}\n{self._stored_so_far(error.option)}"

    def refused(self, error: Refused) -> str:
        """Each problem with its line in the file; the server names records by their index."""
        if error.status in (401, 403):
            token = self.job.settings.token
            given = f"from {token.place}" if token else "of this import"
            return f"the write token {given} was refused: {error}\n{self._stored_so_far()}"
        if not any("index" in one for one in error.errors):
            is_too_large = any(one.get("code") in _TOO_LARGE for one in error.errors)
            smaller = f" (--batch {max(1, len(self.batch) // 2)})" if is_too_large else ""
            return f"{self._batch_lines()}: {error}{smaller}\n{self._stored_so_far()}"
        located = []
        for one in error.errors[:_MOST_PROBLEMS_SHOWN]:
            line = self.batch[one["index"]].line
            of = f", field {one['field']}" if "field" in one else ""
            located.append(f"{self.name}, line {line}{of}: {one.get('message')}")
        more = error.count - len(located)
        located += [f"… and {more:,} more in this batch"] if more > 0 else []
        return "\n".join([*located, self._stored_so_far()])

    def unsure(self, error: object) -> str:
        count = len(self.batch)
        records = f"this batch of {count:,}" if count > 1 else "this record"
        return (
            f"{error}\n{self._batch_lines()}: {records} may have been stored, or not. "
            "Within 24 hours it is not stored twice: go on with\n"
            f"  {self._command(self.stored)}"
        )

    def interrupted(self) -> str:
        if self.batch:
            return self.unsure("Interrupted")
        return f"Interrupted.\n{self._stored_so_far(then='Go on')}"

    def _batch_lines(self) -> str:
        first, last = self.batch[0].line, self.batch[-1].line
        return f"{self.name}, line {first}" + (f" to {last}" if last > first else "")

    def _stored_so_far(self, bad_option: str | None = None, *, then: str = _MENDED) -> str:
        """What is stored, and the command that imports the rest."""
        if not self.stored_by_this_run:
            return "Nothing was stored."
        skipped = self.job.skip if self.file_number == 0 else 0
        before = self.stored_by_this_run - (self.stored - skipped)
        counted_before = counted(before, "record")
        if not self.stored:
            words = f"Nothing of {self.name} is stored; the files before it are ({counted_before})"
        else:
            first = "record" if self.stored == 1 else f"{self.stored:,} records"
            is_ = "is" if self.stored == 1 else "are"
            passed = f" ({skipped:,} of them skipped)" if skipped else ""
            others = f", and so are the files before it ({counted_before})" if before else ""
            words = f"The first {first} of {self.name} {is_} stored{passed}{others}"
        return f"{words}. {then} with\n  {self._command(self.stored, bad_option)}"

    def _command(self, skip: int, bad_option: str | None = None) -> str:
        """The command that imports the rest. A secret given by flag is left to be typed again.

        So is an address that holds one, and the value of `bad_option`, which must be another one.
        """
        job = self.job
        options = {
            "skip": skip or None,
            "format": job.format,
            "timestamp": job.timestamp,
            "csv-types": job.csv_types,
            "again": job.again,
            "batch": job.batch if job.batch != DEFAULT_BATCH else None,
        }
        for name in ("url", "store"):
            given = getattr(job.settings, name)
            has_secret = without_credentials(given) != given or "@" in urlsplit(given).netloc
            options[name] = None if has_secret or given == FIELDS[name].default else given
        if bad_option:
            options[bad_option] = bad_option.upper()
        words = [_program(), "import", job.bucket, *job.files[self.file_number :]]
        for name, value in options.items():
            if value is not None:
                words.append(f"--{name}={value}")
        return shlex.join(words)


def _program() -> str:
    """What was typed to start this program."""
    typed = sys.argv[0]
    return typed if Path(typed).name == NAME and shutil.which(NAME) != typed else NAME
