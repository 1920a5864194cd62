"""What a request asks for: YAML rules, and the attributes each one puts up for review."""

from extauthz.policy.check import Asked
from extauthz.policy.loader import GATEWAY, Policy, load, load_everywhere
from extauthz.policy.routes import Missing
from extauthz.policy.rule import Answer, Rule
from extauthz.policy.sources import Waiting
from extauthz.policy.syntax import KeyReaders

__all__ = [
    "GATEWAY",
    "Answer",
    "Asked",
    "KeyReaders",
    "Missing",
    "Policy",
    "Rule",
    "Waiting",
    "load",
    "load_everywhere",
]
