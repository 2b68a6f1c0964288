"""Zip archives that are looked at before anything unpacks them."""

from __future__ import annotations

import copy
import io
import zlib
from collections.abc import Iterator
from zipfile import BadZipFile, ZipFile, ZipInfo

from backdrop.file_rows.rows import BadFile

MOST_UNPACKED = 2**30
_MOST_PARTS = 5_000
_SUSPICIOUS = 64 * 2**20
_MOST_TIMES = 300
"""What is `_SUSPICIOUS` unpacked may be so many times as large as packed; tables are up to 100."""

_STEP = 2**20


def refuse_bomb(data: bytes, name: str) -> None:
    """Raise BadFile unless `data` is a zip archive that unpacks to no more than is bearable.

    Its table of contents is looked at first; then all of it is unpacked piece by piece, none of
    which is kept, for what the table says need not be true.
    """
    try:
        with ZipFile(io.BytesIO(data)) as archive:
            parts = archive.infolist()
            _refuse_large(sum(part.file_size for part in parts), len(parts), len(data))
            unpacked = 0
            for part in parts:
                for piece in pieces(archive, part):
                    unpacked += len(piece)
                    _refuse_large(unpacked, len(parts), len(data))
    except (BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as bad:
        raise BadFile(f"{name} can't be read: it is broken, or something else ({bad})") from None


def pieces(archive: ZipFile, part: ZipInfo) -> Iterator[bytes]:
    """What a part holds, a MiB at a time: to its real end, whatever length is declared."""
    part = copy.copy(part)
    declared, part.file_size = part.file_size, 2**62
    with archive.open(part) as file:
        size = 0
        while piece := file.read(_STEP):
            size += len(piece)
            yield piece
    if size != declared:
        raise BadZipFile(f"{part.filename!r} does not have the length that is declared")


def _refuse_large(unpacked: int, parts: int, packed: int) -> None:
    if parts > _MOST_PARTS:
        raise BadFile(f"the file has {parts:,} parts, more than any spreadsheet needs")
    too_dense = unpacked > _SUSPICIOUS and unpacked > _MOST_TIMES * packed
    if unpacked > MOST_UNPACKED or too_dense:
        raise BadFile(
            f"the file would unpack to {unpacked // 2**20:,} MiB or more, which is too much: "
            "save the sheet as CSV, or split it"
        )
