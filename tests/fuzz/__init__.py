"""Fuzzing: what reads bytes from outside, fed with bytes that grow towards lines not run yet.

`python -m tests.fuzz TARGET` fuzzes one target (`tests/fuzz/__main__.py`); `test_fuzz.py` does so
with all of them, each in a process of its own.
"""
