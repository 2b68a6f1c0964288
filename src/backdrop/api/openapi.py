"""A table of resources -> the OpenAPI 3.1 document that describes them, all from tables."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from backdrop import __version__
from backdrop.api.body import ENCODINGS
from backdrop.api.encode import JSON
from backdrop.api.idempotency import EXPECTED, KEY, PATTERN, REPLAYED
from backdrop.api.middleware import Cors
from backdrop.api.operations import OPERATIONS, Access, Operation
from backdrop.api.parameters import PARAMETERS
from backdrop.api.routes import Resources, addresses
from backdrop.api.schemas import (
    ADDRESS_PART,
    BUCKET_NAME,
    EMAIL,
    RECORD_ID,
    TOKEN_ID,
    Schema,
    error_schema,
    parameter_schema,
    ref,
    schemas,
)
from backdrop.domain.bucket import NAME_EXPECTED

Json = dict[str, Any]

PLAIN_ADDRESS = "x-plain-address"
"""Marks a path under the bucket's second address: it holds the operation's other path."""

_INTRODUCTION = """\
Flat JSON records go into named buckets, and come back aggregated by a plain query string.

Every error is JSON, `{"status": "error", "message": …, "errors": [{"code": …, "message": …}]}`, \
with all problems at once. A path that is not here is a 404; a method that is not here is a 405, \
whose `Allow` names those that are. OPTIONS answers for every path. Every answer has a \
`Request-Id`, which is in the server's log; one that the client sends is kept."""

_TOKENS: Mapping[Access, tuple[str, str]] = {
    "reader": ("readToken", "A token of the bucket with the scope `read`, where it needs one."),
    "writer": ("writeToken", "A token of the bucket with the scope `write`."),
    "admin": ("adminToken", "The admin token of the deployment."),
}
_ERRORS: Mapping[int, str] = {
    400: "What was sent can't be understood or used: every problem is listed.",
    401: "A token is needed, and none that is known was sent.",
    403: "The token is for something else.",
    404: "There is no such thing.",
    409: "Something else has that place already.",
    413: "The body is past a size limit.",
    415: "A content type, or content encoding, that is not understood.",
    422: "Another request has used this Idempotency-Key.",
    429: "More requests, or queries, than there may be.",
    500: "A fault of the server, with no more than its id.",
    503: "The store does not answer, or not in time.",
    507: "The store's disk takes no more: nothing was stored.",
}
_ANY = (429, 500)
"""What any request may be answered; 429 where the deployment bounds requests a second."""
_PATH_PARAMETERS: Mapping[str, tuple[Schema, str, str]] = {
    "bucket": (BUCKET_NAME, f"The bucket's name: {NAME_EXPECTED}.", "flights"),
    "name": (BUCKET_NAME, f"The bucket's name: {NAME_EXPECTED}.", "flights"),
    "group": (ADDRESS_PART, "The bucket's data_group.", "transport"),
    "type": (ADDRESS_PART, "The bucket's data_type.", "flights"),
    "email": (EMAIL, "The user's e-mail address, percent-encoded.", "someone@example.org"),
    "id": (RECORD_ID, "The record's _id, percent-encoded.", "a-1"),
}
_TOKEN_ID = (TOKEN_ID, "The token's id, as the list of tokens has it.", "0123456789abcdef")


def openapi(resources: Resources, *, title: str) -> Json:
    """The document that describes what is served for the resources.

    Raises KeyError for a resource that no table of operations describes.
    """
    paths: dict[str, Json] = {}
    used: list[Operation] = []
    for pattern, handlers in resources.items():
        for address in map(_template, addresses(pattern)):
            plain = _template(pattern)
            found = {method: OPERATIONS[plain, method] for method in handlers}
            paths[address] = _path(address, plain, found)
            used += found.values()
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": __version__, "description": _INTRODUCTION},
        "servers": [{"url": "/"}],
        "tags": [{"name": name} for name in dict.fromkeys(one.group for one in used)],
        "paths": paths,
        "components": _components(used, paths),
    }


def _template(pattern: str) -> str:
    """`/{bucket:bucket}` -> `/{bucket}`."""
    return re.sub(r":\w+", "", pattern)


# -- operations -------------------------------------------------------------------------------


def _path(address: str, plain: str, operations: Mapping[str, Operation]) -> Json:
    suffix = "" if address == plain else "_at"
    path: Json = {} if address == plain else {PLAIN_ADDRESS: plain}
    path["parameters"] = [_path_parameter(name, address) for name in _names_in(address)]
    for method, operation in operations.items():
        described = _operation(operation, operation.name + suffix)
        path[method.lower()] = described
        if method == "GET":
            head = {**described, "operationId": f"{described['operationId']}_head"}
            head["summary"] = "The headers of GET alone"
            head["responses"] = _without_content(described["responses"])
            path["head"] = head
    allowed = [*operations, *(["HEAD"] if "GET" in operations else []), "OPTIONS"]
    group = next(iter(operations.values())).group
    name = "_".join([*re.findall(r"\w+", address), "options"])
    path["options"] = _options(group, name, allowed, opened="GET" in operations)
    return path


def _names_in(address: str) -> list[str]:
    return re.findall(r"{(\w+)}", address)


def _path_parameter(name: str, address: str) -> Json:
    of_token = name == "id" and "tokens" in address
    schema, description, example = _TOKEN_ID if of_token else _PATH_PARAMETERS[name]
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": description,
        "schema": schema,
        "example": example,
    }


def _operation(operation: Operation, name: str) -> Json:
    described: Json = {
        "operationId": name,
        "tags": [operation.group],
        "summary": operation.summary,
        "description": _description(operation),
    }
    if operation.access == "reader":
        described["parameters"] = [*_query_parameters(), _IF_NONE_MATCH]
    if operation.parameters:
        described["parameters"] = [
            {"name": name, "in": "query", "description": words, "schema": schema}
            for name, (schema, words) in operation.parameters.items()
        ]
    if _is_made_once(operation):
        described["parameters"] = [_IDEMPOTENCY_KEY]
    if operation.access != "anyone":
        needed: list[Json] = [{_TOKENS[operation.access][0]: []}]
        described["security"] = [{}, *needed] if operation.access == "reader" else needed
    if operation.body:
        described["requestBody"] = _body(operation)
    described["responses"] = {
        **{str(status): _answer(operation, status) for status in operation.answers},
        **{str(status): _error_ref(status) for status in sorted({*operation.errors, *_ANY})},
    }
    return described


def _is_made_once(operation: Operation) -> bool:
    return operation.access == "writer" and operation.body is not None


def _description(operation: Operation) -> str:
    shown = [f"- {title}: `?{query}`" for title, query in operation.queries.items()]
    return "\n".join([operation.description, *(["", *shown] if shown else [])])


def _query_parameters() -> Iterator[Json]:
    for parameter in PARAMETERS.values():
        yield {
            "name": parameter.name,
            "in": "query",
            "description": f"{parameter.description} Expected: {parameter.expected}.",
            "schema": parameter_schema(parameter.name),
            "example": [parameter.example] if parameter.repeats else _typed(parameter.example),
        }


def _typed(text: str) -> str | int | bool:
    if text in ("true", "false"):
        return text == "true"
    return int(text) if text.isdecimal() else text


_IF_NONE_MATCH: Json = {
    "name": "If-None-Match",
    "in": "header",
    "description": "ETags of answers that the client has: 304, if one of them is still good.",
    "schema": {"type": "string"},
}


_IDEMPOTENCY_KEY: Json = {
    "name": KEY,
    "in": "header",
    "description": "A name of the client's for this write, such as a UUID. The write is made once: "
    "for 24 hours, the same request under the same key gets the first one's answer again. "
    f"Expected: {EXPECTED}.",
    "schema": {"type": "string", "pattern": PATTERN},
    "example": '"8e03978e-40d5-43e8-bc93-6894a57f9324"',
}


def _body(operation: Operation) -> Json:
    packed = " or ".join(name for name in ENCODINGS if name != "identity")
    examples = {name: {"value": value} for name, value in operation.body_examples.items()}
    return {
        "required": operation.access == "writer" or operation.body == "TokenWish",
        "description": f"JSON in UTF-8. It may be packed, with Content-Encoding {packed}.",
        "content": {JSON: {"schema": ref(operation.body or ""), "examples": examples}},
    }


# -- answers ----------------------------------------------------------------------------------

_ANSWERS: Mapping[int, str] = {
    200: "Done.",
    201: "Made. A token, where there is one, is shown this once.",
    304: "What the client has is still good.",
}


def _answer(operation: Operation, status: int) -> Json:
    answer: Json = {"description": _ANSWERS[status], "headers": _headers(operation, status)}
    content = {
        media_type: {"schema": ref(schema) if schema else {"type": "string"}}
        for media_type, schema in operation.answers[status].items()
    }
    return answer | ({"content": content} if content else {})


def _headers(operation: Operation, status: int) -> Json:
    headers = {"Request-Id": _header("The request's id, as in the log.")}
    if operation.access == "reader":
        cached = "How long the answer may be kept: 1800 seconds; 120 where the bucket is realtime."
        etag = "Of this answer: it changes with every write, every setting and every parameter."
        headers["ETag"] = _header(etag, required=status == 304)
        headers["Cache-Control"] = _header(cached)
        headers["Access-Control-Allow-Origin"] = _header("Pages of any origin may read.")
    if _is_made_once(operation):
        for name, value in REPLAYED.items():
            told = f"{value}, where the answer is that of an earlier request of the same key."
            headers[name] = _header(told, required=False)
    if any(schema.startswith("New") for schema in operation.answers[status].values()):
        headers["Cache-Control"] = _header("no-store: the answer holds a token.")
    return headers


def _header(description: str, *, required: bool = True) -> Json:
    return {"description": description, "required": required, "schema": {"type": "string"}}


def _error_ref(status: int) -> Json:
    return {"$ref": f"#/components/responses/{status}"}


def _error(status: int) -> Json:
    headers = {
        "Request-Id": _header("The request's id, as in the log."),
        "Cache-Control": _header("no-cache."),
    }
    if status == 401:
        headers["WWW-Authenticate"] = _header("Bearer.")
    if status in (429, 503, 507):
        headers["Retry-After"] = _header("Seconds after which to try again.")
    content = {JSON: {"schema": error_schema(status)}}
    return {"description": _ERRORS[status], "headers": headers, "content": content}


def _without_content(responses: Json) -> Json:
    """The same answers without bodies. Those of errors are written out without theirs."""
    bare = {}
    for status, response in responses.items():
        whole = _error(int(status)) if "$ref" in response else response
        bare[status] = {key: value for key, value in whole.items() if key != "content"}
    return bare


def _options(group: str, name: str, allowed: list[str], *, opened: bool) -> Json:
    headers = {
        "Request-Id": _header("The request's id, as in the log."),
        "Allow": _header(f"{', '.join(sorted(allowed))}."),
    }
    if opened:
        for key, text in (*Cors.ANSWER, *Cors.PREFLIGHT):
            told = f"{text.decode()}. On the read API."
            headers[key.decode().title()] = _header(told, required=False)
    return {
        "operationId": name,
        "tags": [group],
        "summary": "The methods that there are",
        "responses": {
            "204": {"description": "Nothing but headers.", "headers": headers},
            "404": _error_ref(404),
            **{str(status): _error_ref(status) for status in _ANY},
        },
    }


# -- what operations refer to -----------------------------------------------------------------


def _components(used: list[Operation], paths: Json) -> Json:
    statuses = sorted({status for one in used for status in one.errors} | {404, *_ANY})
    responses = {str(status): _error(status) for status in statuses}
    known, needed = schemas(), _named_in([paths, responses])
    while more := _named_in([known[name] for name in needed]) - needed:
        needed |= more
    tokens = {one.access for one in used}
    return {
        "schemas": {name: schema for name, schema in known.items() if name in needed},
        "responses": responses,
        "securitySchemes": {
            name: {"type": "http", "scheme": "bearer", "description": description}
            for access, (name, description) in _TOKENS.items()
            if access in tokens
        },
    }


def _named_in(part: object) -> set[str]:
    """The names of the schemas that a part of a document refers to."""
    if isinstance(part, list):
        return set().union(*map(_named_in, part))
    if not isinstance(part, dict):
        return set()
    named = _named_in(list(part.values()))
    target = part.get("$ref")
    if isinstance(target, str) and target.startswith(ref("")["$ref"]):
        named.add(target.removeprefix(ref("")["$ref"]))
    return named
