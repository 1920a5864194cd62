"""`extauthz review --live` from the outside: a cluster answers the same lines."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from extauthz.cli.review import _Told
from tests.apiserver import Double, Gate, answer, hold, reset
from tests.apiserver.fixtures import double
from tests.apiserver.manifests import binding, role, rule, user
from tests.apiserver.tokens import STRANGER

__all__ = ["double"]

EDITOR = role("editor", rule(["get"], ["pods"]))
GRANT = binding("grant", "editor", user("u"), namespace="ns")
PODS = {"verb": "get", "resource": "pods", "namespace": "ns"}
GET_PODS = {"user": "u", "resourceAttributes": PODS}
REASON = 'RBAC: allowed by RoleBinding "grant/ns" of ClusterRole "editor" to User "u"'
REVIEWS = "create subjectaccessreviews"


async def review(*arguments: object, questions: bytes = b"") -> tuple[int, list[Any], str]:
    """Run the command; return exit code, answers and standard error."""
    command = [sys.executable, "-c", "from extauthz.cli import main; main()", "review", *map(str, arguments)]
    done = await asyncio.to_thread(subprocess.run, command, input=questions, capture_output=True, timeout=60)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr.decode()


def lines(*questions: object) -> bytes:
    return b"".join(json.dumps(question).encode() + b"\n" for question in questions)


@pytest.fixture
def cluster(double: Double) -> Double:
    """A cluster where `u` may get pods."""
    double.write(EDITOR)
    double.write(GRANT)
    return double


async def test_the_cluster_answers_as_manifests_do(cluster: Double, tmp_path: Path) -> None:
    """The same lines give the same answers as offline, evaluation errors included."""
    manifests = tmp_path / "rbac.yaml"
    manifests.write_text("\n---\n".join(map(json.dumps, (EDITOR, GRANT))))
    selected = {"user": "u", "resourceAttributes": {**PODS, "labelSelector": {"rawSelector": "!"}}}
    questions = lines(
        {"id": "a", "spec": GET_PODS},
        {"id": 2, "spec": {**GET_PODS, "user": "v", "extra": {"scopes": ["x"]}, "uid": "7"}},
        {"spec": {"groups": ["system:masters"], "nonResourceAttributes": {"verb": "get", "path": "/x"}}},
        {"id": [1], "spec": selected},
    )
    code, answers, error = await review("--live", "--kubeconfig", cluster.kubeconfig(), questions=questions)
    assert (code, error) == (0, "")
    assert answers[0] == {"id": "a", "allowed": True, "reason": REASON}
    assert answers[3]["evaluationError"]
    assert (code, answers, error) == await review("--manifests", manifests, questions=questions)


async def test_few_are_asked_at_once_and_answers_keep_their_order(cluster: Double) -> None:
    """However late the first answer comes, it is printed first; no more than sixteen questions are open."""
    gate = Gate()
    questions = lines(*({"id": number, "spec": GET_PODS} for number in range(100)))
    with cluster.fault("subjectaccessreviews", hold(gate), times=16) as held:
        running = asyncio.create_task(review("--live", "--kubeconfig", cluster.kubeconfig(), questions=questions))
        await gate.reached(16)
        assert cluster.calls[REVIEWS] == held.hits == 16
        gate.open()
        code, answers, _ = await running
    assert (code, [answer["id"] for answer in answers]) == (0, list(range(100)))
    assert all(answer["allowed"] for answer in answers)


async def test_refused_lines_are_told_and_the_rest_goes_on(cluster: Double) -> None:
    """What cannot be read, and what the API server refuses, is an error with the line's number, and exit code 1."""
    questions = b'{"id": 1\n[]\n\n' + lines({"id": 4, "spec": {"user": "u"}}, {"id": 5, "spec": GET_PODS})
    code, answers, error = await review("--live", "--kubeconfig", cluster.kubeconfig(), questions=questions)
    assert [(answer["id"], answer.get("line")) for answer in answers] == [(None, 1), (None, 2), (4, 4), (5, None)]
    assert answers[2]["error"] == "HTTP 422: resourceAttributes or nonResourceAttributes must be given"
    assert error.splitlines()[2] == f"line 4: {answers[2]['error']}"
    assert code == 1


@pytest.mark.parametrize(("fault", "says"), [(answer(503), "HTTP 503"), (answer(201, b"{"), "unreadable")])
async def test_a_line_without_an_answer_is_an_error(cluster: Double, fault: Any, says: str) -> None:
    """Where the API server fails for good on one question, that line says so."""
    with cluster.fault("subjectaccessreviews", fault):
        questions = lines({"id": 1, "spec": GET_PODS})
        code, answers, _ = await review("--live", "--kubeconfig", cluster.kubeconfig(), questions=questions)
    assert code == 1
    assert says in answers[0]["error"]


async def test_a_hiccup_is_no_error(cluster: Double) -> None:
    """A broken connection, 429 and 500 are tried again."""
    for fault in (reset(), answer(429, headers={"Retry-After": "1"}), answer(500)):
        with cluster.fault("subjectaccessreviews", fault, times=1) as struck:
            questions = lines({"id": 1, "spec": GET_PODS})
            code, answers, _ = await review("--live", "--kubeconfig", cluster.kubeconfig(), questions=questions)
        assert (code, answers[0]["allowed"], struck.hits) == (0, True, 1)


async def test_a_cluster_that_cannot_be_asked_ends_with_2(cluster: Double, tmp_path: Path) -> None:
    """Out of reach, unknown credentials, missing rights, no such file: one sentence with the cure, and no answers."""
    questions = lines({"id": 1, "spec": GET_PODS}, {"id": 2, "spec": GET_PODS})
    async with Double.running(tmp_path, tls=False) as gone:
        unreachable = gone.kubeconfig().rename(tmp_path / "gone")
    stranger = cluster.kubeconfig(STRANGER).rename(tmp_path / "stranger")
    for kubeconfig, says in (
        (unreachable, f"the connection to the API server failed: {gone.url} (hint: is it the right --context?)"),
        (stranger, "bind ClusterRole system:auth-delegator to it"),
        (cluster.kubeconfig("unknown"), "does not accept the credentials"),
        (tmp_path / "missing", "kubeconfig cannot be used"),
    ):
        code, answers, error = await review("--live", "--kubeconfig", kubeconfig, questions=questions)
        assert (code, answers) == (2, [])
        assert says in error
        assert "Traceback" not in error


async def test_manifests_and_a_cluster_exclude_each_other(tmp_path: Path) -> None:
    """Exactly one of --manifests and --live, and the cluster's options only with it."""
    for arguments, says in (
        (("--live", "--manifests", tmp_path), "manifests take no part"),
        (("--live", tmp_path), "manifests take no part"),
        (("--manifests", tmp_path, "--context", "prod"), "needs --live"),
        (("--kubeconfig", tmp_path), "needs --live"),
        ((), "or use --live"),
    ):
        code, answers, error = await review(*arguments)
        assert (code, answers) == (2, [])
        assert says in error


async def test_a_context_is_chosen_by_name(cluster: Double) -> None:
    """--context names one of the kubeconfig's contexts; one that is not there is refused."""
    questions, kubeconfig = lines({"id": 1, "spec": GET_PODS}), cluster.kubeconfig()
    code, _, _ = await review("--live", "--kubeconfig", kubeconfig, "--context", "test", questions=questions)
    assert code == 0
    code, _, error = await review("--live", "--kubeconfig", kubeconfig, "--context", "prod", questions=questions)
    assert (code, "prod" in error) == (2, True)


def test_progress_shows_on_a_terminal_and_leaves_nothing_behind(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """Every hundred answers the count is written over the last one, and taken back in the end."""
    told = _Told(progress=True)
    for number in range(200):
        told.tell({"id": number, "allowed": True, "reason": ""})
    assert told.end() == 0
    out, error = capfdbinary.readouterr()
    assert len(out.splitlines()) == 200
    assert error == b"\r100 answered\r200 answered\r"  # escapes are left out where no terminal is
