"""Several processes behind one port: a supervisor accepts connections and hands them to its workers.

Envoy keeps its connections open, so whoever accepts one has all of its checks. The kernel gives
them out unevenly (SO_REUSEPORT: 13/2/85 of 100 was seen); the supervisor gives them out in turn, and
workers drain them after a time so that they are given out anew. It never touches what is said on
one. `python -m extauthz.workers` is one worker.
"""
