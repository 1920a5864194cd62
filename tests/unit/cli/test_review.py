"""`extauthz review` from the outside."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROLES = """
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: r}
rules: [{apiGroups: [''], resources: [pods], verbs: [get]}]
"""
BINDINGS = """
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: b, namespace: ns}
roleRef: {kind: ClusterRole, name: r}
subjects: [{kind: User, name: u}]
"""
GET_PODS = {"user": "u", "resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "ns"}}
REASON = 'RBAC: allowed by RoleBinding "b/ns" of ClusterRole "r" to User "u"'


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    folder = tmp_path / "rbac"
    folder.mkdir()
    (folder / "roles.yaml").write_text(ROLES)
    (folder / "bindings.yaml").write_text(BINDINGS)
    return folder


def review(*arguments: object, questions: bytes = b"") -> tuple[int, list[Any], str]:
    """Run the command; return exit code, answers and standard error."""
    program = "from extauthz.cli import main; main()"
    command = [sys.executable, "-c", program, "review", *map(str, arguments)]
    done = subprocess.run(command, input=questions, capture_output=True, timeout=60)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr.decode()


def lines(*questions: object) -> bytes:
    return b"".join(json.dumps(question).encode() + b"\n" for question in questions)


def test_each_question_is_answered_in_order(manifests: Path) -> None:
    """Every id comes back with its answer, whatever JSON it is, and the exit code is 0."""
    denied = {**GET_PODS, "user": "v"}
    superuser = {**GET_PODS, "groups": ["system:masters"]}
    attributes = {"verb": "get", "resource": "pods", "namespace": "ns", "labelSelector": {"rawSelector": "!"}}
    selected = {"user": "u", "resourceAttributes": attributes}
    questions = lines(
        {"id": "a", "spec": GET_PODS}, {"id": 2, "spec": denied}, {"spec": superuser}, {"id": [1], "spec": selected}
    )
    code, answers, error = review("--manifests", manifests, questions=questions)
    note = "spec.resourceAttributes.labelSelector ignored due to parse error"
    assert answers == [
        {"id": "a", "allowed": True, "reason": REASON},
        {"id": 2, "allowed": False, "reason": ""},
        {"id": None, "allowed": True, "reason": ""},
        {"id": [1], "allowed": True, "reason": REASON, "evaluationError": note},
    ]
    assert (code, error) == (0, "")


def test_bad_lines_are_told_and_the_rest_goes_on(manifests: Path) -> None:
    """A line that cannot be answered gives an error with its number, on both streams, and exit code 1."""
    bad = b'{"id": 1\n[]\n' + lines({"id": 3, "spec": {"user": "u"}}, {"id": 4}, {"id": 5, "spec": "x"})
    bad += b'{"id": "\xff"}\n   \n\n'
    code, answers, error = review("--manifests", manifests, questions=bad + lines({"id": 9, "spec": GET_PODS}))
    assert [(answer["id"], answer.get("line")) for answer in answers] == [
        *((None, 1), (None, 2), (3, 3), (4, 4), (5, 5), (None, 6), (9, None))
    ]
    assert answers[-1] == {"id": 9, "allowed": True, "reason": REASON}
    assert answers[2]["error"] == "resourceAttributes or nonResourceAttributes must be given"
    assert "line 3: resourceAttributes or nonResourceAttributes must be given\n" in error
    assert (code, len(error.splitlines())) == (1, 6)


def test_manifests_and_questions_can_be_named_in_every_way(manifests: Path, tmp_path: Path) -> None:
    """--manifests may be repeated, further paths may follow, and --input replaces standard input."""
    questions = tmp_path / "questions.jsonl"
    questions.write_bytes(lines({"id": 1, "spec": GET_PODS}))
    roles, bindings = manifests / "roles.yaml", manifests / "bindings.yaml"
    for arguments in (
        ("--manifests", roles, "--manifests", bindings, "--input", questions),
        ("--manifests", roles, bindings, "--input", questions),
        (roles, bindings, "--input", questions),
    ):
        assert review(*arguments) == (0, [{"id": 1, "allowed": True, "reason": REASON}], "")


def test_unusable_manifests_input_and_usage_exit_with_2(manifests: Path, tmp_path: Path) -> None:
    """What is wrong is said in a sentence with the place, without a traceback and without answers."""
    (tmp_path / "broken.yaml").write_text(ROLES + "rules: 7\n")
    for arguments, says in (
        ((), "name at least one file or folder"),
        (("--manifests", tmp_path / "gone"), "gone: cannot be read: No such file or directory"),
        (("--manifests", tmp_path / "broken.yaml"), "broken.yaml:6:1: duplicate key 'rules'"),
        (("--manifests", manifests, "--input", tmp_path / "gone"), "gone: cannot be read: No such file or directory"),
        (("--unknown",), "No such option"),
    ):
        code, answers, error = review(*arguments)
        assert (code, answers) == (2, [])
        assert says in error
        assert "Traceback" not in error


def test_manifests_that_kube_apiserver_would_refuse_are_named_on_standard_error(manifests: Path) -> None:
    """A refused object does not stop the answers, and does not pass in silence."""
    (manifests / "bindings.yaml").write_text(BINDINGS.replace("kind: User", "kind: Person"))
    code, answers, error = review("--manifests", manifests, questions=lines({"id": 1, "spec": GET_PODS}))
    assert (code, answers) == (0, [{"id": 1, "allowed": False, "reason": ""}])
    assert "bindings.yaml:2:1: RoleBinding ns/b grants nothing" in error


def test_the_help_teaches() -> None:
    """The help has an example that can be pasted, and the exit codes."""
    command = [sys.executable, "-c", "from extauthz.cli import main; main()", "review", "--help"]
    text = subprocess.run(command, capture_output=True, timeout=60, check=True).stdout.decode()
    assert "extauthz review --manifests rbac" in text
    assert "Exit code 0" in text


def test_reviews_start_without_the_heavy_libraries(manifests: Path) -> None:
    """No HTTP, gRPC or Kubernetes client is imported to answer from files."""
    program = (
        "import sys\nfrom extauthz.cli.review import review\n"
        f"try:\n    review(manifests=[__import__('pathlib').Path({str(manifests)!r})])\n"
        "finally:\n    print({'aiohttp', 'grpc', 'kubernetes', 'jwt', 'envoy'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], input=b"", capture_output=True, timeout=60)
    assert done.stdout == b"set()\n"
