"""The table of rules."""

from __future__ import annotations

from pathlib import Path

import pytest

from extauthz.console.rules import Row, rows, selected
from extauthz.decision import Decision, Outcome, Reason, RuleRef
from extauthz.observe.meter import Meter
from tests.cases import policy_of

RULES = """
- name: runs
  match: {methods: [GET], path: /runs}
  access: [{verb: list, group: g, resource: runs, subresource: log, namespace: ["query:namespace?", "query:ns"]}]
- name: trial
  match: {path: /trial, hosts: [a.example]}
  enforce: shadow
  when: request.method == "GET"
  access: [{verb: get, path: /metrics}, {verb: list, resource: nodes}]
- name: gone
  match: {path: /gone}
  deny: It moved.
- name: open
  match: {path: /open}
  allow: public
"""


@pytest.fixture
def table(tmp_path: Path) -> list[Row]:
    """The rules after some decisions."""
    policy = policy_of(tmp_path, RULES)
    meter = Meter()
    for rule, outcome, reason in (
        *(("runs", Outcome.ALLOW, Reason.ALLOWED),) * 2,
        ("runs", Outcome.DENY, Reason.FORBIDDEN),
        ("trial", Outcome.ALLOW, Reason.SHADOW),
    ):
        meter.count(Decision(outcome, 200, reason, "", RuleRef(rule, "x", 1)))
    return rows(policy, meter)


def names(found: list[Row]) -> list[str]:
    """Return the rules' names."""
    return [row.ref.name for row in found]


def test_what_each_rule_asks_for(table: list[Row]) -> None:
    """As the policy says it, with the file's name and the line."""
    assert names(table) == ["runs", "trial", "gone", "open"]
    runs, trial, gone, open_ = table
    assert (runs.methods, runs.paths, runs.file, runs.ref.line) == ("GET", ("/runs",), "policy.yaml", 5)
    assert runs.asks == ("list runs.g/log in query:namespace or query:ns",)
    assert trial.asks == ("get /metrics", "list nodes in all namespaces", 'when request.method == "GET"')
    assert (trial.shadow, trial.hosts, trial.methods) == (True, ("a.example",), "any")
    assert (gone.asks, gone.answer, open_.answer) == (("It moved.",), "deny", "public")


def test_how_often_each_decided(table: list[Row]) -> None:
    """An allow that would have been a refusal is counted apart."""
    hits = {row.ref.name: (row.hits.allowed, row.hits.refused, row.hits.would_refuse) for row in table}
    assert hits == {"runs": (2, 1, 0), "trial": (0, 0, 1), "gone": (0, 0, 0), "open": (0, 0, 0)}


@pytest.mark.parametrize(
    ("query", "show", "found"),
    [
        ("", "", ["runs", "trial", "gone", "open"]),
        ("LIST log", "", ["runs"]),
        ("a.example", "", ["trial"]),
        ("policy.yaml", "used", ["runs", "trial"]),
        ("", "unused", ["gone", "open"]),
        ("", "shadow", ["trial"]),
        ("", "refusing", ["runs"]),
        ("runs", "shadow", []),
        ("", "anything", ["runs", "trial", "gone", "open"]),
    ],
)
def test_rules_are_found_by_their_words(table: list[Row], query: str, show: str, found: list[str]) -> None:
    """All words must occur, in whatever letter case."""
    assert names(selected(table, query, show)) == found
