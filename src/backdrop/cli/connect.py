"""Finding the server and the admin token."""

from __future__ import annotations

from backdrop.cli.token_files import admin_token_file, read_token
from backdrop.client import Client, is_loopback_url
from backdrop.settings import Secret, Settings


def connect(settings: Settings) -> Client:
    """A client that has the admin token, if one can be found."""
    token = find_admin_token(settings)
    return Client(settings.url, admin_token=token.reveal() if token else None)


def find_admin_token(settings: Settings) -> Secret | None:
    """The admin token: as it is set, else from the file that `serve` left beside the store.

    The file's token opens the server of this machine, so no other machine is sent it.
    """
    if settings.admin_token is not None or not is_loopback_url(settings.url):
        return settings.admin_token
    return read_token(admin_token_file(settings.store))
