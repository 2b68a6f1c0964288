"""Status: whether the store answers, and which buckets are out of date."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from backdrop.api.status import buckets_status
from backdrop.domain.bucket import Bucket
from backdrop.errors import StorageUnavailable
from backdrop.observe import StoreAway
from backdrop.storage.memory import MemoryStorage
from tests.api.conftest import Desk, codes


class Broken(MemoryStorage):
    """A store that doesn't answer."""

    def check(self) -> None:
        raise StorageUnavailable("the store doesn't answer")


@pytest.mark.parametrize("apis", ["both", "read", "write"])
def test_status_tells_whether_the_store_answers(desk: Desk, apis: str) -> None:
    """200 where it does, 503 where it doesn't; on every API, and never cached."""
    well = desk.clients(apis=apis).get("/_status")
    assert (well.status_code, well.json()["status"]) == (200, "ok")
    ill = desk.clients(apis=apis, storage=Broken()).get("/_status")
    assert (ill.status_code, codes(ill)) == (503, ["storage_unavailable"])
    assert ill.headers["Retry-After"] == "5"
    assert well.headers["Cache-Control"] == ill.headers["Cache-Control"] == "no-cache"
    assert any(isinstance(one, StoreAway) for one in desk.seen)


def test_buckets_that_are_out_of_date_are_listed(desk: Desk) -> None:
    """200 either way; the seconds count from the limit."""
    desk.make("never", max_age_expected=10)
    desk.filled("fresh", {"aa": 1}, max_age_expected=60)
    desk.filled("stale", {"aa": 1}, max_age_expected=10)
    desk.filled("free_one", {"aa": 1})
    desk.clock.move(10)
    answer = desk.client.get("/_status/buckets")
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-cache")
    assert answer.json()["status"] == "ok"
    assert answer.json()["buckets"] == []
    desk.clock.move(32.5)
    answer = desk.client.get("/_status/buckets")
    assert (answer.status_code, answer.json()["status"]) == (200, "not okay")
    assert answer.json()["buckets"] == [
        {
            "name": "stale",
            "seconds-out-of-date": 32,
            "last-updated": "2024-05-01T12:00:00+00:00",
            "max-age-expected": 10,
        }
    ]


@pytest.mark.parametrize("most", [1, 2**53 - 1])
def test_any_age_can_be_expected(most: int) -> None:
    """Also one that reaches past the calendar."""
    now = datetime(9999, 12, 31, tzinfo=UTC)
    bucket = Bucket(name="things", max_age_expected=most)
    late = buckets_status([(bucket, now - timedelta(days=3_000_000))], now)["buckets"]
    assert len(late) == (most == 1)
