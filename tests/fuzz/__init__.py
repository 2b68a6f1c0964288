"""Fuzzing: what reads bytes from outside, fed with bytes that grow towards lines not yet run.

`python -m tests.fuzz TARGET` fuzzes one target (`tests/fuzz/__main__.py`); `tests/fuzz/test_fuzz.py`
does so with all of them, each in a process of its own.
"""
