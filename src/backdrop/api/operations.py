"""What documents say of each operation: a table beside those of the resources, with their keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from backdrop.api.audit_app import PARAMETERS as AUDIT_PARAMETERS
from backdrop.api.backup_app import BACKUP_TYPE
from backdrop.api.encode import CSV, JSON
from backdrop.api.schemas import Schema
from backdrop.observe import METRICS_TYPE

Access: TypeAlias = Literal["anyone", "reader", "writer", "admin"]
"""Whom the operation is for. A reader needs a token where the bucket says so; a writer always."""

HTML = "text/html"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path. `answers` are the good ones: status -> media type -> schema."""

    name: str
    group: str
    summary: str
    description: str
    access: Access = "anyone"
    body: str | None = None
    body_examples: Mapping[str, object] = field(default_factory=dict)
    queries: Mapping[str, str] = field(default_factory=dict)
    """Query strings that work on the flights of the demo: what they ask -> the string."""
    parameters: Mapping[str, tuple[Schema, str]] = field(default_factory=dict)
    """Of the query, where it does not read a bucket: name -> what it takes, in words too."""
    answers: Mapping[int, Mapping[str, str]]
    errors: tuple[int, ...] = ()


_READING = (400, 401, 403, 404, 503)
_WRITING = (400, 401, 403, 404, 413, 415, 422, 503, 507)
_SETTING = (400, 401, 403, 404, 409, 413, 415, 503, 507)
_FLIGHT = {
    "_timestamp": "2013-01-01T10:15:00Z",
    "carrier": "UA",
    "flight": 1545,
    "origin": "EWR",
    "dep_delay": 2.0,
    "cancelled": False,
}

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("/{bucket}", "GET"): Operation(
        name="read",
        group="Reading",
        summary="Records of a bucket, or groups of them",
        description="Without `period` and `group_by`: the records, by time. With `period`: a row "
        "for each period. With `group_by`: a group for each combination of values. With both: "
        "groups that hold their periods, or one flat list. Parameters depend on each other as "
        "they say, and all problems are listed at once. Where `raw_queries_allowed` is false a "
        "query must group, and a range given by both ends must span at least 7 days and begin "
        "and end at midnight (with `period=week` on Mondays, with `period=month` on the "
        "first).",
        access="reader",
        queries={
            "Flights in each month": "period=month",
            "Mean delay by airport": "group_by=origin&collect=dep_delay:mean",
            "Weeks of one carrier, by airport": "period=week&group_by=origin&filter_by=carrier:UA"
            "&start_at=2013-07-01&end_at=2013-07-15",
            "The three days to the end of June, in New York's days": "period=day&duration=3"
            "&end_at=2013-07-01&timezone=America/New_York",
            "Five records": "sort_by=arr_delay:descending&limit=5",
            "A table": "group_by=carrier&sort_by=_count:descending&format=csv",
        },
        answers={200: {JSON: "Data", CSV: ""}, 304: {}},
        errors=_READING,
    ),
    ("/{bucket}", "POST"): Operation(
        name="store",
        group="Writing",
        summary="Store one record, or a batch",
        description="All or nothing: if any record is bad, nothing is stored, and the answer lists "
        "the problems of all. A record whose `_id` exists replaces that record. The answer comes "
        "once the data is durable.",
        access="writer",
        body="Records",
        body_examples={"one": _FLIGHT, "batch": [{"_id": "a-1", "fee": 12.5}]},
        answers={200: {JSON: "Receipt"}},
        errors=_WRITING,
    ),
    ("/{bucket}", "PUT"): Operation(
        name="replace",
        group="Writing",
        summary="Replace all of a bucket's records",
        description="In one step, for every reader. An empty array empties the bucket.",
        access="writer",
        body="Records",
        body_examples={"batch": [{"_id": "a-1", "fee": 12.5}], "nothing": []},
        answers={200: {JSON: "Receipt"}},
        errors=_WRITING,
    ),
    ("/{bucket}/{id}", "PATCH"): Operation(
        name="change",
        group="Writing",
        summary="Merge fields into one record",
        description="Under the checks of a new record; null is stored, and the `_id` can't change. "
        "The id is percent-encoded, and may hold slashes.",
        access="writer",
        body="Record",
        body_examples={"one field": {"fee": 15}},
        answers={200: {JSON: "Receipt"}},
        errors=_WRITING,
    ),
    ("/{bucket}/{id}", "DELETE"): Operation(
        name="remove",
        group="Writing",
        summary="Remove one record",
        description="The id is percent-encoded, and may hold slashes.",
        access="writer",
        answers={200: {JSON: "Done"}},
        errors=(401, 403, 404, 503, 507),
    ),
    ("/_buckets", "GET"): Operation(
        name="list_buckets",
        group="Buckets",
        summary="Every bucket's settings",
        description="By name.",
        access="admin",
        answers={200: {JSON: "Buckets"}},
        errors=(401, 403, 503),
    ),
    ("/_buckets/{name}", "GET"): Operation(
        name="get_bucket",
        group="Buckets",
        summary="One bucket's settings",
        description="Every setting, by its name.",
        access="admin",
        answers={200: {JSON: "Bucket"}},
        errors=(401, 403, 404, 503),
    ),
    ("/_buckets/{name}", "PUT"): Operation(
        name="put_bucket",
        group="Buckets",
        summary="Make a bucket, or replace its settings",
        description="Settings that are not given have their defaults. A new bucket's first write "
        "token is in the answer, this once. An empty body counts as `{}`.",
        access="admin",
        body="Settings",
        body_examples={"open": {"raw_queries_allowed": True, "timezone": "Europe/London"}},
        answers={200: {JSON: "Bucket"}, 201: {JSON: "NewBucket"}},
        errors=tuple(status for status in _SETTING if status != 404),
    ),
    ("/_buckets/{name}", "PATCH"): Operation(
        name="patch_bucket",
        group="Buckets",
        summary="Change some settings",
        description="Settings that are not given stay. Records are not checked again.",
        access="admin",
        body="SettingsChange",
        body_examples={"one": {"published": False}},
        answers={200: {JSON: "Bucket"}},
        errors=_SETTING,
    ),
    ("/_buckets/{name}", "DELETE"): Operation(
        name="delete_bucket",
        group="Buckets",
        summary="Remove a bucket with its records, settings and tokens",
        description="There is no way back.",
        access="admin",
        answers={200: {JSON: "Done"}},
        errors=(401, 403, 404, 503, 507),
    ),
    ("/_buckets/{name}/tokens", "GET"): Operation(
        name="list_tokens",
        group="Tokens",
        summary="A bucket's tokens, the oldest first",
        description="What opens the bucket is not shown: only a hash of it is kept.",
        access="admin",
        answers={200: {JSON: "Tokens"}},
        errors=(401, 403, 404, 503),
    ),
    ("/_buckets/{name}/tokens", "POST"): Operation(
        name="make_token",
        group="Tokens",
        summary="Make one more token",
        description="The token is in the answer, this once. Two can live side by side while one "
        "is rotated.",
        access="admin",
        body="TokenWish",
        body_examples={"reader": {"scope": "read", "label": "dashboard"}},
        answers={201: {JSON: "NewToken"}},
        errors=tuple(status for status in _SETTING if status != 409),
    ),
    ("/_buckets/{name}/tokens/{id}", "DELETE"): Operation(
        name="revoke_token",
        group="Tokens",
        summary="Revoke a token",
        description="It opens nothing from then on.",
        access="admin",
        answers={200: {JSON: "Done"}},
        errors=(401, 403, 404, 503, 507),
    ),
    ("/_users", "GET"): Operation(
        name="list_users",
        group="Users",
        summary="Who may do what on the pages",
        description="By e-mail address.",
        access="admin",
        answers={200: {JSON: "Users"}},
        errors=(401, 403, 503),
    ),
    ("/_users/{email}", "PUT"): Operation(
        name="put_user",
        group="Users",
        summary="Say which buckets are a user's",
        description="By e-mail address, whatever its case. An admin may use every bucket. What is "
        "not given has its default; an empty body counts as `{}`.",
        access="admin",
        body="UserWish",
        body_examples={"buckets": {"buckets": ["flights"]}, "admin": {"admin": True}},
        answers={200: {JSON: "User"}, 201: {JSON: "User"}},
        errors=tuple(status for status in _SETTING if status not in (404, 409)),
    ),
    ("/_users/{email}", "DELETE"): Operation(
        name="delete_user",
        group="Users",
        summary="Remove a user",
        description="Who may still sign in, but has no bucket.",
        access="admin",
        answers={200: {JSON: "Done"}},
        errors=(401, 403, 404, 503, 507),
    ),
    ("/_audit", "GET"): Operation(
        name="audit",
        group="Audit",
        summary="Who did what, the newest first",
        description="Every write, change of settings, token and user. An entry is kept in one step "
        "with what it tells of.",
        access="admin",
        parameters={name: one[1:] for name, one in AUDIT_PARAMETERS.items()},
        answers={200: {JSON: "Audit"}},
        errors=(400, 401, 403, 503),
    ),
    ("/_backup", "GET"): Operation(
        name="backup",
        group="Backup",
        summary="The whole store as one file",
        description="As it stood at one moment, while writes go on: made first, then sent. It is a "
        "DuckDB file with all that the store holds, hashes of tokens too, and with what it must "
        "hold, so that `backdrop backup` and `restore` can tell. Only a store on DuckDB has it.",
        access="admin",
        answers={200: {BACKUP_TYPE: ""}},
        errors=(401, 403, 404, 409, 503, 507),
    ),
    ("/_status", "GET"): Operation(
        name="status",
        group="Status",
        summary="Whether the store answers",
        description="Never cached.",
        answers={200: {JSON: "Status"}},
        errors=(503,),
    ),
    ("/_status/buckets", "GET"): Operation(
        name="buckets_status",
        group="Status",
        summary="Which buckets are out of date",
        description="Buckets with `max_age_expected` whose last write is older than that. A bucket "
        "that was never written is not among them. 200 either way.",
        answers={200: {JSON: "BucketsStatus"}},
        errors=(503,),
    ),
    ("/_metrics", "GET"): Operation(
        name="metrics",
        group="Status",
        summary="Counts and times, for Prometheus",
        description="There only where the deployment has the setting `metrics`. A token of their "
        "own opens them too, where one is set.",
        access="admin",
        answers={200: {METRICS_TYPE: ""}},
        errors=(401, 403, 503),
    ),
    ("/_openapi.json", "GET"): Operation(
        name="openapi",
        group="Reference",
        summary="This API, as OpenAPI 3.1",
        description="The document that the page of reference is made of.",
        answers={200: {JSON: "OpenApi"}},
    ),
    ("/_docs", "GET"): Operation(
        name="docs",
        group="Reference",
        summary="This API, as a page for people",
        description="It needs nothing from elsewhere.",
        answers={200: {HTML: ""}},
    ),
}
