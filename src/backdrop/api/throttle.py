"""How many requests a second one token, and one address, may send: token buckets. Pure ASGI."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from datetime import datetime

from starlette.types import ASGIApp, Receive, Scope, Send

from backdrop.api.auth import bearer
from backdrop.api.middleware import header_of
from backdrop.domain.token import hash_token
from backdrop.domain.words import counted
from backdrop.errors import TooManyRequests

MOST_KNOWN = 10_000
"""Tokens and addresses that are remembered: those that were not heard of for longest go."""


class TokenBuckets:
    """A bucket of tokens for each name: full at first, and refilled at the rate.

    So a second's worth may come at once. `clock` may stand still or be set back: it fills nothing
    then. To be called from one thread.
    """

    def __init__(
        self, a_second: int, *, clock: Callable[[], datetime], most_known: int = MOST_KNOWN
    ) -> None:
        self._a_second, self._clock, self._most_known = a_second, clock, most_known
        self._buckets: OrderedDict[str, tuple[float, datetime]] = OrderedDict()

    def take(self, name: str) -> float:
        """Take a token: 0, or the seconds after which there is one."""
        now = self._clock()
        left, filled_at = self._buckets.pop(name, (float(self._a_second), now))
        passed = max((now - filled_at).total_seconds(), 0.0)
        left = min(left + passed * self._a_second, float(self._a_second))
        wait = max(1 - left, 0.0) / self._a_second
        self._buckets[name] = (left if wait else left - 1, now)
        if len(self._buckets) > self._most_known:
            self._buckets.popitem(last=False)
        return wait


class Throttled:
    """Refuses what is past so many requests a second of one token or one address.

    It raises TooManyRequests, for `ErrorAnswers`, before anything is read or looked up. `/_status`
    is always answered: who watches over the service asks there.
    """

    def __init__(self, app: ASGIApp, *, a_second: int, clock: Callable[[], datetime]) -> None:
        self._app, self._a_second = app, a_second
        self._buckets = TokenBuckets(a_second, clock=clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] != "/_status":
            for whose, name in _names(scope):
                wait = self._buckets.take(name)
                if wait:
                    raise TooManyRequests(
                        f"{whose} may send {counted(self._a_second, 'request')} a second "
                        "(max_requests_a_second)",
                        retry_after=math.ceil(wait),
                    )
        await self._app(scope, receive, send)


def _names(scope: Scope) -> Iterator[tuple[str, str]]:
    """Whose requests are counted, in words, and the names of their buckets."""
    client = scope.get("client")
    if client is not None:
        yield "this address", f"address {client[0]}"
    sent = header_of(scope, b"authorization")
    if sent is not None:
        yield "this token", f"token {hash_token(bearer(sent) or sent)}"
