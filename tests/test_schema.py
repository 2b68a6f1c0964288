"""A bucket's JSON Schema: whether it is one, and records against it."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from backdrop.domain.bucket import Bucket
from backdrop.errors import InvalidSettings
from backdrop.schema import refuse_bad_schema, schema_check


def bucket(schema: Any) -> Bucket:
    return Bucket(name="things", schema=schema)


def violations(schema: Any, record: dict[str, Any]) -> list[tuple[str | None, str]]:
    check = schema_check(bucket(schema))
    assert check is not None
    return list(check(record))


def fields(schema: Any, record: dict[str, Any]) -> list[str | None]:
    return [field for field, _ in violations(schema, record)]


USABLE: tuple[Any, ...] = (
    None,
    True,
    False,
    {},
    {"type": "object", "required": ["aa"]},
    {"$schema": "https://json-schema.org/draft/2020-12/schema"},
    {"$schema": "https://json-schema.org/draft/2019-09/schema"},
    {"$schema": "http://json-schema.org/draft-07/schema#"},
    {"$schema": "http://json-schema.org/draft-04/schema#"},
    {"$defs": {"word": {"type": "string"}}, "properties": {"aa": {"$ref": "#/$defs/word"}}},
    {"properties": {"aa": {"$ref": "#"}}},
    {"$ref": "#"},
    {"properties": {"aa": {"pattern": "^a+$", "format": "email"}}},
    {"description": "é😀", "unknown-keyword": 1},
    {"properties": {"aa": {"maximum": 2**63, "minimum": -1e300}}},
)

UNUSABLE: tuple[Any, ...] = (
    {"type": "nonsense"},
    {"type": 5},
    {"required": "aa"},
    {"properties": []},
    {"properties": {"aa": 5}},
    {"multipleOf": 0},
    {"pattern": "("},
    {"properties": {"aa": {"pattern": "[a"}}},
    {"$ref": "#/$defs/nowhere"},
    {"$ref": "https://example.com/schema.json"},
    {"$ref": "other.json"},
    {"$ref": "file:///etc/hostname"},
    {"$dynamicRef": "#nowhere"},
    {"$schema": "https://example.com/own-dialect"},
    {"$schema": 5},
    {"$id": "::::"},
)


@pytest.mark.parametrize("schema", USABLE)
def test_a_json_schema_can_be_used(schema: Any) -> None:
    refuse_bad_schema(bucket(schema))


@pytest.mark.parametrize("schema", UNUSABLE)
def test_what_is_not_a_schema_or_does_not_stand_alone_is_refused(schema: Any) -> None:
    with pytest.raises(InvalidSettings) as caught:
        refuse_bad_schema(bucket(schema))
    (problem,) = caught.value.problems
    assert (problem.code, problem.where) == ("invalid_schema", {"setting": "schema"})
    assert problem.message == caught.value.message
    assert problem.message.startswith("schema is not a JSON Schema that can be used: ")


@pytest.mark.parametrize("depth", [900, 100_000])
def test_a_schema_too_deep_to_walk_is_refused(depth: int) -> None:
    schema: dict[str, Any] = {}
    for _ in range(depth):
        schema = {"not": schema}
    with pytest.raises(InvalidSettings):
        refuse_bad_schema(bucket(schema))


def test_nothing_is_fetched_for_a_schema(tmp_path: Path) -> None:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        file = tmp_path / "schema.json"
        file.write_text("{}")
        for address in (f"http://127.0.0.1:{server.server_port}/x.json", file.as_uri()):
            for schema in ({"$ref": address}, {"$schema": address}):
                with pytest.raises(InvalidSettings):
                    refuse_bad_schema(bucket(schema))
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert asked == []


def test_a_bucket_without_a_schema_has_no_check() -> None:
    assert schema_check(bucket(None)) is None


def test_true_takes_everything_and_false_nothing() -> None:
    assert violations(True, {"aa": 1}) == []
    assert fields(False, {"aa": 1}) == [None]


SCHEMA = {
    "type": "object",
    "required": ["aa"],
    "properties": {"aa": {"type": "integer", "minimum": 5}, "bb": {"enum": ["x", None]}},
    "additionalProperties": False,
}


def test_a_record_that_satisfies_it_has_no_violations() -> None:
    assert violations(SCHEMA, {"aa": 5, "bb": None}) == []


def test_every_violation_is_named_with_its_field() -> None:
    found = violations(SCHEMA, {"aa": 4, "bb": "y"})
    assert sorted(str(field) for field, _ in found) == ["aa", "bb"]
    assert all(message for _, message in found)


def test_a_violation_of_the_whole_record_has_no_field() -> None:
    assert fields(SCHEMA, {}) == [None]
    assert fields(SCHEMA, {"aa": 5, "cc": 1}) == [None]


@pytest.mark.parametrize(
    ("schema", "value", "fits"),
    [
        ({"type": "integer"}, 2**63 - 1, True),
        ({"type": "integer"}, -(2**63), True),
        ({"type": "integer"}, 1.0, True),
        ({"type": "integer"}, 1.5, False),
        ({"type": "integer"}, True, False),
        ({"type": "string"}, 7, False),
        ({"type": "null"}, None, True),
        ({"maximum": 2**53}, 2**53 + 1, False),
        ({"const": 1}, True, False),
        ({"const": 1}, 1.0, True),
        ({"pattern": "^(a+)+$"}, "a" * 60 + "b", False),
        ({"maxLength": 1}, "😀", True),
    ],
)
def test_values_are_judged_by_json_schemas_own_rules(schema: Any, value: Any, fits: bool) -> None:
    assert (fields({"properties": {"aa": schema}}, {"aa": value}) == []) is fits


def test_the_dialect_is_2020_12_unless_the_schema_says_another() -> None:
    newer = {"properties": {"aa": {"$ref": "#/$defs/any", "type": "string"}}, "$defs": {"any": {}}}
    assert fields(newer, {"aa": 1}) == ["aa"]
    older = {"$schema": "http://json-schema.org/draft-07/schema#", **newer}
    assert fields(older, {"aa": 1}) == []  # until 2019-09 what stood beside $ref was ignored


def test_a_changed_schema_is_another_check() -> None:
    assert fields({"required": ["aa"]}, {"bb": 1}) == [None]
    assert fields({"required": ["bb"]}, {"bb": 1}) == []


def test_checks_may_run_in_many_threads() -> None:
    check = schema_check(bucket(SCHEMA))
    assert check is not None
    wrong: list[Any] = []

    def run() -> None:
        wrong.extend(n for n in range(500) if bool(check({"aa": n})) != (n < 5))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
