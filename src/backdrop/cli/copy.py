"""`backdrop copy`: everything that lasts, from one store into another, without a server."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Annotated

import typer

from backdrop.cli import INTERRUPTED
from backdrop.cli.interrupts import patient_interrupt
from backdrop.cli.output import Stop, as_table, note
from backdrop.cli.progress import reporting
from backdrop.copying import Clashes, Outcome, are_one, copy_store, missing_entries
from backdrop.errors import BackdropError
from backdrop.settings import OTHER_VARIABLES
from backdrop.storage.open import duckdb_path, opener, without_credentials
from backdrop.storage.port import Storage

_, _FROM, _TO = OTHER_VARIABLES
_SHOWN_OF_CHECKSUM = 16
_ONE_STORE = "the source and the destination are one store"
_GO_ON = "What was copied by then is whole: the same command again goes on"


def copy(
    stores: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FROM] [TO]",
            help="the store to copy and the one to fill, duckdb: or mongodb: "
            f"(env: {_FROM}, {_TO}: for a URL with a password)",
        ),
    ] = None,
    *,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="put the source's buckets in the place of others so named"),
    ] = False,
) -> None:
    """Copy buckets with their settings, tokens and records, and the users, between two stores.

    A bucket is in the destination once it is there whole. Where the command was cut off, the same
    one again goes on: what is there and the same is left. What is there and not the same stops it
    before anything is changed, but for --replace. The copy is read back and compared.
    """
    source, destination = _ends(stores or [])
    _refuse_urls(source, destination)
    os.umask(0o077)  # a store that is made is for its owner alone
    with _filled(source) as here, _opened("destination", destination) as there:
        if _are_one(here, there):
            raise Stop(_ONE_STORE)
        outcomes = _copied(here, there, replacing=replace)
        _show(outcomes)
        _say_entries(here, there)
    differing = [one for one in outcomes if one.difference is not None]
    if differing:
        names = "; ".join(f"{one.name} ({one.difference})" for one in differing)
        raise Stop(
            f"the copy differs: {names}. Was the source, or the destination, written to meanwhile? "
            "Copy again with --replace"
        )
    note.print(f"{without_credentials(destination)} holds all of it", markup=False)


def _ends(given: Sequence[str]) -> tuple[str, str]:
    """Both URLs: those that the environment does not give are arguments, the source first."""
    left = iter(given)
    if len(given) == 2:
        source, destination = given
    else:
        source = os.environ.get(_FROM) or next(left, "")
        destination = os.environ.get(_TO) or next(left, "")
    if not source or not destination or (len(given) < 2 and list(left)):
        raise Stop(
            "two stores are needed, the one to copy and the one to fill: backdrop copy FROM TO, or "
            f"one of them, or both, as {_FROM} and {_TO}"
        )
    return source, destination


def _refuse_urls(source: str, destination: str) -> None:
    for url in (source, destination):
        if url == "memory:":
            raise Stop("a store in memory: is gone with its process: copy duckdb: or mongodb:")
    here, there = (duckdb_path(url) for url in (source, destination))
    if source == destination or (here and there and here.resolve() == there.resolve()):
        raise Stop(_ONE_STORE)
    if here is not None and not here.is_file():
        raise Stop(f"there is no file {here} to copy")


@contextmanager
def _opened(role: str, url: str) -> Iterator[Storage]:
    try:
        storage = opener(url, say=note.print)()
    except BackdropError as error:
        raise Stop(f"the {role}: {error}") from None
    with closing(storage):
        yield storage


@contextmanager
def _filled(url: str) -> Iterator[Storage]:
    """The source, which holds something."""
    with _opened("source", url) as storage:
        if not storage.buckets() and not storage.lasting_entries():
            raise Stop("the source holds nothing: is its URL right?")
        yield storage


def _are_one(source: Storage, destination: Storage) -> bool:
    try:
        return are_one(source, destination, datetime.now(UTC))
    except BackdropError as error:
        raise Stop(f"the destination: {error}") from None


def _copied(source: Storage, destination: Storage, *, replacing: bool) -> list[Outcome]:
    states = [source.state(bucket.name) for bucket in source.buckets()]
    read, at = 0, ""
    with (
        reporting(2 * sum(state.records for state in states)) as report,
        patient_interrupt(lambda: True, _say_how_to_stop) as interrupt,
    ):

        def progress(at_work: str, records: int) -> None:
            nonlocal read, at
            read, at = read + records, f"{at_work}: "
            report(at_work, read, read)
            # Here, not wherever Ctrl-C comes: an error is lost in what drivers clear away.
            interrupt.check()

        try:
            outcomes = list(copy_store(source, destination, replacing=replacing, progress=progress))
            interrupt.check()
            return outcomes
        except Clashes as error:
            hint = "--replace puts the source's in their place"
            raise Stop(f"{error}; choose another destination, or {hint}") from None
        except BackdropError as error:
            raise Stop(f"{at}{error}. {_GO_ON}") from None
        except KeyboardInterrupt:
            note.print(f"Interrupted. {_GO_ON}")
            raise typer.Exit(INTERRUPTED) from None


def _say_how_to_stop() -> None:
    note.print("Waiting for the records under way; Ctrl-C again stops at once")


def _show(outcomes: Sequence[Outcome]) -> None:
    as_table(
        ("bucket", "records", f"sha256, first {_SHOWN_OF_CHECKSUM}", "copy"),
        [
            (
                one.name,
                f"{one.contents.records:,}",
                (one.contents.checksum or "")[:_SHOWN_OF_CHECKSUM],
                f"DIFFERS: {one.difference}" if one.difference else _same(one),
            )
            for one in sorted(outcomes, key=lambda one: one.name)
        ],
    )


def _same(outcome: Outcome) -> str:
    return "was there, the same" if outcome.was_there else "made, the same"


def _say_entries(source: Storage, destination: Storage) -> None:
    missing = missing_entries(source, destination)
    if missing:
        raise Stop(f"the copy lacks the {missing[0].kind} {missing[0].key!r}: copy again")
    kinds = [entry.kind for entry in source.lasting_entries()]
    for kind in sorted(set(kinds)):
        note.print(f"And of the kind {kind!r}: {kinds.count(kind)} entries, the same", markup=False)
