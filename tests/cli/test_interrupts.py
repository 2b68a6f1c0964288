"""Ctrl-C that has to wait for a place where it does no harm."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from backdrop.cli.interrupts import patient_interrupt

_WITHIN_DUCKDB = """
import os, signal, threading, duckdb
import backdrop.cli, backdrop.cli.commands

def run():
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    connection = duckdb.connect(config={"threads": 1})  # else another may do all of the work
    connection.execute("SELECT count(*) FROM range(1_000_000_000_000) t(a) WHERE a % 7 = 3")

backdrop.cli.commands.run = run
backdrop.cli.main()
"""


def test_an_interrupt_within_the_engine_is_one() -> None:
    """As while a store is opened: DuckDB makes another error of it."""
    done = subprocess.run(
        [sys.executable, "-c", _WITHIN_DUCKDB], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (130, "Interrupted\n")


class _Cleared:
    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


def test_an_interrupt_is_not_lost_where_errors_are() -> None:
    """As in a `__del__`, where Python drops whatever is raised."""
    with patient_interrupt(lambda: True, lambda: None) as interrupt:
        _Cleared()
        with pytest.raises(KeyboardInterrupt):
            interrupt.check()
