"""ETags, Cache-Control and the cache of recent answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from backdrop.api.caching import AnswerCache, Questions, has_etag
from backdrop.api.params import parse_query
from backdrop.api.read_app import question_of
from backdrop.domain.bucket import Bucket
from backdrop.storage.port import BucketState
from tests.api.conftest import Desk


@pytest.fixture
def token(desk: Desk) -> dict[str, str]:
    token = desk.make("cached", raw_queries_allowed=True)
    rows = [{"_id": f"a{n}", "kind": "x", "size": n} for n in range(3)]
    assert desk.client.post("/cached", headers=token, json=rows).status_code == 200
    return token


def etag(desk: Desk, query: str = "group_by=kind") -> str:
    value: str = desk.client.get(f"/cached?{query}").headers["etag"]
    return value


@pytest.mark.usefixtures("token")
def test_asking_twice_gives_one_etag(desk: Desk) -> None:
    """It is strong, and the same for the same question in another order of its parameters."""
    first = etag(desk, "group_by=kind&filter_by=kind:x&filter_by=size:1")
    assert first.startswith('"')
    assert first == etag(desk, "filter_by=size:1&filter_by=kind:x&group_by=kind")
    assert first == etag(desk, "filter_by=size%3A1&filter_by=kind:x&group_by=kind&timezone=UTC")


@pytest.mark.usefixtures("token")
def test_each_question_has_its_own(desk: Desk) -> None:
    """What changes the answer's bytes changes the ETag."""
    questions = [
        "",
        "format=csv",
        "limit=2",
        "group_by=kind",
        "group_by=size",
        "group_by=kind&collect=size",
        "group_by=kind&collect=size:set",
        "group_by=kind&collect=size:sum",
        "period=day",
        "period=day&timezone=Europe/London",
        "filter_by=size:1",
        "filter_by_prefix=kind:x",
    ]
    assert len({etag(desk, question) for question in questions}) == len(questions)


def test_every_write_and_every_change_of_settings_moves_it(
    desk: Desk, token: dict[str, str]
) -> None:
    """POST, PUT, PATCH, DELETE and settings: no ETag comes twice."""
    client = desk.client
    seen = [etag(desk)]
    for change in (
        lambda: client.post("/cached", headers=token, json={"_id": "a0", "kind": "x", "size": 0}),
        lambda: client.patch("/cached/a0", headers=token, json={"size": 0}),
        lambda: client.delete("/cached/a0", headers=token),
        lambda: client.put("/cached", headers=token, json=[]),
        lambda: client.patch("/_buckets/cached", headers=desk.admin, json={"description": "new"}),
        lambda: client.put(
            "/_buckets/cached", headers=desk.admin, json={"raw_queries_allowed": True}
        ),
    ):
        assert change().status_code == 200
        seen.append(etag(desk))
    assert client.delete("/_buckets/cached", headers=desk.admin).status_code == 200
    desk.make("cached")
    seen.append(etag(desk))
    assert len(set(seen)) == len(seen)


@pytest.mark.usefixtures("token")
@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', "*"])
def test_not_modified(desk: Desk, form: str) -> None:
    """Who has the answer already gets 304 without a body, for HEAD too, with its headers."""
    tag = etag(desk)
    for method in ("GET", "HEAD"):
        headers = {"If-None-Match": form.format(tag)}
        answer = desk.client.request(method, "/cached?group_by=kind", headers=headers)
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == tag
        assert answer.headers["cache-control"] == "max-age=1800, must-revalidate"
        assert answer.headers["access-control-allow-origin"] == "*"


@pytest.mark.usefixtures("token")
def test_etags_may_come_in_several_headers(desk: Desk) -> None:
    """They are one list (RFC 9110, 5.3)."""
    headers = [("If-None-Match", '"other"'), ("If-None-Match", etag(desk))]
    assert desk.client.get("/cached?group_by=kind", headers=headers).status_code == 304


@pytest.mark.usefixtures("token")
def test_neither_304_nor_a_cached_answer_touches_the_records(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A popular question costs one query for each write."""
    asked: list[str] = []
    groups = desk.storage.groups

    def counted(bucket: str, *args: Any, **options: Any) -> Any:
        asked.append(bucket)
        return groups(bucket, *args, **options)

    monkeypatch.setattr(desk.storage, "groups", counted)
    first = desk.client.get("/cached?group_by=kind")
    for _ in range(3):
        again = desk.client.get("/cached?group_by=kind")
        assert (again.content, again.headers["etag"]) == (first.content, first.headers["etag"])
    headers = {"If-None-Match": first.headers["etag"]}
    assert desk.client.get("/cached?group_by=kind", headers=headers).status_code == 304
    assert asked == ["cached"]


@pytest.mark.parametrize("published", [True, False])
@pytest.mark.parametrize("form", ["json", "csv"])
def test_a_kept_answer_has_the_headers_of_the_first(desk: Desk, form: str, published: bool) -> None:
    """All but its id: whoever asks can't tell whether it was kept."""
    desk.filled("cached", {"kind": "x"}, published=published)
    (first, names), (again, names_again) = (
        ({**answer.headers, "request-id": ""}, sorted(answer.headers))
        for answer in (desk.client.get(f"/cached?group_by=kind&format={form}") for _ in range(2))
    )
    assert first == again
    assert names == names_again
    assert ("content-disposition" in first) == (form == "csv")
    assert ("warning" in first) == (form == "csv" and not published)


@pytest.mark.parametrize(
    ("query", "moves"),
    [
        ("period=day&duration=2", True),
        ("period=day&duration=2&end_at=2024-05-01", False),
        ("period=day&duration=2&start_at=2024-04-01", False),
        ("period=day&start_at=2024-04-01&end_at=2024-05-01", False),
    ],
)
@pytest.mark.usefixtures("token")
def test_only_a_question_of_now_is_another_tomorrow(desk: Desk, query: str, moves: bool) -> None:
    """What a query string means is remembered where the clock has no part in it."""
    before = etag(desk, query)
    assert etag(desk, query) == before
    desk.clock.move(86_400)
    assert (etag(desk, query) != before) == moves


def test_a_question_is_understood_anew_after_each_change_of_the_settings(desk: Desk) -> None:
    """The same query string may then mean something else, or be refused."""
    desk.make("cached", raw_queries_allowed=True)
    query = "/cached?start_at=2024-05-01&end_at=2024-05-02"
    assert desk.client.get(query).status_code == 200
    desk.client.patch("/_buckets/cached", headers=desk.admin, json={"raw_queries_allowed": False})
    assert desk.client.get(query).status_code == 400
    assert desk.client.get("/cached?period=day").headers["cache-control"].startswith("max-age=1800")
    desk.client.patch("/_buckets/cached", headers=desk.admin, json={"realtime": True})
    assert desk.client.get("/cached?period=day").headers["cache-control"].startswith("max-age=120")


def test_two_buckets_are_asked_the_same(desk: Desk) -> None:
    for name in ("one", "two"):
        desk.filled(name, {"name": name})
    for name in ("one", "two") * 2:
        assert desk.data(f"/{name}?group_by=name") == [{"name": name, "_count": 1}]


def test_so_many_questions_are_remembered() -> None:
    """The oldest go first. What is long, or is another one later, is not kept."""
    bucket = Bucket(name="cached")
    state = BucketState(bucket, 1, 0, None)
    questions = Questions(3)

    def asked(query_string: bytes) -> None:
        now = datetime(2024, 5, 1, tzinfo=UTC)
        understood = parse_query(query_string, timezone="UTC", now=now)
        questions.put(query_string, state, question_of(understood, state))

    kept = [b"limit=%d" % limit for limit in range(1, 6)]
    for query_string in kept:
        asked(query_string)
    asked(b"period=day&duration=2")
    asked(b"filter_by=kind:" + b"x" * 2_000)
    found = {one for one in kept if questions.get(one, state) is not None}
    assert found == set(kept[-3:])
    assert questions.get(kept[-1], BucketState(bucket, 2, 0, None)) is None
    assert questions.get(kept[-1], BucketState(Bucket(name="other"), 1, 0, None)) is None


def test_a_write_is_seen_by_the_next_read(desk: Desk, token: dict[str, str]) -> None:
    """The cache never answers with what was before an acknowledged write."""
    for size in range(4, 20):
        row = {"_id": f"a{size}", "kind": "x", "size": size}
        assert desk.client.post("/cached", headers=token, json=row).status_code == 200
        answer = desk.client.get("/cached?group_by=kind").json()["data"]
        assert answer == [{"kind": "x", "_count": size}]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "max-age=1800, must-revalidate"),
        ({"realtime": True}, "max-age=120, must-revalidate"),
        ({"published": False}, "no-cache"),
        ({"published": False, "realtime": True}, "no-cache"),
    ],
)
def test_cache_control(desk: Desk, settings: dict[str, Any], expected: str) -> None:
    """How long an answer may be kept is the bucket's setting."""
    desk.make("cached", **settings)
    assert desk.client.get("/cached?group_by=kind").headers["cache-control"] == expected


def test_answers_behind_a_token_are_not_kept(desk: Desk) -> None:
    """no-cache, so that a shared cache asks each time and the token is looked at."""
    desk.make("cached", read_token_required=True)
    reader = desk.token("cached", scope="read")
    answer = desk.client.get("/cached?group_by=kind", headers=reader)
    assert answer.headers["cache-control"] == "no-cache"
    tag = answer.headers["etag"]
    assert desk.client.get("/cached?group_by=kind").status_code == 401
    bare = {"If-None-Match": tag}
    assert desk.client.get("/cached?group_by=kind", headers=bare).status_code == 401


@pytest.mark.usefixtures("token")
def test_errors_have_no_etag(desk: Desk) -> None:
    """An error is not to be kept."""
    answer = desk.client.get("/cached?perod=day")
    assert (answer.status_code, answer.headers["cache-control"]) == (400, "no-cache")
    assert "etag" not in answer.headers


def test_an_answer_that_a_write_overtook_has_no_etag(
    desk: Desk, token: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a write comes between the ETag and the query, the answer is not kept under it."""
    records = desk.storage.records

    @contextmanager
    def overtaken(*args: Any, **options: Any) -> Iterator[Any]:
        with records(*args, **options) as reading:
            desk.client.post("/cached", headers=token, json={"kind": "late"})
            yield reading

    before = etag(desk, "sort_by=kind:ascending")
    with monkeypatch.context() as patched:
        patched.setattr(desk.storage, "records", overtaken)
        assert "etag" not in desk.client.get("/cached").headers
    after = desk.client.get("/cached")
    assert "late" in after.text
    assert after.headers["etag"] != before


def test_the_cache_keeps_to_its_room() -> None:
    """The least recently used go first; one that is too large for it is not kept at all."""
    cache = AnswerCache(100)
    for name in range(12):
        cache.put(str(name), b"x" * 10)
        cache.get("0")
    kept = [name for name in range(12) if cache.get(str(name)) is not None]
    assert kept == [0, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    cache.put("large", b"x" * 11)
    assert cache.get("large") is None


def test_one_thread_makes_while_the_others_wait() -> None:
    """Of many that miss at once, one computes."""
    cache = AnswerCache(1_000)
    made: list[int] = []
    start = threading.Barrier(8)

    def ask(number: int) -> None:
        start.wait()
        with cache.making("tag"):
            if cache.get("tag") is None:
                made.append(number)
                cache.put("tag", b"body")

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_an_answer_that_is_not_kept_is_made_by_all_at_once() -> None:
    """Those that waited for an answer which is too large to keep don't wait for each other."""
    cache = AnswerCache(10)
    together = threading.Barrier(4)
    passed: list[int] = []

    def ask() -> None:
        with cache.making("tag"):
            passed.append(together.wait(timeout=20))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    with cache.making("tag"):
        for thread in threads:
            thread.start()
        time.sleep(0.5)  # until all of them wait
        assert not passed
    for thread in threads:
        thread.join()
    assert len(passed) == 4


def test_if_none_match() -> None:
    """RFC 9110, 13.1.2: a list, weak or not, or any."""
    assert not has_etag(None, '"a"')
    assert not has_etag("", '"a"')
    assert not has_etag('"b", W/"c"', '"a"')
    assert has_etag('"b",W/"a"', '"a"')
