"""The commands, put together. Everything goes over HTTP, but serve, copy, repair and restore.

Only the command that was typed is loaded, for each brings what it needs: the server's packages take
half a second, and `backdrop token list` has no use for them.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from importlib import import_module

import typer

from backdrop import __version__
from backdrop.cli.output import Stop, complain
from backdrop.errors import BackdropError
from backdrop.refusals import NoAnswer, Refused
from backdrop.settings import BadSettings

COMMANDS: Mapping[str, str] = {
    "serve": "serve.serve",
    "read": "serve.read",
    "write": "serve.write",
    "bucket": "buckets.group",
    "token": "tokens.group",
    "user": "users.group",
    "import": "imports.import_",
    "audit": "audit.audit",
    "copy": "copy.copy",
    "backup": "backup.backup",
    "restore": "backup.restore",
    "repair": "repair.repair",
}
"""Where in `backdrop.cli` each command is, or the group of those that begin with it."""


def app_of(names: Collection[str]) -> typer.Typer:
    """The application with these of the commands, in the order of the table."""
    app = typer.Typer(
        rich_markup_mode=None,  # plain help: it breaks lines, where Rich's tables cut names short
        help="A datastore with an HTTP interface: POST flat JSON records, GET answers.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(_top)
    for name, place in COMMANDS.items():
        if name not in names:
            continue
        module, _, found = place.partition(".")
        command = getattr(import_module(f"backdrop.cli.{module}"), found)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)
    return app


def _top(
    version: bool = typer.Option(False, "--version", help="Show the version and leave."),
) -> None:
    if version:
        typer.echo(f"backdrop {__version__}")
        raise typer.Exit


def run() -> None:
    """Run the command that was typed. What a user can mend is a message and exit code 1."""
    typed = COMMANDS.keys() & sys.argv[1:2]
    try:
        app_of(typed or COMMANDS)()
    except (Stop, BadSettings, BackdropError, NoAnswer, Refused) as error:
        complain(error)
        sys.exit(1)
