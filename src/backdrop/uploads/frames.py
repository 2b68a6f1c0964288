"""Batches of raw rows <-> bytes: a frame for each, its length before it, packed with zstd."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import zstandard

_LENGTH = 4


def frame(rows: list[dict[str, Any]]) -> bytes:
    packed = zstandard.compress(msgspec.json.encode(rows), 1)
    return len(packed).to_bytes(_LENGTH, "big") + packed


def rows_of(parts: Iterable[bytes]) -> Iterator[list[dict[str, Any]]]:
    """The batches of the frames whose bytes come in parts, wherever those are cut."""
    held = bytearray()
    for part in parts:
        held += part
        while len(held) >= _LENGTH:
            end = _LENGTH + int.from_bytes(held[:_LENGTH], "big")
            if len(held) < end:
                break
            yield msgspec.json.decode(zstandard.decompress(bytes(held[_LENGTH:end])))
            del held[:end]
