"""Sources of ids as KFP spells them: references in lists, typed parameters; and what the loader refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extauthz import policy
from extauthz.errors import ConfigurationError, Refused
from extauthz.found import Found
from extauthz.policy import Rule, syntax, template
from extauthz.policy.sources import Reading
from extauthz.review import ResourceAttributes
from tests.cases import KEYS, LOOKUPS, policy_of, request

NAMESPACE = "body:/resource_references{key/type=NAMESPACE|5}/key/id"
VERSION = "body:/resource_references{key/type=PIPELINE_VERSION|4,relationship=CREATOR|2}/key/id"
TYPED = "query:resource_reference_key.id{resource_reference_key.type=NAMESPACE|5}"


def rule_of(folder: Path, check: str, rest: str = "") -> Rule:
    """Load one rule with one check."""
    text = f"- name: one\n  match: {{path: '/x/{{id}}'}}\n{rest}  access:\n  - {{verb: list, resource: r, {check}}}\n"
    (rule,) = policy_of(folder, text).rules
    return rule


def reads(rule: Rule, *, target: str = "/x/1", body: Any = None) -> str:
    """Return `=` and the namespace that a rule reads, or why it refuses."""
    content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    try:
        (asked,) = rule.asked(request("GET", target, body=content), None, lambda kind, id_: Found(f"of-{id_}"))
    except Refused as error:
        return str(error.reason)
    assert isinstance(asked.attributes, ResourceAttributes)
    return "=" + asked.attributes.namespace if asked.verdict is None else str(asked.verdict)


def ref(kind: Any, made: Any, relationship: Any = "OWNER") -> dict[str, Any]:
    return {"key": {"type": kind, "id": made}, "relationship": relationship}


@pytest.mark.parametrize(
    ("references", "outcome"),
    [
        ([ref("NAMESPACE", "a")], "=a"),
        ([ref(5, "a")], "=a"),
        ([ref("EXPERIMENT", "e"), ref("NAMESPACE", "a")], "=a"),
        ([ref("NAMESPACE", "a"), ref(5, "a")], "=a"),
        ([ref("NAMESPACE", "a"), ref("NAMESPACE", "b")], "body_ambiguous"),
        ([ref("NAMESPACE", ""), ref("NAMESPACE", "b")], "body_ambiguous"),
        ([{"key": {"type": 5}}, ref("NAMESPACE", "b")], "body_ambiguous"),
        ([ref("NAMESPACE", None), ref("NAMESPACE", "b")], "body_ambiguous"),
        ([], "namespace_missing"),
        (None, "namespace_missing"),
        ([ref("EXPERIMENT", "e")], "namespace_missing"),
        ([{"key": None}, ref("NAMESPACE", "b")], "=b"),
        ([{}, ref("NAMESPACE", "b")], "=b"),
        ([ref("namespace", "a")], "enum_invalid"),
        ([ref("Namespace", "a")], "enum_invalid"),
        ([ref("5", "a")], "enum_invalid"),
        ([ref("05", "a")], "enum_invalid"),
        ([ref(5.0, "a")], "enum_invalid"),
        ([ref(True, "a")], "enum_invalid"),
        ([ref(-1, "a"), ref(5, "b")], "enum_invalid"),
        ([ref([5], "a")], "enum_invalid"),
        ([ref(10**30, "a")], "enum_invalid"),
        ([ref("NAMESPACE", 7)], "body_value_not_text"),
        ([ref("NAMESPACE", ["a"])], "body_value_not_text"),
        ({"0": ref("NAMESPACE", "a")}, "body_not_list"),
        ("NAMESPACE", "body_not_list"),
        ([None, ref("NAMESPACE", "a")], "body_not_list"),
        ([["NAMESPACE"]], None),
        (["NAMESPACE"], "body_not_object"),
        ([{"key": "NAMESPACE"}], "body_not_object"),
        ([{"key": {"type": "NAMESPACE", "Type": 1, "id": "a"}}], "body_spelling"),
        ([{"Key": {"type": "NAMESPACE", "id": "a"}}, ref("NAMESPACE", "b")], "body_spelling"),
    ],
)
def test_v1_references(tmp_path: Path, references: Any, outcome: str | None) -> None:
    """KFP takes the first of a type; we take the only one, however often it is said, and refuse the rest."""
    rule = rule_of(tmp_path, f"namespace: '{NAMESPACE}'")
    for name in ("resource_references", "resourceReferences"):
        found = reads(rule, body={name: references})
        assert found == outcome if outcome else not found.startswith("=")


def test_both_spellings_of_a_list_at_once_are_refused(tmp_path: Path) -> None:
    """Which one counts is the upstream's secret."""
    rule = rule_of(tmp_path, f"namespace: '{NAMESPACE}'")
    body = {"resource_references": [ref(5, "a")], "resourceReferences": [ref(5, "b")]}
    assert reads(rule, body=body) == "body_spelling"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["NAMESPACE", 5, "EXPERIMENT", 1, "PIPELINE_VERSION", 4, 0]),
            st.sampled_from(["", "a", "b"]),
            st.sampled_from(["OWNER", 1, "CREATOR", 2, None]),
        ),
        max_size=5,
    )
)
def test_what_is_read_is_what_kfp_takes(references: list[tuple[Any, str, Any]]) -> None:
    """Where we read a value, the first (namespace) and the last (version by creator) is that value."""
    namespaces = [made for kind, made, _ in references if kind in ("NAMESPACE", 5)]
    versions = [made for kind, made, by in references if kind in ("PIPELINE_VERSION", 4) and by in ("CREATOR", 2)]
    body = json.dumps({"resource_references": [ref(*item) for item in references]}).encode()
    for text, taken in ((NAMESPACE, namespaces[:1]), (VERSION, versions[-1:])):
        assert _read(text, body) in ((taken or [""])[0], "body_ambiguous")


def _read(text: str, body: bytes) -> str:
    path = template.parse("/x/{id}")
    source = syntax.parse(text, path, syntax.Known(KEYS, LOOKUPS))
    try:
        return source.read(Reading(request("POST", "/x/1", body=body), None, lambda kind, id_: None)) or ""
    except Refused as error:
        return str(error.reason)


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        ({"items": [{"run_id": "1"}, {"runId": "1"}]}, "=of-1"),
        ({"items": [{"run_id": "1"}, {"run_id": "2"}]}, "body_ambiguous"),
        ({"items": [{"run_id": "1"}, {}]}, "body_ambiguous"),
        ({"items": []}, "namespace_missing"),
        ({}, "namespace_missing"),
    ],
)
def test_every_element_of_a_batch_must_say_the_same(tmp_path: Path, body: Any, outcome: str) -> None:
    """`{}` goes through all elements."""
    assert reads(rule_of(tmp_path, "namespace: 'lookup:run:body:/items{}/run_id'"), body=body) == outcome


def test_a_list_of_ids_must_hold_one(tmp_path: Path) -> None:
    """The elements may be the values themselves."""
    rule = rule_of(tmp_path, "namespace: 'lookup:run:body:/run_ids{}'")
    assert reads(rule, body={"run_ids": ["1", "1"]}) == "=of-1"
    assert reads(rule, body={"run_ids": ["1", "2"]}) == "body_ambiguous"
    assert reads(rule, body={"run_ids": ["1", ""]}) == "body_ambiguous"
    assert reads(rule, body={"run_ids": [1]}) == "body_value_not_text"


@pytest.mark.parametrize(
    ("query", "outcome"),
    [
        ("resource_reference_key.type=NAMESPACE&resource_reference_key.id=a", "=a"),
        ("resourceReferenceKey.type=5&resourceReferenceKey.id=a", "=a"),
        ("resource_reference_key.type=EXPERIMENT&resource_reference_key.id=a", "=of-a"),
        ("resource_reference_key.type=1&resource_reference_key.id=a", "=of-a"),
        ("resource_reference_key.type=PIPELINE&resource_reference_key.id=a", "namespace_missing"),
        ("resource_reference_key.id=a", "namespace_missing"),
        ("resource_reference_key.type=&resource_reference_key.id=a", "namespace_missing"),
        ("resource_reference_key.type=NAMESPACE", "namespace_missing"),
        ("resource_reference_key.type=05&resource_reference_key.id=a", "enum_invalid"),
        ("resource_reference_key.type=%2B5&resource_reference_key.id=a", "enum_invalid"),
        ("resource_reference_key.type=namespace&resource_reference_key.id=a", "enum_invalid"),
        ("resource_reference_key.type=NAMESPACE%20&resource_reference_key.id=a", "enum_invalid"),
        ("resource_reference_key.type=%D9%A5&resource_reference_key.id=a", "enum_invalid"),
    ],
)
def test_v1_lists_say_what_their_id_is(tmp_path: Path, query: str, outcome: str) -> None:
    """grpc-gateway reads `05` and `+5` as 5; we read no other spelling than the name and the number."""
    experiment = "lookup:experiment:query:resource_reference_key.id{resource_reference_key.type=EXPERIMENT|1}"
    rule = rule_of(tmp_path, f"namespace: ['{TYPED}?', '{experiment}?']")
    assert reads(rule, target=f"/x/1?{query}") == outcome


def test_an_odd_type_is_refused_where_absence_would_be_let_pass(tmp_path: Path) -> None:
    """A list of shared pipelines is open; a type that only KFP understands must not make it that."""
    rule = rule_of(tmp_path, f"namespace: '{TYPED}?', absentNamespace: authenticated")
    assert reads(rule) == "True"
    assert reads(rule, target="/x/1?resource_reference_key.type=05&resource_reference_key.id=a") == "enum_invalid"


ALWAYS = "  - {verb: get, resource: r, namespace: a}\n"


def problem(folder: Path, check: str, rest: str = "", lookups: Any = LOOKUPS, more: str = ALWAYS) -> str:
    """Return the one problem that a rule with this check has."""
    file = folder / "policy.yaml"
    text = f"- name: one\n  match: {{path: '/x/{{id}}'}}\n{rest}  access:\n  - {{resource: r, {check}}}\n{more}"
    file.write_text(f"apiVersion: extauthz.dev/v1\nkind: Policy\nrules:\n{text}")
    with pytest.raises(ConfigurationError) as caught:
        policy.load([file], KEYS, lookups)
    (found,) = caught.value.problems
    assert found.line > 3
    return f"{found.message} / {found.hint}"


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        ("namespace: 'lookup:runs:path:id'", "unknown kind of lookup 'runs' / did you mean 'run'?"),
        ("namespace: 'lookup:xyzzy:path:id'", "the settings' lookups know artifact, artifact_key, experiment"),
        ("namespace: 'lookup:run.uid:path:id'", "a lookup has no 'uid' / write lookup:run or lookup:run.name"),
        ("namespace: 'lookup:run:id'", "needs the source of the id / such as lookup:run:path:id"),
        ("namespace: 'lookup:run:path:uid'", "the path /x/{id} has no variable 'uid'"),
        ("namespace: 'lookup:run:lookup:run:path:id'", "a lookup cannot stand inside another source"),
        ("namespace: 'key:artifact:lookup:run:path:id'", "a lookup cannot stand inside another source"),
        ("namespace: 'lookup:run.name:path:id'", "has no place here"),
        ("namespace: a, name: 'lookup:run:path:id'", "has no place here"),
        ("namespace: a, subresource: b, ifPresent: 'lookup:run:path:id'", "has no place here"),
        ("namespace: a, ifPresent: literal", "is always or never there"),
        ("namespace: a, ifPresent: 'query:x?'", "is always or never there"),
        ("namespace: 'query:ns', name: 'lookup:run.name:path:id'", "add lookup:run:path:id"),
        ("namespace: 'lookup:job:path:id', name: 'lookup:run.name:path:id'", "add lookup:run:path:id"),
        ("namespace: 'lookup:run:query:id', name: 'lookup:run.name:path:id'", "needs the namespace of the same object"),
        ("namespace: 'query:ns', sharedNamespace: kubeflow", "sharedNamespace needs a namespace that is looked up"),
        ("sharedNamespace: kubeflow", "sharedNamespace needs a namespace that is looked up"),
        ("namespace: 'lookup:run:path:id', sharedNamespace: Kube", "neither refuse, authenticated nor the name"),
        ("namespace: 'lookup:run:path:id', sharedNamespace: authenticate", "did you mean 'authenticated'?"),
        ("namespace: 'body:/a{b}/c'", "condition 'b' must name a member and its values"),
        ("namespace: 'body:/a{b=}/c'", "must name a member"),
        ("namespace: 'body:/a{=A}/c'", "must name a member"),
        ("namespace: 'body:/a{b=namespace}/c'", "must name a member"),
        ("namespace: 'body:/a{b=A|05}/c'", "must name a member"),
        ("namespace: 'body:/a{b=A,}/c'", "must name a member"),
        ("namespace: 'body:/a{b=A'", "must name a member"),
        ("namespace: 'body:{b=A}'", "must name a member"),
        ("namespace: 'query:a{}'", "is not a name"),
        ("namespace: 'query:{a=A}'", "is not a name"),
    ],
)
def test_what_can_never_work_is_refused_at_load(tmp_path: Path, check: str, expected: str) -> None:
    """With the place, and how to mend it."""
    assert expected in problem(tmp_path, "verb: get, " + check)


@pytest.mark.parametrize("key", ["absentNamespace", "sharedNamespace"])
def test_only_reading_can_be_open_to_everybody(tmp_path: Path, key: str) -> None:
    """A shared pipeline is never writable without a right, whatever the policy says."""
    check = f"namespace: 'lookup:pipeline:path:id', {key}: authenticated"
    for verb in ("create", "update", "delete", "query:verb", "use"):
        assert f"{key}: authenticated is for get and list" in problem(tmp_path, f"verb: {verb}, {check}")


def test_a_lookup_without_settings_names_both_ends(tmp_path: Path) -> None:
    """The rule's kind, and the place in the settings that is missing."""
    found = problem(tmp_path, "verb: get, namespace: 'lookup:run:path:id'", lookups=())
    assert found == "namespace: lookup:run has nobody to ask / name the KFP API in the settings, under lookups.kfp"


def test_lookups_and_literals_forbid_nothing(tmp_path: Path) -> None:
    """A guard must read the request itself."""
    assert "has no place here" in problem(tmp_path, "verb: get, namespace: a", "  forbid: ['lookup:run:path:id']\n")


def test_a_rule_asks_for_one_right_always(tmp_path: Path) -> None:
    """Were all rights optional, a request without any of them would ask for none."""
    expected = "needs a right that is asked for always, without ifPresent"
    assert expected in problem(tmp_path, "verb: get, namespace: a, ifPresent: 'query:x'", more="")
