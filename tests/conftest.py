"""Hypothesis' profiles, `default`, and `long` where BACKDROP_TEST_LONG is set; the tests' order."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from tests.strategies import LONG

pytest_plugins = ["tests.leaks", "tests.storage.mongodb"]
pytest.register_assert_rewrite("tests.storage.contract", "tests.storage.exact")

_quiet = [HealthCheck.too_slow]  # the machine may be busy with other things
settings.register_profile("default", deadline=None, print_blob=True, suppress_health_check=_quiet)
settings.register_profile(
    "long", deadline=None, print_blob=True, suppress_health_check=_quiet, max_examples=500
)
settings.load_profile("long" if LONG else "default")

_LONGEST = ("tests/system/", "tests/storage/", "tests/web/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long come first: one of them at the end would leave a process idle."""
    items.sort(key=lambda item: not item.nodeid.startswith(_LONGEST))
