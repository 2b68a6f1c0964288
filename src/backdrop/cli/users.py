"""`backdrop user grant | revoke | list`."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import typer

from backdrop.cli.connect import connect
from backdrop.cli.options import CONNECTION, Json, takes_settings
from backdrop.cli.output import Stop, as_json, as_table, note
from backdrop.client import Client
from backdrop.domain.user import folded
from backdrop.settings import Settings

Email: TypeAlias = Annotated[str, typer.Argument(metavar="EMAIL", help="the user's e-mail address")]
Buckets: TypeAlias = Annotated[
    list[str] | None, typer.Argument(metavar="BUCKET…", help="names of buckets")
]

group = typer.Typer(help="Say whose buckets are whose on the pages.", no_args_is_help=True)


@group.command()
@takes_settings(*CONNECTION)
def grant(
    email: Email,
    buckets: Buckets = None,
    *,
    admin: Annotated[bool, typer.Option("--admin", help="all buckets, also later ones")] = False,
    json: Json = False,
    settings: Settings,
) -> None:
    """Give a user buckets, beside those that they have."""
    if not buckets and not admin:
        raise Stop("nothing to grant: name a bucket, or give --admin")
    with connect(settings) as client:
        user = _find(client, email)
        wanted = {*user["buckets"], *(buckets or [])}
        _put(client, email, sorted(wanted), admin or user["admin"], json)


@group.command()
@takes_settings(*CONNECTION)
def revoke(
    email: Email,
    buckets: Buckets = None,
    *,
    admin: Annotated[bool, typer.Option("--admin", help="being an admin alone")] = False,
    json: Json = False,
    settings: Settings,
) -> None:
    """Take buckets from a user; without any, all that they may do."""
    with connect(settings) as client:
        if not buckets and not admin:
            client.delete_user(email)
            note.print(f"{email} has no buckets now", markup=False)
            return
        user = _find(client, email)
        unheld = [name for name in buckets or [] if name not in user["buckets"]]
        if unheld:
            raise Stop(f"{email} does not have the bucket {unheld[0]!r}")
        kept = [name for name in user["buckets"] if name not in (buckets or [])]
        _put(client, email, kept, user["admin"] and not admin, json)


@group.command("list")
@takes_settings(*CONNECTION)
def list_(*, json: Json = False, settings: Settings) -> None:
    """List the users, and their buckets."""
    with connect(settings) as client:
        users = client.users()
    if json:
        as_json(users)
    elif users:
        as_table(("email", "buckets"), [(user["email"], _shown(user)) for user in users])
    else:
        note.print("There are no users yet: make one with `backdrop user grant`")


def _find(client: Client, email: str) -> dict[str, Any]:
    """The user as the server knows them; one without anything, if it doesn't."""
    known = {user["email"]: user for user in client.users()}
    return known.get(folded(email), {"buckets": [], "admin": False})


def _put(client: Client, email: str, buckets: list[str], admin: bool, json: bool) -> None:
    user = client.put_user(email, buckets=buckets, admin=admin)
    if json:
        as_json(user)
    else:
        note.print(f"{user['email']} has {_shown(user)}", markup=False)


def _shown(user: dict[str, Any]) -> str:
    listed = ", ".join(user["buckets"])
    if user["admin"]:
        return f"all buckets, as an admin ({listed} too)" if listed else "all buckets, as an admin"
    return listed or "no buckets"
