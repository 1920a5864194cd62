"""Fuzzing: functions that take any bytes and must neither fail nor hang.

`test_targets.py` runs each for a moment with hypothesis and over the kept corpus;
`python -m tests.fuzz` runs them for longer with atheris, guided by coverage.
"""
