"""What a rule puts up for review: values from one place each, agreed upon, never guessed."""

from __future__ import annotations

from typing import Any

import pytest

from extauthz.policy import Rule
from extauthz.request import Body
from extauthz.request.faults import Fault
from extauthz.review import NonResourceAttributes, ResourceAttributes
from extauthz.subject import Subject
from tests.unit.policy.build import ask, check, namespace, outcome, rule


def of(*sources: str, path: str = "/x", absent: str | None = None) -> Rule:
    """Return a rule whose one check reads its namespace from these sources."""
    fields = {"absentNamespace": absent} if absent else {}
    return rule(check(namespace=list(sources), **fields), path=path)


def test_every_attribute_can_come_from_the_request() -> None:
    """Literals are taken as they stand, sources are read."""
    given = rule(
        {
            "verb": "query:verb",
            "group": "g",
            "version": "v1",
            "resource": "path:kind",
            "subresource": "log",
            "namespace": "header:X-Ns",
            "name": "path:name",
        },
        path="/{kind}/{name}:read",
    )
    assert outcome(given, ask("/pods/p%201:read?verb=get", x_ns="team-a")) == (
        ResourceAttributes("get", "g", "v1", "pods", "log", "team-a", "p 1"),
    )


def test_a_url_path_can_be_reviewed() -> None:
    """A check with a path asks for a right on a non-resource URL."""
    assert outcome(rule({"verb": "get", "path": "/metrics"}), ask()) == (NonResourceAttributes("get", "/metrics"),)
    assert outcome(rule({"verb": "get", "path": "query:p"}), ask()) == "value_missing"


def test_several_checks_are_several_reviews_in_order() -> None:
    """Every check of a rule becomes a review."""
    found = outcome(rule(check(verb="get"), check(verb="list"), {"verb": "get", "path": "/m"}), ask())
    assert [item.verb for item in found if not isinstance(item, str)] == ["get", "list", "get"]


def test_without_namespace_the_right_is_one_in_all_namespaces() -> None:
    """A check that names no namespace source asks for the whole cluster."""
    assert namespace(rule(check()), ask("/x?namespace=team-a")) == "="


@pytest.mark.parametrize("value", ["team-a", "a", "0", "a" * 63, "1-2"])
def test_namespaces_are_labels(value: str) -> None:
    """Names that Kubernetes can give to a namespace are read as they stand."""
    assert namespace(of("query:namespace"), ask(f"/x?namespace={value}")) == f"={value}"


@pytest.mark.parametrize(
    "value",
    [
        "-",
        "Team-A",
        "team_a",
        "team-a-",
        "-team",
        "a" * 64,
        "team.a",
        "team-a%2Fx",
        "team-a%20",
        "%20team-a",
        "t%C3%A9am",
    ],
)
def test_what_is_no_label_is_refused(value: str) -> None:
    """Nothing else reaches a review, the dash that KFP takes for `shared` included."""
    assert namespace(of("query:namespace"), ask(f"/x?namespace={value}")) == "namespace_invalid"


@pytest.mark.parametrize("value", ["*", "team-*", "team-a%0A", "team-a%00", "team%E2%80%8Ba", "%E2%80%AEa"])
def test_wildcards_and_unprintable_values_are_refused(value: str) -> None:
    """A star would ask for everything, and invisible characters have no one spelling."""
    assert namespace(of("query:namespace"), ask(f"/x?namespace={value}")) == "value_invalid"
    assert outcome(rule(check(name="query:namespace")), ask(f"/x?namespace={value}")) == "value_invalid"


def test_values_are_bounded() -> None:
    """A huge value is refused instead of reviewed."""
    given = rule(check(name="query:name"))
    assert not isinstance(outcome(given, ask("/x?name=" + "a" * 1024)), str)
    assert outcome(given, ask("/x?name=" + "a" * 1025)) == "value_too_long"


@pytest.mark.parametrize(
    ("sources", "query", "absent", "expected"),
    [
        (["query:a"], "a=t", None, "=t"),
        (["query:a"], "", None, "namespace_missing"),
        (["query:a"], "a=", None, "namespace_missing"),
        (["query:a"], "a=", "refuse", "namespace_missing"),
        (["query:a"], "", "all-namespaces", "="),
        (["query:a"], "a=", "all-namespaces", "="),
        (["query:a"], "", "shared", "=shared"),
        (["query:a"], "a=t", "shared", "=t"),
        (["query:a?"], "", None, "namespace_missing"),
        (["query:a?"], "", "shared", "=shared"),
        (["query:a", "query:b"], "a=t&b=t", None, "=t"),
        (["query:a", "query:b"], "a=t&b=u", None, "namespaces_differ"),
        (["query:a", "query:b"], "a=t", None, "namespace_missing"),
        (["query:a", "query:b"], "b=t", None, "namespace_missing"),
        (["query:a", "query:b"], "a=t", "shared", "namespace_missing"),
        (["query:a", "query:b"], "b=t", "shared", "namespace_missing"),
        (["query:a", "query:b"], "b=t", "all-namespaces", "namespace_missing"),
        (["query:a", "query:b"], "b=*", "shared", "value_invalid"),
        (["query:a", "query:b"], "", "shared", "=shared"),
        (["query:a", "query:b?"], "a=t", None, "=t"),
        (["query:a", "query:b?"], "a=t&b=t", None, "=t"),
        (["query:a", "query:b?"], "a=t&b=u", None, "namespaces_differ"),
        (["query:a", "query:b?"], "b=u", "shared", "namespace_missing"),
        (["query:a?", "query:b?"], "b=u", "shared", "=u"),
        (["query:a?", "query:b?"], "", "shared", "=shared"),
        (["query:a", "team-a"], "a=team-a", None, "=team-a"),
        (["query:a", "team-a"], "a=team-b", None, "namespaces_differ"),
        (["query:a", "query:b", "query:c"], "a=t&b=t&c=u", None, "namespaces_differ"),
    ],
)
def test_sources_of_a_namespace_agree(sources: list[str], query: str, absent: str | None, expected: str) -> None:
    """All that are given must be equal, the required ones must be given, and only then may all be absent."""
    assert namespace(of(*sources, absent=absent), ask(f"/x?{query}")) == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("namespace=t", "=t"),
        ("namespace=t&other=u", "=t"),
        ("namespace=t&namespace[]=u", Fault.QUERY_SPELLING),
        ("namespace=t&namespace[0]=u", Fault.QUERY_SPELLING),
        ("namespace=t&namespace%5Bu%5D=x", Fault.QUERY_SPELLING),
        ("namespace[]=t", Fault.QUERY_SPELLING),
        ("namespace[", Fault.QUERY_SPELLING),
        ("Namespace=t", "namespace_missing"),
        ("namespaces[]=t", "namespace_missing"),
        ("name.space=t", "namespace_missing"),
    ],
)
def test_other_spellings_of_a_parameter_are_refused(query: str, expected: str) -> None:
    """Servers that read brackets as arrays or maps would see another value."""
    assert namespace(of("query:namespace"), ask(f"/x?{query}")) == expected


@pytest.mark.parametrize("spelling", ["key_ref.my_id", "keyRef.myId", "keyRef.my_id", "key_ref.myId", "keyRef[x].myId"])
def test_the_spellings_of_a_nested_parameter(spelling: str) -> None:
    """Protobuf gateways take each part of a nested name either way; mixtures are refused, not overlooked."""
    expected = "=t" if spelling in ("key_ref.my_id", "keyRef.myId") else "namespace_missing"
    expected = Fault.QUERY_SPELLING if spelling in ("keyRef.my_id", "key_ref.myId") else expected
    assert namespace(of("query:key_ref.my_id"), ask(f"/x?{spelling}=t")) == expected
    forbidding = rule(path="/x", allow="authenticated", forbid=["query:key_ref.my_id"])
    assert (outcome(forbidding, ask(f"/x?{spelling}=t")) == ()) is (spelling == "keyRef[x].myId")


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/x/team-a/run-1", ("team-a", "run-1")),
        ("/x/team-a/a%20b", ("team-a", "a b")),
        ("/x/team-a/%C3%A9", ("team-a", "\u00e9")),
        ("/x/team-a/a%26b", ("team-a", "a&b")),
        ("/x/team-a/a+b", ("team-a", "a+b")),
        ("/x/team-a/%ff", Fault.INVALID_UTF8),
        ("/x/team-a/%2A", "value_invalid"),
        ("/x/Team-a/b", "namespace_invalid"),
        ("/x/team%2Da/b", ("team-a", "b")),
    ],
)
def test_path_variables_are_decoded_once(target: str, expected: Any) -> None:
    """A plus is a plus in a path, and bytes that are not UTF-8 are refused even by themselves."""
    found = outcome(rule(check(namespace="path:ns", name="path:id"), path="/x/{ns}/{id}"), ask(target))
    assert (found if isinstance(found, str) else (found[0].namespace, found[0].name)) == expected  # type: ignore[union-attr]


@pytest.mark.parametrize(("target", "name"), [("/x/a/b%20c/", "a/b c/"), ("/x/a", "a"), ("/x/", "value_missing")])
def test_the_tail_is_one_value(target: str, name: str) -> None:
    """A tail keeps its slashes; an empty tail is no value."""
    found = outcome(rule(check(name="path:rest"), path="/x/{rest...}"), ask(target))
    assert (found if isinstance(found, str) else found[0].name) == name  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"x_ns": "team-a"}, "=team-a"),
        ({"x_ns": " team-a "}, "=team-a"),
        ({}, "namespace_missing"),
        ({"x_ns": ""}, "namespace_missing"),
        ({"x_ns": " "}, "namespace_missing"),
        ({"x_ns": "team-a,team-b"}, "header_ambiguous"),
        ({"x_ns": "team-a, team-a"}, "header_ambiguous"),
        ({"x_ns": "team-a!"}, "header_ambiguous"),
        ({"x_ns": "team-a\t"}, "value_invalid"),
    ],
)
def test_headers(headers: dict[str, str], expected: str) -> None:
    """One header, one value; Envoy's joined duplicates and replaced bytes are refused."""
    assert namespace(of("header:X-NS"), ask(**headers)) == expected


def test_an_underscored_twin_of_a_header_is_refused() -> None:
    """A CGI-like server would take the twin for the header itself."""
    request = ask(x_ns="team-a")
    twins = {**request.headers, "x_ns": "team-b"}
    object.__setattr__(request, "headers", twins)
    assert namespace(of("header:x-ns"), request) == "header_ambiguous"


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"ns": "team-a"}, "=team-a"),
        ({}, "namespace_missing"),
        ({"ns": ""}, "namespace_missing"),
        ({"ns": None}, "namespace_missing"),
        ({"ns": ["team-a"]}, "claim_not_text"),
        ({"ns": 5}, "claim_not_text"),
        ({"ns": True}, "claim_not_text"),
        ({"ns": {"a": "b"}}, "claim_not_text"),
        ({"ns": "team-*"}, "value_invalid"),
    ],
)
def test_claims(claims: dict[str, Any], expected: str) -> None:
    """Only text in a verified token is a value."""
    assert namespace(of("claim:ns"), ask(), Subject("alice", claims=claims)) == expected


def test_without_identity_there_are_no_claims() -> None:
    """Nobody has no claims."""
    assert namespace(of("claim:ns"), ask()) == "namespace_missing"


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("private-artifacts/team-a/x", "=team-a"),
        ("private-artifacts%2Fteam-a%2Fx", "=team-a"),
        ("private-artifacts/team-a/..%2Fteam-b/x", "key_owner_unknown"),
        ("artifacts/x", "key_owner_unknown"),
        ("", "namespace_missing"),
    ],
)
def test_keys_name_their_owner(key: str, expected: str) -> None:
    """The namespace is the one in the prefix of the key."""
    assert namespace(of("key:artifact:query:key"), ask(f"/x?key={key}")) == expected


def test_a_key_and_a_namespace_must_agree() -> None:
    """A key of one tenant under the name of another is refused."""
    given = of("key:artifact:query:key", "query:namespace?")
    target = "/x?source=minio&bucket=mlpipeline&key=private-artifacts/team-b/x"
    assert namespace(given, ask(target)) == "=team-b"
    assert namespace(given, ask(f"{target}&namespace=team-b")) == "=team-b"
    assert namespace(given, ask(f"{target}&namespace=team-a")) == "namespaces_differ"


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (ask("/x"), ()),
        (ask("/x?experiment_id="), ()),
        (ask("/x?experiment_id=1"), "forbidden_value"),
        (ask("/x?experimentId=1"), "forbidden_value"),
        (ask("/x?experiment_id[]=1"), Fault.QUERY_SPELLING),
        (ask("/x", body='{"run_id": ""}'), ()),
        (ask("/x", body='{"run_id": "1"}'), "forbidden_value"),
        (ask("/x", body='{"runId": "1"}'), "forbidden_value"),
        (ask("/x", body='{"RUN_ID": "1"}'), "body_spelling"),
        (ask("/x", body='{"run_id": 1}'), "body_value_not_text"),
        (ask("/x", body="{"), "body_not_json"),
    ],
)
def test_forbidden_values(request_: Any, expected: Any) -> None:
    """What a rule forbids must be absent or empty, and readable enough to know that."""
    assert outcome(rule(allow="authenticated", forbid=["query:experiment_id", "body:/run_id"]), request_) == expected


def test_an_optional_name_may_be_absent() -> None:
    """Without the question mark a name must be given."""
    optional = outcome(rule(check(name="query:name?")), ask())
    assert not isinstance(optional, str)
    assert outcome(rule(check(name="query:name")), ask()) == "value_missing"
    assert outcome(rule({"verb": "query:verb", "resource": "r"}), ask()) == "value_missing"
    assert outcome(rule({"verb": "get", "resource": "query:r"}), ask("/x?r=")) == "value_missing"


def test_a_body_that_was_not_shown_is_refused_where_it_is_read() -> None:
    """The reason is the one that the edge gave; other rules do not care."""
    request = ask(body=Body(None, "body_truncated"))
    assert namespace(of("body:/namespace"), request) == "body_truncated"
    assert outcome(rule(check()), request) != "body_truncated"


def test_the_body_is_parsed_once_for_all_sources() -> None:
    """Several sources of one request read one document."""
    given = rule(check(namespace=["body:/a", "body:/b"], name="body:/c"), check(verb="list", namespace="body:/b"))
    found = outcome(given, ask(body='{"a": "t", "b": "t", "c": "n"}'))
    assert not isinstance(found, str)
    assert [item.namespace for item in found if isinstance(item, ResourceAttributes)] == ["t", "t"]


def test_values_explain_what_each_source_reads() -> None:
    """A source that is refused reads as absent in an explanation; what the policy says outright is left out."""
    given = rule(
        check(namespace=["query:a", "path:ns?"], name="body:/n?"), {"verb": "get", "path": "/m"}, path="/x/{ns}"
    )
    assert given.values(ask("/x/%ff?a=t", body="{"), None) == [
        {"attribute": "namespace", "source": "query:a", "value": "t"},
        {"attribute": "namespace", "source": "path:ns?", "value": None},
        {"attribute": "name", "source": "body:/n?", "value": None},
    ]
    assert rule(check()).values(ask(), None) == []


@pytest.mark.parametrize(
    ("target", "fault"),
    [
        ("/n/team-a/nb/x", None),
        ("/n/team-a/nb//x", None),
        ("/n/team-a/nb/a%2Fb", None),
        ("/n/team-a/nb/x;y?a=1&a=2", Fault.PATH_PARAMETER),
        ("/n/team-a/nb/..%2Fother", Fault.DOT_SEGMENT),
        ("/n/team-a/nb/%2e%2e/other", Fault.ENCODED_UNRESERVED),
        ("/n/team-a/nb/..;/other", Fault.PATH_PARAMETER),
        ("/n/team-a/nb/x\\y", Fault.BACKSLASH),
        ("/n/team-a/n%2Fb/x", Fault.ENCODED_SLASH),
        ("/n/team%2Fa/nb/x", Fault.ENCODED_SLASH),
        ("/n/team-a/nb/x?a=1&a=2", Fault.QUERY_DUPLICATE),
    ],
)
def test_tolerance_reaches_only_the_tail(target: str, fault: Fault | None) -> None:
    """The part of the path that decides is never read twice."""
    tolerated = ["empty_segment", "encoded_slash"]
    given = rule(check(namespace="path:ns"), path="/n/{ns}/{nb}/{rest...}", tolerate=tolerated)
    assert given.fault(ask(target)) == fault
    assert given.tolerates_paths


def test_without_a_tail_only_the_query_is_tolerated() -> None:
    """A fault of the whole request has no place in the path."""
    given = rule(check(), tolerate=["query_duplicate"])
    assert given.fault(ask("/x?a=1&a=2")) is None
    assert given.fault(ask("/x?a=1;b")) is Fault.QUERY_SEMICOLON
    assert not given.tolerates_paths
