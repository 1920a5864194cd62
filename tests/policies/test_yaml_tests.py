"""The shipped policy tests hold, and reach every rule."""

from __future__ import annotations

from extauthz import policytest
from tests.cases import REPOSITORY

POLICIES = REPOSITORY / "policies"


def test_all_tests_hold() -> None:
    """Those of the shipped policies and of the examples."""
    suites = policytest.load([POLICIES / "tests", POLICIES / "examples"])
    assert [result for suite in suites for result in suite.run() if result.problem] == []


def test_every_shipped_rule_is_reached() -> None:
    """And every known route has one."""
    suites = policytest.load([POLICIES / "tests"])
    results = [result for suite in suites for result in suite.run()]
    (covered,) = policytest.covered(suites, results)
    assert covered.unreached == []
    refused = [route.path for route in covered.routes if route.placement == "gateway" and not route.rule]
    assert refused == []


def test_every_example_is_tested() -> None:
    """Each by a file of its own name that reaches all its rules."""
    for example in sorted((POLICIES / "examples").glob("*.yaml")):
        (suite,) = policytest.load([POLICIES / "examples" / "tests" / example.name])
        reached = {result.decision.rule for result in suite.run()}
        assert {rule.ref for rule in suite.policy.rules if rule.ref.file == str(example.resolve())} <= reached
