"""What a form sends: its fields, and a file that is kept on disk while it comes."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import FormParser, MultiPartException, MultiPartParser
from starlette.requests import Request

from backdrop.api.body import Limits, arriving
from backdrop.errors import BodyTooLarge, InvalidBody

MOST_FIELDS_BYTES = 256 * 2**10
"""Of all fields that are no file."""
_MOST_FIELDS = 2_000
_PASSED_OVER = 4
_UTF8 = (b"utf-8", b"utf8")
"""Python knows charsets that are escapes, or take long; those a browser never sends."""


async def read_form(
    request: Request,
    *,
    most_bytes: int = MOST_FIELDS_BYTES,
    most_files: int = 0,
    limits: Limits | None = None,
) -> FormData:
    """The form's fields and files. Whoever asks for files closes it.

    What is too large is read to its end, and not kept: a browser shows no answer before that.
    Raises BodyTooLarge, ClientTooSlow, or InvalidBody for what is no form.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    if options.get(b"charset", b"utf-8").lower() not in _UTF8:
        raise InvalidBody("this form can't be read: its charset must be UTF-8")
    stream = _bounded(request, most_bytes, limits or Limits())
    try:
        if kind == b"multipart/form-data":
            parser = MultiPartParser(
                request.headers,
                stream,
                max_files=most_files,
                max_fields=_MOST_FIELDS,
                max_part_size=MOST_FIELDS_BYTES,
            )
            return await parser.parse()
        if kind == b"application/x-www-form-urlencoded":
            return await FormParser(
                request.headers,
                stream,
                max_fields=_MOST_FIELDS,
                max_part_size=MOST_FIELDS_BYTES,
            ).parse()
    except MultiPartException as error:
        raise InvalidBody(f"this form can't be read: {error.message}") from None
    raise InvalidBody("this is not a form: expected the content type multipart/form-data")


def sent_file(form: FormData, name: str) -> UploadFile | None:
    """The file of that field; None where none was chosen."""
    found = form.get(name)
    return found if isinstance(found, UploadFile) and found.filename else None


def text_of(form: FormData, name: str) -> str:
    """The field's text, without blanks around it; empty where it is missing."""
    found = form.get(name)
    return found.strip() if isinstance(found, str) else ""


async def _bounded(
    request: Request, most_bytes: int, limits: Limits
) -> AsyncGenerator[bytes, None]:
    size = 0
    async for part in arriving(request, limits):
        size += len(part)
        if size <= most_bytes:
            yield part
        elif size > most_bytes * _PASSED_OVER:
            break
    if size > most_bytes:
        raise BodyTooLarge(
            f"this is larger than the {_in_words(most_bytes)} that can be sent at once: split it "
            "into smaller files"
        )


def _in_words(size: int) -> str:
    return f"{size // 2**20:,} MiB" if size >= 2**20 else f"{size // 2**10:,} KiB"
