"""Hypothesis' profiles: `default`, and `long` where BACKDROP_TEST_LONG is set."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from tests.strategies import LONG

pytest_plugins = ["tests.leaks", "tests.storage.mongodb"]
pytest.register_assert_rewrite("tests.storage.contract", "tests.storage.exact")

_quiet = [HealthCheck.too_slow]  # the machine may be busy with other things
settings.register_profile("default", deadline=None, print_blob=True, suppress_health_check=_quiet)
settings.register_profile(
    "long", deadline=None, print_blob=True, suppress_health_check=_quiet, max_examples=2_000
)
settings.load_profile("long" if LONG else "default")
