"""What stands in requests and answers, as JSON Schemas (2020-12): the `schemas` of OpenAPI.

Names, defaults and words come from the tables that parse; here is only what those can't say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from backdrop.api.errors import CODE_STATUSES
from backdrop.api.parameters import FORMATS, PARAMETERS
from backdrop.domain.audit import ACTIONS
from backdrop.domain.bucket import SETTINGS, Bucket
from backdrop.domain.period import PERIOD_NAMES
from backdrop.domain.query import METHODS
from backdrop.domain.times import EXPECTED as TIME_EXPECTED
from backdrop.domain.token import MOST_LABEL_CHARACTERS, SCOPES
from backdrop.domain.user import MOST_EMAIL_CHARACTERS
from backdrop.domain.values import (
    FIELD_EXPECTED,
    INT64_MAX,
    INT64_MIN,
    MOST_ID_CHARACTERS,
    RESERVED_FIELDS,
    TIME_FIELDS,
)
from backdrop.errors import CODES, MOST_PROBLEMS_LISTED

Schema: TypeAlias = dict[str, Any]

_OPEN_FIELD = "[A-Za-z][A-Za-z0-9_]{1,63}"
_TIME_FIELD = "|".join(sorted(TIME_FIELDS))
_FIELD = f"(?:{_OPEN_FIELD}|{'|'.join(sorted(RESERVED_FIELDS))})"
_CLOCK = "(?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:[.][0-9]{1,9})?)?"
_DATE = "[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
_TIME = f"{_DATE}(?:[T ]{_CLOCK}(?:Z|[+-](?:[01][0-9]|2[0-3]):?[0-5][0-9])?)?"
_QUERY_TIME = _TIME.replace("[+-]", "[+ -]")  # a plus sign that was not encoded arrives as a blank
_ADDRESS_PART = "[A-Za-z0-9][A-Za-z0-9_-]{0,63}"

BUCKET_NAME: Schema = {
    "type": "string",
    "pattern": "^[a-z][a-z0-9_-]{1,63}$",
    "not": {"const": "data"},
}
ADDRESS_PART: Schema = {"type": "string", "pattern": f"^{_ADDRESS_PART}$"}
TOKEN_ID: Schema = {"type": "string", "pattern": "^[0-9a-f]{16}$"}
EMAIL: Schema = {
    "type": "string",
    "maxLength": MOST_EMAIL_CHARACTERS,
    "pattern": r"^[^@\s\x00-\x20\x7f]+@[^@\s\x00-\x20\x7f]+$",
}
RECORD_ID: Schema = {
    "type": "string",
    "minLength": 1,
    "maxLength": MOST_ID_CHARACTERS,
    "pattern": r"^[^\s]+$",
    "description": f"1 to {MOST_ID_CHARACTERS} characters, no white space.",
}

_FLAG: Schema = {"type": "boolean"}
_INSTANT: Schema = {"type": "string", "format": "date-time", "description": "In UTC."}
_SECONDS: Schema = {"type": "integer", "minimum": 1, "maximum": 2**53 - 1}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _matching(pattern: str) -> Schema:
    return {"type": "string", "pattern": f"^{pattern}$"}


def _or_null(schema: Schema) -> Schema:
    return {**schema, "type": [schema["type"], "null"]}


def _object(properties: Mapping[str, Schema], **more: Any) -> Schema:
    """An object that has all of these properties and no other, unless `more` says so."""
    closed = {"required": list(properties), "additionalProperties": False}
    return {"type": "object", "properties": dict(properties), **closed, **more}


# -- parameters of a GET ----------------------------------------------------------------------

_PARAMETER_SCHEMAS: Mapping[str, Schema] = {
    "start_at": _matching(_QUERY_TIME),
    "end_at": _matching(_QUERY_TIME),
    "duration": {"type": "integer", "minimum": 1},
    "inclusive": _FLAG,
    "period": {"type": "string", "enum": list(PERIOD_NAMES)},
    "timezone": _matching("[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+)*"),
    "group_by": _matching(_OPEN_FIELD),
    "collect": _matching(f"{_OPEN_FIELD}(?::(?:{'|'.join(METHODS)}))?"),
    "filter_by": {
        "type": "string",
        "pattern": f"^(?:(?:{_OPEN_FIELD}|_id):|(?:{_TIME_FIELD}):{_QUERY_TIME}$)",
    },
    "filter_by_prefix": {"type": "string", "pattern": f"^(?:{_OPEN_FIELD}|_id):"},
    "sort_by": {"type": "string", "pattern": ":(?:ascending|descending)$"},
    "limit": {"type": "integer", "minimum": 1},
    "flatten": _FLAG,
    "format": {"type": "string", "enum": list(FORMATS), "default": FORMATS[0]},
}


def parameter_schema(name: str) -> Schema:
    """What the parameter's values are: a list, where it may repeat."""
    schema = _PARAMETER_SCHEMAS[name]
    return {"type": "array", "items": schema} if PARAMETERS[name].repeats else schema


# -- settings of a bucket ---------------------------------------------------------------------

_ADDRESS_HALF = "Half of a second address, /data/{data_group}/{data_type}, unique as a pair."
_SETTINGS: Mapping[str, tuple[Schema, str]] = {
    "description": ({"type": "string", "maxLength": 10_000}, "Free text."),
    "data_group": (_or_null(ADDRESS_PART), _ADDRESS_HALF),
    "data_type": (_or_null(ADDRESS_PART), _ADDRESS_HALF),
    "raw_queries_allowed": (_FLAG, "Whether the public may read single records."),
    "published": (_FLAG, "false: answers carry a warning and are not cached."),
    "queryable": (_FLAG, "false: the read API answers 404."),
    "read_token_required": (_FLAG, "true: reading needs a token with the scope read."),
    "realtime": (_FLAG, "true: answers may be cached for 120 seconds, not 1800."),
    "auto_ids": (
        {
            "type": "array",
            "uniqueItems": True,
            "items": _matching(f"(?:{_OPEN_FIELD}|{_TIME_FIELD})"),
        },
        "The fields that make the _id of a record.",
    ),
    "schema": (
        {"type": ["object", "boolean", "null"]},
        "A JSON Schema (2020-12, unless it says another) that each record must satisfy.",
    ),
    "max_age_expected": (
        _or_null(_SECONDS),
        "Seconds after the last write from which on the bucket is out of date.",
    ),
    "timezone": (
        _PARAMETER_SCHEMAS["timezone"],
        "Whose days, weeks and months they are, where a query does not say.",
    ),
    "csv_types": (
        {"type": "string", "enum": ["auto", "text"]},
        "How cells of uploaded CSV become values: text leaves them as they are.",
    ),
}


def _settings() -> dict[str, Schema]:
    defaults = Bucket(name="any").as_json()
    return {
        name: {
            **_SETTINGS[name][0],
            "default": defaults[name],
            "description": f"{_SETTINGS[name][1]} Expected: {expected}.",
        }
        for name, (_, expected) in SETTINGS.items()
    }


_TOGETHER = {"data_group": ["data_type"], "data_type": ["data_group"]}
_TOKEN_TEXT: Schema = {"type": "string", "pattern": "^[!-~]{8,200}$"}


# -- records and rows -------------------------------------------------------------------------


def _record(description: str, *, times: Schema, **more: Any) -> Schema:
    known = {"_id": RECORD_ID, **dict.fromkeys(sorted(TIME_FIELDS), times)}
    return {
        "type": "object",
        "description": description,
        "properties": known,
        "propertyNames": {"pattern": f"^{_FIELD}$"},
        "additionalProperties": ref("Value"),
        **more,
    }


_COUNT: Schema = {"type": "integer", "minimum": 0}
_ROW: Mapping[str, Schema] = {"_count": _COUNT, "_start_at": _INSTANT, "_end_at": _INSTANT}
_COLLECTED = {"additionalProperties": ref("Collected")}


def _error() -> Schema:
    where: dict[str, Schema] = {
        **{name: {"type": "string"} for name in ("parameter", "setting", "field")},
        **{name: {"type": "integer", "minimum": 0} for name in ("index", "line", "column")},
    }
    texts: dict[str, Schema] = {
        "code": {
            "type": "string",
            "oneOf": [{"const": code, "description": CODES[code]} for code in CODES],
        },
        "message": {"type": "string"},
    }
    problem = _object({**texts, **where}, required=list(texts))
    top: dict[str, Schema] = {
        "status": {"const": "error"},
        "message": {"type": "string", "description": "One sentence for a person."},
        "errors": {
            "type": "array",
            "minItems": 1,
            "maxItems": MOST_PROBLEMS_LISTED,
            "items": problem,
            "description": "Each thing that is wrong: a stable code, and where it is.",
        },
        "error_count": {
            "type": "integer",
            "minimum": 1,
            "description": "Of records: how many problems there are, listed or not.",
        },
        "request_id": {"type": "string", "description": "Of a fault of the server: see its log."},
    }
    return _object(top, required=["status", "message", "errors"])


def error_schema(status: int) -> Schema:
    """An error answer of that status, which holds only its codes."""
    codes = [code for code, known in CODE_STATUSES.items() if known == status]
    one_of = {"properties": {"code": {"enum": codes}}}
    return {"allOf": [ref("Error"), {"properties": {"errors": {"items": one_of}}}]}


# -- all of them ------------------------------------------------------------------------------


def _ok(status: Schema, **properties: Schema) -> Schema:
    return _object({"status": status, **properties})


_OK: Schema = {"const": "ok"}


def _tokens() -> dict[str, Schema]:
    label: Schema = {"type": "string", "maxLength": MOST_LABEL_CHARACTERS}
    scope: Schema = {"type": "string", "enum": list(SCOPES)}
    known: dict[str, Schema] = {
        "id": TOKEN_ID,
        "scope": scope,
        "label": label,
        "created_at": _INSTANT,
        "expires_at": _or_null(_INSTANT),
    }
    token = _object({**known, "last_used_at": _or_null(_INSTANT)})
    expiry: Schema = {
        **_or_null(_matching(_TIME)),
        "description": "A time in the future, or null for no end.",
    }
    wished = {"scope": scope, "label": {**label, "default": ""}, "expires_at": expiry}
    return {
        "Token": token,
        "Tokens": _object({"tokens": {"type": "array", "items": ref("Token")}}),
        "NewToken": _object({"token": _TOKEN_TEXT, **known}),
        "TokenWish": _object(wished, required=["scope"]),
    }


def _buckets() -> dict[str, Schema]:
    settings = _settings()
    named: dict[str, Schema] = {
        "name": {**BUCKET_NAME, "description": "The path's, if it is given."},
        **settings,
    }
    token: Schema = {
        **_or_null(_TOKEN_TEXT),
        "description": "On creation only: the first write token, if the server is not to make it.",
    }
    return {
        "Bucket": _object(named),
        "Buckets": _object({"buckets": {"type": "array", "items": ref("Bucket")}}),
        "NewBucket": _object({**named, "token": _TOKEN_TEXT}),
        "Settings": _object({**named, "token": token}, required=[], dependentRequired=_TOGETHER),
        "SettingsChange": _object(named, required=[]),
    }


def _users() -> dict[str, Schema]:
    names = {"type": "array", "items": BUCKET_NAME}
    allowed: dict[str, Schema] = {
        "buckets": {**names, "default": [], "description": "The buckets that are the user's."},
        "admin": {**_FLAG, "default": False, "description": "true: every bucket is."},
    }
    email = {**EMAIL, "description": "In lower case."}
    given = {**EMAIL, "description": "The path's, if it is given."}
    return {
        "User": _object({"email": email, **allowed}),
        "Users": _object({"users": {"type": "array", "items": ref("User")}}),
        "UserWish": _object({"email": given, **allowed}, required=[]),
    }


def _audit() -> dict[str, Schema]:
    entry: dict[str, Schema] = {
        "id": {"type": "string"},
        "at": _INSTANT,
        "by": {
            "type": "string",
            "pattern": "^(?:admin$|host$|token:|user:)",
            "description": "admin, host, token: and a token's id, or user: and an e-mail address.",
        },
        "action": {"type": "string", "enum": list(ACTIONS)},
        "bucket": _or_null(BUCKET_NAME),
        "records": {**_or_null(_COUNT), "description": "How many were sent, if any."},
        "details": {"type": "object"},
    }
    entries: Schema = {"type": "array", "items": _object(entry)}
    return {"Audit": _object({"entries": entries})}


def _answers() -> dict[str, Schema]:
    late = _object(
        {
            "name": BUCKET_NAME,
            "seconds-out-of-date": _COUNT,
            "last-updated": _INSTANT,
            "max-age-expected": _SECONDS,
        }
    )
    text: Schema = {"type": "string"}
    status: Schema = {"type": "string", "enum": ["ok", "not okay"]}
    rows: Schema = {"type": "array", "items": ref("Row")}
    nested = {"_count": _COUNT, "_group_count": _COUNT, "values": rows}
    row = {"anyOf": [ref("StoredRecord"), ref("Group"), ref("Row")]}
    data = {"warning": text, "data": {"type": "array", "items": row}}
    return {
        "Row": {"type": "object", "properties": dict(_ROW), "required": ["_count"], **_COLLECTED},
        "Group": _object(nested, **_COLLECTED),
        "Data": _object(data, required=["data"]),
        "Done": _ok(_OK),
        "Receipt": _ok(_OK, records=_COUNT),
        "Status": _ok(_OK, message=text),
        "BucketsStatus": _ok(status, message=text, buckets={"type": "array", "items": late}),
    }


def schemas() -> dict[str, Schema]:
    """Every schema that the documents refer to, by its name."""
    number: Schema = {"type": "integer", "minimum": INT64_MIN, "maximum": INT64_MAX}
    scalars: list[Schema] = [{"type": ["string", "boolean", "null"]}, number, {"type": "number"}]
    value: Schema = {"anyOf": scalars}
    time: Schema = {**_matching(_TIME), "description": f"Expected: {TIME_EXPECTED}."}
    fields = f"A field's name is {FIELD_EXPECTED}; those that begin with _ are reserved."
    posted = _record(f"At least one field. {fields}", times=time, minProperties=1)
    stored = _record("A record as it was sent, with its _id.", times=_INSTANT, required=["_id"])
    return {
        "Value": value,
        "Collected": {"anyOf": [ref("Value"), {"type": "array", "items": ref("Value")}]},
        "Record": posted,
        "Records": {"anyOf": [ref("Record"), {"type": "array", "items": ref("Record")}]},
        "StoredRecord": stored,
        **_answers(),
        **_buckets(),
        **_tokens(),
        **_audit(),
        **_users(),
        "Error": _error(),
        "OpenApi": {"type": "object", "required": ["openapi", "info", "paths", "components"]},
    }
