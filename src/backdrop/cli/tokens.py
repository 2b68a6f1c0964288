"""`backdrop token create | list | revoke`."""

from __future__ import annotations

from typing import Annotated

import typer

from backdrop.cli.connect import connect
from backdrop.cli.options import CONNECTION, BucketName, Json, TokenFile, takes_settings
from backdrop.cli.output import as_json, as_table, note
from backdrop.cli.token_files import token_output
from backdrop.settings import Settings

group = typer.Typer(help="Make, list and revoke the tokens of a bucket.", no_args_is_help=True)


@group.command()
@takes_settings(*CONNECTION)
def create(
    name: BucketName,
    *,
    scope: Annotated[str, typer.Option(metavar="write|read", help="what it opens")] = "write",
    label: Annotated[str, typer.Option(metavar="TEXT", help="what it is for")] = "",
    expires_at: Annotated[
        str | None, typer.Option(metavar="TIME", help="when it ends, such as 2027-01-31T00:00Z")
    ] = None,
    token_file: TokenFile = None,
    json: Json = False,
    settings: Settings,
) -> None:
    """Make a token. Prints it alone, for TOKEN=$(…): it is shown this once."""
    with token_output(token_file) as give, connect(settings) as client:
        made = client.create_token(name, scope=scope, label=label, expires_at=expires_at)
        if token_file or not json:
            give(f"the {scope} token {made['id']} of {name}", made["token"])
    if json:
        as_json(made)


@group.command("list")
@takes_settings(*CONNECTION)
def list_(name: BucketName, *, json: Json = False, settings: Settings) -> None:
    """List a bucket's tokens: not the tokens themselves, of which only hashes are kept."""
    with connect(settings) as client:
        tokens = client.tokens(name)
    if json:
        as_json(tokens)
    else:
        columns = ("id", "scope", "label", "created_at", "expires_at", "last_used_at")
        as_table(columns, [[token[column] for column in columns] for token in tokens])


@group.command()
@takes_settings(*CONNECTION)
def revoke(
    name: BucketName,
    token_id: Annotated[str, typer.Argument(metavar="ID", help="see `backdrop token list`")],
    *,
    settings: Settings,
) -> None:
    """Revoke a token: from now on it opens nothing."""
    with connect(settings) as client:
        client.revoke_token(name, token_id)
    note.print(f"Revoked the token {token_id} of {name}", markup=False)
