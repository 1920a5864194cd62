"""Recorded decisions made again: what another policy, or other rights, would change."""

from extauthz.replay.comparison import Change, Comparison, Verdict
from extauthz.replay.judge import Judge
from extauthz.replay.record import Recorded, Unreadable, read

__all__ = ["Change", "Comparison", "Judge", "Recorded", "Unreadable", "Verdict", "read"]
