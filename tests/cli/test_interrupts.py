"""Ctrl-C that has to wait for a place where it does no harm."""

from __future__ import annotations

import signal

import pytest

from backdrop.cli.interrupts import patient_interrupt


class _Cleared:
    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


def test_an_interrupt_is_not_lost_where_errors_are() -> None:
    """As in a `__del__`, where Python drops whatever is raised."""
    with patient_interrupt(lambda: True, lambda: None) as interrupt:
        _Cleared()
        with pytest.raises(KeyboardInterrupt):
            interrupt.check()
