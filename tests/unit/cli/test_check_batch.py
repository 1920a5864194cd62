"""`extauthz check --batch`: many decisions, one line each."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.cases import ALICE, BOB
from tests.issuer import ABSENT, Issuer, bearer
from tests.unit.cli.conftest import Ran, Run

RUNS = "/pipeline/apis/v2beta1/runs?namespace=team-a"
EXPERIMENTS = "/pipeline/apis/v2beta1/experiments"
Batch = Run


@pytest.fixture
def batch(extauthz: Run, config: Path, tmp_path: Path) -> Batch:
    """Decide lines: text and bytes as they are, everything else as JSON."""

    def run(*lines: Any) -> Ran:
        file = tmp_path / "batch.jsonl"
        file.write_bytes(b"".join(_encoded(line) + b"\n" for line in lines))
        return extauthz("check", "-c", config, "--batch", file)

    return run


def _encoded(line: Any) -> bytes:
    if isinstance(line, bytes):
        return line
    return (line if isinstance(line, str) else json.dumps(line)).encode()


def test_one_result_per_line_in_order(batch: Batch) -> None:
    """Ids are repeated as they were given, first of all; several may be alike or absent."""
    ran = batch(
        {"id": "b", "user": ALICE, "url": "/app"},
        {"id": 1, "user": BOB, "url": "/app"},
        {"id": {"a": [None]}, "user": ALICE, "method": "GET", "url": RUNS},
        {"user": ALICE, "url": "/unknown"},
        {"id": "b", "user": ALICE, "url": "/app//"},
    )
    found = [(answer["id"], answer["outcome"], answer["status"], answer["reason"]) for answer in ran.answers]
    assert found == [
        ("b", "allow", 200, "allowed"),
        (1, "deny", 403, "forbidden"),
        ({"a": [None]}, "allow", 200, "allowed"),
        (None, "deny", 403, "no_rule"),
        ("b", "deny", 400, "empty_segment"),
    ]
    assert all(line.startswith('{"id": ') for line in ran.out.splitlines())
    assert (ran.code, ran.err) == (0, "")


def test_a_line_is_explained_as_a_single_check_is(batch: Batch, extauthz: Run, config: Path) -> None:
    """The same members with the same values, and the id."""
    (answer,) = batch({"id": 7, "user": ALICE, "groups": ["x"], "url": RUNS}).answers
    single = extauthz("check", "-c", config, "-o", "json", "-u", ALICE, "-g", "x", "GET", RUNS).answer
    assert answer == {"id": 7, **single}


@pytest.mark.parametrize("user", [{}, {"user": None}])
def test_without_a_user_the_headers_prove_who_asks(batch: Batch, issuer: Issuer, user: dict[str, None]) -> None:
    """As in front of the service; lines with and without a user do not disturb each other."""
    token = issuer.token(sub=ALICE, iat=ABSENT, exp=4_000_000_000)
    ran = batch(
        {**user, "url": RUNS, "headers": bearer(token)},
        {"user": BOB, "url": RUNS, "headers": bearer(token)},
        {**user, "url": RUNS, "headers": bearer(token)},
        {**user, "url": RUNS},
        {**user, "url": RUNS, "headers": bearer("x.y.z")},
    )
    assert [answer["status"] for answer in ran.answers] == [200, 403, 200, 401, 401]


def test_an_empty_user_is_nobody(batch: Batch, issuer: Issuer) -> None:
    """Whatever the headers prove."""
    token = issuer.token(sub=ALICE, iat=ABSENT, exp=4_000_000_000)
    (answer,) = batch({"user": "", "url": RUNS, "headers": bearer(token)}).answers
    assert (answer["outcome"], answer["status"], answer["reason"]) == ("unauthenticated", 401, "no_credential")


def test_header_values_may_be_lists(batch: Batch) -> None:
    """They are joined as Envoy joins them; an empty list is no header."""
    method, override = {"user": ALICE, "url": "/app"}, "X-HTTP-Method"
    ran = batch(
        {**method, "headers": {override: ["PUT", "DELETE"]}},
        {**method, "headers": {override: "PUT"}},
        {**method, "headers": {override: []}},
        {**method, "headers": None},
    )
    assert [answer["reason"] for answer in ran.answers] == ["method_override", "method_override", "allowed", "allowed"]


def test_bodies_are_text_or_json(batch: Batch) -> None:
    """An object is sent as JSON, text as it is."""
    post = {"user": ALICE, "method": "POST", "url": EXPERIMENTS}
    ran = batch(
        {**post, "body": {"namespace": "team-a"}},
        {**post, "body": '{"namespace": "team-a"}'},
        {**post, "body": {"namespace": "team-b"}},
        {**post, "body": '{"namespace": "team-a", "namespace": "team-b"}'},
        {**post, "body": ["team-a"]},
        {**post, "body": None},
        {**post, "body": ""},
        {**post, "body": {"namespace": "team-a", "display_name": "x" * 256}},
    )
    assert [answer["reason"] for answer in ran.answers] == [
        *("allowed", "allowed", "forbidden", "body_duplicate_name"),
        *("body_not_object", "namespace_missing", "namespace_missing", "body_truncated"),
    ]


def test_bad_lines_are_reported_and_the_rest_goes_on(batch: Batch) -> None:
    """Each with its number, and its id where that could be read; blank lines count but are skipped."""
    good = {"id": "good", "user": ALICE, "url": "/app"}
    ran = batch(
        good,
        "",
        "no JSON",
        "[]",
        b'{"id": 1, "url": "/\xff"}',
        {"id": 2},
        {"id": 3, "url": 5},
        {"id": 4, "url": "/", "method": ["GET"]},
        {"id": 5, "url": "/", "user": 5},
        {"id": 6, "url": "/", "user": "x", "groups": "x"},
        {"id": 7, "url": "/", "user": "x", "groups": [1]},
        {"id": 8, "url": "/", "groups": ["x"]},
        {"id": 9, "url": "/", "headers": ["a: b"]},
        {"id": 10, "url": "/", "headers": {"a": {}}},
        {"id": 11, "url": "/", "headers": {"a": [1]}},
        '{"id": 12, "url": "/", "user": "x", "user": "y"}',
        '{"id": 13, "url": "/", "body": {"a": 1, "a": 2}}',
        '{"id": 14, "url": "/", "body": NaN}',
        '{"id": 15, "body": ' + "[" * 50_000,
        "   ",
        good,
    )
    first, *bad, last = ran.answers
    assert first == last
    assert last["outcome"] == "allow"
    assert [answer["line"] for answer in bad] == list(range(3, 20))
    assert [answer["id"] for answer in bad] == [None, None, None, *range(2, 12), None, None, None, None]
    assert all(answer["error"] for answer in bad)
    assert [line.partition(":")[0] for line in ran.err.splitlines()] == [f"line {number}" for number in range(3, 20)]
    assert ran.code == 1


@pytest.mark.parametrize("member", ["url", "method", "user", "groups", "headers", "body", "id"])
def test_a_lone_surrogate_is_never_a_crash_nor_an_allow(batch: Batch, member: str) -> None:
    """JSON can write what UTF-8 cannot."""
    odd = "a\ud800"
    values: dict[str, Any] = {
        "url": f"/app/{odd}",
        "groups": [odd],
        "headers": {"authorization": f"Bearer {odd}", odd: odd},
        "body": {"namespace": odd},
    }
    line = {"id": 1, "url": "/unknown", "method": "GET", "user": BOB, member: values.get(member, odd)}
    (answer,) = batch(line).answers
    assert answer["outcome"] in ("deny", "error", "unauthenticated")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
MEMBERS = st.sampled_from(["id", "user", "groups", "method", "url", "headers", "body"])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(MEMBERS, JSON) | st.binary(max_size=20).filter(lambda raw: b"\n" not in raw)))
def test_every_line_gets_exactly_one_answer(batch: Batch, lines: list[Any]) -> None:
    """A result or an error, whatever the line."""
    ran = batch(*lines)
    asked = [line for line in lines if not (isinstance(line, bytes) and (line + b"\n").isspace())]
    assert len(ran.answers) == len(asked)
    assert all(("outcome" in answer) != ("error" in answer) for answer in ran.answers)


def test_lines_come_from_standard_input(config: Path) -> None:
    """With `-`, each answered before the next is asked, so that another program can ask one by one."""
    command = [sys.executable, "-m", "extauthz", "check", "-c", str(config), "--batch", "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdin
        assert running.stdout
        for user, outcome in ((ALICE, "allow"), (BOB, "deny")):
            running.stdin.write(json.dumps({"user": user, "url": "/app"}).encode() + b"\n")
            running.stdin.flush()
            assert json.loads(running.stdout.readline())["outcome"] == outcome
        running.stdin.close()
    assert running.returncode == 0


def test_a_missing_file_is_exit_code_2(extauthz: Run, config: Path, tmp_path: Path) -> None:
    """With its name."""
    ran = extauthz("check", "-c", config, "--batch", tmp_path / "missing")
    assert (ran.code, ran.out) == (2, "")
    assert f"{tmp_path / 'missing'}: cannot be read" in ran.err
