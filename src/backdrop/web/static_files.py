"""Style sheets and scripts: under a name that changes with what is in them, so kept for long."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response

from backdrop.api.routes import Resources, Site
from backdrop.errors import NotFound

_MEDIA_TYPES: Mapping[str, str] = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
}


def static_url(name: str) -> str:
    """Where a file of `static` is served as it is now."""
    return f"/_static/{name}?{_read(name)[1]}"


@cache
def _read(name: str) -> tuple[bytes, str]:
    """What is in a file, and a hash of that."""
    data = (files("backdrop.web") / "static" / name).read_bytes()
    return data, hashlib.sha256(data).hexdigest()[:16]


async def get_file(request: Request, site: Site) -> Response:  # noqa: ARG001
    name = request.path_params["name"]
    if name not in NAMES:
        raise NotFound(f"there is no file {name!r}")
    data, version = _read(name)
    is_asked = request.url.query == version
    headers = {
        "Cache-Control": "max-age=31536000, immutable" if is_asked else "no-cache",
        "ETag": f'"{version}"',
    }
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(data, headers=headers, media_type=_MEDIA_TYPES[name.rpartition(".")[2]])


NAMES = ("pages.css", "copy.js")
RESOURCES: Resources = {"/_static/{name}": {"GET": get_file}}
