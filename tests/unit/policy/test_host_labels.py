"""Hosts whose labels name a namespace."""

from __future__ import annotations

import pytest

from extauthz.policy import Rule
from tests.unit.policy.build import HEAD, ask, check, namespace, problems, rules

MODELS = "{name}.{namespace}.models.example.com"
LOADED = rules(
    {
        "match": {"path": "/{rest...}", "hosts": [MODELS]},
        "access": [check(namespace="host:namespace", name="host:name")],
    },
    {"match": {"path": "/{rest...}", "hosts": ["kubeflow.example.com"]}, "allow": "authenticated"},
)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("m.team-a.models.example.com", "=team-a"),
        ("M.Team-A.Models.Example.COM:443", "=team-a"),
        ("m.team-a.models.example.com.", "=team-a"),
        ("team-a.models.example.com", "namespace_missing"),
        ("x.m.team-a.models.example.com", "namespace_missing"),
    ],
)
def test_a_label_is_the_namespace(host: str, expected: str) -> None:
    """Only hosts with exactly as many labels as the pattern name one."""
    request = ask("/v1/models", host=host)
    found = LOADED.find(request)
    assert isinstance(found, Rule)
    if expected == "namespace_missing":
        assert namespace(found, request) in ("namespace_missing", "value_missing")
    else:
        assert namespace(found, request) == expected


@pytest.mark.parametrize("host", ["models.example.com", "m.team-a.example.com", "", "m.team-a.models.example.com,x"])
def test_other_hosts_have_no_rule(host: str) -> None:
    """The domain itself, other domains, and hosts that cannot be read in one way."""
    assert not isinstance(LOADED.find(ask("/v1/models", host=host)), Rule)


@pytest.mark.parametrize(
    ("hosts", "source", "message"),
    [
        ("['{name}.example.com']", "host:namespace", "no label 'namespace'"),
        ("['*.example.com']", "host:name", "no label 'name'"),
        ("['{name}.a.com', '{name}.b.com']", "host:name", "no label 'name'"),
        ("['{name}-{ns}.example.com']", "host:name", "should match pattern"),
        ("['a.{name}.example.com']", "host:name", "should match pattern"),
    ],
)
def test_host_patterns_that_cannot_be_meant(hosts: str, source: str, message: str) -> None:
    """A label must be whole, come first, and be named by the rule's one host."""
    right = f"{{verb: get, resource: r, namespace: '{source}'}}"
    text = f"{HEAD}rules:\n  - {{name: r, match: {{path: /x, hosts: {hosts}}}, access: [{right}]}}\n"
    assert message in "".join(str(problem) for problem in problems(text))
