"""The settings of the server and of the commands: one frozen value, made from one mapping.

Each setting is a flag, an environment variable `BACKDROP_…` and a key of `backdrop.toml`. The flag
wins over the environment, and the environment over the file.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from backdrop.domain.values import MOST_FIELDS, MOST_FIELDS_EVER

PREFIX = "BACKDROP_"
FILE = "backdrop.toml"
CONFIG_VARIABLE = f"{PREFIX}CONFIG"
OTHER_VARIABLES = (CONFIG_VARIABLE, f"{PREFIX}COPY_FROM", f"{PREFIX}COPY_TO")
CONFIG_WORDS = f"a file of settings [{FILE}, if there is one] (env: {CONFIG_VARIABLE})"


class BadSettings(Exception):
    """The message says which settings are wrong, where they were given and what was expected."""


class Secret:
    """A text that shows itself only to `reveal()`: not in a log, a traceback or a message.

    `place` says where it was given, for messages.
    """

    __slots__ = ("_text", "place")

    def __init__(self, text: str, place: str = "") -> None:
        self._text = text
        self.place = place

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "Secret('…')"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


# What each kind of setting accepts: text (of a flag, a variable, a file) or the file's own types.
# They raise ValueError, whose message ends the sentence "port must be …".


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a text that is not empty")
    return value.strip()


def _any_secret(value: object) -> Secret:
    if not isinstance(value, str) or not 1 <= len(value) <= 200 or not _is_printable(value):
        raise ValueError("1 to 200 printable ASCII characters without blanks")
    return Secret(value)


def _secret(value: object) -> Secret:
    if not isinstance(value, str) or not 8 <= len(value) <= 200 or not _is_printable(value):
        raise ValueError("8 to 200 printable ASCII characters without blanks")
    return Secret(value)


def _is_printable(value: str) -> bool:
    return all("!" <= character <= "~" for character in value)


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    raise ValueError("true or false")


def _whole(low: int, high: int) -> Callable[[object], int]:
    def parse(value: object) -> int:
        number = (
            int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value
        )
        if isinstance(number, bool) or not isinstance(number, int) or not low <= number <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return number

    return parse


_UNITS = {"": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def _size(value: object) -> int:
    number = value
    if isinstance(value, str):
        digits = value.strip().rstrip("KMGikmgBb ")
        unit = value.strip()[len(digits) :].strip().lower()
        if digits.isascii() and digits.isdigit() and unit in _UNITS:
            number = int(digits) * _UNITS[unit]
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= 2**40:
        raise ValueError("a number of bytes such as 33554432 or 32MiB")
    return number


def _url(value: object) -> str:
    if isinstance(value, str):
        parts = urlsplit(value)
        if parts.scheme in ("http", "https") and parts.hostname and not parts.query:
            return value.rstrip("/")
    raise ValueError("an address such as http://127.0.0.1:3038")


def _origin(value: object) -> str:
    if isinstance(value, str) and _is_origin(value.lower().rstrip("/")):
        return value.lower().rstrip("/")
    raise ValueError("an address without a path, such as https://backdrop.example.org")


_is_origin = re.compile(r"https?://(?:[a-z0-9.-]+|\[[0-9a-f:]+\])(?::[0-9]{1,5})?").fullmatch


def _document(value: object) -> str:
    if isinstance(value, str):
        parts = urlsplit(value)
        if parts.scheme in ("http", "https") and parts.hostname and not parts.fragment:
            return value
    raise ValueError(
        "an address such as https://login.example.org/.well-known/openid-configuration"
    )


def _as(parse: Callable[[object], Any], metavar: str | None, words: str) -> dict[str, Any]:
    """How a setting is parsed, and what `--help` says of it."""
    is_secret = parse in (_secret, _any_secret)
    return {"parse": parse, "metavar": metavar, "help": words, "is_secret": is_secret}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting, with its default. `None` of `port` is the default of the command."""

    host: str = field(default="127.0.0.1", metadata=_as(_text, "ADDRESS", "address to listen on"))
    port: int | None = field(
        default=None,
        metadata=_as(
            _whole(0, 65535),
            "PORT",
            "port to listen on; 0 takes a free one [serve, read 3038; write 3039]",
        ),
    )
    store: str = field(
        default="duckdb:backdrop.duckdb",
        repr=False,  # it may hold a password
        metadata=_as(_text, "URL", "where records are kept: duckdb:FILE, mongodb://… or memory:"),
    )
    workers: int = field(
        default=1,
        metadata=_as(_whole(1, 256), "N", "processes, where the store can be shared"),
    )
    admin_token: Secret | None = field(
        default=None,
        metadata=_as(
            _any_secret, "TOKEN", "opens the admin API; better by variable or file than by flag"
        ),
    )
    demo: bool = field(
        default=False,
        metadata=_as(_flag, None, "begin with two buckets to try: flights and test"),
    )
    max_body: int = field(
        default=32 * 2**20,
        metadata=_as(_size, "SIZE", "largest body of a request as sent, such as 32MiB"),
    )
    max_bodies: int = field(
        default=512 * 2**20,
        metadata=_as(_size, "SIZE", "bytes of all bodies that are under way together"),
    )
    max_unpacked: int = field(
        default=64 * 2**20,
        metadata=_as(_size, "SIZE", "largest body of a request once unpacked"),
    )
    max_unpacking: int = field(
        default=0,
        metadata=_as(
            _whole(0, 10**6),
            "N",
            "how many times as large as sent a body may be unpacked; 0 is any",
        ),
    )
    max_records: int = field(
        default=2_000_000,
        metadata=_as(_whole(1, 10**8), "N", "most records of one request"),
    )
    max_fields: int = field(
        default=MOST_FIELDS,
        metadata=_as(_whole(1, MOST_FIELDS_EVER), "N", "most fields of a bucket"),
    )
    max_header_seconds: int = field(
        default=30,
        metadata=_as(_whole(1, 60), "N", "how long the head of a request may take to arrive"),
    )
    max_body_seconds: int = field(
        default=600,
        metadata=_as(_whole(1, 86_400), "N", "how long the body of a request may take to arrive"),
    )
    min_body_rate: int = field(
        default=1024,
        metadata=_as(
            _whole(1, 10**9), "N", "bytes of a body that must come a second, after half a minute"
        ),
    )
    max_answer_seconds: int = field(
        default=600,
        metadata=_as(
            _whole(1, 86_400), "N", "how long a client may take for an answer that is streamed"
        ),
    )
    max_streams: int = field(
        default=64,
        metadata=_as(_whole(1, 10**4), "N", "answers of many records that are taken at once"),
    )
    max_writes: int = field(
        default=40,
        metadata=_as(_whole(1, 256), "N", "writes of records that run at once; others wait"),
    )
    max_engine_memory: int | None = field(
        default=None,
        metadata=_as(
            _size, "SIZE", "memory for DuckDB, all queries together [80% of the machine's]"
        ),
    )
    max_engine_files: int = field(
        default=10 * 2**30,
        metadata=_as(_size, "SIZE", "temporary files of DuckDB beside the store"),
    )
    max_upload: int = field(
        default=50 * 2**20,
        metadata=_as(_size, "SIZE", "largest file that is uploaded on the pages"),
    )
    max_rows: int = field(
        default=1_000_000,
        metadata=_as(
            _whole(1, 10**9), "N", "most rows of an answer of groups, periods without records too"
        ),
    )
    max_queries: int = field(
        default=16,
        metadata=_as(_whole(1, 256), "N", "queries that run at once; others wait"),
    )
    max_waiting: int = field(
        default=1_000,
        metadata=_as(_whole(0, 10**6), "N", "queries that may wait; those past it are refused"),
    )
    max_query_seconds: int = field(
        default=30,
        metadata=_as(_whole(1, 86_400), "N", "how long the store may work on one query"),
    )
    max_requests_a_second: int = field(
        default=0,
        metadata=_as(_whole(0, 10**6), "N", "of one token, and of one address; 0 is any number"),
    )
    max_cached: int = field(
        default=64 * 2**20,
        metadata=_as(_size, "SIZE", "room for recent answers, kept in memory"),
    )
    audit_days: int = field(
        default=90,
        metadata=_as(_whole(1, 36_500), "N", "days after which the audit log forgets"),
    )
    metrics: bool = field(
        default=False,
        metadata=_as(_flag, None, "answer /_metrics, for Prometheus, to who has the token"),
    )
    metrics_token: Secret | None = field(
        default=None,
        metadata=_as(
            _secret, "TOKEN", "opens /_metrics alone; better by variable or file than by flag"
        ),
    )
    stop_seconds: int = field(
        default=30,
        metadata=_as(
            _whole(0, 3600), "N", "how long requests may go on once the server is told to stop"
        ),
    )
    public_url: str | None = field(
        default=None,
        metadata=_as(
            _origin,
            "URL",
            "where browsers reach the pages [its own address, if only this machine reaches it]",
        ),
    )
    read_url: str | None = field(
        default=None,
        metadata=_as(
            _url, "URL", "the read API's address as the pages show it [the address of the pages]"
        ),
    )
    oauth_base_url: str | None = field(
        default=None, metadata=_as(_url, "URL", "sign-in with GOV.UK Signon: its address")
    )
    oidc_discovery_url: str | None = field(
        default=None,
        metadata=_as(
            _document, "URL", "sign-in with OpenID Connect: the address of its description"
        ),
    )
    oauth_client_id: str | None = field(
        default=None, metadata=_as(_text, "ID", "how the sign-in service knows Backdrop")
    )
    oauth_client_secret: Secret | None = field(
        default=None,
        metadata=_as(
            _any_secret, "SECRET", "what proves it; better by variable or file than by flag"
        ),
    )
    url: str = field(
        default="http://127.0.0.1:3038",
        metadata=_as(_url, "URL", "the server that commands talk to"),
    )
    token: Secret | None = field(
        default=None,
        metadata=_as(_secret, "TOKEN", "a bucket's write token; better by variable than by flag"),
    )


FIELDS: Mapping[str, dataclasses.Field[Any]] = {
    one.name: one for one in dataclasses.fields(Settings)
}


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + name.upper()


def words_for(name: str) -> str:
    """What a setting is, for `--help`, with its variable and its default."""
    found = FIELDS[name]
    shown = found.default
    if found.metadata["parse"] is _size and isinstance(shown, int):
        shown = f"{shown // 2**20}MiB"
    default = "" if found.default in (None, False) else f" [{shown}]"
    return f"{found.metadata['help']}{default} (env: {variable(name)})"


def load_settings(
    flags: Mapping[str, object], environ: Mapping[str, str], *, config: str | None = None
) -> Settings:
    """The settings from flags (None: not given), the environment and the file.

    The file is `config`, else what BACKDROP_CONFIG names, else `backdrop.toml` in the working
    folder where there is one. Raises BadSettings with everything that is wrong.
    """
    named = config or environ.get(CONFIG_VARIABLE)
    path = Path(named or FILE)
    in_file = _read_file(path) if named or path.is_file() else {}
    given: dict[str, tuple[object, str]] = {}
    problems = [
        f"{path}: there is no setting {key!r}{_nearest(key)}"
        for key in in_file
        if key not in FIELDS
    ]
    for name in FIELDS:
        if flags.get(name) is not None:
            given[name] = (flags[name], f"--{name.replace('_', '-')}")
        elif environ.get(variable(name)):
            given[name] = (environ[variable(name)], variable(name))
        elif name in in_file:
            given[name] = (in_file[name], f"{name} in {path}")
    parsed: dict[str, Any] = {}
    for name, (value, place) in given.items():
        try:
            found = FIELDS[name].metadata["parse"](value)
            parsed[name] = Secret(found.reveal(), place) if isinstance(found, Secret) else found
        except ValueError as error:
            shown = "" if FIELDS[name].metadata["is_secret"] else f", not {value!r}"
            problems.append(f"{place} must be {error}{shown}")
    if problems:
        raise BadSettings("\n".join(problems))
    return Settings(**parsed)


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """A sentence for each variable that looks like a setting and is none, such as BACKDROP_PROT.

    Those in `OTHER_VARIABLES` are read elsewhere, and tests have their own.
    """
    known = {*map(variable, FIELDS), *OTHER_VARIABLES}
    return [
        f"{name} is not a setting{_nearest_variable(name)}"
        for name in sorted(environ)
        if name.startswith(PREFIX) and not name.startswith(f"{PREFIX}TEST_") and name not in known
    ]


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadSettings(f"{path} can't be read: {error.strerror}") from None
    except ValueError as error:  # not UTF-8, or not TOML
        raise BadSettings(f"{path} is not TOML: {error}") from None


def _nearest_variable(name: str) -> str:
    """Only one that may be meant: there are variables of other programs, too."""
    close = difflib.get_close_matches(name.removeprefix(PREFIX).lower(), FIELDS, n=1)
    return f"; the nearest is {variable(close[0])!r}" if close else ""


def _nearest(key: str) -> str:
    close = difflib.get_close_matches(key, FIELDS, n=1, cutoff=0)
    return f"; the nearest is {close[0]!r}" if close else ""
