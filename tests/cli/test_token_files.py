"""The files that hold a token."""

from __future__ import annotations

import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from backdrop.cli.output import Stop
from backdrop.cli.token_files import admin_token_file, read_or_make_token, read_token
from backdrop.errors import InvalidRequest
from backdrop.settings import Secret


@pytest.mark.parametrize(
    ("store", "file"),
    [
        ("duckdb:backdrop.duckdb", "backdrop.duckdb.admin-token"),
        ("duckdb:///srv/my.db", "/srv/my.db.admin-token"),
        ("memory:", "backdrop.admin-token"),
        ("mongodb://me:secret@one,two/db?replicaSet=rs", "backdrop.admin-token"),
    ],
)
def test_the_file_is_beside_the_store(store: str, file: str) -> None:
    assert admin_token_file(store) == Path(file)


def test_a_store_without_a_file_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="names no file"):
        admin_token_file("duckdb:")


def test_a_token_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "token"
    assert read_token(path) is None
    made = read_or_make_token(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(made.reveal()) >= 40
    path.chmod(0o644)
    assert read_or_make_token(path) == made == read_token(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_all_who_make_it_at_once_have_the_same(tmp_path: Path) -> None:
    """As servers do that are started together in one folder."""
    for number in range(50):
        path = tmp_path / str(number)
        barrier = threading.Barrier(4)

        def make(path: Path = path, barrier: threading.Barrier = barrier) -> Secret:
            barrier.wait(10)
            return read_or_make_token(path)

        with ThreadPoolExecutor(4) as threads:
            made = [one.result() for one in [threads.submit(make) for _ in range(4)]]
        assert set(made) == {read_token(path)}
    assert len(list(tmp_path.iterdir())) == 50, "no file is left aside"


@pytest.mark.parametrize("content", [b"", b"short", b"two words", b"\xff" * 20])
def test_a_file_without_a_token_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(Stop, match="token"):
        read_or_make_token(path)


def test_a_link_is_not_followed_into_a_new_file(tmp_path: Path) -> None:
    """Somebody who can write to the folder must not choose where the token goes."""
    (tmp_path / "token").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Stop, match="can't be made"):
        read_or_make_token(tmp_path / "token")
    assert not (tmp_path / "elsewhere").exists()
