"""`GET /_audit`: who did what, for the admin."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import Response

from backdrop.api.auth import require_admin
from backdrop.api.encode import json_answer
from backdrop.api.routes import Resources, Site
from backdrop.api.schemas import BUCKET_NAME, Schema
from backdrop.domain.bucket import NAME_EXPECTED, is_bucket_name
from backdrop.errors import InvalidQuery, Problem, did_you_mean

MOST_ENTRIES = 1_000
ENTRIES = 100
"""How many entries an answer has, where nothing is said."""


def _bucket(text: str) -> str:
    if not is_bucket_name(text):
        raise ValueError(f"expected a bucket's name, {NAME_EXPECTED}")
    return text


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= MOST_ENTRIES):
        raise ValueError(f"expected a whole number from 1 to {MOST_ENTRIES:,}")
    return int(text)


PARAMETERS: Mapping[str, tuple[Callable[[str], Any], Schema, str]] = {
    "bucket": (_bucket, BUCKET_NAME, "Only what was done to this bucket."),
    "limit": (
        _limit,
        {"type": "integer", "minimum": 1, "maximum": MOST_ENTRIES, "default": ENTRIES},
        "How many entries at most.",
    ),
    "before": (
        str,
        {"type": "string", "pattern": "^[0-9]{1,18}$|^[0-9]{20}-[0-9a-f]{8}$"},
        "The `id` of an entry, such as the last of a page: those that are older.",
    ),
}
"""Name -> how its text is parsed, its schema, and what it is."""


async def get_audit(request: Request, site: Site) -> Response:
    def found() -> Response:
        require_admin(request, site)
        asked = {"limit": ENTRIES, **_asked(request)}
        entries = site.storage.audit(**asked)
        body = {"entries": [entry.as_json() for entry in entries]}
        return json_answer(body, headers={"Cache-Control": "no-store"})

    return await run_sync(found)


def _asked(request: Request) -> dict[str, Any]:
    """The parameters. Raises InvalidQuery with every problem."""
    asked: dict[str, Any] = {}
    problems = []
    for name, text in request.query_params.multi_items():
        try:
            if name not in PARAMETERS:
                hint = did_you_mean(name, PARAMETERS)
                message = f"there is no parameter {name[:80]!r}; {hint}"
                problems.append(Problem("unknown_parameter", message, {"parameter": name[:80]}))
            elif name in asked:
                message = f"{name} is given more than once; expected once"
                problems.append(Problem("repeated_parameter", message, {"parameter": name}))
            else:
                asked[name] = PARAMETERS[name][0](text)
        except ValueError as error:
            asked[name] = None
            message = f"{name} is {text[:80]!r}: {error}"
            problems.append(Problem("invalid_parameter", message, {"parameter": name}))
    if problems:
        raise InvalidQuery(problems[0].message, problems=problems[:100], count=len(problems))
    return asked


RESOURCES: Resources = {"/_audit": {"GET": get_audit}}
