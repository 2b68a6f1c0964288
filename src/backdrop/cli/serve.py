"""`backdrop serve`, `read` and `write`: opening the store and running the server."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import typer

from backdrop import demo
from backdrop.api.body import Limits
from backdrop.api.metrics import MetricsWish
from backdrop.asgi import Apis, create_app
from backdrop.cli.options import takes_settings
from backdrop.cli.output import Stop, note
from backdrop.cli.sign_in import SIGN_IN, sign_in_of, sign_in_words
from backdrop.cli.token_files import admin_token_file, read_or_make_token, test_token_file
from backdrop.errors import BackdropError, StorageFull
from backdrop.observe import StoreSetAside, json_lines
from backdrop.server import App, CannotListen, CannotStart, address_of, bind, is_loopback, run
from backdrop.settings import Secret, Settings, unknown_variables, variable
from backdrop.storage.open import duckdb_path, opener, without_credentials
from backdrop.storage.port import Storage
from backdrop.web.sign_in import Link, SignIn, keep_link
from backdrop.workers import STOP, run_workers

_SERVER = (
    *("host", "port", "store", "workers", "stop_seconds"),
    *("metrics", "metrics_token", "max_requests_a_second", "max_header_seconds"),
    *("max_body_seconds", "min_body_rate"),
)
_READING = (
    *("max_rows", "max_cached", "max_queries", "max_waiting", "max_query_seconds"),
    *("max_answer_seconds", "max_streams"),
)
_ENGINE = ("max_engine_memory", "max_engine_files")
"""Of an engine within the process, which `serve` alone can have."""
_WRITING = (
    *("admin_token", "audit_days", "max_body", "max_unpacked", "max_upload", "read_url"),
    *("max_bodies", "max_unpacking", "max_records", "max_fields", "max_writes"),
    *SIGN_IN,
)
_DEFAULT_PORTS = {"both": 3038, "read": 3038, "write": 3039}
_FORCED = 130


@takes_settings(*_SERVER, *_READING, *_WRITING, *_ENGINE, "demo")
def serve(settings: Settings) -> None:
    """Run both APIs and the pages on one port.

    Where no admin token is set, and only this machine can reach the port, one is made and kept in a
    file beside the store; the other commands find it there. Where no sign-in service is configured
    either, a link is printed that signs in once.
    """
    _serve(settings, "both")


@takes_settings(*_SERVER, *_READING)
def read(settings: Settings) -> None:
    """Run the read API alone, on a store that several processes can share."""
    _serve(settings, "read")


@takes_settings(*_SERVER, *_WRITING)
def write(settings: Settings) -> None:
    """Run the write and admin API and the pages, on a store that several processes can share."""
    _serve(settings, "write")


def _serve(settings: Settings, apis: Apis) -> None:
    for problem in unknown_variables(os.environ):
        _say(f"Warning: {problem}")
    _refuse_sharing(settings, apis)
    if apis == "read" and settings.metrics and settings.metrics_token is None:
        needed = variable("metrics_token")
        raise Stop(f"the read API has no admin token: its metrics take one of their own, {needed}")
    opener(settings.store)  # what is wrong with the URL shows before anything is made
    os.umask(0o077)  # the store, and what DuckDB puts beside it, is for its owner alone
    port = _DEFAULT_PORTS[apis] if settings.port is None else settings.port
    with _bound(settings.host, port) as bound:
        admin_token, admin_words = _admin_token(settings, apis, bound)
        sign_in, link = _sign_in(settings, apis, bound)
        words = {"admin token": admin_words, "pages": sign_in_words(sign_in, link)}
        ready = partial(_say_ready, settings, address_of(bound), words)
        test_token = read_or_make_token(test_token_file(settings.store)) if settings.demo else None

        def work(
            number: int, listener: socket.socket, on_ready: Callable[[], None], **more: Any
        ) -> bool:
            say = _say if number == 0 else _say_nothing
            try:
                with closing(_opener(settings, say)()) as storage:
                    if test_token is not None and number == 0:
                        demo.fill(storage, test_token=test_token.reveal())
                    if link is not None and number == 0:
                        _keep_link(storage, link)
                    app = _app(
                        storage,
                        settings,
                        apis,
                        admin_token,
                        sign_in,
                        worker=None if settings.workers == 1 else number,
                    )
                    return run(
                        app,
                        listener,
                        stop_seconds=settings.stop_seconds,
                        header_seconds=settings.max_header_seconds,
                        on_ready=on_ready,
                        on_cutting_off=storage.end_queries,
                        **more,
                    )
            except BackdropError as error:
                raise CannotStart(error.message) from error

        clean = _run(work, bound, settings, ready)
    if not clean:
        raise typer.Exit(_FORCED)


def _opener(settings: Settings, say: Callable[[str], None]) -> Callable[[], Storage]:
    return opener(
        settings.store,
        say=say,
        report=_report,
        engine_memory=settings.max_engine_memory,
        engine_files=settings.max_engine_files,
        most_fields=settings.max_fields,
    )


def _run(
    work: Callable[..., bool],
    bound: socket.socket,
    settings: Settings,
    ready: Callable[[], None],
) -> bool:
    """Do the work in this process, or in as many as there are to be; whether its stop was clean."""
    try:
        if settings.workers == 1:
            return work(0, bound, ready, on_stopping=_say_stopping)
        return run_workers(
            partial(work, on_stopping=_say_nothing, stop_on=[STOP]),
            bound,
            settings.workers,
            stop_seconds=settings.stop_seconds,
            on_ready=ready,
            on_stopping=_say_stopping,
            observe=json_lines(),
        )
    except CannotStart as error:
        raise Stop(str(error)) from error


def _app(
    storage: Storage,
    settings: Settings,
    apis: Apis,
    admin_token: Secret | None,
    sign_in: SignIn | None,
    *,
    worker: int | None,
) -> App:
    metrics_token = settings.metrics_token.reveal() if settings.metrics_token else None
    return create_app(
        storage=storage,
        apis=apis,
        admin_token=admin_token.reveal() if admin_token else None,
        limits=Limits(
            body_as_sent=settings.max_body,
            body_unpacked=settings.max_unpacked,
            bodies=settings.max_bodies,
            upload=settings.max_upload,
            most_rows=settings.max_rows,
            cached_answers=settings.max_cached,
            readers=settings.max_queries,
            waiting_queries=settings.max_waiting,
            query_seconds=settings.max_query_seconds,
            requests_a_second=settings.max_requests_a_second,
            times_unpacked=settings.max_unpacking,
            records=settings.max_records,
            body_seconds=settings.max_body_seconds,
            bytes_a_second=settings.min_body_rate,
            answer_seconds=settings.max_answer_seconds,
            writers=settings.max_writes,
            streams=settings.max_streams,
        ),
        sign_in=sign_in,
        audited_for=timedelta(days=settings.audit_days),
        metrics=MetricsWish(token=metrics_token, worker=worker) if settings.metrics else None,
        read_url=settings.read_url,
    )


def _keep_link(storage: Storage, link: Link) -> None:
    try:
        keep_link(storage, link)
    except StorageFull as error:  # there is more to a server than its pages
        _say(f"The link that signs in will not work: {error}")


def _say_ready(settings: Settings, address: str, words: Mapping[str, str]) -> None:
    _say(f"[bold]Backdrop is ready[/] at {address}", markup=True)
    for name, text in {"store": without_credentials(settings.store), **words}.items():
        _say(f"  {name:<11}  {text}")
    if settings.demo:
        for line in demo.hints(address, str(test_token_file(settings.store))):
            _say(line)


def _say(text: str, *, markup: bool = False) -> None:
    with suppress(OSError):  # where it goes to a file on a full disk: the server goes on
        note.print(text, markup=markup)


def _report(reason: str, kept_in: Path | None, size: int) -> None:
    """Say what the store set aside to be opened, in the log and to whoever looks on."""
    where = None if kept_in is None else str(kept_in)
    json_lines(sys.stderr)(StoreSetAside(reason=reason, kept_in=where, bytes=size))
    _say(reason if where is None else f"{reason}: {size:,} bytes are kept in {where}")


def _say_nothing(_: object) -> None:
    pass


def _say_stopping(in_flight: int = 0) -> None:
    waiting = f", {in_flight} in flight" if in_flight else ""
    _say(f"Stopping: no new requests{waiting}")


def _refuse_sharing(settings: Settings, apis: Apis) -> None:
    """Raise Stop where several processes would be needed and the store is for one alone."""
    if settings.store != "memory:" and duckdb_path(settings.store) is None:
        return
    if apis != "both":
        raise Stop(
            f"`backdrop {apis}` shares its store with other processes, and {settings.store} is for "
            "one process alone: use `backdrop serve`, which runs both APIs in one, or MongoDB"
        )
    if settings.workers > 1:
        raise Stop(
            f"{settings.workers} workers can't share {settings.store}: "
            "it is for one process alone (--workers 1), other than a database of MongoDB"
        )


@contextmanager
def _bound(host: str, port: int) -> Iterator[socket.socket]:
    try:
        bound = bind(host, port)
    except CannotListen as error:
        raise Stop(str(error)) from None
    with bound:
        yield bound


def _admin_token(settings: Settings, apis: Apis, bound: socket.socket) -> tuple[Secret | None, str]:
    """The admin token, and where it is, in words."""
    if apis == "read":
        return None, "none: the read API has no use for it"
    if settings.admin_token is not None:
        return settings.admin_token, "as it was set"
    if not is_loopback(bound):
        return None, f"none, so the admin API is off: set {variable('admin_token')}"
    path = admin_token_file(settings.store)
    return read_or_make_token(path), f"in the file {path}"


def _sign_in(
    settings: Settings, apis: Apis, bound: socket.socket
) -> tuple[SignIn | None, Link | None]:
    """How people sign in to the pages, if there are any, and the link for the first to do so."""
    if apis == "read":
        return None, None
    sign_in = sign_in_of(settings, address_of(bound), local=is_loopback(bound))
    return sign_in, Link.new(datetime.now(UTC)) if sign_in.links else None
