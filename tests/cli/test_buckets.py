"""`backdrop bucket` and `backdrop token`, against a real server."""

from __future__ import annotations

import dataclasses
import json
import re
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import httpx2
import pytest

from backdrop import __version__
from backdrop.cli.buckets import CLEARED, FLAGS, TEXTS
from backdrop.cli.connect import find_admin_token
from backdrop.cli.options import dashed
from backdrop.client import Client
from backdrop.domain.bucket import SETTINGS, Bucket
from backdrop.settings import Settings
from tests.live import Server, call

Here: TypeAlias = Callable[..., subprocess.CompletedProcess[str]]


def _post(server: Server, bucket: str, token: str) -> int:
    headers = {"Authorization": f"Bearer {token}"}
    record = {"name": "x"}
    return httpx2.post(f"{server.url}/{bucket}", json=record, headers=headers).status_code


def _json(server: Server, *arguments: str) -> Any:
    done = server.run(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_setting_has_an_option() -> None:
    assert set(FLAGS) | set(TEXTS) == set(SETTINGS)
    defaults = Bucket(name="any").as_json()
    assert all(CLEARED[name] == defaults[name] for name in CLEARED)


def test_a_bucket_lives_and_dies(server: Server) -> None:
    """create prints a token that writes; set changes only what is given; delete asks first."""
    (server.folder / "schema.json").write_text('{"required": ["name"]}')
    made = server.run(
        *("bucket", "create", "life", "--raw-queries-allowed", "--no-published"),
        *("--auto-ids", "name, other", "--max-age-expected", "60", "--schema", "schema.json"),
        *("--data-group", "gg", "--data-type", "tt", "--timezone", "Europe/London"),
    )
    assert made.returncode == 0, made.stderr
    assert made.stderr == "Made the bucket life and its write token\n"
    assert _post(server, "life", made.stdout.strip()) == 400  # `other` is missing

    settings = _json(server, "bucket", "show", "life")
    given = {
        "name": "life",
        "raw_queries_allowed": True,
        "published": False,
        "auto_ids": ["name", "other"],
        "max_age_expected": 60,
        "schema": {"required": ["name"]},
        "data_group": "gg",
        "data_type": "tt",
        "timezone": "Europe/London",
    }
    assert settings == Bucket(name="life").as_json() | given
    clear = [f"--no-{name.replace('_', '-')}" for name in CLEARED]
    assert _json(server, "bucket", "set", "life", *clear) == settings | CLEARED

    for answer in ("n\n", ""):
        refused = server.run("bucket", "delete", "life", stdin=answer)
        assert refused.returncode == 1
        assert "nothing was removed; --yes removes without asking" in refused.stderr
    assert server.run("bucket", "delete", "life", stdin="y\n").returncode == 0
    again = server.run("bucket", "delete", "life", "--yes")
    assert (again.returncode, again.stderr) == (1, "Error: there is no bucket 'life'\n")


def test_the_list_is_for_people_or_for_programs(server: Server, admin: Client) -> None:
    admin.put_bucket("list-one", {"realtime": True, "description": "a [bold] one"})
    listed = server.run("bucket", "list").stdout
    assert re.search(r"^list-one +realtime +a \[bold\] one *$", listed, re.MULTILINE)
    [found] = [b for b in _json(server, "bucket", "list") if b["name"] == "list-one"]
    assert found["realtime"] is True


def test_what_the_server_refuses_is_told_line_by_line(server: Server, admin: Client) -> None:
    done = server.run("bucket", "create", "UP", "--timezone", "Mars", "--csv-types", "some")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "\n  timezone must be an IANA time zone" in done.stderr
    assert "\n  csv_types must be" in done.stderr
    admin.put_bucket("twice", {})
    assert "already" in server.run("bucket", "create", "twice").stderr


def test_tokens_come_alone_and_can_be_revoked(server: Server, admin: Client) -> None:
    admin.put_bucket("tokens", {})
    made = server.run(
        *("token", "create", "tokens", "--label", "a [b]", "--expires-at", "2099-01-01")
    )
    token = made.stdout.strip()
    assert made.stdout == token + "\n"
    assert token not in made.stderr
    assert _post(server, "tokens", token) == 200
    assert "a [b]" in server.run("token", "list", "tokens").stdout
    second = _json(server, "token", "list", "tokens")[1]
    assert (second["label"], second["expires_at"]) == ("a [b]", "2099-01-01T00:00:00+00:00")
    assert server.run("token", "revoke", "tokens", second["id"]).returncode == 0
    assert _post(server, "tokens", token) == 401
    assert second["id"] not in [one["id"] for one in admin.tokens("tokens")]
    assert server.run("token", "create", "tokens", "--scope", "all").returncode == 1


def test_a_token_goes_into_a_new_file_for_its_owner_alone(server: Server) -> None:
    """Of a name that is not there yet: then nothing is made, and no other token is lost."""
    done = server.run("bucket", "create", "filed", "--token-file", "filed.token")
    path = server.folder / "filed.token"
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.endswith("it is in filed.token, and nowhere else\n")
    assert _post(server, "filed", path.read_text().strip()) == 200
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = server.run("bucket", "create", "filed-too", "--token-file", "filed.token")
    assert "there is a file of that name already" in again.stderr
    assert server.run("bucket", "show", "filed-too").returncode == 1
    assert server.run("bucket", "create", "filed", "--token-file", "b.token").returncode == 1
    assert not (server.folder / "b.token").exists()
    done = server.run("token", "create", "filed", "--token-file", "c.token")
    assert _post(server, "filed", (server.folder / "c.token").read_text().strip()) == 200


@pytest.mark.parametrize("flag", [True, False])
def test_a_refused_admin_token_is_told_by_its_place(server: Server, flag: bool) -> None:
    if flag:
        done = server.run("bucket", "list", "--admin-token", "wrong-token")
        place = "--admin-token"
    else:
        (server.folder / "other.admin-token").write_text("wrong-token")
        done = server.run("bucket", "list", "--store", "duckdb:other")
        place = "the file other.admin-token"
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{server.url} refused the admin token from {place}: " in done.stderr
    assert "not known" in done.stderr
    assert "wrong-token" not in done.stderr


@pytest.fixture
def here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Here:
    """Runs a command in an empty folder."""
    return lambda *words: call(*words, cwd=tmp_path, monkeypatch=monkeypatch, capsys=capsys)


def test_the_file_of_a_token_is_for_this_machine(server: Server, here: Here) -> None:
    """Without one, the places are named; and what is in one is sent to no other machine."""
    done = here("bucket", "list", "--url", server.url)
    assert "--admin-token, BACKDROP_ADMIN_TOKEN and backdrop.toml don't set one" in done.stderr
    assert "there is no file backdrop.duckdb.admin-token" in done.stderr
    assert "--store" in done.stderr
    importing = here("import", "any", __file__, "--format", "csv", "--url", server.url)
    assert "set BACKDROP_TOKEN" in importing.stderr
    assert "there is no file backdrop.duckdb.admin-token" in importing.stderr
    own = Settings(url="http://localhost:1", store=f"duckdb:{server.folder}/backdrop")
    other = dataclasses.replace(own, url="http://example.org:3038")
    assert find_admin_token(own) is not None
    assert find_admin_token(other) is None


def test_without_a_server_the_command_says_so(here: Here) -> None:
    done = here("bucket", "list", "--url", "http://127.0.0.1:9")
    assert done.returncode == 1
    assert done.stderr.startswith(
        "Error: no server at http://127.0.0.1:9: start one with `backdrop serve`"
    )


def test_a_bad_setting_is_an_error_of_any_command(here: Here, tmp_path: Path) -> None:
    (tmp_path / "backdrop.toml").write_text('ulr = "http://127.0.0.1:9"')
    done = here("bucket", "list")
    assert done.returncode == 1
    assert done.stderr == "Error: backdrop.toml: there is no setting 'ulr'; the nearest is 'url'\n"


def test_help_names_the_variables(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    done = here("serve", "--help")
    for name in ("HOST", "PORT", "STORE", "ADMIN_TOKEN", "MAX_BODY", "STOP_SECONDS", "CONFIG"):
        assert f"BACKDROP_{name}" in done.stdout
    monkeypatch.setenv("COLUMNS", "80")
    shown = here("bucket", "create", "--help").stdout
    for name in [*FLAGS, *TEXTS]:
        assert re.search(rf"^  {dashed(name)}\b(?!-)", shown, re.MULTILINE)
    for name in [*FLAGS, *CLEARED]:
        assert re.search(rf"--no-{dashed(name)[2:]}\b(?!-)", shown)
    assert here("--version").stdout == f"backdrop {__version__}\n"
