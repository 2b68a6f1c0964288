"""What an API says of itself is whole, and what it shows works."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from typing import Any
from urllib.parse import parse_qsl

import jsonschema_rs
import pytest
from starlette.testclient import TestClient

from backdrop.api.parameters import PARAMETERS
from backdrop.asgi import Apis, create_app
from backdrop.demo import fill
from backdrop.domain.bucket import SETTINGS
from backdrop.errors import CODES
from backdrop.storage.memory import MemoryStorage
from tests.api.conftest import Desk, bearer

APIS: list[Apis] = ["both", "read", "write"]


def document_of(client: TestClient) -> dict[str, Any]:
    answer = client.get("/_openapi.json")
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize("apis", APIS)
def test_every_path_and_method_is_described_and_no_other(desk: Desk, apis: Apis) -> None:
    """`Allow` is made of what is served."""
    client = desk.clients(apis=apis)
    for path, methods in document_of(client)["paths"].items():
        sent = path.replace("{id}", "a" * 16).replace("{", "").replace("}", "")
        allowed = client.options(sent).headers["Allow"].split(", ")
        described = [method.upper() for method in methods if method in _METHODS]
        assert sorted(described) == allowed, path


_METHODS = ("get", "put", "post", "delete", "options", "head", "patch")


@pytest.mark.parametrize("apis", APIS)
def test_references_lead_somewhere_and_schemas_are_schemas(desk: Desk, apis: Apis) -> None:
    document = document_of(desk.clients(apis=apis))
    components = document["components"]
    for schema in components["schemas"].values():
        jsonschema_rs.meta.validate(schema)
    named = set(re.findall(r'"#/components/(\w+)/(\w+)"', str(document).replace("'", '"')))
    kinds = ("schemas", "responses")
    assert named == {(kind, name) for kind in kinds for name in components[kind]}


def test_every_parameter_setting_and_code_is_in_the_document_and_on_the_page(desk: Desk) -> None:
    document, page = document_of(desk.client), desk.client.get("/_docs").text
    parameters = {one["name"] for one in document["paths"]["/{bucket}"]["get"]["parameters"]}
    assert parameters - {"If-None-Match"} == set(PARAMETERS)
    assert set(document["components"]["schemas"]["Bucket"]["properties"]) == {"name", *SETTINGS}
    for name in (*PARAMETERS, *SETTINGS, *CODES):
        assert f"<code>{name}</code>" in page, name


def test_operations_have_names_of_their_own(desk: Desk) -> None:
    paths = document_of(desk.client)["paths"]
    names = [
        paths[path][method]["operationId"]
        for path in paths
        for method in paths[path]
        if method in _METHODS
    ]
    assert len(set(names)) == len(names)


def test_the_queries_and_bodies_that_are_shown_work() -> None:
    admin_token = secrets.token_urlsafe(16)
    storage = MemoryStorage()
    fill(storage, test_token=secrets.token_urlsafe(16))
    app = create_app(storage, admin_token=admin_token, observe=lambda _: None)
    client = TestClient(app)
    document = document_of(client)
    queries = re.findall(r"`\?([^`]+)`", document["paths"]["/{bucket}"]["get"]["description"])
    assert len(queries) > 3
    for query in queries:
        answer = client.get("/flights", params=parse_qsl(query))
        assert answer.status_code == 200, answer.text
    made = client.put("/_buckets/new", headers=bearer(admin_token))
    tokens = {"adminToken": admin_token, "writeToken": made.json()["token"]}
    for method, path, operation in _operations_with_bodies(document):
        sent = path.format(bucket="new", name="new", id="a-1", email="someone@example.org")
        [scheme] = operation["security"][0]
        examples = operation["requestBody"]["content"]["application/json"]["examples"]
        for example in examples.values():
            client.post("/new", headers=bearer(tokens["writeToken"]), json={"_id": "a-1"})
            headers = bearer(tokens[scheme])
            answer = client.request(method, sent, headers=headers, json=example["value"])
            assert answer.is_success, (method, path, answer.text)


def _operations_with_bodies(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Method, path and operation, at the plain addresses."""
    found = [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if method in _METHODS and "requestBody" in operation and not path.startswith("/data/")
    ]
    assert found
    return found


@pytest.mark.parametrize("apis", APIS)
def test_the_page_needs_nothing_from_elsewhere(desk: Desk, apis: Apis) -> None:
    """No script, and no address but of itself and the document; its style is the one allowed."""
    answer = desk.clients(apis=apis).get("/_docs")
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    page, policy = answer.text, answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    [style] = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in policy
    assert not re.search(r"<script|<link|<img|\ssrc=|\son\w+=|\sstyle=|url\(|@import", page)
    links = set(re.findall(r'href="([^"]+)"', page))
    anchors = {f"#{name}" for name in re.findall(r'id="([^"]+)"', page)}
    assert links - anchors == {"_openapi.json"}
    assert (answer.headers.get("Access-Control-Allow-Origin") == "*") == (apis != "write")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_has_enough_contrast(scheme: str, desk: Desk) -> None:
    """WCAG 2.2 AA: 4.5 to 1 for each colour of text on each ground."""
    blocks = re.findall(r":root \{(.*?)\}", desk.client.get("/_docs").text, re.DOTALL)
    block = blocks[0 if scheme == "light" else 1]
    colours = dict(re.findall(r"--(\w+): (#\w+);", block))
    for text in ("ink", "faint", "link"):
        for ground in ("paper", "band"):
            lighter, darker = sorted((_luminance(colours[text]), _luminance(colours[ground])))[::-1]
            assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (text, ground)


def _luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(digit * 2 for digit in colour[1:])
    parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
