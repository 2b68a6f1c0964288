"""What a sign-in service is to the pages. Those that there are, are in `providers`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

_is_error_name = re.compile(r"[a-z_]{1,40}").fullmatch


@dataclass(frozen=True, slots=True)
class Attempt:
    """One sign-in, from the moment in which the browser leaves for the service."""

    redirect_uri: str
    """Where the service sends the browser back to: a registered address."""
    code_verifier: str
    """The secret whose hash goes along (PKCE): only who began can turn the code into a token."""
    nonce: str
    """Comes back in the ID token, so that it is of this attempt."""
    browser: str
    """The hash of the cookie of the browser in which it began."""
    next: str
    """The path to go to afterwards."""


@dataclass(frozen=True, slots=True)
class Person:
    """Who signed in, as the service says."""

    email: str
    name: str


class Provider(Protocol):
    """A sign-in service."""

    @property
    def url(self) -> str:
        """Its address, as it was configured."""

    async def authorize_url(self, attempt: Attempt, state: str) -> str:
        """Where the browser is to go."""

    async def person(self, attempt: Attempt, code: str) -> Person:
        """Who came back with the code."""


def told_error(name: str) -> str:
    """What a service calls an error, to stand behind our words; nothing if it is no such name."""
    return f" ({name})" if _is_error_name(name) else ""
