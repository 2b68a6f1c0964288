"""`backdrop bucket create | list | show | set | delete`."""

from __future__ import annotations

import json as json_
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from backdrop.cli.connect import connect
from backdrop.cli.options import (
    CONNECTION,
    BucketName,
    Json,
    TokenFile,
    dashed,
    expanded,
    option,
    takes_settings,
)
from backdrop.cli.output import Stop, as_json, as_table, note
from backdrop.cli.token_files import token_output
from backdrop.domain.bucket import Bucket
from backdrop.settings import Settings

FLAGS = {
    "raw_queries_allowed": "whether the public may read single records",
    "published": "no: answers carry a warning and are not cached",
    "queryable": "no: the read API answers 404",
    "read_token_required": "whether reading needs a token with scope read",
    "realtime": "whether answers are cached for 120 s, not 1800 s",
}
TEXTS = {
    "description": ("TEXT", "free text"),
    "data_group": ("NAME", "first part of a second address, /data/GROUP/TYPE"),
    "data_type": ("NAME", "second part of it"),
    "auto_ids": ("FIELD,…", "the fields that make the _id"),
    "schema": ("FILE", "a file that holds a JSON Schema for each record"),
    "max_age_expected": ("SECONDS", "out of date when the last write is older"),
    "timezone": ("ZONE", "IANA name of the zone of periods and dates"),
    "csv_types": ("auto|text", "how CSV cells become values"),
}
CLEARED: Mapping[str, Any] = {
    "description": "",
    "data_group": None,
    "data_type": None,
    "auto_ids": [],
    "schema": None,
    "max_age_expected": None,
}
"""What `--no-…` makes of a setting that is no flag."""


def _auto_ids(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _seconds(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdigit() else text  # the server refuses a text


def _schema(text: str) -> Any:
    path = Path(text)
    try:
        return json_.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Stop(f"{path} can't be read: {error.strerror}") from None
    except ValueError as error:
        raise Stop(f"{path} is not JSON: {error}") from None


_read: Mapping[str, Callable[[str], Any]] = {
    "auto_ids": _auto_ids,
    "max_age_expected": _seconds,
    "schema": _schema,
}
"""How the text of an option becomes a setting, where it is not the text itself."""


def _changes(given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that the options name, as the admin API takes them."""
    changes: dict[str, Any] = {}
    for name in (*FLAGS, *TEXTS):
        value, cleared = given[name], given.get(f"no_{name}")
        if cleared and value is not None:
            raise Stop(f"{dashed(name)} and {dashed(f'no_{name}')} exclude each other")
        if cleared:
            changes[name] = CLEARED[name]
        elif value is not None:
            changes[name] = _read[name](value) if name in _read else value
    return changes


_takes_changes = expanded(
    "changes",
    [
        *(
            option(name, bool, f"{dashed(name)}/{dashed(f'no_{name}')}", help=words)
            for name, words in FLAGS.items()
        ),
        *(
            option(name, str, dashed(name), metavar=metavar, help=words)
            for name, (metavar, words) in TEXTS.items()
        ),
        *(
            option(f"no_{name}", bool, dashed(f"no_{name}"), help=f"clear {dashed(name)}")
            for name in CLEARED
        ),
    ],
    _changes,
)

group = typer.Typer(help="Make, list, change and remove buckets.", no_args_is_help=True)


@group.command()
@takes_settings(*CONNECTION)
@_takes_changes
def create(
    name: BucketName,
    *,
    token_file: TokenFile = None,
    json: Json = False,
    changes: dict[str, Any],
    settings: Settings,
) -> None:
    """Make a bucket. Prints its first write token, which is shown this once."""
    with token_output(token_file) as give, connect(settings) as client:
        if any(bucket["name"] == name for bucket in client.buckets()):
            raise Stop(f"there is a bucket {name!r} already: change it with `backdrop bucket set`")
        made = client.put_bucket(name, changes)
        if token_file or not json:
            give(f"the bucket {name} and its write token", made["token"])
    if json:
        as_json(made)


@group.command("list")
@takes_settings(*CONNECTION)
def list_(*, json: Json = False, settings: Settings) -> None:
    """List the buckets."""
    with connect(settings) as client:
        buckets = client.buckets()
    if json:
        as_json(buckets)
    elif buckets:
        rows = [(one["name"], _special(one), one["description"]) for one in buckets]
        as_table(("name", "settings", "description"), rows)
    else:
        note.print("There are no buckets yet: make one with `backdrop bucket create`")


@group.command()
@takes_settings(*CONNECTION)
def show(name: BucketName, *, json: Json = False, settings: Settings) -> None:
    """Show a bucket's settings."""
    with connect(settings) as client:
        _print(client.bucket(name), json)


@group.command("set")
@takes_settings(*CONNECTION)
@_takes_changes
def set_(
    name: BucketName, *, json: Json = False, changes: dict[str, Any], settings: Settings
) -> None:
    """Change some of a bucket's settings; the others stay as they are."""
    if not changes:
        raise Stop("nothing to change: give a setting, such as --realtime")
    with connect(settings) as client:
        _print(client.change_bucket(name, changes), json)


@group.command()
@takes_settings(*CONNECTION)
def delete(
    name: BucketName,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="don't ask")] = False,
    settings: Settings,
) -> None:
    """Remove a bucket with its records, settings and tokens."""
    with connect(settings) as client:
        client.bucket(name)  # a wrong name is said before the question is asked
        if not yes:
            _confirm(f"Remove the bucket {name} with all its records?")
        client.delete_bucket(name)
    note.print(f"Removed the bucket {name}", markup=False)


def _confirm(question: str) -> None:
    try:
        typer.confirm(question, abort=True, err=True)
    except typer.Abort:
        raise Stop("nothing was removed; --yes removes without asking") from None


def _print(bucket: Mapping[str, Any], json: bool) -> None:
    if json:
        as_json(bucket)
    else:
        as_table(("setting", "value"), list(bucket.items()))


def _special(bucket: Mapping[str, Any]) -> str:
    """The settings that are not the defaults, in short."""
    defaults = Bucket(name=bucket["name"]).as_json()
    return ", ".join(
        name if value is True or name == "schema" else f"{name}={json_.dumps(value)}"
        for name, value in bucket.items()
        if name in TEXTS | FLAGS and name != "description" and value != defaults[name]
    )
