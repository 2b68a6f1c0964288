"""Options made from tables: of the settings, and of whatever else is a table.

Typer reads a command's options off its signature. So a command is written with one parameter for a
whole group of options, and `expanded` gives it the signature that Typer should see.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from backdrop.settings import CONFIG_WORDS, FIELDS, load_settings, words_for

Command: TypeAlias = Callable[..., None]

Json: TypeAlias = Annotated[bool, typer.Option("--json", help="print JSON, for scripts")]
BucketName: TypeAlias = Annotated[str, typer.Argument(metavar="BUCKET", help="the bucket's name")]

TokenFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="put the token into a new file that only you can read"),
]

CONNECTION = ("url", "admin_token", "store")
"""The settings by which a command finds the server and the admin token."""


def expanded(
    parameter: str,
    options: Sequence[inspect.Parameter],
    make: Callable[[Mapping[str, Any]], Any],
) -> Callable[[Command], Command]:
    """Put `options` in the place of `parameter`, whose value `make` makes of theirs."""
    names = {option.name for option in options}

    def expand(command: Command) -> Command:
        def run(**given: Any) -> None:
            rest = {name: value for name, value in given.items() if name not in names}
            value = make({name: given[name] for name in names})
            command(**rest, **{parameter: value})

        own = inspect.signature(command, eval_str=True).parameters.values()
        parameters = [*(one for one in own if one.name != parameter), *options]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        return run

    return expand


def option(name: str, kind: Any, *spellings: str, **extra: Any) -> inspect.Parameter:
    """An option that is None where it was not given."""
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, typer.Option(*spellings, **extra)],
    )


def dashed(name: str) -> str:
    """The option's name of a setting."""
    return "--" + name.replace("_", "-")


def takes_settings(*names: str) -> Callable[[Command], Command]:
    """A command's parameter `settings` becomes an option for each of `names`, and `--config`.

    The command gets them as `Settings`, with the environment and the file behind the flags.
    """
    options = [_setting_option(name) for name in names]
    options.append(option("config", str, "--config", metavar="FILE", help=CONFIG_WORDS))

    def make(given: Mapping[str, Any]) -> Any:
        flags = {name: given[name] for name in names}
        return load_settings(flags, os.environ, config=given["config"])

    return expanded("settings", options, make)


def _setting_option(name: str) -> inspect.Parameter:
    """The option of a setting: text as it was typed, because `load_settings` parses it."""
    metavar = FIELDS[name].metadata["metavar"]
    if metavar is None:
        both = f"{dashed(name)}/--no-{name.replace('_', '-')}"
        return option(name, bool, both, help=words_for(name))
    return option(name, str, dashed(name), metavar=metavar, help=words_for(name))
