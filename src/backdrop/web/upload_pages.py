"""Uploading a file, in two steps: what was understood of it is shown, then a button stores it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from concurrent.futures import Future
from typing import IO, Any

import anyio
from anyio.to_thread import run_sync
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import Response

from backdrop.api.routes import UPLOAD, Resources, Site
from backdrop.api.write_app import delete_record, patch_record
from backdrop.domain.bucket import Bucket
from backdrop.errors import NotFound
from backdrop.uploads.kept import Upload, find_upload, new_id
from backdrop.web.access import reading_url, visitor_of_bucket
from backdrop.web.addresses import addresses, newest_records
from backdrop.web.forms import MOST_FIELDS_BYTES, read_form, sent_file, text_of
from backdrop.web.render import moved, page
from backdrop.web.sessions import Visitor

_WAITED = 4.0
"""Seconds after which a page says that it takes longer."""
_LOOKS_EVERY = 0.03
_LOOK_AGAIN = {"Refresh": "2"}


async def get_upload(request: Request, site: Site) -> Response:
    """The form or, of an upload that was begun, how far it is."""
    visitor, bucket = await run_sync(visitor_of_bucket, request, site)
    asked = request.query_params.get("upload")
    if asked is None:
        return _form_page(request, site, visitor, bucket)
    upload = await run_sync(_found, site, visitor, bucket, asked)
    return await run_sync(_progress_page, request, site, visitor, bucket, upload)


async def post_upload(request: Request, site: Site) -> Response:
    """The first step, with `file`, or the second, with `upload`."""
    visitor, bucket = await run_sync(visitor_of_bucket, request, site)
    most = site.limits.upload + MOST_FIELDS_BYTES
    form = await read_form(request, most_bytes=most, most_files=1, limits=site.limits)
    try:
        visitor.require_form_token(form.get("form_token"))
        if "upload" in form:
            return await _store(request, site, visitor, bucket, text_of(form, "upload"))
        return await _read(request, site, visitor, bucket, form)
    finally:
        await form.close()


async def _read(
    request: Request, site: Site, visitor: Visitor, bucket: Bucket, form: FormData
) -> Response:
    sent = sent_file(form, "file")
    if sent is None:
        return _form_page(request, site, visitor, bucket, problem="Choose a file first.")
    if sent.size is not None and sent.size > site.limits.upload:
        most = site.limits.upload // 2**20
        problem = f"That file is larger than the {most} MiB that can be uploaded at once: split it."
        return _form_page(request, site, visitor, bucket, problem=problem, status=413)
    upload = Upload(
        id=new_id(),
        email=visitor.session.email,
        bucket=bucket.name,
        file_name=_base_name(sent.filename or ""),
        since=site.now(),
    )
    future = await run_sync(lambda: site.uploads.read(upload, _of_its_own(sent), bucket))
    if future is None:
        problem = "Many files are being read already, of yours or of others. Try again in a minute."
        return _form_page(request, site, visitor, bucket, problem=problem, status=429)
    done = await _soon(future)
    if done is None:
        return moved(_address(request, upload.id))
    if done.understood is None or done.understood.fault_count:
        return await run_sync(_progress_page, request, site, visitor, bucket, done, 400)
    if text_of(form, "store") == "yes":
        return await _store(request, site, visitor, bucket, done.id)
    return moved(_address(request, upload.id))


async def _store(
    request: Request, site: Site, visitor: Visitor, bucket: Bucket, upload_id: str
) -> Response:
    upload = await run_sync(_found, site, visitor, bucket, upload_id)
    future = await run_sync(site.uploads.store, upload)
    if future is not None:  # else it was stored before: a second click
        await _soon(future)
    return moved(_address(request, upload.id))


def _found(site: Site, visitor: Visitor, bucket: Bucket, upload_id: str) -> Upload:
    email = visitor.session.email
    upload = find_upload(site.storage, upload_id, email=email, bucket=bucket.name)
    if upload is None:
        raise NotFound("this upload is not known any more: choose the file again")
    return site.uploads.as_of_now(upload)


def _of_its_own(sent: UploadFile) -> IO[bytes]:
    """The file on disk once more, which stays open when the form is closed."""
    sent.file.flush()
    return os.fdopen(os.dup(sent.file.fileno()), "rb")


async def _soon(future: Future[Upload]) -> Upload | None:
    """What the work comes to, if it is done soon."""
    until = time.monotonic() + _WAITED
    while not future.done():
        if time.monotonic() > until:
            return None
        await anyio.sleep(_LOOKS_EVERY)
    return None if future.cancelled() else future.result()


# -- the pages ------------------------------------------------------------------------------------


def _form_page(
    request: Request,
    site: Site,
    visitor: Visitor,
    bucket: Bucket,
    *,
    problem: str = "",
    status: int = 400,
) -> Response:
    return page(
        "upload.html",
        visitor=visitor,
        status=status if problem else 200,
        bucket=bucket,
        most_mib=site.limits.upload // 2**20,
        problem=problem,
        address=request.url.path,
    )


_TEMPLATES: Mapping[str, str] = {
    "reading": "upload_wait.html",
    "storing": "upload_wait.html",
    "understood": "upload_check.html",
    "stored": "upload_done.html",
    "refused": "upload_failed.html",
    "failed": "upload_failed.html",
}


def _progress_page(
    request: Request,
    site: Site,
    visitor: Visitor,
    bucket: Bucket,
    upload: Upload,
    status: int = 200,
) -> Response:
    waits = upload.state in ("reading", "storing")
    values: dict[str, Any] = {
        "bucket": bucket,
        "upload": upload,
        "address": request.url.path,
    }
    if upload.state == "stored":
        records = newest_records(site.storage, bucket)
        values["addresses"] = addresses(reading_url(request, site, bucket), bucket, records)
    return page(
        _TEMPLATES[upload.state],
        visitor=visitor,
        status=status,
        headers=_LOOK_AGAIN if waits else None,
        **values,
    )


def _address(request: Request, upload_id: str) -> str:
    return f"{request.url.path}?upload={upload_id}"


def _base_name(name: str) -> str:
    """The last part of a name: some browsers send the folders, too."""
    return name.replace("\\", "/").rpartition("/")[2][-200:] or "unnamed"


RESOURCES: Resources = {
    UPLOAD: {
        "GET": get_upload,
        "POST": post_upload,
        "PATCH": patch_record,
        "DELETE": delete_record,
    },
}
