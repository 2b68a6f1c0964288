"""The pages of buckets: what they show, to whom, and the headers that all pages have."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest

from tests.api.conftest import Desk, codes
from tests.web.conftest import Person, words


def test_ones_buckets_are_listed(desk: Desk, person: Callable[..., Person]) -> None:
    desk.filled("things", {"aa": 1}, description="Things & more", max_age_expected=3600)
    desk.make("empty")
    desk.make("others")
    ann = person("things", "empty", "gone")
    shown = words(ann.get("/_user"))
    assert "things Upload a file to things Things & more 1 record, last written" in shown
    assert "Up to date" in shown
    assert "0 records, never written" in shown
    assert "others" not in shown
    assert 'href="http://testserver/things?period=month"' in ann.get("/_user").text
    desk.clock.move(3 * 3600)
    assert "Out of date by 2 hours" in words(ann.get("/_user"))
    assert "others" in words(person(email="boss@example.org", admin=True).get("/_user"))


def test_who_has_no_bucket_is_told_what_to_ask_for(person: Callable[..., Person]) -> None:
    answer = person().get("/_user")
    assert "No bucket is yours yet. Ask whoever runs this service" in words(answer)
    assert "backdrop user grant ann@example.org BUCKET" in words(answer)
    assert "make the first one" in words(person(email="boss@example.org", admin=True).get("/_user"))


def test_a_bucket_shows_its_newest_records_and_what_they_hold(
    desk: Desk, person: Callable[..., Person]
) -> None:
    days = [{"_timestamp": f"2013-01-{n:02}", "fee": n, "paid": True} for n in range(1, 31)]
    desk.filled("things", {"note": None}, *days, raw_queries_allowed=True)
    answer = person("things").get("/_user/buckets/things")
    shown = words(answer)
    assert "31 records, last written" in shown
    assert "The newest 10 records" in shown
    assert "2013-01-30T00:00:00+00:00 30 true" in shown.replace(" null", "")
    assert "2013-01-20T" not in shown
    assert "fee whole number" in shown
    assert "note null" in shown
    for path in ("?period=week", "", "?format=csv"):
        assert f'href="http://testserver/things{path}"' in answer.text
        assert desk.client.get(f"/things{path}").status_code == 200


def test_a_bucket_of_groups_shows_a_query_that_works(
    desk: Desk, person: Callable[..., Person]
) -> None:
    desk.filled("things", {"aa": 1})
    answer = person("things").get("/_user/buckets/things")
    assert 'href="http://testserver/things?period=month"' in answer.text
    assert 'href="http://testserver/things"' not in answer.text
    assert "Single records are not public" in words(answer)
    assert desk.client.get("/things?period=month").status_code == 200


@pytest.mark.parametrize(
    ("public", "record", "query"),
    [
        (False, {"aa": 1}, "?period=month"),
        (False, {"aa": 1, "_timestamp": "2013-01-31"}, "?period=month&collect=aa:sum"),
        (False, {"aa": 1, "name": "x", "other": "y"}, "?group_by=name&collect=aa:sum"),
        (True, {"name": "x"}, "?group_by=name"),
        (True, {"name": "x"}, ""),
    ],
)
def test_every_address_that_is_shown_gives_an_answer(
    desk: Desk, person: Callable[..., Person], public: bool, record: dict[str, Any], query: str
) -> None:
    desk.filled("things", record, raw_queries_allowed=public)
    ann, pattern = person("things"), r'<a id="[\w-]+" href="http://testserver(/things[^"]*)"'
    home = re.findall(pattern, ann.get("/_user").text)
    assert len(home) == 1
    shown = re.findall(pattern, ann.get("/_user/buckets/things").text)
    assert set(home) < set(shown)
    shown = [unescape(path) for path in shown]
    assert f"/things{query}" in shown
    for path in shown:
        assert desk.client.get(path).status_code == 200


@pytest.mark.parametrize(
    ("settings", "words_of_it"),
    [
        ({}, "for up to 30 minutes. The setting “Its records must be seen soon”"),
        ({"realtime": True}, "for up to 2 minutes."),
    ],
)
def test_a_bucket_says_how_long_browsers_keep_what_they_saw(
    desk: Desk, person: Callable[..., Person], settings: dict[str, Any], words_of_it: str
) -> None:
    desk.filled("things", {"aa": 1}, **settings)
    ann = person("things")
    assert words_of_it in words(ann.get("/_user/buckets/things"))
    assert words_of_it in words(ann.store(ann.upload(b"aa\n1\n")))
    patch = {"published": False}
    desk.client.patch("/_buckets/things", headers=desk.admin, json=patch)
    assert "browser that looked" not in words(ann.get("/_user/buckets/things"))


def test_what_can_not_be_shown_is_made_to_be(desk: Desk, person: Callable[..., Person]) -> None:
    desk.filled("things", {"aa": "<img src=x>\u202e\0", "bb": "x" * 500})
    answer = person("things").get("/_user/buckets/things")
    assert "<img" not in answer.text
    assert "<img src=x>\\u202e\\u0000" in words(answer)
    assert f"{'x' * 80}… " in words(answer)


def test_the_read_api_may_be_elsewhere(desk: Desk, person: Callable[..., Person]) -> None:
    desk.make("things")
    ann = person("things")
    elsewhere = desk.clients(read_url="https://data.example.org")
    elsewhere.cookies = ann.client.cookies
    assert 'href="https://data.example.org/things?period=month"' in elsewhere.get("/_user").text


@pytest.mark.parametrize("path", ["/_user", "/_user/buckets/things", "/_user/new", "/_user/users"])
def test_a_stranger_is_sent_to_sign_in(desk: Desk, path: str) -> None:
    desk.make("things")
    answer = Person(desk.clients()).get(path)
    assert (answer.status_code, answer.headers["Location"]) == (
        303,
        f"/_user/sign_in?next={path}",
    )
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_stranger_comes_back_to_the_upload_that_was_begun(desk: Desk) -> None:
    path = "/things/upload?upload=a-b_c"
    answer = Person(desk.clients()).get(path)
    assert answer.headers["Location"] == "/_user/sign_in?next=/things/upload%3Fupload%3Da-b_c"


@pytest.mark.parametrize(
    ("path", "allowed"),
    [("/_user", "GET, HEAD, OPTIONS"), ("/_user/new", "GET, HEAD, OPTIONS, POST")],
)
def test_a_page_says_which_methods_it_has(ann: Person, path: str, allowed: str) -> None:
    answer = ann.client.delete(path)
    assert (answer.status_code, answer.headers["Allow"]) == (405, allowed)
    assert "<main" in answer.text


@pytest.mark.parametrize("path", ["/_user", "/things/upload", "/data/aa/bb/upload"])
def test_no_other_origin_is_let_at_a_page(ann: Person, path: str) -> None:
    answer = ann.client.options(path)
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_a_bucket_that_is_not_ones_own_is_not_there(
    desk: Desk, person: Callable[..., Person]
) -> None:
    desk.make("others")
    ann = person("things")
    there, gone = ann.get("/_user/buckets/others"), ann.get("/_user/buckets/nothing")
    assert (there.status_code, gone.status_code) == (404, 404)
    assert (
        words(there).replace("others", "").split(" not_found")[0]
        == (words(gone).replace("nothing", "").split(" not_found")[0])
    )


@pytest.mark.parametrize(
    "path", ["/_user", "/_user/buckets/things", "/things/upload", "/_user/nothing", "/x-y/upload"]
)
def test_every_page_has_the_headers_of_pages(ann: Person, path: str) -> None:
    headers = ann.get(path).headers
    assert headers["Cache-Control"] == "no-store"
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["X-Content-Type-Options"] == "nosniff"
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "access-control-allow-origin" not in headers


def test_no_page_holds_a_script_or_style_of_its_own_or_from_elsewhere(admin: Person) -> None:
    for path in ("/_user", "/_user/new", "/_user/users", "/things/upload"):
        text = admin.get(path).text
        assert "style=" not in text
        assert "<style" not in text
        assert not re.search(r"<[^>]* on[a-z]+=", text)
        for part in text.split('src="')[1:] + text.split('<link rel="stylesheet" href="')[1:]:
            assert part.startswith("/_static/")


def test_files_are_kept_for_long_under_the_name_of_their_version(desk: Desk, ann: Person) -> None:
    path = ann.get("/_user").text.partition('href="/_static/')[2].partition('"')[0]
    found = desk.client.get(f"/_static/{path}")
    assert found.headers["Content-Type"] == "text/css; charset=utf-8"
    assert "immutable" in found.headers["Cache-Control"]
    plain = desk.client.get("/_static/pages.css")
    assert plain.headers["Cache-Control"] == "no-cache"
    known = {"If-None-Match": plain.headers["ETag"]}
    assert desk.client.get("/_static/pages.css", headers=known).status_code == 304
    for name in ("base.html", "..%2frender.py", "nothing.css"):
        assert desk.client.get(f"/_static/{name}").status_code == 404


def test_a_browser_at_the_root_is_led_to_the_pages(desk: Desk) -> None:
    browser = {"Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"}
    client = desk.clients()
    led = client.get("/", headers=browser, follow_redirects=False)
    assert (led.status_code, led.headers["Location"]) == (303, "/_user")
    for answer in (
        client.get("/"),
        client.get("/x/y/z", headers=browser),
        client.post("/", headers=browser),
        desk.clients(apis="read").get("/", headers=browser),
    ):
        assert (answer.status_code, codes(answer)) == (404, ["not_found"])
