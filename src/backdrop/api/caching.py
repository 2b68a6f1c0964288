"""Answers that need not be computed again: ETags, Cache-Control, what is kept of the last ones."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.responses import Response

from backdrop.api.params import MOST_REMEMBERED, Asked
from backdrop.domain.bucket import Bucket
from backdrop.storage.port import BucketState


def etag_of(asked: Asked, state: BucketState) -> str:
    """The strong ETag of an answer, known before the query runs.

    It is made of the bucket's version, which every write and every change of its settings moves,
    and of what was asked, with its window resolved. The order of parameters does not matter, but
    where it shows in the answer.
    """
    parts = (state.bucket.name, state.version, asked.format, asked.query)
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return f'"{base64.urlsafe_b64encode(digest[:18]).decode()}"'


def has_etag(if_none_match: str | None, etag: str) -> bool:
    """Whether the header `If-None-Match` (RFC 9110, 13.1.2) names the ETag: a weak comparison."""
    if if_none_match is None:
        return False
    if if_none_match == etag:  # as mostly
        return True
    named = (one.strip().removeprefix("W/") for one in if_none_match.split(","))
    return any(one in ("*", etag) for one in named)


def cache_control(bucket: Bucket) -> str:
    """How long an answer of the bucket may be kept by whoever got it."""
    if not bucket.published or bucket.read_token_required:
        return "no-cache"
    return f"max-age={120 if bucket.realtime else 1800}, must-revalidate"


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of one version of a bucket, and what is known of the answer before."""

    asked: Asked
    etag: str
    headers: Mapping[str, str]
    """Those of the answer."""
    kept_headers: Sequence[tuple[bytes, bytes]]
    """The same, for an answer that is kept: encoded, with its type, without its length."""
    not_modified: Response
    """The answer to whoever has it already."""


class Questions:
    """The last `most` questions that were understood, by their query strings.

    Each is of one version of a bucket, so nothing here is ever out of date.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._questions: dict[tuple[str, int, bytes], Question] = {}

    def get(self, query_string: bytes, state: BucketState) -> Question | None:
        return self._questions.get((state.bucket.name, state.version, query_string))

    def put(self, query_string: bytes, state: BucketState, question: Question) -> None:
        """Keep the question, unless it is a long one, or asks for another range as time goes on."""
        if len(query_string) > MOST_REMEMBERED or question.asked.until_now:
            return
        with self._lock:
            self._questions[state.bucket.name, state.version, query_string] = question
            if len(self._questions) > self._most:
                del self._questions[next(iter(self._questions))]


class AnswerCache:
    """The bodies of recent answers by their ETags, `most_bytes` at most, the last used kept.

    An ETag is of one version of a bucket, so nothing here is ever out of date.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._bodies: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0
        self._making: dict[str, threading.Event] = {}
        self.hits = 0
        """How many answers were found here; `misses`: how many had to be made."""
        self.misses = 0

    @property
    def size(self) -> int:
        """Bytes of the bodies."""
        return self._bytes

    def get(self, etag: str) -> bytes | None:
        with self._lock:
            body = self._bodies.get(etag)
            if body is not None:
                self._bodies.move_to_end(etag)
                self.hits += 1
            return body

    def missed(self) -> None:
        """Count an answer that has to be made."""
        with self._lock:
            self.misses += 1

    def put(self, etag: str, body: bytes) -> None:
        """Keep the body; one that would take more than a tenth of the room is not kept."""
        if len(body) * 10 > self._most_bytes:
            return
        with self._lock:
            if etag not in self._bodies:
                self._bodies[etag] = body
                self._bytes += len(body)
            while self._bytes > self._most_bytes:
                _, gone = self._bodies.popitem(last=False)
                self._bytes -= len(gone)

    @contextmanager
    def making(self, etag: str) -> Iterator[None]:
        """One thread makes the answer of an ETag; others that come meanwhile wait, and find it.

        Where it turns out to be one that isn't kept, they go on and make it for themselves.
        """
        with self._lock:
            made = self._making.get(etag)
            first = made is None
            if made is None:
                made = self._making[etag] = threading.Event()
        if not first:
            made.wait()
            yield
            return
        try:
            yield
        finally:
            with self._lock:
                del self._making[etag]
            made.set()
