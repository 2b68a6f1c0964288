"""`backdrop import`: files into a bucket, batch by batch, over HTTP."""

from __future__ import annotations

import io
import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from backdrop.cli import INTERRUPTED
from backdrop.cli.batches import Destination, batches, destination_of
from backdrop.cli.interrupts import Interrupt, patient_interrupt
from backdrop.cli.options import CONNECTION, BucketName, takes_settings
from backdrop.cli.output import Stop, note
from backdrop.cli.place import DEFAULT_BATCH, Job, Place
from backdrop.cli.progress import reporting
from backdrop.cli.remarks import time_fields
from backdrop.domain.words import counted
from backdrop.file_rows import FORMATS, BadFile, CsvTypes, Format, Row, format_of, read_rows
from backdrop.refusals import NoAnswer, Refused
from backdrop.settings import Settings


@takes_settings(*CONNECTION, "token")
def import_(
    bucket: BucketName,
    files: Annotated[list[str], typer.Argument(metavar="FILE…", help="`-` is standard input")],
    *,
    format: Annotated[  # noqa: A002  the option's name
        str | None,
        typer.Option(metavar="|".join(FORMATS), help="instead of what the file's name tells"),
    ] = None,
    timestamp: Annotated[
        str | None, typer.Option(metavar="FIELD", help="the field that becomes _timestamp")
    ] = None,
    csv_types: Annotated[
        str | None,
        typer.Option(metavar="auto|text", help="how CSV cells become values [as the bucket says]"),
    ] = None,
    batch: Annotated[
        int, typer.Option(min=1, metavar="N", help="how many records are sent at once, at most")
    ] = DEFAULT_BATCH,
    skip: Annotated[
        int, typer.Option(min=0, metavar="N", help="records of the first file to pass over")
    ] = 0,
    again: Annotated[
        str | None,
        typer.Option(metavar="WORD", help="store what is stored once more: a new word each time"),
    ] = None,
    settings: Settings,
) -> None:
    """Store the records of files: NDJSON, JSON, CSV or spreadsheets, also packed with gzip (.gz).

    They are sent in batches; each is stored whole or not at all. Cut off anywhere, the same command
    goes on: within 24 hours it stores no record of a file twice. Where no token is given, the admin
    token makes one that lasts as long as the import.
    """
    job = Job(
        bucket=bucket,
        files=files,
        format=_one_of(format, FORMATS, "--format"),
        timestamp=timestamp,
        csv_types=_one_of(csv_types, get_args(CsvTypes), "--csv-types"),
        batch=batch,
        skip=skip,
        again=again,
        settings=settings,
    )
    _do(job)


def _do(job: Job) -> None:
    started = time.monotonic()
    place = Place(job)
    try:
        with ExitStack() as stack:
            opened = [(stack.enter_context(_open(name)), _format(name, job)) for name in job.files]
            destination = stack.enter_context(destination_of(job.bucket, job.settings))
            _import(place, destination, opened)
            _say_done(place, destination, time.monotonic() - started)
    except KeyboardInterrupt:
        note.print("Interrupted")
        raise typer.Exit(INTERRUPTED) from None


def _say_done(place: Place, destination: Destination, seconds: float) -> None:
    records = place.stored_by_this_run
    rate = records / max(seconds, 0.001)
    _say(f"{counted(records, 'record')} in {seconds:,.1f} s ({rate:,.0f}/s)")
    if place.stored_before:
        which = _of_them(place.stored_before, "was", "were")
        _say(
            f"{which} stored before, by an import of the same file in the last 24 hours, and not "
            "again: to store them once more, add --again=WORD"
        )
    if place.stored_without_id:
        unless = "" if destination.settings else ", unless the bucket makes one (auto_ids)"
        which = f"{_of_them(place.stored_without_id, 'has', 'have')} no _id{unless}"
        _say(f"{which}: importing the same again after 24 hours stores them twice")
    _say(f"Read them at {destination.where_to_read}")


def _of_them(number: int, one: str, many: str) -> str:
    return f"{number:,} of them {one if number == 1 else many}"


def _import(
    place: Place,
    destination: Destination,
    opened: Sequence[tuple[io.BufferedReader, Format | None]],
) -> None:
    """Send the records of all the files. Raises Stop where it can't go on."""
    total_bytes = _total_bytes([file for file, _ in opened])
    bytes_before = 0
    with reporting(total_bytes) as report, _finishing_batches(place) as interrupt:
        for number, (file, format_) in enumerate(opened):
            place.begin(number)
            rows = _rows(place, destination, file, format_)
            for _ in _sending(place, destination, rows, interrupt):
                read = bytes_before + file.raw.tell() if total_bytes is not None else 0
                report(place.name, read, place.stored_by_this_run)
            bytes_before += file.raw.tell() if total_bytes is not None else 0


def _finishing_batches(place: Place) -> AbstractContextManager[Interrupt]:
    return patient_interrupt(
        lambda: bool(place.batch),
        lambda: _say("Waiting for the batch under way; Ctrl-C again stops at once"),
    )


def _sending(
    place: Place, destination: Destination, rows: Iterator[Row], interrupt: Interrupt
) -> Iterator[None]:
    """Send a file's rows; yields after each batch. Raises Stop, with all that there is to say."""
    try:
        skipped = sum(1 for _ in islice(rows, place.stored))
        if skipped < place.stored:
            raise Stop(
                f"{place.name} has only {counted(skipped, 'record')}, and {place.stored:,} to skip"
            )
        for batch in batches(rows, place.job.batch):
            if not place.stored_by_this_run:
                _note_times(batch)
            place.send(batch, destination)
            yield
            interrupt.check()
        if not place.stored:
            _say(f"{place.name} holds no records")
    except BadFile as error:
        raise Stop(place.bad_file(error)) from None
    except Refused as error:
        raise Stop(place.unsure(error) if error.is_fault else place.refused(error)) from None
    except NoAnswer as error:
        raise Stop(place.unsure(error)) from None
    except KeyboardInterrupt:
        _say(place.interrupted())
        raise typer.Exit(INTERRUPTED) from None


def _rows(
    place: Place, destination: Destination, file: io.BufferedReader, format_: Format | None
) -> Iterator[Row]:
    known = destination.settings or {}
    name = place.name
    return read_rows(
        file,
        format_,
        timestamp=place.job.timestamp,
        csv_types=place.job.csv_types or known.get("csv_types", "auto"),
        fallback="csv" if place.job.files[place.file_number] == "-" else None,
        remark=lambda text: _say(f"{name}: {text}"),
    )


def _note_times(batch: Sequence[Row]) -> None:
    """Say which fields could be the `_timestamp`, where no record of the first batch has one."""
    found = [f"--timestamp {name} ({value})" for name, value in time_fields(batch).items()]
    if found:
        _say(
            "No record has a _timestamp, so none will be in a period. "
            f"These fields hold times: {', '.join(found)}"
        )


def _say(text: str) -> None:
    note.print(text, markup=False)


def _one_of(value: str | None, allowed: Sequence[Any], name: str) -> Any:
    if value is not None and value not in allowed:
        raise Stop(f"{name} must be one of {', '.join(allowed)}, not {value!r}")
    return value


def _format(name: str, job: Job) -> Format | None:
    try:
        return job.format or format_of(name)
    except BadFile as error:
        raise Stop(f"{name}: {error}") from None


def _open(name: str) -> io.BufferedReader:
    try:
        return os.fdopen(os.dup(0), "rb") if name == "-" else Path(name).open("rb")
    except OSError as error:
        raise Stop(f"{name} can't be read: {error.strerror}") from None


def _total_bytes(files: Sequence[io.BufferedReader]) -> int | None:
    """The size of all the files, as they are packed; None where one is a pipe."""
    found = [os.fstat(file.fileno()) for file in files]
    if not all(stat.S_ISREG(one.st_mode) for one in found):
        return None
    return sum(one.st_size for one in found)
