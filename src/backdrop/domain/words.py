"""Numbers in sentences."""

from __future__ import annotations


def counted(number: float, one: str, many: str = "") -> str:
    """`1 record`, `1,234 records`, `0.5 seconds`."""
    shown = f"{number:,}" if isinstance(number, int) else f"{number:g}"
    return f"{shown} {one if number == 1 else many or one + 's'}"
