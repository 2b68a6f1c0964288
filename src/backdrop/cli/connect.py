"""Finding the server and the admin token."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from backdrop.cli.output import Stop
from backdrop.cli.token_files import admin_token_file, read_token
from backdrop.client import Client
from backdrop.domain.loopback import is_loopback_url
from backdrop.refusals import Refused
from backdrop.settings import FILE, Secret, Settings, variable


@contextmanager
def connect(settings: Settings) -> Iterator[Client]:
    """A client that has the admin token, if one can be found.

    Where the server refuses it, or wants one that is not there, Stop says which, and what to do.
    """
    token = find_admin_token(settings)
    with Client(settings.url, admin_token=token.reveal() if token else None) as client:
        try:
            yield client
        except Refused as error:
            if error.status not in (401, 403):
                raise
            if token is None:
                raise Stop(no_admin_token(settings)) from None
            raise Stop(
                f"{settings.url} refused the admin token from {token.place}: {error}"
            ) from None


def find_admin_token(settings: Settings) -> Secret | None:
    """The admin token: as it is set, else from the file that `serve` left beside the store.

    The file's token opens the server of this machine, so no other machine is sent it.
    """
    if settings.admin_token is not None or not is_loopback_url(settings.url):
        return settings.admin_token
    return read_token(admin_token_file(settings.store))


def no_admin_token(settings: Settings) -> str:
    """Where the admin token was looked for, and what to do."""
    name = variable("admin_token")
    places = f"--admin-token, {name} and {FILE} don't set one"
    if not is_loopback_url(settings.url):
        return f"no admin token: {places}. Set {name} to the token of {settings.url}"
    path = admin_token_file(settings.store)
    return (
        f"no admin token: {places}, and there is no file {path}. Set {name}, run this in the "
        "folder where `backdrop serve` runs, or name its store with --store"
    )
