"""`extauthz diff`: what it tells of a log, what it exits with, and what it does not claim to know."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from extauthz.cli import app

HEAD = "apiVersion: extauthz.dev/v1\nkind: Policy\nrules:\n"
RUNS = "- {{name: {0}, match: {{path: '/runs/{{ns}}'}}, access: [{{verb: {1}, resource: runs, namespace: path:ns}}]}}\n"
LIST = {"verb": "list", "resource": "runs", "namespace": "a", "allowed": True, "cached": False}


def line(**members: Any) -> str:
    """Return a record; what is not said is alice's allowed list of the runs of a."""
    record = {
        "kind": "Decision",
        "apiVersion": "audit.extauthz.dev/v1",
        "method": "GET",
        "host": "h",
        "target": "/runs/a",
        "user": {"username": "alice", "groups": ["system:authenticated"]},
        "decision": "allow",
        "status": 200,
        "reason": "allowed",
        "reviews": [LIST],
        **members,
    }
    return json.dumps({name: value for name, value in record.items() if value is not None})


def diff(tmp_path: Path, old: str, new: str, *lines: str, options: tuple[str, ...] = ()) -> tuple[int, str, str]:
    """Run the command over two lists of rules and a log; return its exit code and what it said."""
    for name, rules in (("old", old), ("new", new)):
        (tmp_path / f"{name}.yaml").write_text(HEAD + rules)
    (tmp_path / "log").write_text("\n".join(lines) + "\n")
    paths = [str(tmp_path / name) for name in ("old.yaml", "new.yaml")]
    done = CliRunner().invoke(app, ["diff", *paths, "--log", str(tmp_path / "log"), *options])
    return done.exit_code, done.stdout, done.stderr


def counts(tmp_path: Path, old: str, new: str, *lines: str) -> dict[str, int]:
    """Return how many lines came to what."""
    code, stdout, _ = diff(tmp_path, old, new, *lines, options=("-o", "json"))
    assert code == 0
    found: dict[str, int] = json.loads(stdout)["counts"]
    return found


OLD = RUNS.format("runs", "list")
DENY = "- {name: closed, match: {path: '/runs/{ns}'}, deny: Closed.}\n"


def test_what_is_told(tmp_path: Path) -> None:
    """Users, namespaces and rules are counted, with a few examples that name the lines."""
    lines = [line(), line(), line(user={"username": "bob"}), line(requestID="another")]
    code, stdout, _ = diff(tmp_path, OLD, DENY, *lines)
    assert code == 0
    assert "4 decisions, 2 of them different" in stdout
    assert "newly-refused: 4" in stdout
    assert "by user       alice 3, bob 1" in stdout
    assert "by namespace  a 4" in stdout
    assert "by rule       closed 4" in stdout
    assert "line 1: GET /runs/a" in stdout
    assert "allow 200 allowed by runs" in stdout
    assert "deny 403 denied_by_rule by closed" in stdout


@pytest.mark.parametrize(
    ("old", "new", "fail_on", "code"),
    [
        (OLD, DENY, None, 0),
        (OLD, DENY, "newly-refused", 1),
        (OLD, DENY, "newly-allowed", 0),
        (OLD, DENY, "any", 1),
        (DENY, OLD, "newly-allowed", 1),
        (DENY, OLD, "newly-refused", 0),
        (OLD, OLD, "any", 0),
    ],
)
def test_exit_codes(tmp_path: Path, old: str, new: str, fail_on: str | None, code: int) -> None:
    """A pipeline fails for what it says it fails for."""
    assert diff(tmp_path, old, new, line(), options=("--fail-on", fail_on) if fail_on else ())[0] == code


def test_json_has_everything(tmp_path: Path) -> None:
    """Every group with its count and examples."""
    (tmp_path / "x").mkdir()
    _, stdout, _ = diff(tmp_path, OLD, DENY, line(), options=("-o", "json"))
    found = json.loads(stdout)
    assert (found["decisions"], found["distinct"], found["counts"]) == (1, 1, {"newly-refused": 1})
    (change,) = found["changes"]
    assert (change["user"], change["namespace"], change["rule"], change["count"]) == ("alice", "a", "closed", 1)
    assert change["examples"] == [{"line": 1, "request": "GET /runs/a"}]


OTHER = RUNS.format("runs", "create")
BODY = "- {name: runs, match: {path: '/runs/{ns}'}, access: [{verb: list, resource: runs, namespace: 'body:/ns'}]}\n"
QUERY = (
    "- {name: runs, match: {path: '/runs/{ns}'}, access: [{verb: list, resource: runs, namespace: 'query:token'}]}\n"
)
CLAIM = "- {name: runs, match: {path: '/runs/{ns}'}, access: [{verb: list, resource: runs, namespace: 'claim:team'}]}\n"
KEY = (
    "- {name: runs, match: {path: '/runs/{ns}'}, access: [{verb: list, resource: runs,"
    " namespace: 'lookup:run:header:id'}]}\n"
)
WHEN = OLD.replace("access:", "when: 'claims.level == 3', access:")
FORMS = OLD.replace("access:", "tolerate: [form_content_type], access:")


@pytest.mark.parametrize(
    ("new", "record", "what"),
    [
        (OTHER, line(), "the right that the rule asks for"),
        (BODY, line(method="POST"), "body:/ns"),
        (BODY, line(method="POST", values=[{"source": "body:/ns", "value": "(masked)"}]), "body:/ns"),
        (QUERY, line(target="/runs/a?token=(masked)"), "masked"),
        (OLD, line(target="/runs/(masked)"), "masked"),
        (CLAIM, line(), "claim:team"),
        (KEY, line(), "lookup:run:header:id"),
        (WHEN, line(), "claims:level"),
        (FORMS, line(method="POST"), "form"),
        (OLD, line(user=None), "who asked"),
        (OLD.replace("rules", "rules"), line(reviews=None, truncated=["reviews"]), "the right"),
    ],
)
def test_what_the_record_does_not_tell_is_undecidable(tmp_path: Path, new: str, record: str, what: str) -> None:
    """It is counted as such, and never as unchanged."""
    code, stdout, _ = diff(tmp_path, OLD, new, record)
    assert code == 0
    assert "undecidable: 1" in stdout
    assert what in stdout


def test_what_the_record_tells_is_used(tmp_path: Path) -> None:
    """Values of the body, of headers, claims and lookups stand in for what the request held."""
    told = [
        (BODY, [{"source": "body:/ns", "value": "a"}]),
        (CLAIM, [{"source": "claim:team", "value": "a"}]),
        (WHEN, [{"source": "claims:level", "value": "3"}]),
        (KEY.replace("header:id", "path:ns"), [{"source": "lookup:run:path:ns", "value": "a"}]),
        (OLD.replace("access:", "when: request.headers.x == 'y', access:"), [{"source": "header:x", "value": "y"}]),
    ]
    for new, values in told:
        assert counts(tmp_path, OLD, new, line(method="POST", values=values)) == {"unchanged": 1}, new
    absent = OLD.replace("access:", "when: '!(\"x\" in request.headers)', access:")
    assert counts(tmp_path, OLD, absent, line(values=[{"source": "header:x"}])) == {"unchanged": 1}
    assert counts(tmp_path, OLD, WHEN, line(values=[{"source": "claims:level", "value": "4"}])) == {"newly-refused": 1}
    optional = OLD.replace("namespace: path:ns", "namespace: ['path:ns?', 'lookup:run:query:id?']")
    assert counts(tmp_path, OLD, optional, line()) == {"unchanged": 1}


def test_a_policy_that_asks_in_another_name_is_undecidable(tmp_path: Path) -> None:
    """A right that was asked for with groups says nothing of the same right without them."""
    new = tmp_path / "alone.yaml"
    new.write_text(HEAD.replace("rules", "reviewAs: user\nrules") + OLD)
    (tmp_path / "old.yaml").write_text(HEAD + OLD)
    (tmp_path / "log").write_text(line())
    for pair, found in (("old alone", "undecidable"), ("alone old", "undecidable"), ("alone alone", "unchanged")):
        paths = [str(tmp_path / f"{name}.yaml") for name in pair.split()]
        done = CliRunner().invoke(app, ["diff", *paths, "--log", str(tmp_path / "log"), "-o", "json"])
        assert json.loads(done.stdout)["counts"] == {found: 1}, pair


@pytest.mark.parametrize(
    ("record", "found"),
    [
        (line(user=None, decision="unauthenticated", status=401, reason="no_credential"), {"unchanged": 1}),
        (line(method=None, target=None, user=None, decision="deny", reason="not_http"), {"unchanged": 1}),
        (line(target="/runs//a", user=None, decision="deny", reason="empty_segment"), {"unchanged": 1}),
        (line(target="/none", user=None, decision="deny", reason="no_rule"), {"unchanged": 1}),
        (line(method="POST", user=None, decision="deny", reason="method_override"), {"unchanged": 1}),
        (line(reviews=[{**LIST, "allowed": False}], decision="deny", reason="forbidden"), {"unchanged": 1}),
    ],
)
def test_refusals_are_decided_again(tmp_path: Path, record: str, found: dict[str, int]) -> None:
    """What was refused for its form, or for want of a credential, is refused again."""
    assert counts(tmp_path, OLD, OLD, record) == found


def test_two_states_of_rights(tmp_path: Path) -> None:
    """With manifests the evaluator answers, for each side its own."""
    for name, verb in (("before", "list"), ("after", "watch")):
        (tmp_path / f"{name}.yaml").write_text(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: r}\n"
            f"rules: [{{apiGroups: [''], resources: [runs], verbs: [{verb}]}}]\n---\n"
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: b, namespace: a}\n"
            "roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: r}\n"
            "subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: alice}]\n"
        )
    states = ("--old-manifests", str(tmp_path / "before.yaml"), "--new-manifests", str(tmp_path / "after.yaml"))
    code, stdout, _ = diff(tmp_path, OLD, OLD, line(), options=(*states, "--fail-on", "any"))
    assert code == 1
    assert "newly-refused: 1" in stdout
    assert diff(tmp_path, OLD, OLD, line(), options=("--manifests", "x", *states))[0] == 2


def test_lines_that_are_no_records(tmp_path: Path) -> None:
    """They are told and counted, and the rest is read; a file without any record is an error."""
    strange = ["nonsense", "[]", '{"kind": "Event"}', line(apiVersion="audit.extauthz.dev/v2"), line(values=[{}])]
    code, stdout, stderr = diff(tmp_path, OLD, OLD, *strange, "", line())
    assert (code, "1 decisions" in stdout) == (0, True)
    assert "line 1: not JSON" in stderr
    assert "not read: 5 lines" in stderr
    done = diff(tmp_path, OLD, OLD, "nonsense")
    assert done[0] != 0
    assert diff(tmp_path, OLD, OLD, line(), options=("--log", str(tmp_path / "missing")))[0] != 0


NESTED = "[" * 300 + "]" * 300
"""More lists in one another than are written."""


@pytest.mark.parametrize(
    "record",
    [
        line(host="deep").replace('"deep"', NESTED),
        line(host=["h"]),
        line(user={"username": None}),
        line(user={"username": "alice", "groups": "system:authenticated"}),
        line(user={"username": "alice", "groups": [["g"]]}),
        line(authenticator={}),
        line(reason=["allowed"]),
        line(reviews=[{**LIST, "allowed": "no"}]),
        line(reviews=[{**LIST, "verb": ["list"]}]),
        line(values=[{"source": "header:x", "value": 3}]),
        line(values=[{"source": "body:/a", "value": "1"}, {"source": "body:/a/b", "value": "1"}]),
        line(values=[{"source": "claims:a", "value": "{"}]),
        line(truncated="target"),
    ],
)
def test_a_record_whose_members_are_of_another_type_is_not_read(tmp_path: Path, record: str) -> None:
    """Nothing is made of it, least of all a right; the lines behind it are read."""
    code, stdout, stderr = diff(tmp_path, OLD, OLD, record, line())
    assert (code, "1 decisions" in stdout) == (0, True)
    assert "line 1: not in the form of a record" in stderr


def test_settings_say_where_the_policy_stands(tmp_path: Path) -> None:
    """Placement and hosts are those of the settings, whatever policy they name."""
    placed = "apiVersion: extauthz.dev/v1\nkind: Policy\nplacements: {inner: /in}\nrules:\n" + OLD
    settings = tmp_path / "settings.yaml"
    settings.write_text(
        "apiVersion: extauthz.dev/v1\nkind: Settings\nidentity:\n"
        "  jwt: [{issuer: https://i, audiences: [a], keys: {discovery: true}, claims: {user: sub}}]\n"
        "access: {rbac: {manifests: [m]}}\npolicy: {paths: [old.yaml], placement: inner}\n"
    )
    (tmp_path / "old.yaml").write_text(placed)
    (tmp_path / "log").write_text(line(target="/in/runs/a"))
    arguments = [str(tmp_path / "old.yaml")] * 2
    done = CliRunner().invoke(
        app, ["diff", *arguments, "--log", str(tmp_path / "log"), "-c", str(settings), "-o", "json"]
    )
    assert json.loads(done.stdout)["counts"] == {"unchanged": 1}


def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once as many distinct requests are known as may be, they are forgotten, and the counts stay right."""
    monkeypatch.setattr("extauthz.replay.comparison.MAX_KNOWN", 2)
    _, stdout, _ = diff(tmp_path, OLD, DENY, *(line(target=f"/runs/a?q={number % 3}") for number in range(9)))
    assert "newly-refused: 9" in stdout


def test_shadows_are_not_told_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """They were logged when they fell; a replay of a long log would drown in them."""
    shadow = OLD.replace("{name: runs,", "{name: runs, enforce: shadow,")
    refused = line(decision="deny", status=403, reason="forbidden", reviews=[{**LIST, "allowed": False}])
    assert counts(tmp_path, OLD, shadow, refused)["newly-allowed"] == 1
    assert caplog.messages == []


def test_a_terminal_sees_how_far_it_is(tmp_path: Path) -> None:
    """The bar goes to standard error, and only where that is a terminal; the log may come through a pipe."""
    (tmp_path / "policy.yaml").write_text(HEAD + OLD)
    master, slave = os.openpty()
    command = [sys.executable, "-m", "extauthz", "diff", "policy.yaml", "policy.yaml", "--log", "-"]
    log = (line() + "\n") * 2500
    try:
        done = subprocess.run(
            command, input=log, stdout=subprocess.PIPE, stderr=slave, text=True, cwd=tmp_path, timeout=120, check=True
        )
    finally:
        os.close(slave)
    with open(master, "rb", closefd=True) as shown:  # noqa: PTH123  # a descriptor has no path
        drawn = shown.read1(65536)
    assert b"reading" in drawn
    assert done.stdout.startswith("2500 decisions, 1 of them different\n")


@pytest.mark.parametrize("member", ["target", "host"])
def test_a_target_or_host_that_was_cut_is_undecidable(tmp_path: Path, member: str) -> None:
    """What decides may stand in the part that is not there."""
    assert counts(tmp_path, OLD, OLD, line(truncated=[member]))["undecidable"] == 1


def test_cookies_that_are_no_longer_taken_off_are_a_change(tmp_path: Path) -> None:
    """Which cookies a client sent is not recorded, so whatever a rule takes off may have been there."""
    taken = OLD.replace("}}", "}}").rstrip()[:-1] + ", removeCookies: [session]}\n"
    assert counts(tmp_path, taken, OLD, line())["changed"] == 1
    assert counts(tmp_path, OLD, taken, line())["changed"] == 1
    assert counts(tmp_path, taken, taken, line())["unchanged"] == 1
