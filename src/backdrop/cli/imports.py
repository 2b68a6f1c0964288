"""`backdrop import`: files into a bucket, batch by batch, over HTTP."""

from __future__ import annotations

import io
import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from backdrop.cli.batches import Destination, Unsure, batches, destination_of
from backdrop.cli.options import CONNECTION, BucketName, takes_settings
from backdrop.cli.output import Stop, note
from backdrop.cli.place import DEFAULT_BATCH, Job, Place
from backdrop.cli.progress import reporting
from backdrop.client import NoAnswer, Refused
from backdrop.file_rows import FORMATS, BadFile, CsvTypes, Format, Row, format_of, read_rows
from backdrop.settings import Settings

_INTERRUPTED = 130


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
    settings: Settings,
) -> None:
    """Store the records of files: NDJSON, JSON or CSV, also packed with gzip (.gz).

    They are sent in batches; each is stored whole or not at all. Where no token is given, the admin
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
        settings=settings,
    )
    started = time.monotonic()
    with ExitStack() as stack:
        opened = [(stack.enter_context(_open(name)), job.format or _format(name)) for name in files]
        destination = stack.enter_context(destination_of(bucket, settings))
        records = _import(job, destination, opened)
    seconds = time.monotonic() - started
    rate = records / max(seconds, 0.001)
    note.print(f"{records:,} records in {seconds:,.1f} s ({rate:,.0f}/s)", markup=False)
    note.print(f"Read them at {destination.reading_url}", markup=False)


def _import(
    job: Job,
    destination: Destination,
    opened: Sequence[tuple[io.BufferedReader, Format | None]],
) -> int:
    """Send the records of all the files; return how many. Raises Stop where it can't go on."""
    place = Place(job)
    total_bytes = _total_bytes([file for file, _ in opened])
    bytes_before = 0
    with reporting(total_bytes) as report:
        for number, (file, format_) in enumerate(opened):
            place.begin(number)
            for _ in _sending(place, destination, _rows(job, destination, file, format_)):
                read = bytes_before + file.raw.tell() if total_bytes is not None else 0
                report(place.name, read, place.stored_by_this_run)
            bytes_before += file.raw.tell() if total_bytes is not None else 0
    return place.stored_by_this_run


def _sending(place: Place, destination: Destination, rows: Iterator[Row]) -> Iterator[None]:
    """Send a file's rows; yields after each batch. Raises Stop, with all that there is to say."""
    try:
        skipped = sum(1 for _ in islice(rows, place.stored))
        if skipped < place.stored:
            raise Stop(f"{place.name} has only {skipped:,} records, and {place.stored:,} to skip")
        for batch in batches(rows, place.job.batch):
            place.batch = batch
            destination.send(batch)
            place.sent()
            yield
    except BadFile as error:
        raise Stop(place.bad_file(error)) from None
    except Refused as error:
        raise Stop(place.refused(error)) from None
    except NoAnswer as error:
        raise Stop(place.no_answer(error)) from None
    except Unsure as error:
        raise Stop(place.unsure(error)) from None
    except KeyboardInterrupt:
        note.print(place.interrupted(), markup=False)
        raise typer.Exit(_INTERRUPTED) from None


def _rows(
    job: Job, destination: Destination, file: io.BufferedReader, format_: Format | None
) -> Iterator[Row]:
    known = destination.settings or {}
    csv_types = job.csv_types or known.get("csv_types", "auto")
    return read_rows(file, format_, timestamp=job.timestamp, csv_types=csv_types)


def _one_of(value: str | None, allowed: Sequence[Any], name: str) -> Any:
    if value is not None and value not in allowed:
        raise Stop(f"{name} must be one of {', '.join(allowed)}, not {value!r}")
    return value


def _format(name: str) -> Format | None:
    try:
        return format_of(name)
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
