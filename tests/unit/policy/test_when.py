"""Conditions in CEL: what they may say, what they read, and that nothing but `true` lets pass."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import pytest

from extauthz.basis import NotedHeaders
from extauthz.errors import Refused
from extauthz.policy import Rule
from extauthz.request import read
from extauthz.subject import Subject
from tests.cases import decided, gateway, policy_of
from tests.unit.policy.build import HEAD, ask, check, load, problems, rule

CLAIMS = {"role": "admin", "level": 3, "verified": True, "teams": ["a", "b"], "https://x/y": "z", "huge": 2**70}
ASKER = Subject.authenticated("alice@example.com", ("ml-ops",), uid="u-1", authenticator="jwt", claims=CLAIMS)


def when(condition: str, *, path: str = "/x/{ns}", **rest: Any) -> Rule:
    """Load one rule with a condition."""
    return rule(check(), path=path, when=condition, **rest)


def holds(condition: str, target: str = "/x/team-a", **headers: str) -> bool | str:
    """Return what a condition says of a request, or the reason code of its refusal."""
    try:
        return when(condition).permits(ask(target, host="KubeFlow.example.com:443", **headers), ASKER)
    except Refused as error:
        return str(error.reason)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ('request.method == "GET"', True),
        ('request.path == "/x/team-a"', True),
        ('request.host == "kubeflow.example.com"', True),
        ('path.ns == "team-a" && path.ns.startsWith("team-")', True),
        ('path.ns.matches("^team-[b-z]$")', False),
        ('identity.user.endsWith("@example.com")', True),
        ('"ml-ops" in identity.groups', True),
        ('identity.groups.exists(g, g == "nobody")', False),
        ('identity.uid == "u-1" && identity.authenticator == "jwt"', True),
        ('claims.role == "admin"', True),
        ('claims["https://x/y"] == "z"', True),
        ("claims.level >= 3", True),
        ('.claims.role == "admin"', True),
        ('claims.level in {3: "a"}', True),
        ('path.ns == "team-a" || claims.missing == 1', True),
        ("claims.verified == true", True),
        ('claims.teams.exists(t, t == "b")', True),
        ("has(claims.nothing)", False),
        ('"role" in claims', True),
        ('has(claims.role) && claims.role in ["admin", "owner"]', True),
        ('request.query.size == "big"', True),
        ('request.query["size"] in ["big", "huge"]', True),
        ('"small" in request.query', False),
        ('request.headers["x-env"] == "prod"', True),
        ('has(request.headers.accept) || request.headers["x-env"] == "prod"', True),
        ("timestamp('2020-01-01T00:00:00Z') < timestamp('2021-01-01T00:00:00Z')", True),
    ],
)
def test_what_conditions_read(condition: str, expected: bool) -> None:
    """Request, identity, claims and the variables of the path, each by its name."""
    assert holds(condition, "/x/team-a?size=big", x_env="prod") is expected


@pytest.mark.parametrize(
    "condition",
    [
        'claims.missing == "a"',
        '!(claims.missing == "a")',
        "claims.level.deeper == 1",
        'claims.level > "3"',
        "claims.huge == 1",
        'request.headers["x-none"] != "a"',
        'request.query.none != "a"',
        "1 / (claims.level - 3) == 0",
        'path.ns == "team-a" && claims.missing == 1',
    ],
)
def test_an_error_is_a_refusal(condition: str) -> None:
    """What is not there, of another kind or impossible is neither true nor false, however it is negated."""
    assert holds(condition) == "condition_error"


@pytest.mark.parametrize(
    ("condition", "target", "headers", "reason"),
    [
        ('!("x-env" in request.headers)', "/x/a", {"x_env": "a,b"}, "header_ambiguous"),
        ('!("run_id" in request.query)', "/x/a?runId=1", {}, False),
        ('!("run_id" in request.query)', "/x/a?run_id[]=1", {}, "query_spelling"),
    ],
)
def test_no_spelling_walks_around_a_condition(
    condition: str, target: str, headers: dict[str, str], reason: bool | str
) -> None:
    """What a server could read as the named header or parameter counts, or is refused."""
    assert holds(condition, target, **headers) == reason


def test_a_twin_of_a_header_is_refused() -> None:
    """CGI-like servers read an underscore as a hyphen, so a condition on the absence of one sees both."""
    request = ask("/x/a")
    request.headers = {"x_env": "prod"}
    with pytest.raises(Refused, match="header_ambiguous"):
        when('!("x-env" in request.headers)').permits(request, ASKER)


@pytest.mark.parametrize(
    ("condition", "message", "hint"),
    [
        ("request.metod == 'GET'", "undeclared reference to 'request.metod', at character 8", "'request.method'"),
        ("path.namespace == 'a'", "undeclared reference to 'path.namespace'", "'path.ns'"),
        ("nothing_like_it", "undeclared reference to 'nothing_like_it'", "the names are claims, identity.auth"),
        ("request.method == 1", "no matching overload for '_==_' applied to '(string, int)'", ""),
        ("request.method", "the condition is string, not true or false", "compare it"),
        ("claims.verified", "the condition is dyn, not true or false", "compare it"),
        ("true ||", "Syntax error", ""),
        ("true &&\nfoo", "at line 2, character 1", ""),
        ("request.headers == request.headers", "request.headers cannot be read as a whole", "name what you need"),
        ('request.headers.exists(h, h == "x")', "cannot be read as a whole", ""),
        ("size(claims) == 1", "claims cannot be read as a whole", ""),
        ('request.headers[request.method] == "x"', "cannot be read as a whole", ""),
        ('request.headers["X-Env"] == "x"', "header names are in lower case", "'x-env'"),
        ('request.headers.authorization == "x"', "carries a credential", "claim"),
        ('request.query["a b"] == "x"', "'a b' is not a name", ""),
        ('path.ns.matches("(")', "not a regular expression", ""),
        ("path.ns.matches(request.method)", "a pattern must be written", ""),
        ("[1, 2].all(a, [1, 2].all(b, a == b))", "a loop inside a loop", ""),
        ("[" + ",".join("1" * 240) + "].size() == 3", "more than 200 operations", ""),
        ("(" * 100 + "true" + ")" * 100, "recursion limit", ""),
        ("x" * 1025, "at most 1024 characters", ""),
        ("1 in {1: [request.metod]}", "undeclared", ""),
    ],
)
def test_what_cannot_be_meant_is_an_error_at_load(condition: str, message: str, hint: str) -> None:
    """Each mistake is told with its place in the file, its place in the condition, and a remedy."""
    made = [{"name": "one", "match": {"path": "/x/{ns}"}, "access": [check()], "when": condition}]
    text = HEAD + "rules:\n" + textwrap.indent(json.dumps(made, indent=1), " ")
    (problem,) = problems(text)
    assert message in problem.message
    assert hint in problem.hint
    assert problem.message.startswith("when")
    line = next(number for number, line in enumerate(text.splitlines(), 1) if '"when"' in line)
    assert problem.line == line


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"deny": "no", "when": "true"}, "when has no place beside deny"),
        ({"allow": "public", "when": 'identity.user == "a"'}, "undeclared reference to 'identity.user'"),
        ({"allow": "public", "when": "claims.a == 1"}, "undeclared reference to 'claims"),
        (
            {"access": [check()], "when": 'request.path == "/a"', "tolerate": ["empty_segment"]},
            "reads request.path, so the rule cannot tolerate",
        ),
        ({"access": [check()], "when": 'path.rest == "a"', "tolerate": ["empty_segment"]}, "reads path:rest"),
        ({"access": [check()], "when": 'request.query.q == "a"', "tolerate": ["query_duplicate"]}, "reads query:q"),
    ],
)
def test_what_a_condition_has_no_place_beside(fields: dict[str, Any], message: str) -> None:
    """A rule for everybody knows nobody, and a rule that reads something does not tolerate it in two spellings."""
    made = {"name": "one", "match": {"path": "/x/{rest...}"}, **fields}
    (problem,) = problems(HEAD + f"rules: [{json.dumps(made)}]")
    assert message in problem.message


def test_a_condition_on_an_empty_tail() -> None:
    """A variable of the path is always there."""
    made = when('path.rest == ""', path="/x/{rest...}")
    assert made.permits(ask("/x/"), ASKER)
    assert not made.permits(ask("/x/y/z"), ASKER)


def test_labels_of_the_host() -> None:
    """A host pattern's labels are variables, too."""
    made = load(
        HEAD + "rules: [{name: a, match: {path: /x, hosts: ['{ns}.m.example.com']},"
        " access: [{verb: get, resource: r}], when: 'host.ns == \"a\"'}]"
    ).rules[0]
    assert made.permits(ask("/x", host="a.m.example.com"), ASKER)
    assert not made.permits(ask("/x", host="b.m.example.com"), ASKER)


@pytest.mark.parametrize("host", ["", "admin.example.com:999999", "admin.example.com..", "admin.example.com,b", "a@b"])
def test_a_host_that_reads_in_several_ways_fulfils_no_condition(host: str) -> None:
    """Not even one that only excludes a name: a server may read that very name in it."""
    with pytest.raises(Refused, match="condition_error"):
        when('request.host != "admin.example.com"').permits(ask("/x/a", host=host), ASKER)


def test_a_label_that_is_not_there_fulfils_no_condition() -> None:
    """A host of another number of labels is below the domain, too, and has no namespace."""
    made = load(
        HEAD + "rules: [{name: a, match: {path: /x, hosts: ['{name}.{ns}.m.example.com']},"
        " access: [{verb: get, resource: r}], when: 'host.ns != \"a\"'}]"
    ).rules[0]
    assert made.permits(ask("/x", host="n.b.m.example.com"), ASKER)
    with pytest.raises(Refused, match="condition_error"):
        made.permits(ask("/x", host="more.n.a.m.example.com"), ASKER)


def test_work_is_bounded() -> None:
    """A token full of groups cannot make a condition run long: the library gives up, and that is a refusal."""
    crowd = Subject.authenticated("alice", tuple(f"group-{number}" for number in range(20_000)))
    with pytest.raises(Refused, match="condition_error"):
        when("identity.groups.all(g, size(g) > 0)").permits(ask("/x/a"), crowd)


def test_what_the_library_cannot_take_is_a_refusal() -> None:
    """Half of a surrogate pair is no text."""
    odd = Subject("a\ud800")
    with pytest.raises(Refused, match="condition_error"):
        when('identity.user != "a"').permits(ask("/x/a"), odd)


def test_nobody_fulfils_no_condition_on_who_asks() -> None:
    """A rule that asks for rights never gets here without a subject; if it did, it would refuse."""
    with pytest.raises(Refused, match="condition_error"):
        when('identity.user != "a"').permits(ask("/x/a"), None)


def test_what_a_condition_read_is_explained() -> None:
    """Headers, parameters, claims and variables are listed with what they were; what could not be read is absent."""
    made = when('request.headers.a == "b" && claims.level == 3 && claims.role == "x" && path.ns == "q"')
    request = ask("/x/team-a")
    request.headers = {"a": "1,2"}
    told = {value["source"]: value["value"] for value in made.values(request, ASKER) if value["attribute"] == "when"}
    assert told == {"header:a": None, "claims:level": "3", "claims:role": '"admin"', "path:ns": "team-a"}


def test_headers_that_a_condition_reads_count(tmp_path: Path) -> None:
    """An allow is not given again to a request in which one of them, or a twin of it, differs."""
    rules = '- {name: a, match: {path: /x}, allow: authenticated, when: \'request.headers["x-env"] == "prod"\'}\n'
    noted = NotedHeaders({"x-env": "prod", "x-other": "1"})
    decision = decided(
        gateway(policy=policy_of(tmp_path, rules)).decide(read(method="GET", target="/x", headers=noted))
    )
    assert decision.allowed
    basis = noted.basis(())
    assert basis
    assert {"x-env", "x_env"} <= basis.headers
    assert "x-other" not in basis.headers
