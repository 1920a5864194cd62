"""`extauthz test` runs policy tests and tells what is covered."""

from __future__ import annotations

import contextlib
import queue
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

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
    assert "  gateway ANY /somebody/team-a/viewer/index.html: unknown" in lines


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


MATRIX = """\
  - name: matrix
    requests:
      own: {path: /mine/a}
      other: {path: /mine/b}
      open: {path: /open}
    allow:
      alice: [own, open]
      robot: [own, open]
      bob: [open]
      nobody: [open]
  - name: what is asked for
    request: {path: /mine/a}
    allow: [alice, robot]
    reviews: [{verb: get, resource: r, namespace: a}]
  - name: what the upstream gets
    request: {path: /open}
    allow: [alice, robot, bob, nobody]
    headers: {kubeflow-groups: null}
"""


def test_matrices_reviews_and_headers(extauthz: Run, tests: Path) -> None:
    """Every identity makes every request; rights and headers are held, too."""
    tests.write_text(TESTS + MATRIX)
    done = extauthz("test", str(tests))
    assert (done.code, done.out) == (0, "5 cases, 28 decisions, 0 wrong\n")


@pytest.mark.parametrize(
    ("before", "after", "wrong"),
    [
        ("bob: [open]", "bob: [open, own]", "matrix: bob (own) must pass"),
        ("alice: [own, open]", "alice: [own]", "matrix: alice (open) must be refused"),
        ("namespace: a}]", "namespace: b}]", "must be asked for the right to get r in b"),
        ("namespace: a}]", "}]", "must be asked for the right to get r in all namespaces"),
        ("[{verb: get, resource: r, namespace: a}]", "[]", "must not be asked for the right to get r in a"),
        (
            "[{verb: get, resource: r, namespace: a}]",
            "[{verb: get, path: /x}]",
            "must be asked for the right to get /x",
        ),
        ("kubeflow-groups: null", "x-none: null", "must remove the header x-none"),
        ("kubeflow-groups: null", "x-none: a", "must set the header x-none"),
        ("kubeflow-groups: null", "kubeflow-groups: a", "must set to 'a' the header kubeflow-groups, which is removed"),
    ],
)
def test_what_a_matrix_finds(extauthz: Run, tests: Path, before: str, after: str, wrong: str) -> None:
    """Each broken expectation is told with who asked what."""
    assert before in MATRIX
    tests.write_text(TESTS + MATRIX.replace(before, after))
    done = extauthz("test", str(tests))
    assert done.code == 1
    assert wrong in done.out


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("bob: [open]", "bob: [opne]", "did you mean 'open'?"),
        ("bob: [open]", "bbo: [open]", "unknown identity 'bbo'"),
        ("    requests:", "    request: {path: /x}\n    requests:", "exactly one of request and requests"),
        (
            "    allow: [alice, robot]\n    reviews",
            "    allow: {alice: []}\n    reviews",
            "one request, so allow is a list",
        ),
        ("      nobody: [open]\n", "      nobody: [open]\n    headers: {a: b}\n", "are expected of one"),
    ],
)
def test_what_a_matrix_cannot_say(extauthz: Run, tests: Path, before: str, after: str, message: str) -> None:
    """A test that could not mean what it says is an error with its place."""
    assert before in MATRIX
    tests.write_text(TESTS + MATRIX.replace(before, after, 1))
    done = extauthz("test", str(tests))
    assert done.code == 2
    assert message in done.err
    listed = MATRIX[: MATRIX.index("    allow:")] + "    allow: [alice]\n"
    tests.write_text(TESTS + listed)
    assert "allow needs the requests of each identity" in extauthz("test", str(tests)).err


def test_junit(extauthz: Run, tests: Path, tmp_path: Path) -> None:
    """A suite for each file, a case for each decision, and what failed with the decision that fell."""
    tests.write_text(TESTS.replace("allow: [alice, robot]\n", "allow: [alice, robot, bob]\n") + MATRIX)
    results = tmp_path / "results.xml"
    assert extauthz("test", str(tests), "--junit", str(results)).code == 1
    (suite,) = ElementTree.fromstring(results.read_bytes())
    assert (suite.get("tests"), suite.get("failures"), suite.get("name")) == ("28", "1", str(tests))
    (failed,) = (case for case in suite if len(case))
    assert failed.get("name") == "members: bob"
    assert failed[0].get("message") == "bob must pass"
    assert "deny 403 forbidden" in str(failed[0].text)
    assert extauthz("test", str(tests), "--junit", str(tmp_path / "none" / "x.xml")).code == 2


def test_junit_holds_no_control_character(extauthz: Run, tests: Path, tmp_path: Path) -> None:
    """XML has no way to write them, and a file that no CI can read tells nothing."""
    tests.write_text(TESTS.replace("name: members", 'name: "bell \\a <&>"'))
    assert extauthz("test", str(tests), "--junit", str(tmp_path / "x.xml")).code == 0
    (suite,) = ElementTree.fromstring((tmp_path / "x.xml").read_bytes())
    assert suite[0].get("name") == "bell \ufffd <&>: alice"


def test_watching(tests: Path) -> None:
    """With --watch the tests run again when a policy changes, through an error and after it."""
    command = [sys.executable, "-u", "-m", "extauthz", "test", "--watch", str(tests)]
    policy = tests.parent / "policy.yaml"
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "2 cases, 8 decisions, 0 wrong\n"
        told: queue.Queue[str] = queue.Queue()
        reader = threading.Thread(target=_hand_over, args=(process.stdout, told))
        reader.start()
        try:
            for text, expected in (
                (POLICY.replace("get", "fly"), "must pass"),
                ("a: [", "error:"),
                (POLICY, "0 wrong"),
            ):
                policy.write_text(text)
                while not _is_told(expected, told):
                    policy.write_text(text)  # the watch had not begun yet
        finally:
            process.terminate()
            reader.join(60)


def _hand_over(lines: Iterable[str], told: queue.Queue[str]) -> None:
    for line in lines:
        told.put(line)


def _is_told(expected: str, told: queue.Queue[str]) -> bool:
    """Whether a line says something, before nothing is told for a moment."""
    with contextlib.suppress(queue.Empty):
        while expected not in told.get(timeout=2):
            pass
        return True
    return False
