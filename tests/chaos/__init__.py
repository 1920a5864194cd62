"""What can break around a running service, under load, through a real Envoy.

`python -m tests.chaos` breaks one thing after the other and prints a table; `python -m
tests.chaos.soak` keeps everything changing for a long time. Both exit 1 where a promise broke.
"""
