"""Tests of policies, written in YAML and decided by the gateway that serves."""

from extauthz.policytest.coverage import Coverage, Route, covered
from extauthz.policytest.suite import Result, Suite, load, named

__all__ = ["Coverage", "Result", "Route", "Suite", "covered", "load", "named"]
