"""How far an import is, and what is said of it when it can't go on."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

from backdrop.cli.batches import Destination
from backdrop.cli.remarks import sample_fields
from backdrop.client import Refused
from backdrop.file_rows import BadFile, CsvTypes, Format, Row
from backdrop.settings import FIELDS, Settings

NAME = "backdrop"
DEFAULT_BATCH = 10_000
_MOST_PROBLEMS_SHOWN = 10
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
    replaces: bool = True
    """Whether each of them would replace itself if it was sent again."""
    events_before: int | None = None
    """Records with a `_timestamp` in the bucket before this run, where that could be asked."""
    events_stored: int = 0
    """Of those that this run has stored."""
    stored_without_id: int = 0
    """Records that this run has stored, and that the same file again would store twice."""

    @property
    def name(self) -> str:
        """The file's name, as it is said."""
        name = self.job.files[self.file_number]
        return "standard input" if name == "-" else name

    def begin(self, file_number: int) -> None:
        self.file_number = file_number
        self.stored = self.job.skip if file_number == 0 else 0
        self.batch = []

    def sending(self, batch: Sequence[Row], destination: Destination) -> None:
        """The batch is under way from now on."""
        self.replaces = destination.replaces(batch)
        if not self.replaces and not self.stored_by_this_run:
            self.events_before = destination.client.count_events(self.job.bucket)
        self.batch = batch

    def sent(self) -> None:
        """The batch is stored."""
        self.stored += len(self.batch)
        self.stored_by_this_run += len(self.batch)
        self.events_stored += self._events_under_way
        if not self.replaces:
            self.stored_without_id += sum(not row.has_id for row in self.batch)
        self.batch = []

    @property
    def _events_under_way(self) -> int:
        return sum(row.has_timestamp for row in self.batch)

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
        if self.replaces:
            return (
                f"{error}\n{self._batch_lines()}: {records} may have been stored, or not. "
                "Each record replaces itself, so go on with\n"
                f"  {self._command(self.stored)}"
            )
        return (
            f"{error}\n"
            f"{self._batch_lines()}: {records} may have been stored, or not, and sending it again "
            f"could store it twice. To find out, {self._how_to_find_out()}\n"
            f"If it was stored, go on with\n  {self._command(self.stored + count)}\n"
            f"If not, go on with\n  {self._command(self.stored)}"
        )

    def _how_to_find_out(self) -> str:
        address = f"{self.job.settings.url}/{self.job.bucket}"
        if self.events_before is not None and self._events_under_way:
            without = self.events_before + self.events_stored
            return (
                f"add up the counts at\n  {address}?period=year\nThey are "
                f"{without + self._events_under_way:,} if it was stored, and {without:,} if not "
                "(where nobody else writes)."
            )
        fields = sample_fields(self.batch[-1])
        if not fields:
            return f"look into the bucket: {address}"
        filters = [("filter_by", f"{name}:{text}") for name, text in fields.items()]
        query = urlencode([("group_by", next(iter(fields))), *filters])
        return f"see whether its last record is counted at\n  {address}?{query}"

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
        if not self.stored:
            words = f"Nothing of {self.name} is stored; the files before it are ({_count(before)})"
        else:
            first = "record" if self.stored == 1 else f"{self.stored:,} records"
            is_ = "is" if self.stored == 1 else "are"
            passed = f" ({skipped:,} of them skipped)" if skipped else ""
            others = f", and so are the files before it ({_count(before)})" if before else ""
            words = f"The first {first} of {self.name} {is_} stored{passed}{others}"
        return f"{words}. {then} with\n  {self._command(self.stored, bad_option)}"

    def _command(self, skip: int, bad_option: str | None = None) -> str:
        """The command that imports the rest. A secret given by flag is left to be typed again.

        So is the value of `bad_option`, which must be another one.
        """
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
        if bad_option:
            options[bad_option] = bad_option.upper()
        words = [_program(), "import", job.bucket, *job.files[self.file_number :]]
        for name, value in options.items():
            if value is not None:
                words.append(f"--{name}={value}")
        return shlex.join(words)


def _count(records: int) -> str:
    return "1 record" if records == 1 else f"{records:,} records"


def _program() -> str:
    """What was typed to start this program."""
    typed = sys.argv[0]
    return typed if Path(typed).name == NAME and shutil.which(NAME) != typed else NAME
