"""`python -m tests.fuzz TARGET`: fuzz one target for a while, or run it on one input.

With atheris (coverage-guided: it keeps the inputs that reach new lines) where it is installed, else
with Hypothesis, which only makes inputs up and varies the kept ones. What was found is printed in
base64, with the command that runs it again.
"""

from __future__ import annotations

import argparse
import base64
import importlib.util
import sys
import time
from collections.abc import Callable
from pathlib import Path

CORPUS = Path(__file__).with_name("corpus")
_MOST_BYTES = 8_192
_SECONDS_AN_INPUT = 20
_MOST_MEMORY_MIB = 3_000


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", help="one of tests/fuzz/targets.py")
    parser.add_argument("--seconds", type=int, default=60, help="for how long [60]")
    parser.add_argument("--found", type=Path, help="a folder for inputs that reach new lines")
    parser.add_argument("--input", help="run this one alone: a file, or base64")
    asked = parser.parse_args()
    if asked.input is not None:
        _load(asked.target)(_read(asked.input))
    elif importlib.util.find_spec("atheris") is None:
        _fuzz_by_hypothesis(asked.target, asked.seconds)
    else:
        _fuzz_by_atheris(asked.target, asked.seconds, asked.found)


def _read(given: str) -> bytes:
    return Path(given).read_bytes() if Path(given).is_file() else base64.b64decode(given)


def _load(name: str) -> Callable[[bytes], None]:
    from tests.fuzz.targets import TARGETS

    return TARGETS[name]


def _telling(name: str, target: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """The target, which says what the input was where it fails."""

    def run(data: bytes) -> None:
        try:
            target(data)
        except BaseException:
            print(how_to_run_again(name, data), file=sys.stderr)  # noqa: T201  that is its work
            raise

    return run


def how_to_run_again(name: str, data: bytes) -> str:
    text = base64.b64encode(data).decode()
    return f"again: python -m tests.fuzz {name} --input '{text}'"


def _fuzz_by_atheris(name: str, seconds: int, found: Path | None) -> None:
    import atheris

    with atheris.instrument_imports(include=["backdrop", "xlrd"]):
        target = _load(name)
    folders = [str(folder) for folder in (found, CORPUS / name) if folder is not None]
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={_MOST_BYTES}",
        f"-timeout={_SECONDS_AN_INPUT}",
        f"-rss_limit_mb={_MOST_MEMORY_MIB}",
        f"-artifact_prefix={found or '.'}/",
        "-print_final_stats=1",
        "-verbosity=0",
    ]
    atheris.Setup([sys.argv[0], *options, *folders], _telling(name, target))
    atheris.Fuzz()


def _fuzz_by_hypothesis(name: str, seconds: int) -> None:
    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as st

    kept = [file.read_bytes() for file in sorted((CORPUS / name).iterdir())]

    def varied(one: bytes) -> st.SearchStrategy[bytes]:
        place = st.integers(0, len(one))
        return st.builds(
            lambda low, high, more: one[: min(low, high)] + more + one[max(low, high) :],
            place,
            place,
            st.binary(max_size=8),
        )

    target = _telling(name, _load(name))
    inputs = st.binary(max_size=_MOST_BYTES) | st.sampled_from(kept).flatmap(varied)
    until = time.monotonic() + seconds
    runs = 0
    while time.monotonic() < until:
        quiet = list(HealthCheck)
        settings(database=None, deadline=None, suppress_health_check=quiet)(given(inputs)(target))()
        runs += 100
    print(f"stat::number_of_executed_units: {runs}", file=sys.stderr)  # noqa: T201  as atheris says


if __name__ == "__main__":
    main()
