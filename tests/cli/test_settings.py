"""Where settings come from, and what is said of bad ones."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from backdrop.settings import (
    FIELDS,
    BadSettings,
    Secret,
    Settings,
    load_settings,
    unknown_variables,
    variable,
)
from tests.live import clean_environment, live_server


def _config(folder: Path, text: str) -> str:
    path = folder / "my.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_flag_wins_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    config = _config(tmp_path, 'port = 1\nhost = "file"\nstore = "memory:"\n')
    environ = {"BACKDROP_PORT": "2", "BACKDROP_HOST": "environment"}
    found = load_settings({"port": "3"}, environ, config=config)
    assert (found.port, found.host, found.store) == (3, "environment", "memory:")
    assert found.workers == 1


def test_the_file_is_named_or_in_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings({}, {}) == Settings()
    Path("backdrop.toml").write_text("port = 1\n", encoding="utf-8")
    assert load_settings({}, {}).port == 1
    config = _config(tmp_path, "port = 2\n")
    assert load_settings({}, {"BACKDROP_CONFIG": config}).port == 2
    with pytest.raises(BadSettings, match=r"there\.toml can't be read"):
        load_settings({}, {}, config="there.toml")


def test_every_setting_comes_from_each_place(tmp_path: Path) -> None:
    samples: dict[str, object] = {
        **{name: 7 for name, one in FIELDS.items() if type(one.default) is int},
        "max_engine_memory": 7,
        "host": "h",
        "port": 5,
        "store": "memory:",
        "admin_token": "a" * 8,
        "demo": True,
        "metrics": True,
        "metrics_token": "m" * 8,
        "public_url": "https://example.org",
        "read_url": "https://example.org/x",
        "oauth_base_url": "https://example.org/x",
        "oidc_discovery_url": "https://example.org/x?policy=y",
        "oauth_client_id": "i",
        "oauth_client_secret": "s",
        "url": "https://example.org/x",
        "token": "t" * 8,
    }
    assert set(samples) == set(FIELDS)
    for name, value in samples.items():
        text = "true" if value is True else str(value)
        quoted = f'"{value}"' if isinstance(value, str) else text
        config = _config(tmp_path, f"{name} = {quoted}\n")
        found = {
            getattr(load_settings({name: text}, {}), name),
            getattr(load_settings({}, {variable(name): text}), name),
            getattr(load_settings({}, {}, config=config), name),
        }
        is_secret = FIELDS[name].metadata["is_secret"]
        expected = Secret(value) if isinstance(value, str) and is_secret else value
        assert found == {expected}


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("prot = 1", "there is no setting 'prot'; the nearest is 'port'"),
        ("port = 65536", "port in .*my.toml must be a whole number from 0 to 65535, not 65536"),
        ("port = true", "port .* must be a whole number"),
        ("demo = 1", "demo .* must be true or false, not 1"),
        ('max_body = "1 pint"', "max_body .* must be a number of bytes such as .*, not '1 pint'"),
        ("max_body = 0", "max_body .* must be a number of bytes"),
        ('url = "127.0.0.1:3038"', "url .* must be an address such as http://"),
        ('public_url = "https://a.example/b"', "public_url .* must be an address without a path"),
        ('public_url = "https://u:p@a.example"', "public_url .* must be an address without"),
        ('oidc_discovery_url = "a.example"', "oidc_discovery_url .* such as https://login"),
        ('store = " "', "store .* must be a text that is not empty"),
        ("port =", "is not TOML"),
    ],
)
def test_a_bad_file_is_an_error(tmp_path: Path, toml: str, message: str) -> None:
    with pytest.raises(BadSettings, match=message):
        load_settings({}, {}, config=_config(tmp_path, toml))


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(BadSettings) as caught:
        load_settings({"port": "x"}, {"BACKDROP_WORKERS": "0"})
    assert "--port must be" in str(caught.value)
    assert "BACKDROP_WORKERS must be" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "size"), [("7", 7), ("32MiB", 2**25), ("32 mib", 2**25), ("1 KiB", 1024)]
)
def test_sizes_may_have_units(text: str, size: int) -> None:
    assert load_settings({"max_body": text}, {}).max_body == size


def test_a_public_address_is_kept_as_browsers_write_it() -> None:
    assert load_settings({"public_url": "HTTPS://Example.org:8443/"}, {}).public_url == (
        "https://example.org:8443"
    )


def test_secrets_show_themselves_nowhere() -> None:
    """Neither in a repr nor in the message about one that can't be used."""
    found = load_settings({"token": "very-secret-1"}, {"BACKDROP_ADMIN_TOKEN": "very-secret-2"})
    shown = f"{found!r} {found} {dataclasses.asdict(found)}"
    assert "very-secret" not in shown
    assert "very-secret" not in repr(Settings(store="mongodb://user:very-secret@host/backdrop"))
    assert found.token is not None
    assert found.token.reveal() == "very-secret-1"
    assert found.token.place == "--token"
    assert found.admin_token is not None
    assert found.admin_token.place == "BACKDROP_ADMIN_TOKEN"
    for name in ("token", "admin_token"):
        with pytest.raises(BadSettings, match=r"\d to 200 printable") as caught:
            load_settings({name: "very secret"}, {})
        assert "very" not in str(caught.value)


def test_a_variable_that_is_no_setting_is_told_of(tmp_path: Path) -> None:
    """With the nearest, when a server starts, which it does; its value is told nobody."""
    env = {"BACKDROP_PROT": "the-value-of-it", "BACKDROP_TEST_LONG": "1"}
    with live_server("serve", "--store", "memory:", cwd=tmp_path, env=env) as server:
        (line,) = [line for line in server.lines if "Warning" in line]
    assert "BACKDROP_PROT is not a setting; the nearest is 'BACKDROP_PORT'" in line
    assert "the-value-of-it" not in server.log


def test_no_variable_that_is_read_is_told_of() -> None:
    read = [*map(variable, FIELDS), "BACKDROP_CONFIG", "BACKDROP_COPY_FROM", "BACKDROP_COPY_TO"]
    assert unknown_variables(clean_environment(**dict.fromkeys(read, "x"))) == []


def test_only_a_variable_that_may_be_meant_is_named() -> None:
    """A program beside it may have variables that begin so."""
    given = {"BACKDROP_STOER": "x", "BACKDROP_CODE_SHA": "x"}
    assert unknown_variables(given) == [
        "BACKDROP_CODE_SHA is not a setting",
        "BACKDROP_STOER is not a setting; the nearest is 'BACKDROP_STORE'",
    ]
