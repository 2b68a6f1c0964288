"""A bare route of Starlette's on the same server: what a small answer costs at the least."""

from __future__ import annotations

import sys

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from backdrop.server import bind, run


def main(size: int) -> None:
    body = b"x" * size

    async def answer(_: Request) -> Response:
        return Response(body, media_type="application/json")

    bound = bind("127.0.0.1", 0)
    port = bound.getsockname()[1]
    run(
        Starlette(routes=[Route("/", answer)]),
        bound,
        stop_seconds=1,
        on_ready=lambda: print(port, flush=True),
        on_stopping=lambda _: None,
    )


if __name__ == "__main__":
    main(int(sys.argv[1]))
