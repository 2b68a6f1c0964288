"""An OpenAPI document -> a page of HTML for people, which needs nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from importlib.resources import files
from itertools import groupby
from typing import Any

import msgspec

from backdrop.api.openapi import PLAIN_ADDRESS

Json = Mapping[str, Any]

_STYLE = files("backdrop.api").joinpath("reference.css")


def content_security_policy(style: str) -> str:
    """What lets the page use its own style, and nothing else at all."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    own = f"default-src 'none'; style-src 'sha256-{digest}'"
    return f"{own}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def page_style() -> str:
    return _STYLE.read_text(encoding="utf-8")


def reference_page(document: Json, *, style: str) -> bytes:
    """The page of reference: each operation, what it takes and answers, by its group."""
    operations = list(_operations(document))
    title = escape(document["info"]["title"])
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}: reference</title><style>{style}</style></head><body>",
        '<a class="skip" href="#main">To the reference</a><div class="page">',
        f"<header><h1>{title}</h1>{_paragraphs(document['info']['description'])}",
        f'<p class="faint">Version {escape(document["info"]["version"])}. For programs: ',
        '<a href="_openapi.json">this page as OpenAPI</a>.</p></header>',
        f'<nav aria-label="Contents">{_contents(operations)}</nav>',
        f'<main id="main">{"".join(_sections(operations, document))}</main>',
        "</div></body></html>",
    ]
    return "".join(parts).encode()


# -- the document, as a page goes through it --------------------------------------------------


def _operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    """Method, path and operation of all that is worth reading, by group.

    HEAD and OPTIONS are alike everywhere, and what is under a second address has another.
    """
    order = {tag["name"]: place for place, tag in enumerate(document["tags"])}
    found = [
        (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        if PLAIN_ADDRESS not in methods
        for method, operation in methods.items()
        if method not in ("parameters", "head", "options")
    ]
    yield from sorted(found, key=lambda one: order[_group(one)])


def _group(one: tuple[str, str, Json]) -> str:
    group: str = one[2]["tags"][0]
    return group


def _resolved(thing: Json, document: Json) -> Json:
    """What a `$ref` names, or the thing itself."""
    if "$ref" not in thing:
        return thing
    found: Json = document
    for step in thing["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    return found


# -- its parts --------------------------------------------------------------------------------


def _contents(operations: Iterable[tuple[str, str, Json]]) -> str:
    groups = []
    for group, members in groupby(operations, _group):
        links = "".join(_link(one[2]["operationId"], one[2]["summary"]) for one in members)
        groups.append(f'<li><a href="#{_anchor(group)}">{escape(group)}</a><ul>{links}</ul></li>')
    more = _link("answers-in-json", "Answers and bodies") + _link("codes", "Error codes")
    return f"<ul>{''.join(groups)}{more}</ul>"


def _link(name: str, text: str) -> str:
    return f'<li><a href="#{_anchor(name)}">{escape(text)}</a></li>'


def _anchor(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower())


def _sections(operations: Iterable[tuple[str, str, Json]], document: Json) -> Iterator[str]:
    for group, members in groupby(operations, _group):
        shown = "".join(_operation(*one, document) for one in members)
        yield f'<section><h2 id="{_anchor(group)}">{escape(group)}</h2>{shown}</section>'
    yield f'<section><h2 id="answers-in-json">Answers and bodies</h2>{_schemas(document)}</section>'
    yield f'<section><h2 id="codes">Error codes</h2>{_codes(document)}</section>'


def _operation(method: str, path: str, operation: Json, document: Json) -> str:
    name = _anchor(operation["operationId"])
    also = [other for other, one in document["paths"].items() if one.get(PLAIN_ADDRESS) == path]
    parts = [
        f'<article><h3 id="{name}"><span class="method">{method}</span>{_code(path)}</h3>',
        f"<p>{escape(operation['summary'])}.</p>{_paragraphs(operation['description'])}",
        *(f'<p class="faint">Also: {_code(other)}</p>' for other in also),
        f'<p class="faint">{_access(operation, document)}</p>',
        _parameters(operation),
        _body(operation),
        _answers(operation, document),
        "</article>",
    ]
    return "".join(parts)


def _access(operation: Json, document: Json) -> str:
    names = [name for one in operation.get("security", []) for name in one]
    if not names:
        return "For anyone."
    schemes = document["components"]["securitySchemes"]
    told = " ".join(schemes[name]["description"] for name in names)
    return f"Authorization: {_inline(told)}"


def _parameters(operation: Json) -> str:
    rows = []
    for parameter in operation.get("parameters", []):
        name, schema = parameter["name"], parameter["schema"]
        kind = "may repeat" if schema["type"] == "array" else schema["type"]
        kind = kind if parameter["in"] == "query" else "header"
        told = _inline(parameter["description"])
        if "example" in parameter:
            example = f"{name}={_example_text(parameter['example'])}"
            told += f" Example: {_code(example)}"
        rows.append((f'{_code(name)} <span class="faint">{kind}</span>', told))
    return f"<h4>Parameters</h4>{_terms(rows)}" if rows else ""


def _example_text(example: object) -> str:
    value = example[0] if isinstance(example, list) else example
    return str(value).lower() if isinstance(value, bool) else str(value)


def _body(operation: Json) -> str:
    if "requestBody" not in operation:
        return ""
    body = operation["requestBody"]
    parts = [f"<h4>Body</h4><p>{_inline(body['description'])}"]
    for content in body["content"].values():
        parts.append(f" {_schema_link(content['schema'])}</p>")
        parts += [_json(example["value"]) for example in content["examples"].values()]
    return "".join(parts)


def _answers(operation: Json, document: Json) -> str:
    rows = []
    for status, answer in operation["responses"].items():
        response = _resolved(answer, document)
        told = _inline(response["description"])
        if "$ref" not in answer:
            content = response.get("content", {})
            told += "".join(
                f" {_code(kind.split(';')[0])} {_schema_link(one['schema'])}"
                for kind, one in content.items()
            )
        rows.append((_code(status), told))
    statuses = ", ".join(operation["responses"])
    return f"<details><summary>Answers: {statuses}</summary>{_terms(rows)}</details>"


def _schema_link(schema: Json) -> str:
    if "$ref" not in schema:
        return ""
    name = schema["$ref"].rpartition("/")[2]
    return f'<a href="#{_anchor(f"schema {name}")}">{escape(name)}</a>'


def _schemas(document: Json) -> str:
    parts = []
    for name, schema in document["components"]["schemas"].items():
        parts.append(f'<h3 id="{_anchor(f"schema {name}")}">{_code(name)}</h3>')
        parts.append(f"<p>{_property(schema)}</p>")
        if properties := schema.get("properties"):
            rows = [(_code(key), _property(one)) for key, one in properties.items()]
            parts.append(_terms(rows))
    return "".join(parts)


def _property(schema: Json) -> str:
    told = [_kind(schema)]
    if "default" in schema:
        told.append(f"Default {_code(_compact(schema['default']))}.")
    if "description" in schema:
        told.append(_inline(schema["description"]))
    return " ".join(told)


def _kind(schema: Json) -> str:
    """What a schema allows, in a few words."""
    if "$ref" in schema:
        return _schema_link(schema)
    if "const" in schema:
        return f"{_code(_compact(schema['const']))}."
    if "enum" in schema:
        return f"{' or '.join(_code(_compact(value)) for value in schema['enum'])}."
    if "anyOf" in schema:
        return " or ".join(_kind(one).rstrip(".") for one in schema["anyOf"]) + "."
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    told = " or ".join(types)
    if "items" in schema:
        told += f" of {_kind(schema['items']).rstrip('.')}"
    if "pattern" in schema and "description" not in schema:
        told += f" like {_code(schema['pattern'])}"
    return f"{told}."


def _codes(document: Json) -> str:
    error = document["components"]["schemas"]["Error"]
    codes = error["properties"]["errors"]["items"]["properties"]["code"]["oneOf"]
    return _terms((_code(one["const"]), _inline(one["description"])) for one in codes)


# -- pieces of HTML ---------------------------------------------------------------------------


def _terms(rows: Iterable[tuple[str, str]]) -> str:
    shown = "".join(f"<div><dt>{term}</dt><dd>{told}</dd></div>" for term, told in rows)
    return f"<dl>{shown}</dl>"


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"


def _compact(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _json(value: object) -> str:
    shown = msgspec.json.format(msgspec.json.encode(value), indent=1).decode()
    return f'<pre tabindex="0">{_code(shown)}</pre>'


def _inline(text: str) -> str:
    """Text with `code` in it."""
    return re.sub(r"`([^`]+)`", lambda found: f"<code>{found[1]}</code>", escape(text))


def _paragraphs(text: str) -> str:
    """Paragraphs, and lists of lines that begin with a dash."""
    parts = []
    for block in text.split("\n\n"):
        lines = block.split("\n")
        items = [line.removeprefix("- ") for line in lines if line.startswith("- ")]
        if items:
            shown = "".join(f"<li>{_inline(item)}</li>" for item in items)
            parts.append(f"<ul>{shown}</ul>")
        else:
            parts.append(f"<p>{_inline(block)}</p>")
    return "".join(parts)
