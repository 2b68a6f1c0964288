"""The search for secrets in logs finds one: in runs of their own, in one process and in two."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.docs.examples import ROOT
from tests.leaks import FOLDER

_PLANTED = {
    "of_another_process": """
        import subprocess, sys
        from tests.leaks import keep
        program = "import secrets; print('made', secrets.token_urlsafe(16))"
        keep(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout)
    """,
    "in_a_log_line": """
        import io, secrets
        from backdrop.observe import Started, json_lines
        json_lines(io.StringIO())(Started(apis="x=" + secrets.token_urlsafe(16), version="1"))
    """,
    "printed": """
        import secrets
        print({"token": secrets.token_hex()})
    """,
    "in_an_answer": """
        import secrets
        from starlette.responses import Response
        from starlette.testclient import TestClient
        from tests.leaks import with_errors_kept
        answer = Response(f"no token {secrets.token_urlsafe(16)}", 404)
        TestClient(with_errors_kept(answer)).get("/")
    """,
}
_INNOCENT = {
    "the_link_for_who_starts_the_server": """
        import secrets
        from tests.leaks import keep
        link = f"http://127.0.0.1:1/_user/link?key={secrets.token_urlsafe(32)}"
        keep(f"  pages        upload a spreadsheet: open {link} (once)")
    """,
    "an_id": """
        import secrets
        print(secrets.token_hex(8))
    """,
}


def _run(folder: Path, tests: Mapping[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    """A run of pytest, with a file for each test of these names and bodies."""
    for name, body in tests.items():
        function = f"def test_it():\n{textwrap.indent(textwrap.dedent(body), '    ')}"
        (folder / f"test_{name}.py").write_text(function)
    environment = {name: value for name, value in os.environ.items() if name != FOLDER}
    paths = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "tests.leaks", *options, str(folder)],
        cwd=folder,
        env=environment | {"PYTHONPATH": paths, "COLUMNS": "200", "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("options", [[], ["-n", "2", "--dist", "loadfile"]], ids=["one", "two"])
def test_a_planted_secret_fails_the_run(tmp_path: Path, options: list[str]) -> None:
    """With the file and the line, the test, and not the secret."""
    done = _run(tmp_path, _PLANTED | _INNOCENT, *options)
    assert "6 passed" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 1, done.stdout
    told = re.findall(r"A SECRET IS IN A LOG: (.+?):(\d+): (\S+): (.*)", done.stdout)
    assert {test for _, _, test, _ in told} == {f"test_{name}.py::test_it" for name in _PLANTED}
    for path, number, _, shown in told:
        line = Path(path).read_text().splitlines()[int(number) - 1]
        assert shown.endswith("<a secret>")
        assert shown.removesuffix("<a secret>") in line
        assert not any(word in done.stdout for word in re.findall(r"[\w-]{20,}", line))


def test_without_one_it_passes(tmp_path: Path) -> None:
    """What is meant to be shown is no leak."""
    done = _run(tmp_path, _INNOCENT)
    assert done.returncode == 0, done.stdout
    assert "SECRET" not in done.stdout
