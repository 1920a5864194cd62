"""Which rule decides a request: path first, then method, then host; never a broader rule by a detour."""

from __future__ import annotations

from typing import Any

import pytest

from extauthz.policy import Missing, Policy, Rule
from extauthz.request.faults import MAX_SEGMENTS, Fault
from tests.unit.policy.build import ask, rules


def policy(*matches: dict[str, Any] | str) -> Policy:
    """Return a policy with one public rule per match, named by its index."""
    found = [{"path": match} if isinstance(match, str) else match for match in matches]
    return rules(*({"match": match, "allow": "public"} for match in found))


def decided(given: Policy, target: str, method: str = "GET", host: str = "") -> int | str:
    """Return the index of the deciding rule, or the fault or `none`."""
    found = given.find(ask(target, method=method, host=host))
    if isinstance(found, Rule):
        return int(found.ref.name.removeprefix("rule-"))
    return found.fault or "none"


@pytest.mark.parametrize(
    ("paths", "target", "index"),
    [
        (["/a/{x...}", "/a/{x}", "/a/{x}:go", "/a/b:go"], "/a/b:go", 3),
        (["/a/{x...}", "/a/{x}", "/a/{x}:go", "/a/b:go"], "/a/c:go", 2),
        (["/a/{x...}", "/a/{x}", "/a/{x}:go", "/a/b:go"], "/a/c", 1),
        (["/a/{x...}", "/a/{x}", "/a/{x}:go", "/a/b:go"], "/a/", 0),
        (["/a/{x...}", "/a/{x}"], "/a", "none"),
        (["/a/{x}", "/a/{x}:go"], "/a/:go", 0),
        (["/a/{x}:go"], "/a/:go", "none"),
        (["/a/{x}", "/a/{x}:go"], "/a/b:go:go", 1),
        (["/a/{x}", "/a/{x}:go"], "/a/b:going", 0),
        (["/a/{x}", "/a/{x}:archive", "/a/{x}:unarchive"], "/a/b:unarchive", 2),
        (["/a/b/c", "/a/{x}/d"], "/a/b/d", 1),
        (["/a/b/{x}/c", "/a/{y}/{x}/d", "/{z...}"], "/a/b/x/d", 1),
        (["/a/b/{x}/c", "/a/{y}/{x}/d", "/{z...}"], "/a/b/x/e", 2),
        (["/a/{x}:go/c", "/a/{x}/d"], "/a/b:go/d", 1),
        (["/a/b/{x...}", "/a/{x}/c"], "/a/b/c", 0),
        (["/a", "/a/"], "/a", 0),
        (["/a", "/a/"], "/a/", 1),
        (["/a"], "/a/", "none"),
        (["/a/"], "/a", "none"),
        (["/a/{x}"], "/a/", "none"),
        (["/a/{x}/b"], "/a//b", "none"),
        (["/"], "/", 0),
        (["/{x...}"], "/", 0),
        (["/a"], "*", "none"),
        (["/a"], "", "none"),
    ],
)
def test_the_most_specific_path_decides(paths: list[str], target: str, index: int | str) -> None:
    """Literal before suffix before variable before tail, segment by segment from the left."""
    assert decided(policy(*paths), target) == index


def test_methods() -> None:
    """A rule for a method goes before one for every method; GET decides HEAD."""
    given = policy({"path": "/a", "methods": ["GET"]}, {"path": "/a"}, {"path": "/b", "methods": ["POST", "PUT"]})
    assert [decided(given, "/a", method) for method in ("GET", "HEAD", "POST", "PROPFIND")] == [0, 0, 1, 1]
    assert [decided(given, "/b", method) for method in ("POST", "PUT", "GET", "HEAD")] == [2, 2, "none", "none"]


@pytest.mark.parametrize(
    ("specific", "broad", "target"),
    [
        ("/a/b", "/a/{x}", "/a/b"),
        ("/a/b", "/a/{x...}", "/a/b"),
        ("/a/{x}:go", "/a/{x}", "/a/b:go"),
        ("/a/{x}:go", "/{x...}", "/a/b:go"),
        ("/a/{x}", "/a/{x...}", "/a/b"),
        ("/a/b/{x...}", "/a/{x...}", "/a/b/c"),
        ("/a/", "/a/{x...}", "/a/"),
    ],
)
def test_an_unknown_method_is_never_handed_to_a_broader_rule(specific: str, broad: str, target: str) -> None:
    """The most specific path decides alone, also against another kind of template."""
    given = policy({"path": specific, "methods": ["POST"]}, broad)
    found = given.find(ask(target, method="DELETE"))
    assert isinstance(found, Missing)
    assert found.methods == ("POST",)


HOSTS = policy(
    {"path": "/a", "hosts": ["a.example.com"]},
    {"path": "/a", "hosts": ["*.example.com"]},
    {"path": "/a", "hosts": ["*.deep.example.com", "b.example.org"]},
    {"path": "/a"},
    {"path": "/b", "hosts": ["a.example.com"]},
)


@pytest.mark.parametrize(
    ("host", "index"),
    [
        ("a.example.com", 0),
        ("A.EXAMPLE.com", 0),
        ("a.example.com:8443", 0),
        ("a.example.com.", 0),
        ("a.example.com.:443", 0),
        ("b.example.com", 1),
        ("b.a.example.com", 1),
        ("x.deep.example.com", 2),
        ("deep.example.com", 1),
        ("b.example.org", 2),
        ("example.com", 3),
        ("x.b.example.org", 3),
        ("badexample.com", 3),
        ("[::1]:8443", 3),
        ("[::1]", 3),
        ("10.0.0.1:80", 3),
        ("localhost", 3),
    ],
)
def test_hosts(host: str, index: int) -> None:
    """The exact host, then the nearest domain, then every host."""
    assert decided(HOSTS, "/a", host=host) == index


@pytest.mark.parametrize(
    "host",
    [
        "",
        "a.example.com,b.example.com",
        "a.example.com, b.example.com",
        "user@a.example.com",
        "a.example.com:",
        "a.example.com:80:80",
        "a.example.com:x",
        "a.example.com:\u0668\u0660",
        "a.example.com..",
        ".a.example.com",
        "a..example.com",
        "a.example.com/",
        "a.example.com%2e",
        " a.example.com",
        "a.example.com\n",
        "a.example.\u212aom",
        "::1",
        "[::1",
    ],
)
def test_a_doubtful_host_is_refused_where_hosts_decide(host: str) -> None:
    """No spelling of a host slips from its own rule to the rule for every host."""
    assert decided(HOSTS, "/a", host=host) == "none"
    assert decided(policy("/a"), "/a", host=host) == 0


def test_another_host_is_refused_on_a_path_of_one_host() -> None:
    """A path whose rules all name hosts is closed on the others."""
    assert decided(HOSTS, "/b", host="a.example.com") == 4
    assert decided(HOSTS, "/b", host="b.example.com") == "none"


@pytest.mark.parametrize(
    ("paths", "target", "fault"),
    [
        (["/pipeline/artifacts/{x...}", "/{x...}"], "/PIPELINE/artifacts/y", Fault.PATH_CASE),
        (["/pipeline/artifacts/{x...}", "/{x...}"], "/pipeline/Artifacts/y", Fault.PATH_CASE),
        (["/a/{x}:archive", "/a/{x}"], "/a/b:Archive", Fault.PATH_CASE),
        (["/a/b", "/a/{x}"], "/a/B", Fault.PATH_CASE),
        (["/a/B", "/a/{x}"], "/a/b", Fault.PATH_CASE),
        (["/a:batchCreate", "/{x}"], "/a:batchcreate", Fault.PATH_CASE),
        (["/a/{x}:batchCreate", "/a/{x}"], "/a/b:batchcreate", Fault.PATH_CASE),
        (["/A/{x}", "/a/b"], "/A/b", Fault.PATH_CASE),
        (["/a/{x}:archive", "/a/{x}"], "/a/b%3Aarchive", Fault.ENCODED_UNRESERVED),
        (["/a/{x}:archive", "/a/{x}"], "/a/b%3aarchive", Fault.ENCODED_UNRESERVED),
        (["/a/x@y", "/a/{x}"], "/a/x%40y", Fault.ENCODED_UNRESERVED),
        (["/a/b", "/a/{x}"], "/a/%62", Fault.ENCODED_UNRESERVED),
        (["/a/%C3%A9", "/a/{x}"], "/a/%c3%a9", Fault.ENCODED_UNRESERVED),
        (["/a/%C3%A9", "/a/{x}"], "/a/%C3%89", Fault.ENCODED_UNRESERVED),
        (["/a/s", "/a/{x}"], "/a/%C5%BF", Fault.ENCODED_UNRESERVED),
    ],
)
def test_a_respelled_path_of_another_rule_is_refused(paths: list[str], target: str, fault: Fault) -> None:
    """Some servers fold case or decode before they route; for them the request is another one."""
    assert decided(policy(*paths), target) == fault


@pytest.mark.parametrize(
    ("paths", "target", "index"),
    [
        (["/a/{x}", "/a/b"], "/a/Team", 0),
        (["/a:batchCreate", "/{x}"], "/a:batchCreate", 0),
        (["/a/%C3%A9", "/a/{x}"], "/a/%C3%A9", 0),
        (["/a/{x}", "/a/b"], "/a/%C3%A9", 0),
        (["/a/{x}", "/a/{x}:go"], "/a/b%3Ax", 0),
        (["/a/{x...}"], "/a/B/%20/c", 0),
    ],
)
def test_spelling_is_free_where_a_variable_stands(paths: list[str], target: str, index: int) -> None:
    """Letter case and encoding of a value are the value's own."""
    assert decided(policy(*paths), target) == index


def test_a_last_slash_does_not_walk_around_a_rule() -> None:
    """Servers that drop it would serve what the narrower rule guards."""
    given = policy("/ui/admin", "/ui/{rest...}")
    assert decided(given, "/ui/admin/") == Fault.TRAILING_SLASH
    assert decided(given, "/ui/other/") == 1
    assert decided(given, "/ui/") == 1
    named = policy("/notebook/{ns}/{name}", "/notebook/{ns}/{name}/{rest...}", "/{rest...}")
    assert decided(named, "/notebook/a/b/") == 1


def test_a_long_path_costs_no_recursion() -> None:
    """The search goes no deeper than the longest template."""
    given = policy("/a/{x...}", "/" + "/".join(["b"] * 255))
    assert decided(given, "/a" * MAX_SEGMENTS) == 0
    assert decided(given, "/b" * 255) == 1
    assert decided(given, "/b" * MAX_SEGMENTS) == "none"
