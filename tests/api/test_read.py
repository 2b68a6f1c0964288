"""The read API through its door: records, groups, protection, tokens, HEAD and large answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from typing import Any

import anyio
import pytest
from starlette.types import Message, Scope

from backdrop.api.encode import UNPUBLISHED
from backdrop.asgi import create_app
from backdrop.domain.query import Query
from backdrop.domain.values import Record
from backdrop.errors import StorageUnavailable
from backdrop.observe import RequestAnswered, ServerFault, StoreAway
from backdrop.storage.memory import MemoryStorage
from backdrop.storage.port import Reading
from tests.api.conftest import Desk, codes

OPEN = {"raw_queries_allowed": True}

LICENCES: tuple[dict[str, Any], ...] = (
    {"_id": "1", "_timestamp": "2013-01-01T10:00:00", "authority": "Camden", "fee": 5},
    {"_id": "2", "_timestamp": "2013-01-01T11:00:00", "authority": "Camden", "fee": 2.5},
    {"_id": "3", "_timestamp": "2013-01-10T00:00:00.25", "authority": "Leeds", "fee": None},
    {"_id": "4", "authority": "Leeds", "fee": True},
    {"_id": "5", "_timestamp": "2012-12-31", "authority": "5", "path": "/a/b"},
)


@pytest.fixture
def licences(desk: Desk) -> Desk:
    desk.filled("licences", *LICENCES, **OPEN)
    return desk


def ids(desk: Desk, query: str) -> list[str]:
    return [record["_id"] for record in desk.data(f"/licences?{query}")]


# -- records -----------------------------------------------------------------------------------


def test_records_come_sorted_by_time_as_they_went_in(licences: Desk) -> None:
    """What comes back is what went in; times in UTC, with microseconds where there are some."""
    data = licences.data("/licences")
    assert [record["_id"] for record in data] == ["5", "1", "2", "3", "4"]
    assert data[1] == LICENCES[0] | {"_timestamp": "2013-01-01T10:00:00+00:00"}
    assert data[3]["_timestamp"] == "2013-01-10T00:00:00.250000+00:00"
    assert list(data[1]) == list(LICENCES[0])
    assert data[4] == LICENCES[3]


SELECTED = (
    ("start_at=2013-01-01&end_at=2013-01-10", "1 2"),
    ("start_at=2013-01-01T11:00:00%2B01:00&end_at=2013-01-10T00:00:01Z", "1 2 3"),
    ("filter_by=authority:Camden", "1 2"),
    ("filter_by=authority:Camden&filter_by=authority:Leeds&filter_by=fee:true", "4"),
    ("filter_by=fee:5", "1"),
    ("filter_by=fee:5.0", "1"),
    ("filter_by=fee:2.5&filter_by=fee:5", "1 2"),
    ("filter_by=authority:5", "5"),
    ("filter_by=_id:5", "5"),
    ("filter_by=_timestamp:2013-01-01T10:00", "1"),
    ("filter_by_prefix=authority:Ca", "1 2"),
    ("filter_by_prefix=path:/a/&filter_by=authority:5", "5"),
    ("sort_by=fee:ascending&limit=3", "4 2 1"),
    ("sort_by=_id:descending", "5 4 3 2 1"),
    ("limit=2", "5 1"),
    ("limit=100", "5 1 2 3 4"),
)


@pytest.mark.parametrize(("query", "expected"), SELECTED)
def test_records_are_selected_sorted_and_cut(licences: Desk, query: str, expected: str) -> None:
    """Ranges, filters, prefixes, sorting and limits do what the contract says."""
    assert ids(licences, query) == expected.split()


def test_an_empty_bucket_answers_an_empty_list(desk: Desk) -> None:
    """No record is no error."""
    desk.make("things", **OPEN)
    assert desk.client.get("/things").text == '{"data":[]}'


# -- groups ------------------------------------------------------------------------------------


def test_groups_by_fields(licences: Desk) -> None:
    """Groups come by their keys, with what is collected of them."""
    assert licences.data("/licences?group_by=authority&collect=fee:count&collect=fee") == [
        {"authority": "5", "_count": 1, "fee:count": 0, "fee:set": [], "fee": []},
        {"authority": "Camden", "_count": 2, "fee:count": 2, "fee:set": [2.5, 5], "fee": [2.5, 5]},
        {"authority": "Leeds", "_count": 2, "fee:count": 1, "fee:set": [True], "fee": [True]},
    ]
    sort = "sort_by=_count:descending&limit=1"
    assert licences.data(f"/licences?group_by=authority&{sort}")[0]["authority"] == "Camden"


def test_groups_by_period_with_gaps(licences: Desk) -> None:
    """With a range every period is there."""
    query = "period=week&start_at=2012-12-31&end_at=2013-01-21"
    assert [(row["_start_at"], row["_count"]) for row in licences.data(f"/licences?{query}")] == [
        ("2012-12-31T00:00:00+00:00", 3),
        ("2013-01-07T00:00:00+00:00", 1),
        ("2013-01-14T00:00:00+00:00", 0),
    ]


def test_groups_by_both_nest_or_lie_flat(licences: Desk) -> None:
    """One object for each group with its periods, or one row for each of them."""
    query = "/licences?period=month&group_by=authority&filter_by=authority:Camden"
    month = {"_start_at": "2013-01-01T00:00:00+00:00", "_end_at": "2013-02-01T00:00:00+00:00"}
    assert licences.data(query) == [
        {
            "authority": "Camden",
            "_count": 2,
            "_group_count": 1,
            "values": [{**month, "_count": 2}],
        }
    ]
    assert licences.data(f"{query}&flatten=true") == [{"authority": "Camden", **month, "_count": 2}]


def test_periods_are_the_zones(desk: Desk) -> None:
    """The bucket's zone is the default of the parameter."""
    desk.filled("things", {"_timestamp": "2013-06-30T23:30:00Z"}, timezone="Europe/London")
    assert desk.data("/things?period=day")[0]["_start_at"] == "2013-06-30T23:00:00+00:00"
    assert desk.data("/things?period=day&timezone=UTC")[0]["_start_at"] == (
        "2013-06-30T00:00:00+00:00"
    )


@pytest.mark.parametrize("method", ["sum", "mean"])
def test_a_sum_of_what_is_no_number_names_the_field(licences: Desk, method: str) -> None:
    """What only the store can tell is a 400 of the same form."""
    answer = licences.client.get(f"/licences?group_by=authority&collect=fee:{method}")
    assert (answer.status_code, codes(answer)) == (400, ["not_a_number"])
    assert answer.json()["errors"][0] | {"message": ""} == {
        "code": "not_a_number",
        "parameter": "collect",
        "field": "fee",
        "message": "",
    }


def test_an_answer_without_bounds_is_refused(licences: Desk) -> None:
    """Hours of all the calendar would be eighty million rows."""
    query = "period=hour&start_at=0001-01-01&end_at=9999-12-31"
    assert codes(licences.client.get(f"/licences?{query}")) == ["too_many_rows"]


def test_all_the_problems_of_a_query_are_told(licences: Desk) -> None:
    """One answer names every one."""
    answer = licences.client.get("/licences?foo=1&limit=0&period=eon")
    assert answer.status_code == 400
    assert [(e["code"], e["parameter"]) for e in answer.json()["errors"]] == [
        ("unknown_parameter", "foo"),
        ("invalid_parameter", "limit"),
        ("invalid_parameter", "period"),
    ]


# -- settings that a reader meets --------------------------------------------------------------


def test_raw_queries_need_leave(desk: Desk) -> None:
    """Where records are not public, only groups are, over ranges of seven days and more."""
    desk.filled("closed", *LICENCES)
    answer = desk.client.get("/closed")
    assert (answer.status_code, codes(answer)) == (400, ["raw_query_not_allowed"])
    assert answer.json()["message"] == "querying for raw data is not allowed"
    assert len(desk.data("/closed?group_by=authority")) == 3
    assert len(desk.data("/closed?period=day&start_at=2013-01-01&end_at=2013-01-08")) == 7
    answer = desk.client.get("/closed?period=week&start_at=2013-01-01&end_at=2013-01-02")
    assert codes(answer) == ["not_a_monday", "not_a_monday", "range_too_short"]


def test_unpublished_answers_carry_a_warning(desk: Desk) -> None:
    """With records, groups and without either."""
    desk.filled("draft", {"_id": "x", "aa": 1}, published=False, **OPEN)
    assert desk.client.get("/draft").json() == {
        "warning": UNPUBLISHED,
        "data": [{"_id": "x", "aa": 1}],
    }
    assert "warning" in desk.client.get("/draft?group_by=aa").json()
    assert "warning" in desk.client.get("/draft?filter_by=aa:2").json()


def test_a_bucket_that_is_not_queryable_is_as_none(desk: Desk) -> None:
    """It is told from a missing one by nothing, whatever token comes along."""
    address = {"data_group": "hidden", "data_type": "tt"}
    writer = desk.make("hidden", queryable=False, read_token_required=True, **address)
    reader = desk.token("hidden", scope="read")
    paths = (("/hidden", "/missing"), ("/data/hidden/tt", "/data/missing/tt"))
    for headers, (there, nowhere) in product(({}, writer, reader), paths):
        hidden = desk.client.get(f"{there}?foo=1", headers=headers)
        missing = desk.client.get(f"{nowhere}?foo=1", headers=headers)
        assert hidden.status_code == missing.status_code == 404
        assert hidden.text.replace("hidden", "missing") == missing.text


def test_where_a_read_token_is_required_only_one_opens(desk: Desk) -> None:
    """None and unknown ones are 401; another bucket's, the write scope and the admin's 403."""
    writer = desk.make("secret_one", read_token_required=True, **OPEN)
    desk.make("other_one")
    reader, other = desk.token("secret_one", scope="read"), desk.token("other_one", scope="read")
    statuses = [
        desk.client.get("/secret_one", headers=headers).status_code
        for headers in ({}, {"Authorization": "Bearer nonsense"}, writer, other, desk.admin, reader)
    ]
    assert statuses == [401, 401, 403, 403, 403, 200]
    assert desk.client.get("/secret_one").headers["WWW-Authenticate"] == "Bearer"


def test_an_open_bucket_asks_for_no_token_and_looks_at_none(licences: Desk) -> None:
    """A stray token is no reason to refuse what is public."""
    answer = licences.client.get("/licences", headers={"Authorization": "Bearer nonsense"})
    assert answer.status_code == 200


# -- HEAD --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/licences", "/licences?group_by=authority", "/missing", "/_status", "/licences?foo=1"]
)
def test_head_is_get_without_the_body(licences: Desk, path: str) -> None:
    """The same status and headers, errors included."""
    got, head = licences.client.get(path), licences.client.head(path)
    assert head.status_code == got.status_code
    assert head.content == b""
    assert head.headers["Content-Length"] == str(len(got.content))
    assert head.headers["Content-Type"] == got.headers["Content-Type"] == "application/json"


# -- large answers -----------------------------------------------------------------------------


class Paged(MemoryStorage):
    """A store of one bucket whose records come in pages of a few, watched as they are read."""

    def __init__(self, pages: int, *, fails_at: int | None = None) -> None:
        super().__init__()
        self.pages, self.fails_at = pages, fails_at
        self.read, self.open = 0, 0

    @contextmanager
    def records(
        self,
        bucket: str,  # noqa: ARG002
        query: Query,  # noqa: ARG002
        *,
        with_fields: bool = False,  # noqa: ARG002
        most_seconds: float | None = None,  # noqa: ARG002
    ) -> Iterator[Reading]:
        self.open += 1
        try:
            yield Reading(self._pages())
        finally:
            self.open -= 1

    def _pages(self) -> Iterator[Sequence[Record]]:
        for page in range(self.pages):
            if page == self.fails_at:
                raise StorageUnavailable("the store is gone")
            self.read += 1
            yield [{"_id": f"{page}-{row}"} for row in range(3)]


def paged(desk: Desk, pages: int, *, fails_at: int | None = None) -> Paged:
    storage = Paged(pages, fails_at=fails_at)
    client = desk.clients(storage=storage)
    client.put("/_buckets/things", headers=desk.admin, json=OPEN)
    return storage


@pytest.mark.parametrize("pages", [0, 1, 2, 3, 50])
def test_pages_join_to_one_array(desk: Desk, pages: int) -> None:
    """Every record once, in order, however many pages; and nothing stays open."""
    storage = paged(desk, pages)
    answer = desk.clients(storage=storage).get("/things")
    expected = [{"_id": f"{page}-{row}"} for page in range(pages) for row in range(3)]
    assert answer.json() == {"data": expected}
    assert ("Content-Length" in answer.headers) == (pages < 2)
    assert storage.open == 0


def test_head_of_a_large_answer_does_not_read_it(desk: Desk) -> None:
    """Two pages tell that it is large; the others stay where they are."""
    storage = paged(desk, 50)
    answer = desk.clients(storage=storage).head("/things")
    assert (answer.status_code, answer.content) == (200, b"")
    assert (storage.read, storage.open) == (2, 0)


@pytest.mark.parametrize("fails_at", [0, 1])
def test_a_store_that_fails_before_the_first_byte_is_unavailable(desk: Desk, fails_at: int) -> None:
    """What goes wrong while the first pages are read is a status of its own."""
    storage = paged(desk, 50, fails_at=fails_at)
    answer = desk.clients(storage=storage).get("/things")
    assert (answer.status_code, codes(answer)) == (503, ["storage_unavailable"])
    assert storage.open == 0
    assert any(isinstance(one, StoreAway) for one in desk.seen)


def test_a_store_that_fails_later_breaks_the_answer_off(desk: Desk) -> None:
    """Half an answer must not look like a whole one: the error goes on to the server.

    It is the store's, as before the first byte, and no fault of the program.
    """
    storage = paged(desk, 50, fails_at=5)
    with pytest.raises(StorageUnavailable):
        desk.clients(storage=storage).get("/things")
    assert storage.open == 0
    assert [one.reason for one in desk.seen if isinstance(one, StoreAway)] == ["the store is gone"]
    assert not any(isinstance(one, ServerFault) for one in desk.seen)


async def _taken_until_gone(storage: Paged, takes: int) -> list[Message]:
    """What is sent to a client that leaves after it took so many messages."""
    sent: list[Message] = []
    gone = anyio.Event()

    async def receive() -> Message:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)
        if len(sent) == takes:
            gone.set()
            await anyio.sleep(0)

    scope: Scope = {
        "type": "http",
        "method": "GET",
        "path": "/things",
        "query_string": b"",
        "headers": [],
    }
    await create_app(storage, observe=lambda _: None)(scope, receive, send)
    return sent


@pytest.mark.parametrize("takes", [1, 2, 10])
def test_a_client_that_leaves_ends_the_reading(desk: Desk, takes: int) -> None:
    """Nothing is read for nobody, and nothing stays open."""
    storage = paged(desk, 100_000)
    sent = anyio.run(_taken_until_gone, storage, takes)
    assert len(sent) <= takes + 2
    assert storage.read <= takes + 4
    assert storage.open == 0


def test_a_read_is_one_log_line(licences: Desk) -> None:
    """With the route's pattern and the bucket, and no query."""
    licences.seen.clear()
    licences.client.get("/licences?limit=1")
    (line,) = licences.seen
    assert isinstance(line, RequestAnswered)
    assert (line.method, line.route, line.bucket, line.status) == (
        "GET",
        "/{bucket}",
        "licences",
        200,
    )


# -- bounds ------------------------------------------------------------------------------------


def test_many_columns_leave_room_for_fewer_rows(desk: Desk) -> None:
    """What is bounded is how much an answer may be, not only how long."""
    desk.make("things")
    year = "period=hour&start_at=2010-01-01&end_at=2040-01-01"
    collects = "&".join(f"collect=f{n:02d}" for n in range(50))
    assert desk.client.get(f"/things?{year}").status_code == 200
    answer = desk.client.get(f"/things?{year}&{collects}")
    assert (answer.status_code, codes(answer)) == (400, ["too_many_rows"])


def test_a_relative_window_that_stays_is_one_query(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a window that slides is asked for twice."""
    token = desk.make("things")
    desk.client.post("/things", headers=token, json={"_timestamp": "2013-03-05", "aa": 1})
    asked: list[Query] = []
    groups = desk.storage.groups

    def counted(bucket: str, query: Query, **options: Any) -> Any:
        asked.append(query)
        return groups(bucket, query, **options)

    monkeypatch.setattr(desk.storage, "groups", counted)
    desk.client.get("/things?period=month&duration=1&end_at=2013-04-01")
    assert len(asked) == 1
    desk.client.get("/things?period=month&duration=2&end_at=2013-05-01")
    assert len(asked) == 3


def test_a_value_may_hold_any_character_and_be_filtered_by(desk: Desk) -> None:
    """Control characters too: they are values like any other."""
    token = desk.make("things", **OPEN)
    desk.client.post("/things", headers=token, json=[{"aa": "a\tb"}, {"aa": "a\0b"}])
    for text in ("a%09b", "a%00b"):
        assert len(desk.client.get(f"/things?filter_by=aa:{text}").json()["data"]) == 1


def test_a_zone_whose_plus_arrived_as_a_blank(desk: Desk) -> None:
    """As in times: no zone's name holds a blank."""
    desk.make("things")
    assert desk.client.get("/things?period=day&timezone=Etc/GMT+5").status_code == 200
