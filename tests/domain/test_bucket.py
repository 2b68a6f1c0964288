"""The settings of a bucket: the table of contract 2."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backdrop.domain.bucket import (
    SETTINGS,
    Bucket,
    is_address_part,
    is_bucket_name,
    is_timezone,
    parse_bucket,
)
from backdrop.errors import InvalidSettings
from tests.strategies import all_zone_names

DEFAULTS: dict[str, Any] = {
    "description": "",
    "data_group": None,
    "data_type": None,
    "raw_queries_allowed": False,
    "published": True,
    "queryable": True,
    "read_token_required": False,
    "realtime": False,
    "auto_ids": [],
    "schema": None,
    "max_age_expected": None,
    "timezone": "UTC",
    "csv_types": "auto",
}


def refused(name: str, settings: dict[str, Any], base: Bucket | None = None) -> list[Any]:
    with pytest.raises(InvalidSettings) as caught:
        parse_bucket(name, settings, base=base)
    assert caught.value.message == caught.value.problems[0].message
    return [(problem.code, problem.where["setting"]) for problem in caught.value.problems]


@pytest.mark.parametrize(
    "name", ["ab", "a1", "a_", "a-b", "things", "z" * 64, "data1", "datax", "a--__"]
)
def test_a_name_of_the_form_is_a_buckets(name: str) -> None:
    assert is_bucket_name(name)
    assert parse_bucket(name, {}).name == name


@pytest.mark.parametrize(
    "name",
    ["", "a", "A1", "aB", "1a", "_ab", "-ab", "data", "z" * 65, "a b", "ab\n", "é1", "aé", "a%"],
)
def test_no_other_name_is(name: str) -> None:
    assert not is_bucket_name(name)
    assert refused(name, {}) == [("invalid_bucket_name", "name")]


@pytest.mark.parametrize("part", ["a", "A", "9", "a-b_c", "data", "Z" * 64, "carers-allowance"])
def test_an_address_part_is_accepted(part: str) -> None:
    assert is_address_part(part)


@pytest.mark.parametrize("part", ["", "_a", "-a", "a" * 65, "a/b", "a b", "a\n", "é", "a."])
def test_no_other_address_part_is(part: str) -> None:
    assert not is_address_part(part)


def test_the_defaults_are_the_contracts() -> None:
    assert parse_bucket("things", {}).as_json() == {"name": "things", **DEFAULTS}
    assert parse_bucket("things", {}) == Bucket(name="things")


def test_the_settings_are_all_of_the_buckets_fields_but_the_name() -> None:
    assert ["name", *SETTINGS] == [field.name for field in dataclasses.fields(Bucket)]
    assert list(DEFAULTS) == list(SETTINGS)


GOOD: dict[str, tuple[Any, ...]] = {
    "description": ("", "words", "é😀\n", "x" * 10_000),
    "data_group": (None,),
    "data_type": (None,),
    "raw_queries_allowed": (True, False),
    "published": (True, False),
    "queryable": (True, False),
    "read_token_required": (True, False),
    "realtime": (True, False),
    "auto_ids": ([], ["aa"], ["aa", "bb"], ["aa", "AA"], ["_timestamp", "aa"], ["_end_at"]),
    "schema": (None, True, False, {}, {"type": "object"}),
    "max_age_expected": (None, 1, 86_400, 2**53 - 1),
    "timezone": ("UTC", "Europe/London", "America/Argentina/Buenos_Aires", "Etc/GMT+12", "GMT"),
    "csv_types": ("auto", "text"),
}
BAD: dict[str, tuple[Any, ...]] = {
    "description": (None, 5, True, [], {}, "x" * 10_001),
    "data_group": ("", 5, True, [], "a/b", "_a", "a" * 65, "a b", "a\n"),
    "data_type": ("", 5, True, [], "a/b", "_a", "a" * 65, "a b", "a\n"),
    **{
        flag: (None, 0, 1, "true", "", [], {})
        for flag in (
            "raw_queries_allowed",
            "published",
            "queryable",
            "read_token_required",
            "realtime",
        )
    },
    "auto_ids": (
        None, "aa", {"aa": 1}, 5, [1], [None], [[]], ["a"], ["a-b"], ["aa", "aa"], ["_id"],
        ["aa", "_id"], ["_foo"], ["_count"], ["aa\n"], [""], ["x" * 65],
    ),
    "schema": (5, "{}", [], 0, 1),
    "max_age_expected": (0, -1, 1.5, 1.0, "60", True, False, [], 2**53, 10**30),
    "timezone": (
        None, "", 5, [], "Mars/Base", "europe/london", "London", "America", "../etc/passwd",
        "/etc/passwd", "/usr/share/zoneinfo/UTC", "Europe/London ", " UTC", "UTC\n",
        "Europe//London", "Europe/London/", "Europe/../UTC", "+01:00", "UTC+1", "zone.tab",
        "tzdata.zi", "leapseconds", "a" * 5_000, "é", "UTC\0",
    ),
    "csv_types": (None, "", "Auto", "number", True, [], {}),
}  # fmt: skip


def test_every_setting_is_in_the_tables() -> None:
    assert set(GOOD) == set(BAD) == set(SETTINGS)


@pytest.mark.parametrize(
    ("setting", "value"), [(setting, value) for setting, row in GOOD.items() for value in row]
)
def test_a_good_value_is_kept_and_shown(setting: str, value: Any) -> None:
    bucket = parse_bucket("things", {setting: value})
    assert bucket.as_json() == {"name": "things", **DEFAULTS, setting: value}
    assert type(bucket.as_json()[setting]) is type(value)


@pytest.mark.parametrize(
    ("setting", "value"), [(setting, value) for setting, row in BAD.items() for value in row]
)
def test_a_bad_value_is_refused(setting: str, value: Any) -> None:
    assert refused("things", {setting: value}) == [("invalid_setting", setting)]


def test_all_problems_are_listed_at_once() -> None:
    settings = {"name": "other", "nope": 1, "published": 1, "realtime": True, "timezone": "Mars"}
    assert refused("Bad", settings) == [
        ("invalid_bucket_name", "name"),
        ("invalid_setting", "name"),
        ("unknown_setting", "nope"),
        ("invalid_setting", "published"),
        ("invalid_setting", "timezone"),
    ]


def test_a_name_in_the_settings_must_be_the_buckets() -> None:
    assert parse_bucket("things", {"name": "things"}) == Bucket(name="things")
    for name in ("other", "", None, 5):
        assert refused("things", {"name": name}) == [("invalid_setting", "name")]


def test_the_two_parts_of_an_address_go_together() -> None:
    bucket = parse_bucket("things", {"data_group": "aa", "data_type": "bb"})
    assert bucket.address == ("aa", "bb")
    assert Bucket(name="things").address is None
    assert refused("things", {"data_group": "aa"}) == [("invalid_setting", "data_type")]
    assert refused("things", {"data_type": "bb"}) == [("invalid_setting", "data_group")]
    assert refused("things", {"data_group": None}, bucket) == [("invalid_setting", "data_group")]
    assert parse_bucket("things", {"data_group": None, "data_type": None}, base=bucket) == Bucket(
        name="things"
    )


def test_over_a_base_only_what_is_given_changes() -> None:
    base = parse_bucket(
        "things", {"realtime": True, "auto_ids": ["aa"], "schema": {"type": "object"}}
    )
    changed = parse_bucket("things", {"realtime": False, "description": "x"}, base=base)
    assert changed == dataclasses.replace(base, realtime=False, description="x")
    assert parse_bucket("things", {}, base=base) == base


def test_auto_ids_are_kept_as_a_tuple_and_shown_as_a_list() -> None:
    bucket = parse_bucket("things", {"auto_ids": ["bb", "aa"]})
    assert bucket.auto_ids == ("bb", "aa")
    assert bucket.as_json()["auto_ids"] == ["bb", "aa"]


def test_what_is_shown_makes_the_same_bucket_again() -> None:
    settings = {"data_group": "aa", "data_type": "bb", "auto_ids": ["aa"], "timezone": "Asia/Tokyo"}
    bucket = parse_bucket("things", settings)
    assert parse_bucket("things", bucket.as_json()) == bucket


@pytest.mark.parametrize(
    "name", ["localtime", "Factory", "posix/Europe/London", "posixrules", "../etc/passwd", ""]
)
def test_what_is_no_place_is_no_zone(name: str) -> None:
    assert not is_timezone(name)


@pytest.mark.parametrize("name", sorted({*all_zone_names()} - {"localtime", "Factory"}))
def test_every_zone_that_is_installed_is_known(name: str) -> None:
    assert is_timezone(name)
    assert Bucket(name="things", timezone=name).zone.key == name


@given(st.text())
def test_any_text_is_a_zone_or_it_is_not(text: str) -> None:
    assert is_timezone(text) in (True, False)


@given(
    st.dictionaries(
        st.one_of(st.sampled_from([*SETTINGS, "name"]), st.text(max_size=5)),
        st.recursive(
            st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
            lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
            max_leaves=5,
        ),
        max_size=5,
    )
)
def test_any_object_is_a_bucket_or_invalid_settings(settings: dict[str, Any]) -> None:
    try:
        bucket = parse_bucket("things", settings)
    except InvalidSettings as error:
        problems = error.problems
    else:
        shown = bucket.as_json()
        assert {setting: shown[setting] for setting in settings} == settings
        return
    places = {problem.where["setting"] for problem in problems}
    assert places <= {*settings, "data_group", "data_type"}
