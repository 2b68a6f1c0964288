"""`/_backup` as a route; what a backup holds is tried in tests/cli/test_backup.py."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from backdrop.storage.duckdb.engine import DuckDBStorage
from tests.api.conftest import Desk


def test_a_head_request_makes_no_backup(desk: Desk, tmp_path: Path) -> None:
    with closing(DuckDBStorage(tmp_path / "store.duckdb")) as storage:
        client = desk.clients(storage=storage)
        answer = client.head("/_backup", headers=desk.admin)
        assert answer.status_code == 200
        assert answer.headers.get("content-length", "0") == "0"
        whole = client.get("/_backup", headers=desk.admin)
        assert int(whole.headers["content-length"]) == len(whole.content) > 0
