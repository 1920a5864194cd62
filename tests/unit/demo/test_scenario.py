"""The demo's table: what it covers, how it reads as curl, and that a broken promise is noticed."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Mapping
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from extauthz.demo.issuer import Signer
from extauthz.demo.scenario import CASES, Case, Result, curl, problems, tokens

URL = "http://127.0.0.1:8080"


@pytest.fixture(scope="module")
def signer() -> Signer:
    """A signer with a key of its own."""
    return Signer(rsa.generate_private_key(public_exponent=65537, key_size=2048), "http://issuer.test")


def test_every_kind_of_answer_is_shown() -> None:
    """The cases show requests that pass, are ambiguous, are not logged in, and are not allowed."""
    assert {case.status for case in CASES} == {200, 400, 401, 403}
    assert len({case.name for case in CASES}) == len(CASES)


def test_everyone_has_a_token(signer: Signer) -> None:
    """Every user of the cases has a token in his name, and the expired one has expired."""
    made = tokens(signer)
    assert {case.who for case in CASES} - {None} <= made.keys()
    claims = {who: jwt.decode(token, options={"verify_signature": False}) for who, token in made.items()}
    assert claims["frank"]["groups"] == ["data-auditors"]
    assert claims["alice"]["email"] == claims["expired"]["email"] == "alice@example.com"
    assert claims["expired"]["exp"] < claims["alice"]["iat"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_curl_lines_can_be_pasted(case: Case) -> None:
    """A shell reads each line as one curl call with the path as it stands and the user's token."""
    words = shlex.split(curl(case, URL))
    assert words[0] == "curl"
    assert words[-1] == URL + case.path
    assert ("Authorization: Bearer $" in " ".join(words)) == (case.who is not None)
    for name, value in case.headers:
        assert f"{name}: {value}" in words


def test_curl_takes_the_token_from_a_variable() -> None:
    """The shell itself puts the token in the header."""
    line = curl(Case("", "alice", "POST", "/x?a=1&b=2", 200, body={"display_name": "it's"}), URL)
    script = f"curl() {{ printf '%s\\n' \"$@\"; }}; ALICE=abc; {line}"
    printed = subprocess.run(["sh", "-c", script], check=True, capture_output=True, text=True).stdout.splitlines()
    assert "Authorization: Bearer abc" in printed
    assert printed[-3:] == ["-d", '{"display_name": "it\'s"}', f"{URL}/x?a=1&b=2"]


@pytest.mark.parametrize(
    ("status", "reached", "echo", "expected"),
    [
        (200, 1, {"headers": [["kubeflow-userid", "bob"]]}, []),
        (403, 0, {}, ["answered 403, not 200", "reached the upstream 0 times", "the upstream saw kubeflow-userid: []"]),
        (200, 0, {"headers": [["kubeflow-userid", "bob"]]}, ["reached the upstream 0 times"]),
        (200, 1, {"headers": [["kubeflow-userid", "eve"]]}, ["the upstream saw kubeflow-userid: ['eve']"]),
        (
            200,
            1,
            {"headers": [["kubeflow-userid", "eve"], ["kubeflow-userid", "bob"]]},
            ["the upstream saw kubeflow-userid: ['eve', 'bob']"],
        ),
    ],
)
def test_every_broken_promise_is_a_problem(
    status: int, reached: int, echo: Mapping[str, Any], expected: list[str]
) -> None:
    """Wrong status, wrong side of the refusal and a wrong or repeated identity are all named."""
    case = Case("", "bob", "GET", "/", 200, upstream={"kubeflow-userid": "bob"})
    found = problems(case, status, reached, echo)
    assert found == expected
    assert Result(case, "grpc", status, tuple(found)).holds == (not expected)


def test_a_refused_request_must_not_arrive() -> None:
    """A request that is refused, and yet arrives, is a problem."""
    case = Case("", None, "GET", "/", 401)
    assert problems(case, 401, 1, {}) == ["reached the upstream 1 times"]
    assert problems(case, 401, 0, {}) == []


def test_a_header_may_be_forbidden() -> None:
    """A case can say that the upstream must not see a header at all."""
    case = Case("", "bob", "GET", "/", 200, upstream={"kubeflow_userid": None})
    assert problems(case, 200, 1, {"headers": []}) == []
    assert problems(case, 200, 1, {"headers": [["kubeflow_userid", "x"]]}) != []
