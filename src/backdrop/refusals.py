"""What a command is told instead of what it asked a server for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


class NoAnswer(Exception):
    """The server gave no answer. The request may have reached it all the same."""


@dataclass(eq=False)
class Refused(Exception):
    """The server answered with an error."""

    status: int
    message: str
    errors: list[dict[str, Any]]
    count: int
    """How many problems there are; the answer lists only the first of many."""

    def __str__(self) -> str:
        return self.message

    @property
    def is_fault(self) -> bool:
        """Whether it is the server's fault, so that what was asked for may be done all the same."""
        return self.status >= 500

    @property
    def may_pass(self) -> bool:
        """Whether the same request may soon be answered otherwise."""
        return self.is_fault or self.status == 429
