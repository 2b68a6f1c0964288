"""Files of one token each that only their owner can read."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from backdrop.cli.output import Stop, alone, note
from backdrop.domain.token import is_token
from backdrop.settings import Secret
from backdrop.storage.open import duckdb_path


def admin_token_file(store: str) -> Path:
    """Beside the store's file; where the store is none, in the working folder."""
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
    return Secret(text, f"the file {path}")


def read_or_make_token(path: Path) -> Secret:
    """The token in the file, made first where there is none: the same for all who ask at once.

    A new file is 0600 from its first moment, and no link of somebody else's is followed into one.
    """
    found = read_token(path)
    if found is not None:
        os.chmod(path, 0o600)  # noqa: PTH101
        return found
    _make_token_file(path)
    made = read_token(path)
    if made is None:
        raise Stop(f"{path} can't be made: there is a link of that name that leads nowhere")
    return made


def _make_token_file(path: Path) -> None:
    """Make the file, with its token from its first moment: of several who make it, one does."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with new_file(aside) as file:
        file.write(secrets.token_urlsafe(32) + "\n")
    try:
        os.link(aside, path)
    except FileExistsError:
        pass  # somebody else was quicker
    except OSError as error:
        raise Stop(f"{path} can't be made: {error.strerror}") from None
    finally:
        aside.unlink()


@contextmanager
def new_file(path: Path) -> Iterator[TextIO]:
    """A file to write a token to, 0600 from its first moment; gone again if an error comes.

    Raises Stop where there is one of that name, whatever it is.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise Stop(f"{path} can't be made: there is a file of that name already") from None
    except OSError as error:
        raise Stop(f"{path} can't be made: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            yield file
    except BaseException:
        path.unlink(missing_ok=True)
        raise


@contextmanager
def token_output(path: Path | None) -> Iterator[Callable[[str, str], None]]:
    """What gives out a new token, called with what was made and the token.

    It goes to the file, which is made first so that no token is made that has nowhere to go; or
    alone to stdout, for `$(…)`.
    """
    if path is None:
        yield _show_token
        return
    with new_file(path) as file:

        def write(made: str, token: str) -> None:
            file.write(f"{token}\n")
            note.print(f"Made {made}; it is in {path}, and nowhere else", markup=False)

        yield write


def _show_token(made: str, token: str) -> None:
    note.print(f"Made {made}{', shown only now:' if sys.stdout.isatty() else ''}", markup=False)
    alone(token)
