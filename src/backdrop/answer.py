"""THE READ PATH, from a query to the rows of its answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from backdrop.domain.bucket import Bucket
from backdrop.domain.query import Query
from backdrop.domain.shape import shape
from backdrop.storage.port import Storage

Rows = Sequence[dict[str, Any]]


@contextmanager
def answer(storage: Storage, bucket: Bucket, query: Query) -> Iterator[Iterator[Rows]]:
    """The rows of the answer, in pages: records may be many, and come as they are read.

    The rows of groups come as one page. Whatever can go wrong with the query itself is raised on
    entering. Leaving the context frees what the reading holds.
    """
    if query.is_raw:
        with storage.records(bucket.name, query) as pages:
            yield pages
    else:
        groups = storage.groups(bucket.name, query)
        axis = None
        if query.period is not None and query.start is not None and query.end is not None:
            axis = list(query.period.axis(query.start, query.end))
        yield iter([shape(query, groups, axis)])
