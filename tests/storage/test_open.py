"""Which engine a store's URL names, and how the URL is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from backdrop.errors import InvalidRequest
from backdrop.storage.open import duckdb_path, open_storage, without_credentials


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("duckdb:///var/lib/store.duckdb", Path("/var/lib/store.duckdb")),
        ("duckdb:store.duckdb", Path("store.duckdb")),
        ("duckdb://store.duckdb", Path("store.duckdb")),
        ("duckdb:///a%20b.duckdb", Path("/a b.duckdb")),
        ("memory:", None),
        ("mongodb://host/db", None),
    ],
)
def test_the_file_of_a_url(url: str, path: Path | None) -> None:
    """Absolute with three slashes, relative to the working folder without."""
    assert duckdb_path(url) == path


@pytest.mark.parametrize("url", ["duckdb:", "sqlite:x", "store.duckdb", ""])
def test_a_url_of_no_store_is_refused(url: str) -> None:
    """And told of those there are."""
    with pytest.raises(InvalidRequest, match="expected duckdb:"):
        open_storage(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("mongodb://me:pw@one:1,two:2/db?replicaSet=rs", "mongodb://one:1,two:2/db"),
        ("mongodb://me:p/w@one/db", "mongodb://one/db"),
        ("mongodb://one/db?tlsCertificateKeyFilePassword=pw", "mongodb://one/db"),
        ("mongodb://one/db", "mongodb://one/db"),
        ("duckdb:store.duckdb", "duckdb:store.duckdb"),
        ("duckdb:a@b.duckdb", "duckdb:a@b.duckdb"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    """Names and passwords stay out of what is printed."""
    assert without_credentials(url) == shown
