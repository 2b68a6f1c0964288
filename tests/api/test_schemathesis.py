"""Schemathesis against both documents, in process, over a real store: they and the APIs agree.

Requests that a document allows, and many that it doesn't, are sent, and every answer is checked
against what the document says of it.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from schemathesis.engine import Status, events, from_schema
from starlette.testclient import TestClient

from backdrop.asgi import Apis, create_app
from backdrop.demo import read_sample
from backdrop.storage.open import open_storage
from backdrop.storage.port import Storage
from tests.api.conftest import bearer
from tests.storage import mongodb as server
from tests.strategies import LONG

_EXAMPLES = 100 if LONG else 10
_BUCKETS = ("flights", "closed", "guarded")
_ADDRESS = ("transport", "flights")

_OFF = {"enabled": False}
_OPERATIONS: list[dict[str, Any]] = [
    # It tells which methods a path has, whatever stands in the path, or stood there once.
    {
        "include-method": "OPTIONS",
        "checks": {"negative_data_rejection": _OFF, "use_after_free": _OFF},
    },
    # What a schema allows may be refused for what no schema says: parameters and settings need,
    # exclude and bound each other, and the 30th of February has a date's form.
    {
        "include-operation-id-regex": "^(read|store|replace|change|put|patch|make)",
        "checks": {"positive_data_acceptance": _OFF},
    },
    # The document allows the ids of every store's audit log, and a store knows those of its own.
    {"include-path": "/_audit", "checks": {"positive_data_acceptance": _OFF}},
]
"""Checks that contradict the contract, each with the reason."""


@pytest.fixture(params=["duckdb", "mongodb"])
def storage(request: pytest.FixtureRequest, tmp_path: Path, mongodb: str) -> Iterator[Storage]:
    on_mongodb = server.database(mongodb)
    is_file = request.param == "duckdb"
    with closing(open_storage(f"duckdb://{tmp_path}/a.duckdb" if is_file else on_mongodb)) as store:
        yield store
    server.drop(on_mongodb)


def _filled(storage: Storage, admin_token: str) -> dict[str, str]:
    """Buckets with flights: open to all, closed to raw queries, and with a token for reading.

    Returns what opens the operations of each security scheme.
    """
    settings: dict[str, dict[str, Any]] = {
        "flights": {"raw_queries_allowed": True, "max_age_expected": 1},
        "closed": {"timezone": "America/New_York", "published": False},
        "guarded": {"raw_queries_allowed": True, "read_token_required": True},
    }
    settings["flights"] |= dict(zip(("data_group", "data_type"), _ADDRESS, strict=True))
    app = create_app(storage, admin_token=admin_token, observe=lambda _: None)
    client = TestClient(app, headers=bearer(admin_token))
    for name in _BUCKETS:
        made = client.put(f"/_buckets/{name}", json=settings[name]).json()
        rows = read_sample()[:1_000]
        answer = client.post(f"/{name}", json=rows, headers=bearer(made["token"]))
        assert answer.status_code == 200, answer.text
    wish = {"scope": "read"}
    reader = client.post("/_buckets/guarded/tokens", json=wish).json()["token"]
    writer = client.post("/_buckets/flights/tokens", json={"scope": "write"}).json()["token"]
    return {"adminToken": admin_token, "readToken": reader, "writeToken": writer}


def _config(
    tokens: dict[str, str], schemes: list[str], operations: list[dict[str, Any]]
) -> schemathesis.Config:
    chosen = {"dictionary": "buckets", "probability": 0.9}
    group, kind = _ADDRESS
    return schemathesis.Config.from_dict(
        {
            "seed": 2013,
            "max-failures": 20,
            "dictionaries": {"buckets": {"values": list(_BUCKETS)}},
            "parameters": {"path.bucket": chosen, "path.group": group, "path.type": kind},
            "auth": {"openapi": {name: {"bearer": tokens[name]} for name in schemes}},
            "generation": {"max-examples": _EXAMPLES, "deterministic": True, "database": "none"},
            "operations": operations,
        }
    )


@pytest.mark.parametrize("apis", ["read", "write"])
def test_the_api_and_its_document_agree(apis: Apis, storage: Storage) -> None:
    admin_token = secrets.token_urlsafe(16)
    tokens = _filled(storage, admin_token)
    app = create_app(storage, apis=apis, admin_token=admin_token, observe=lambda _: None)
    document = TestClient(app).get("/_openapi.json").json()
    config = _config(tokens, list(document["components"]["securitySchemes"]), _OPERATIONS)
    schema = schemathesis.openapi.from_asgi("/_openapi.json", app, config=config)

    problems, tried = [], 0
    for event in from_schema(schema).execute():
        if isinstance(event, (events.NonFatalError, events.FatalError)):
            problems.append(repr(getattr(event, "value", None) or event))
        if isinstance(event, events.ScenarioFinished):
            tried += len(event.recorder.cases)
            problems += _failures(event)
    assert not problems, "\n\n".join(problems)
    assert tried > 100


def _failures(event: events.ScenarioFinished) -> Iterator[str]:
    for checks in event.recorder.checks.values():
        for check in checks:
            if check.status == Status.FAILURE and check.failure_info is not None:
                info = check.failure_info
                where = f"{check.name} in {event.phase.value}: {info.failure.operation}"
                yield f"{where}: {info.failure.title}\n{info.failure.message}\n{info.code_sample}"
