"""What goes in by POST comes back by GET just as it was, also after the store was closed."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from backdrop.asgi import create_app
from backdrop.storage.duckdb.engine import DuckDBStorage
from tests.storage.exact import exact

NAMES = st.sampled_from(["fee", "Fee", "FEE", "ab", "select", "c1", "rowid", "values"])
VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.sampled_from([5, 5.0, "5", "007", "true", 0.0, -0.0, 1e300, 2**53 + 1, "\0", "'\"\\"])
)
ROWS = st.lists(st.dictionaries(NAMES, VALUES, min_size=1, max_size=6), max_size=12)


def typed(row: dict[str, Any]) -> dict[str, Any]:
    """The record with its types beside its values: 5 is not 5.0, and -0.0 is not 0.0."""
    return {name: exact(value) for name, value in row.items()}


@given(batches=st.lists(ROWS, min_size=1, max_size=3))
def test_types_case_nulls_and_mixed_types_survive(batches: list[list[dict[str, Any]]]) -> None:
    """Types, names that differ in case, nulls, absences and order survive POST, restart and GET."""
    admin = secrets.token_urlsafe()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "store.duckdb"
        storage = DuckDBStorage(path)
        client = TestClient(create_app(storage, admin_token=admin, observe=lambda _: None))
        made = client.put(
            "/_buckets/trip",
            headers={"Authorization": f"Bearer {admin}"},
            json={"raw_queries_allowed": True},
        ).json()
        headers = {
            "Authorization": f"Bearer {made['token']}",
            "Content-Type": "application/json",
        }
        for rows in batches:
            answer = client.post("/trip", headers=headers, content=json.dumps(rows))
            assert answer.json() == {"status": "ok", "records": len(rows)}
        storage.close()

        storage = DuckDBStorage(path)
        client = TestClient(create_app(storage, observe=lambda _: None))
        found = json.loads(client.get("/trip").content)["data"]
        storage.close()
    for record in found:
        assert record.pop("_id")
    assert [typed(row) for row in found] == [typed(row) for rows in batches for row in rows]
