"""Files of one token each, beside the store, that only their owner can read."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from backdrop.cli.output import Stop
from backdrop.domain.token import is_token
from backdrop.settings import Secret
from backdrop.storage.open import duckdb_path


def admin_token_file(store: str) -> Path:
    return _beside(store, "admin-token")


def test_token_file(store: str) -> Path:
    """Where `serve --demo` puts the write token of its bucket `test`."""
    return _beside(store, "test-token")


def _beside(store: str, kind: str) -> Path:
    path = duckdb_path(store) or Path("backdrop")
    return path.with_name(f"{path.name}.{kind}")


def read_token(path: Path) -> Secret | None:
    """The token in the file; None where there is no file."""
    try:
        text = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise Stop(f"{path} can't be read: {error}") from None
    if not is_token(text):
        raise Stop(f"{path} does not hold a token: remove it, and `backdrop serve` makes another")
    return Secret(text)


def read_or_make_token(path: Path) -> Secret:
    """The token in the file, made first where there is none.

    A new file is 0600 from its first moment, and is never one that somebody else put there.
    """
    found = read_token(path)
    if found is not None:
        os.chmod(path, 0o600)  # noqa: PTH101
        return found
    text = secrets.token_urlsafe(32)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text + "\n")
    except OSError as error:
        raise Stop(f"{path} can't be made: {error.strerror}") from None
    return Secret(text)
