"""The commands, put together. Everything goes over HTTP, but serve, copy, repair and restore."""

from __future__ import annotations

import sys

import typer

from backdrop import __version__
from backdrop.cli import audit, backup, buckets, copy, imports, repair, serve, tokens, users
from backdrop.cli.output import Stop, complain
from backdrop.client import NoAnswer, Refused
from backdrop.errors import BackdropError
from backdrop.settings import BadSettings

app = typer.Typer(
    rich_markup_mode=None,  # plain help: it breaks lines, where Rich's tables cut names short
    help="A datastore with an HTTP interface: POST flat JSON records, GET answers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(serve.serve)
app.command()(serve.read)
app.command()(serve.write)
app.add_typer(buckets.group, name="bucket")
app.add_typer(tokens.group, name="token")
app.add_typer(users.group, name="user")
app.command("import")(imports.import_)
app.command()(audit.audit)
app.command()(copy.copy)
app.command()(backup.backup)
app.command()(backup.restore)
app.command()(repair.repair)


@app.callback(invoke_without_command=True)
def _top(
    version: bool = typer.Option(False, "--version", help="Show the version and leave."),
) -> None:
    if version:
        typer.echo(f"backdrop {__version__}")
        raise typer.Exit


def run() -> None:
    """Run the command that was typed. What a user can mend is a message and exit code 1."""
    try:
        app()
    except (Stop, BadSettings, BackdropError, NoAnswer, Refused) as error:
        complain(error)
        sys.exit(1)
