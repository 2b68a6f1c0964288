"""Each target of the fuzzer: on the inputs that are kept, and on new ones for some seconds."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.__main__ import CORPUS, how_to_run_again
from tests.fuzz.targets import TARGETS
from tests.strategies import LONG

SECONDS = (600 if LONG else 60) // len(TARGETS)
"""Starting takes two more."""
MOST_KEPT = 300_000
_FOUND = ("crash-*", "leak-*", "timeout-*", "oom-*")
_runs = re.compile(r"number_of_executed_units: *(\d+)").search


@pytest.mark.parametrize("name", TARGETS)
def test_kept_inputs(name: str) -> None:
    """What was found once stays mended, on any Python."""
    kept = sorted((CORPUS / name).iterdir())
    assert kept
    for file in kept:
        TARGETS[name](file.read_bytes())


def test_no_more_is_kept_than_is_worth_it() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} == set(TARGETS)
    assert sum(file.stat().st_size for file in CORPUS.rglob("*") if file.is_file()) < MOST_KEPT


@pytest.mark.parametrize("name", TARGETS)
def test_new_inputs(name: str, tmp_path: Path) -> None:
    """Nothing that the fuzzer makes up brings out more than Backdrop's own errors."""
    root = Path(__file__).parents[2]
    fuzzed = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", name, f"--seconds={SECONDS}", f"--found={tmp_path}"],
        cwd=root,
        capture_output=True,
        timeout=SECONDS * 5 + 120,
        check=False,
    )
    said = fuzzed.stderr.decode(errors="replace")
    found = [file for pattern in _FOUND for file in tmp_path.glob(pattern)]
    again = "\n".join(how_to_run_again(name, file.read_bytes()) for file in found)
    assert fuzzed.returncode == 0, f"{said[-6_000:]}\n{again}"
    runs = _runs(said)
    assert runs is not None, said
    assert int(runs[1]) > 0
