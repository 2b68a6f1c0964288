"""What a file is by its first bytes, whatever its name says."""

from __future__ import annotations

import io
from collections.abc import Mapping
from zipfile import BadZipFile, ZipFile

from backdrop.file_rows.rows import BadFile

_STARTS: Mapping[bytes, str] = {
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "an XLS file, or one that a password protects",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"GIF8": "a GIF picture",
    b"%PDF": "a PDF document",
    b"{\\rtf": "an RTF document",
    b"PAR1": "a Parquet file",
    b"SQLite format 3": "an SQLite database",
    b"\x1f\x8b": "packed with gzip",
    b"\x7fELF": "a program",
    b"<!doctype html": "a web page (HTML)",
    b"<html": "a web page (HTML)",
    b"<?xml": "an XML document",
}
_PARTS: Mapping[str, str] = {
    "xl/workbook.xml": "an XLSX file",
    "xl/workbook.bin": "an XLSB file",
    "word/document.xml": "a Word document",
    "ppt/presentation.xml": "a presentation",
    "content.xml": "an ODS file",
}
_WANTED: Mapping[str, tuple[str, str]] = {
    "xlsx": ("an XLSX file", _PARTS["xl/workbook.xml"]),
    "ods": ("an ODS file", _PARTS["content.xml"]),
    "xls": ("an XLS file", _STARTS[b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"]),
    "csv": ("a CSV file", ""),
}


def refuse_other(format_: str, data: bytes) -> None:
    """Raise BadFile where `data`, all of a spreadsheet or a beginning of CSV, is something else."""
    wanted, sign = _WANTED[format_]
    found = _nature(data)
    if found is not None and found != sign:
        raise BadFile(f"this is not {wanted}, as its name or you say, but {found}")
    if found is None and sign:
        raise BadFile(f"this is not {wanted}, as its name or you say: is it broken?")


def _nature(data: bytes) -> str | None:
    if data.startswith(b"PK\x03\x04"):
        return _zipped(data)
    start = data[:20].lstrip(b"\xef\xbb\xbf \r\n\t")
    for sign, words in _STARTS.items():
        if data.startswith(sign) or start.lower().startswith(sign):
            return words
    return None


def _zipped(data: bytes) -> str:
    try:
        with ZipFile(io.BytesIO(data)) as archive:
            names = set(archive.namelist())
    except (BadZipFile, ValueError, NotImplementedError):
        return "a spreadsheet or another zip archive, or a part of one"
    return next((words for name, words in _PARTS.items() if name in names), "a zip archive")
