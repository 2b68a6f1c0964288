"""Every Python process of a test run imports this first: what it makes as a secret is noted.

In a file of its own, in the folder that the environment names, where `tests.leaks` looks for it.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path

FOLDER = "TEST_LEAKS_FOLDER"
FEWEST_CHARACTERS = 20
"""Of what is made at random and is a secret: what is shorter is an id."""


def note(secret: str) -> None:
    """That this text must be in no log."""
    folder = os.environ.get(FOLDER)
    if folder is not None:
        with Path(folder, "secrets", str(os.getpid())).open("a") as file:
            file.write(f"{secret}\n")


def _noting(make: Callable[[int | None], str]) -> Callable[[int | None], str]:
    def made(nbytes: int | None = None) -> str:
        text = make(nbytes)
        if len(text) >= FEWEST_CHARACTERS:
            note(text)
        return text

    return made


if FOLDER in os.environ:
    secrets.token_urlsafe = _noting(secrets.token_urlsafe)
    secrets.token_hex = _noting(secrets.token_hex)
