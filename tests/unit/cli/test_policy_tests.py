"""`extauthz test` runs policy tests and tells what is covered."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cases import REPOSITORY
from tests.unit.cli.conftest import Run

POLICY = """\
apiVersion: extauthz.dev/v1
kind: Policy
rules:
  - {name: open, match: {path: /open}, allow: public}
  - {name: mine, match: {methods: [GET], path: "/mine/{ns}"}, access: [{verb: get, resource: r, namespace: "path:ns"}]}
  - {name: unused, match: {path: /unused}, deny: never}
"""
ROLES = """\
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: r, namespace: a}
rules: [{apiGroups: [""], resources: [r], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: r, namespace: a}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: r}
subjects:
  - {apiGroup: rbac.authorization.k8s.io, kind: User, name: alice}
  - {apiGroup: rbac.authorization.k8s.io, kind: Group, name: "system:serviceaccounts:a"}
"""
TESTS = """\
apiVersion: extauthz.dev/v1
kind: PolicyTest
policies: [policy.yaml]
manifests: [roles.yaml]
identities:
  alice: {user: alice}
  robot: {user: "system:serviceaccount:a:robot"}
  bob: {user: bob}
tests:
  - name: members
    request: {path: /mine/a}
    allow: [alice, robot]
    rule: mine
  - name: everybody
    request: {method: POST, path: /open}
    allow: [alice, robot, bob, nobody]
"""


@pytest.fixture
def tests(tmp_path: Path) -> Path:
    """A file of tests that hold, beside what it names."""
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "roles.yaml").write_text(ROLES)
    file = tmp_path / "tests.yaml"
    file.write_text(TESTS)
    return file


def test_tests_that_hold(extauthz: Run, tests: Path) -> None:
    """Every identity makes every request, and one without a credential, too."""
    ran = extauthz("test", tests)
    assert (ran.code, ran.out, ran.err) == (0, "2 cases, 8 decisions, 0 wrong\n", "")


def test_a_missing_expectation_means_deny(extauthz: Run, tests: Path) -> None:
    """Whoever passes and is not named is told with the case, the decision and its grounds; exit code 1."""
    tests.write_text(TESTS.replace("allow: [alice, robot]", "allow: [alice]"))
    ran = extauthz("test", tests)
    assert ran.code == 1
    where, decided, *_ = ran.out.splitlines()
    assert where == f"{tests}:10: members: robot must be refused"
    assert decided.startswith("    allow 200 allowed by mine (")
    assert ran.out.endswith("2 cases, 8 decisions, 1 wrong\n")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("allow: [alice, robot]", "allow: [alice, robot, bob]", "bob must pass"),
        ("rule: mine", "rule: other", "alice must be decided by rule 'other'"),
        ("/mine/a", "/mine/a?x=%ZZ", "alice must pass"),
    ],
)
def test_what_does_not_hold(extauthz: Run, tests: Path, old: str, new: str, told: str) -> None:
    """A refusal, another rule, and a request that cannot be read."""
    tests.write_text(TESTS.replace(old, new))
    ran = extauthz("test", tests, "-o", "json")
    assert (ran.code, ran.answer["passed"]) == (1, False)
    first = ran.answer["failures"][0]
    assert f"{first['identity']} {first['problem']}" == told
    assert first["decision"]["outcome"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("allow: [alice, robot]", "allow: [alcie]", "unknown identity 'alcie' (hint: did you mean 'alice'?)"),
        ("  bob: {user: bob}", "  nobody: {user: bob}", "is who sends no credential"),
        ("policies: [policy.yaml]", "policies: [none.yaml]", "no such file or folder"),
        ("manifests: [roles.yaml]", "lookups: {rnu: {r: a}}", "unknown kind 'rnu'"),
        ("kind: PolicyTest", "kind: PolicyTets", "no file of kind PolicyTest"),
        ("tests:\n", "test:\n", "unknown key 'test'"),
        ("policies:", "placement: inner\npolicies:", ""),
    ],
)
def test_files_that_cannot_be_used(extauthz: Run, tests: Path, old: str, new: str, message: str) -> None:
    """Each mistake is told with its place; exit code 2. Without placements in the policy any placement will do."""
    tests.write_text(TESTS.replace(old, new))
    ran = extauthz("test", tests)
    assert (ran.code, message in ran.err) == (2 if message else 0, True)


def test_coverage_of_rules(extauthz: Run, tests: Path) -> None:
    """Every rule is listed with the number of cases that reach it."""
    ran = extauthz("test", tests, "--coverage", "-o", "json")
    (covered,) = ran.answer["coverage"]
    assert covered["rules"] == {"open": 1, "mine": 1, "unused": 0}
    assert extauthz("test", tests, "--coverage").out.splitlines()[1] == "rules: 2 of 3 reached"


def test_coverage_of_routes(extauthz: Run) -> None:
    """Every known route of Kubeflow is listed with the rule that decides it, or as refused."""
    ran = extauthz("test", REPOSITORY / "policies" / "tests" / "login.yaml", "--coverage")
    lines = ran.out.splitlines()
    assert "  gateway GET /pipeline/apis/v2beta1/runs: kfp-v2beta1-runs-list" in lines
    assert "  gateway ANY /v1/models/m (host thing.namespace.example.com): serving-host-v1" in lines
    assert "  gateway ANY /somebody/team-a/viewer/index.html: refused" in lines


def test_lookups_bodies_and_headers(extauthz: Run, tmp_path: Path) -> None:
    """Objects have the namespaces that the file gives them; keys of artifacts tell theirs, or their run's."""
    right = "{verb: get, resource: r, namespace: 'lookup:%s:body:/id'}"
    rules = [
        f"  - {{name: {kind.replace('_', '-')}, match: {{path: /{kind}}}, access: [{right % kind}]}}\n"
        for kind in ("run", "artifact_key")
    ]
    (tmp_path / "policy.yaml").write_text(POLICY + "".join(rules))
    (tmp_path / "roles.yaml").write_text(ROLES)
    run = "5f3e5b7e-8d2c-4d0a-9c54-0a1b2c3d4e5f"
    cases = [
        ("run", run, "[alice]"),
        ("run", "other", "[]"),
        ("artifact_key", "private-artifacts/a/x", "[alice]"),
        ("artifact_key", f"v2/artifacts/p/{run}/x", "[alice]"),
        ("artifact_key", "v2/artifacts/p/x", "[]"),
    ]
    told = "".join(
        f"  - {{name: n, request: {{method: POST, path: /{kind}, body: {{id: {key}}}}}, allow: {who}}}\n"
        for kind, key, who in cases
    )
    broken = "  - {name: n, request: {path: /run, body: no JSON, headers: {X-A: b}}}\n"
    head = (
        TESTS.partition("identities:")[0] + f"lookups: {{run: {{{run}: a}}}}\nidentities: {{alice: {{user: alice}}}}\n"
    )
    (tmp_path / "tests.yaml").write_text(head + "tests:\n" + told + broken)
    ran = extauthz("test", tmp_path)
    assert (ran.code, ran.out) == (0, "6 cases, 12 decisions, 0 wrong\n")


def test_validate_knows_policy_tests(extauthz: Run, tests: Path) -> None:
    """A file of tests is checked with what it names, and is no policy."""
    ran = extauthz("validate", tests, tests.parent / "policy.yaml")
    assert (ran.code, ran.out) == (0, "ok: 2 files, 3 rules\n")
    tests.write_text(TESTS.replace("allow: [alice, robot]", "allow: [alcie]"))
    assert "unknown identity 'alcie'" in extauthz("validate", tests).err


def test_validate_checks_every_placement(extauthz: Run, tests: Path) -> None:
    """A policy for one place of the mesh is valid by itself, and collisions are found wherever they are."""
    policy = tests.parent / "policy.yaml"
    inner = POLICY.replace("rules:", "placements: {inner: /x, other: ''}\nrules:")
    policy.write_text(inner)
    assert extauthz("validate", policy).code == 0
    second = tests.parent / "second.yaml"
    second.write_text(inner.replace("inner: /x", "further: ''").replace("name: ", "name: second-"))
    assert "decides the same requests" in extauthz("validate", policy, second).err
