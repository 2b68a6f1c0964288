"""The frozen settings of one bucket, and the one place that checks them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from zoneinfo import ZoneInfo

from backdrop.domain.values import ID, RESERVED_FIELDS, is_field_name
from backdrop.errors import InvalidSettings, Problem, did_you_mean

NAME_EXPECTED = (
    "a lower-case letter, then 1 to 63 lower-case letters, digits, _ or -, and not 'data'"
)
_matches_name = re.compile(r"[a-z][a-z0-9_-]{1,63}").fullmatch
_matches_address = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}").fullmatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A named collection's settings. The defaults are those of a bucket made without any."""

    name: str
    description: str = ""
    data_group: str | None = None
    data_type: str | None = None
    raw_queries_allowed: bool = False
    published: bool = True
    queryable: bool = True
    read_token_required: bool = False
    realtime: bool = False
    auto_ids: tuple[str, ...] = ()
    schema: dict[str, Any] | bool | None = None
    max_age_expected: int | None = None
    timezone: str = "UTC"
    csv_types: Literal["auto", "text"] = "auto"

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)

    @property
    def address(self) -> tuple[str, str] | None:
        """The bucket's second address, `/data/{group}/{type}`, if it has one."""
        if self.data_group is None or self.data_type is None:
            return None
        return (self.data_group, self.data_type)

    def as_json(self) -> dict[str, Any]:
        """The settings as they stand in answers: every one, by its name, at the top."""
        settings = {name: getattr(self, name) for name in ("name", *SETTINGS)}
        settings["auto_ids"] = list(self.auto_ids)
        return settings


def is_bucket_name(name: str) -> bool:
    return _matches_name(name) is not None and name != "data"


def is_address_part(text: str) -> bool:
    return _matches_address(text) is not None


def is_timezone(name: str) -> bool:
    """Whether `name` is an IANA time zone that this installation knows."""
    if not re.fullmatch(r"[A-Za-z0-9_+\-]+(/[A-Za-z0-9_+\-]+)*", name):
        return False  # keeps paths such as ../etc away from the zone files
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return False
    return True


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= 10_000


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_optional_address_part(value: object) -> bool:
    return value is None or (isinstance(value, str) and is_address_part(value))


def _is_auto_ids(value: object) -> bool:
    return (
        isinstance(value, (list, tuple))
        and all(isinstance(name, str) and is_field_name(name) for name in value)
        and all(
            name != ID and (not name.startswith("_") or name in RESERVED_FIELDS) for name in value
        )
        and len(set(value)) == len(value)
    )


def _is_schema(value: object) -> bool:
    return value is None or isinstance(value, (dict, bool))


def _is_optional_seconds(value: object) -> bool:
    return value is None or (
        isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**53
    )


_FLAG = (_is_flag, "true or false")

SETTINGS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "description": (_is_text, "a text of at most 10,000 characters"),
    "data_group": (_is_optional_address_part, "null, or letters, digits, _ or - (at most 64)"),
    "data_type": (_is_optional_address_part, "null, or letters, digits, _ or - (at most 64)"),
    "raw_queries_allowed": _FLAG,
    "published": _FLAG,
    "queryable": _FLAG,
    "read_token_required": _FLAG,
    "realtime": _FLAG,
    "auto_ids": (_is_auto_ids, "a list of different field names, without _id"),
    "schema": (_is_schema, "null or a JSON Schema"),
    "max_age_expected": (_is_optional_seconds, "null or a whole number of seconds above 0"),
    "timezone": (
        lambda value: isinstance(value, str) and is_timezone(value),
        "an IANA time zone such as Europe/London",
    ),
    "csv_types": (lambda value: value in ("auto", "text"), "'auto' or 'text'"),
}
"""Every setting but the name: what it may be, as a check and in words."""


def parse_bucket(name: str, settings: Mapping[str, Any], *, base: Bucket | None = None) -> Bucket:
    """The bucket called `name` with `settings`, over the defaults or over `base`'s.

    Raises InvalidSettings with a problem for each setting that is unknown or not as expected.
    """
    problems = []

    def refuse(code: str, message: str, setting: str) -> None:
        problems.append(Problem(code, message, {"setting": setting}))

    if not is_bucket_name(name):
        refuse("invalid_bucket_name", f"a bucket's name is {NAME_EXPECTED}, not {name!r}", "name")
    for setting, value in settings.items():
        if setting == "name":
            if value != name:
                refuse("invalid_setting", f"name must be the path's, {name!r}", setting)
        elif setting not in SETTINGS:
            refuse(
                "unknown_setting",
                f"there is no setting {setting!r}; {did_you_mean(setting, SETTINGS)}",
                setting,
            )
        elif not SETTINGS[setting][0](value):
            expected = SETTINGS[setting][1]
            refuse("invalid_setting", f"{setting} must be {expected}", setting)
    if problems:
        raise InvalidSettings(problems[0].message, problems=problems)

    given = {key: value for key, value in settings.items() if key != "name"}
    if "auto_ids" in given:
        given["auto_ids"] = tuple(given["auto_ids"])
    bucket = dataclasses.replace(base or Bucket(name=name), **given)
    if (bucket.data_group is None) != (bucket.data_type is None):
        missing = "data_group" if bucket.data_group is None else "data_type"
        refuse("invalid_setting", "data_group and data_type go together: give both", missing)
        raise InvalidSettings(problems[0].message, problems=problems)
    return bucket
