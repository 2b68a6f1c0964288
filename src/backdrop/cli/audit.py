"""`backdrop audit [BUCKET]`."""

from __future__ import annotations

from typing import Annotated

import typer

from backdrop.cli.connect import connect
from backdrop.cli.options import CONNECTION, Json, takes_settings
from backdrop.cli.output import as_json, as_table, note
from backdrop.settings import Settings

_COLUMNS = ("at", "by", "action", "bucket", "records", "details", "id")


@takes_settings(*CONNECTION)
def audit(
    name: Annotated[
        str | None, typer.Argument(metavar="[BUCKET]", help="only what was done to this bucket")
    ] = None,
    *,
    limit: Annotated[
        str | None, typer.Option(metavar="N", help="how many entries at most, 1 to 1000 [100]")
    ] = None,
    before: Annotated[
        str | None, typer.Option(metavar="ID", help="those older than the entry of this id")
    ] = None,
    json: Json = False,
    settings: Settings,
) -> None:
    """Show who did what, the newest first."""
    with connect(settings) as client:
        entries = client.audit(bucket=name, limit=limit, before=before)
    if json:
        as_json(entries)
    elif entries:
        as_table(_COLUMNS, [[entry[column] for column in _COLUMNS] for entry in entries])
    else:
        note.print("The audit log has no such entry")
