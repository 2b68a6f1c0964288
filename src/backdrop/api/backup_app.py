"""`GET /_backup`: the whole store as one file, for the admin."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from backdrop.api.auth import require_admin
from backdrop.api.routes import Resources, Site
from backdrop.backups import backup_file, chunks
from backdrop.errors import NotFound
from backdrop.storage.port import HasSnapshots

BACKUP_TYPE = "application/octet-stream"


async def get_backup(request: Request, site: Site) -> Response:
    def make() -> tuple[IO[bytes], int] | None:
        require_admin(request, site)
        if not isinstance(site.storage, HasSnapshots):
            raise NotFound("this store is backed up by tools of its own: see docs/operating.md")
        return None if request.method == "HEAD" else backup_file(site.storage)

    made = await run_sync(make)
    headers = {"Cache-Control": "no-store"}
    if made is None:
        return Response(headers=headers, media_type=BACKUP_TYPE)
    file, size = made
    headers["Content-Length"] = str(size)
    return StreamingResponse(_closing(file), headers=headers, media_type=BACKUP_TYPE)


def _closing(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        yield from chunks(file)


RESOURCES: Resources = {"/_backup": {"GET": get_backup}}
