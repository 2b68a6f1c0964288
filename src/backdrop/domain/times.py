"""Instants as text: one grammar for records, query strings and settings (ISO 8601's calendar form).

YYYY-MM-DD
YYYY-MM-DD[T| ]HH:MM[:SS[.f…]][Z|±HH:MM|±HHMM]        up to nine decimals, kept to the microsecond
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo

EXPECTED = (
    "a time such as 2013-01-31, 2013-01-31T09:30, 2013-01-31T09:30:00Z or 2013-01-31T09:30:00+01:00"
)

_INSTANT = (
    r"\d{4}-\d\d-\d\d"
    r"(?:[T ](?:[01]\d|2[0-3]):\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:?[0-5]\d)?)?"
)
_is_instant = re.compile(_INSTANT, re.ASCII).fullmatch
_are_instants = re.compile(f"(?:{_INSTANT}\n)*+", re.ASCII).fullmatch


def parse_instant(text: str, *, zone: tzinfo = UTC) -> datetime:
    """The instant that `text` names, as an aware UTC datetime.

    A text without an offset is local to `zone`. A local time that comes twice is the first of the
    two; one that a clock change skipped is taken with the offset before the change (PEP 495,
    fold=0). Raises ValueError for anything outside the grammar, the calendar, or years 1 to 9999.
    """
    if _is_instant(text) is None:
        raise ValueError(f"expected {EXPECTED}")
    try:
        instant = datetime.fromisoformat(text)
        if instant.tzinfo is None:
            instant = instant.replace(tzinfo=zone)
        return instant.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"no such date or time; expected {EXPECTED}") from None


def parse_instants(texts: Sequence[str]) -> list[datetime]:
    """The instants of a column, each as `parse_instant` reads it in UTC. Raises ValueError."""
    if not _are_instants("\n".join([*texts, ""])):  # one with a line break fails further down
        raise ValueError(f"expected {EXPECTED}")
    read = list(map(datetime.fromisoformat, texts))
    if {one.tzinfo for one in read} == {UTC}:
        return read
    return list(map(parse_instant, texts))


def format_instant(instant: datetime) -> str:
    """`2013-01-01T00:00:00+00:00`, with `.ffffff` where the microseconds are not zero."""
    return (instant if instant.tzinfo is UTC else instant.astimezone(UTC)).isoformat()
