"""What a rule asks for only under a condition, and values that it requires."""

from __future__ import annotations

import pytest

from extauthz.policy import Rule
from extauthz.review import ResourceAttributes
from tests.unit.policy.build import HEAD, ask, check, outcome, problems, rule


def verbs(made: Rule, target: str, body: str = "") -> set[str] | str:
    found = outcome(made, ask(target, method="POST", body=body))
    return found if isinstance(found, str) else {item.verb for item in found if isinstance(item, ResourceAttributes)}


EITHER = (check(verb="list", ifAbsent="query:ns"), check(verb="create", namespace="query:ns", ifPresent="query:ns"))


@pytest.mark.parametrize(("target", "expected"), [("/x", {"list"}), ("/x?ns=", {"list"}), ("/x?ns=a", {"create"})])
def test_one_of_two_rights_is_always_asked_for(target: str, expected: set[str]) -> None:
    """ifAbsent is the other half of ifPresent; an empty value is an absent one."""
    assert verbs(rule(*EITHER), target) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [("{}", {"get"}), ('{"sa": "default"}', {"get"}), ('{"sa": "other"}', {"get", "use"}), ('{"sa": "a*"}', None)],
)
def test_values_that_ask_for_nothing(body: str, expected: set[str] | None) -> None:
    """`unless` names values of ifPresent for which the right is not needed."""
    made = rule(check(), check(verb="use", ifPresent="body:/sa", unless=["default"]))
    assert verbs(made, "/x", body) == (expected or "value_invalid")


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/x?source=minio", {"get"}),
        ("/x?source=volume", "value_not_served"),
        ("/x?source=Minio", "value_not_served"),
        ("/x", "value_missing"),
        ("/x?source=minio&pod=p-1", {"get"}),
        ("/x?source=minio&pod=p%2F", "value_not_served"),
        ("/x?source=minio&pod=p-1%0A", "value_invalid"),
    ],
)
def test_required_values(target: str, expected: set[str] | str) -> None:
    """One of some values, or a whole match of a pattern; with a question mark it may be left out."""
    wanted = [{"source": "query:source", "oneOf": ["minio"]}, {"source": "query:pod?", "matches": "[a-z0-9-]+"}]
    assert verbs(rule(check(), require=wanted), target) == expected


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("access: [{verb: get, resource: r, ifAbsent: 'query:a'}]", "asked for always"),
        (
            "access: [{verb: get, resource: r, ifAbsent: 'query:a'}, {verb: get, resource: r, ifPresent: 'query:b'}]",
            "asked for always",
        ),
        (
            (
                "access: [{verb: get, resource: r, ifAbsent: 'query:a'}, "
                "{verb: get, resource: r, ifPresent: 'query:a', unless: [b]}]"
            ),
            "asked for always",
        ),
        ("access: [{verb: get, resource: r, unless: [b]}]", "unless needs ifPresent"),
        ("access: [{verb: get, resource: r}, {verb: get, resource: r, ifAbsent: a}]", "always or never there"),
        ("allow: authenticated, require: [{source: 'query:a'}]", "exactly one of oneOf and matches"),
        ("allow: authenticated, require: [{source: 'query:a', oneOf: [b], matches: b}]", "exactly one of"),
        ("allow: authenticated, require: [{source: 'query:a', matches: '['}]", "not a regular expression"),
        ("allow: authenticated, require: [{source: a, oneOf: [a]}]", "is a literal"),
        ("allow: authenticated, require: [{source: 'path:a', oneOf: [a]}]", "no variable"),
    ],
)
def test_conditions_that_cannot_be_meant(fields: str, message: str) -> None:
    """A rule that might ask for nothing, and requirements that say nothing, are refused at load."""
    found = problems(f"{HEAD}rules:\n  - {{name: r, match: {{path: /x}}, {fields}}}\n")
    assert message in "".join(str(problem) for problem in found)


def test_a_required_source_takes_no_tolerance() -> None:
    """What a rule reads must be readable in one way."""
    wanted = "require: [{source: 'query:a', oneOf: [b]}]"
    text = f"match: {{path: '/x/{{r...}}'}}, allow: authenticated, {wanted}, tolerate: [query_duplicate]"
    found = problems(f"{HEAD}rules:\n  - {{name: r, {text}}}\n")
    assert "cannot be tolerated" in str(found[0])


def test_a_pattern_that_would_backtrack_for_ever_is_matched_in_linear_time() -> None:
    """mapping-011: nobody may stop the service by a value that a pattern is slow on."""
    made = rule(check(), require=[{"source": "query:x", "matches": "(a+)+b"}])
    assert outcome(made, ask("/x?x=" + "a" * 900)) == "value_not_served"
