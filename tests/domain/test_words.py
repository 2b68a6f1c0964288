"""One is told as one."""

from __future__ import annotations

import pytest

from backdrop.domain.words import counted


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "0 seconds"),
        (1, "1 second"),
        (1.0, "1 second"),
        (0.5, "0.5 seconds"),
        (1_234, "1,234 seconds"),
    ],
)
def test_a_number_goes_with_its_word(number: float, words: str) -> None:
    assert counted(number, "second") == words


def test_a_word_may_have_a_plural_of_its_own() -> None:
    assert [counted(number, "entry", "entries") for number in (1, 2)] == ["1 entry", "2 entries"]
