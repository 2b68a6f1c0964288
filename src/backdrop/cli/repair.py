"""`backdrop repair`: a damaged DuckDB store is made one that can be opened, without a server."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Annotated

import typer

from backdrop.cli.output import Stop, as_table, note
from backdrop.domain.words import counted
from backdrop.storage.open import repair_store
from backdrop.storage.repaired import BeyondRepair, Saved

_SOMETHING_IS_LOST = 3


def repair(
    store: Annotated[str, typer.Argument(metavar="STORE", help="the store, duckdb:FILE")],
) -> None:
    """Save what can be read of a damaged DuckDB store, and say what is lost.

    The WAL is cut after its last good commit. Of a damaged file, all that can be read goes into a
    new one, which takes its place. What was cut off or replaced is kept beside the store. The exit
    code is 3 where something is lost, or may be, and 1 where nothing can be read, or there is no
    room for what can.
    """
    os.umask(0o077)  # what is made is for its owner alone
    try:
        found = repair_store(store)
    except BeyondRepair as error:
        _say(error.done)
        _show(Saved(name, records, None) for name, records in error.acknowledged.items())
        raise Stop(str(error)) from None
    _say(found.done or ["Nothing had to be repaired"])
    _show(found.buckets)
    _say(f"LOST: {line}" for line in found.lost)
    are = "is" if found.lost_records == 1 else "are"
    missing = f"{counted(found.lost_records, 'acknowledged record')} {are} lost"
    if found.lost and not found.lost_records:
        missing = "no bucket has fewer records than were acknowledged, but see what is LOST"
    if not found.is_counted:
        missing = "how many acknowledged records are lost is not known"
    note.print(f"{store} can be opened; {missing}", markup=False)
    if found.lost or found.lost_records or not found.is_counted:
        raise typer.Exit(_SOMETHING_IS_LOST)


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        note.print(line, markup=False)


def _show(buckets: Iterable[Saved]) -> None:
    as_table(
        ("bucket", "acknowledged", "there now", "lost"),
        [
            (
                one.name,
                _count(one.acknowledged),
                "none: THE BUCKET IS LOST" if one.records is None else _count(one.records),
                _count(one.lost),
            )
            for one in buckets
        ],
    )


def _count(records: int | None) -> str:
    return "not known" if records is None else f"{records:,}"
