"""What an API says of itself: `GET /_openapi.json`, and `GET /_docs` for people."""

from __future__ import annotations

from functools import cache
from typing import Any

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import Response

from backdrop.api.encode import json_answer
from backdrop.api.openapi import openapi
from backdrop.api.operations import HTML
from backdrop.api.reference_page import content_security_policy, page_style, reference_page
from backdrop.api.routes import Resources, Site, merge

_KEPT_A_WHILE = {"Cache-Control": "max-age=300"}


def described(resources: Resources, *, title: str) -> Resources:
    """The resources, and two more that describe them and themselves."""

    @cache
    def document() -> dict[str, Any]:
        return openapi(whole, title=title)

    @cache
    def page() -> tuple[bytes, str]:
        style = page_style()
        return reference_page(document(), style=style), content_security_policy(style)

    async def get_document(request: Request, site: Site) -> Response:  # noqa: ARG001
        return json_answer(await run_sync(document), headers=_KEPT_A_WHILE)

    async def get_page(request: Request, site: Site) -> Response:  # noqa: ARG001
        html, policy = await run_sync(page)
        headers = {**_KEPT_A_WHILE, "Content-Security-Policy": policy}
        return Response(html, headers=headers, media_type=HTML)

    routes: Resources = {"/_openapi.json": {"GET": get_document}, "/_docs": {"GET": get_page}}
    whole = merge(resources, routes)
    return whole
