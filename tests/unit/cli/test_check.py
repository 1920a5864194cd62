"""`extauthz check`: one decision explained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.cases import ALICE, BOB, DATA
from tests.issuer import ABSENT, Issuer
from tests.unit.cli.conftest import Ran, Run

RUNS = "/pipeline/apis/v2beta1/runs?namespace=team-a"
EXPERIMENTS = "/pipeline/apis/v2beta1/experiments"
FAR = 4_000_000_000


def token(issuer: Issuer, user: str = ALICE, **claims: Any) -> str:
    return issuer.token(sub=user, iat=ABSENT, exp=FAR, **claims)


@pytest.fixture
def check(extauthz: Run, config: Path) -> Run:
    """Run `check` with the settings, for a JSON answer."""

    def run(*arguments: object) -> Ran:
        return extauthz("check", "-c", config, "-o", "json", *arguments)

    return run


def test_an_allowed_request_explained(check: Run) -> None:
    """The JSON form is that of the documentation: every member, exit code 0."""
    ran = check("--user", ALICE, "--group", "b", "--group", "a", "GET", RUNS)
    answer = ran.answer
    rule, values = answer.pop("rule"), answer.pop("values")
    assert answer.pop("headers") == {
        "kubeflow-userid": ALICE,
        "kubeflow-groups": "a,b",
        "kubeflow_userid": None,
        "kubeflow_groups": None,
    }
    right = {"verb": "list", "group": "pipelines.kubeflow.org", "version": "v1beta1", "resource": "runs"}
    why = f'RBAC: allowed by RoleBinding "alice/team-a" of ClusterRole "kubeflow-edit" to User "{ALICE}"'
    assert answer == {
        "outcome": "allow",
        "status": 200,
        "reason": "allowed",
        "message": "Every right that the rule asks for is granted.",
        "identity": {
            "user": ALICE,
            "groups": ["a", "b", "system:authenticated"],
            "uid": "",
            "extra": {},
            "authenticator": "command line",
        },
        "reviews": [
            {**right, "subresource": "", "namespace": "team-a", "name": "", "allowed": True, "reason": why},
        ],
        "request": {"method": "GET", "path": RUNS.partition("?")[0], "query": {"namespace": "team-a"}, "faults": []},
    }
    assert rule["name"] == "kfp-v2beta1-runs-list"
    assert Path(rule["file"]).read_text().splitlines()[rule["line"] - 1].endswith("kfp-v2beta1-runs-list")
    assert {"attribute": "namespace", "source": "query:namespace?", "value": "team-a"} in values
    assert ran.code == 0


def test_a_refused_request_explained(check: Run) -> None:
    """Which right is missing, exit code 1."""
    ran = check("-u", BOB, "GET", RUNS)
    assert (ran.code, ran.answer["outcome"], ran.answer["status"]) == (1, "deny", 403)
    assert ran.answer["message"].startswith(f'User "{BOB}" cannot list resource "runs"')
    assert ran.answer["reviews"][0]["allowed"] is False
    assert ran.answer["headers"] == {}


def test_an_allowed_request_in_text(extauthz: Run, config: Path) -> None:
    """Outcome first, then each ground on its own line."""
    ran = extauthz("check", "-c", config, "-u", ALICE, "GET", RUNS)
    assert ran.code == 0
    assert ran.out.startswith("ALLOW 200 allowed\n  Every right")
    for line in (
        "request   GET /pipeline/apis/v2beta1/runs namespace=team-a",
        f"identity  {ALICE} (groups: system:authenticated; by command line)",
        "value     namespace = 'team-a' from query:namespace",
        "review    list runs.pipelines.kubeflow.org in team-a: yes (RBAC: allowed by",
        f"header    set kubeflow-userid: {ALICE}",
        "header    remove kubeflow_userid",
    ):
        assert f"\n{line}" in ran.out
    assert "rule      kfp-v2beta1-runs-list (" in ran.out


def test_reviews_in_text(extauthz: Run, config: Path) -> None:
    """A named object, a URL path, and a right that nobody grants."""

    def told(user: str, method: str, url: str) -> str:
        return extauthz("check", "-c", config, "-u", user, method, url).out

    assert "review    update notebooks.kubeflow.org 'nb' in team-a: no\n" in told(BOB, "GET", "/notebook/team-a/nb/")
    assert "review    get /app: yes (" in told(ALICE, "GET", "/app")


def test_a_fault_in_text(extauthz: Run, config: Path) -> None:
    """A request that is refused for its form shows the fault and no rule."""
    ran = extauthz("check", "-c", config, "-u", ALICE, "GET", "/app//x")
    assert ran.code == 1
    assert "fault     empty_segment\n" in ran.out
    assert "rule      none" in ran.out


def test_nothing_unprintable_reaches_the_terminal(extauthz: Run, config: Path) -> None:
    """Escape sequences, and bytes of the command line that are no UTF-8, are shown as escapes."""
    ran = extauthz("check", "-c", config, "-u", "\x1b[31m\udcff", "GET", "/app/\x1b[2J\udcfe?x=\u202e")
    assert ran.code == 1
    assert "\\x1b[2J\\udcfe x=" in ran.out
    assert ran.out.replace("\n", "").isprintable()


# Who asks


def test_a_token_proves_the_user(check: Run, issuer: Issuer) -> None:
    """With its groups, by the issuer's keys."""
    answer = check("--token", token(issuer, groups=["x"]), "GET", RUNS).answer
    assert answer["outcome"] == "allow"
    assert (answer["identity"]["user"], answer["identity"]["groups"]) == (ALICE, ["system:authenticated", "x"])


def test_a_token_in_a_header_proves_the_user(check: Run, issuer: Issuer) -> None:
    """As in the live request."""
    assert check("-H", f"Authorization: Bearer {token(issuer)}", "GET", RUNS).answer["outcome"] == "allow"


def test_two_tokens_are_refused(check: Run, issuer: Issuer) -> None:
    """--token and the header are two values of one header."""
    ran = check("-H", f"authorization: Bearer {token(issuer)}", "--token", token(issuer), "GET", RUNS)
    assert (ran.code, ran.answer["outcome"]) == (1, "unauthenticated")


@pytest.mark.parametrize("given", ["", "nonsense", "a.b.c", "\udcff", "x\r\ny"])
def test_a_bad_token_is_no_identity(check: Run, given: str) -> None:
    """Recognised but invalid is a refusal."""
    ran = check("--token", given, "GET", RUNS)
    assert (ran.code, ran.answer["outcome"], ran.answer["status"]) == (1, "unauthenticated", 401)


@pytest.mark.parametrize("arguments", [[], ["--user", ""]])
def test_nobody_is_unauthenticated(check: Run, arguments: list[str]) -> None:
    """No token, or an empty user."""
    ran = check(*arguments, "GET", RUNS)
    assert (ran.code, ran.answer["outcome"], ran.answer["status"]) == (1, "unauthenticated", 401)
    assert (ran.answer["reason"], ran.answer["identity"]) == ("no_credential", None)


def test_a_named_user_needs_no_issuer(extauthz: Run, config: Path) -> None:
    """Policies can be tested where no issuer can be reached, and nothing is said of keys."""
    config.write_text(config.read_text().replace("file: jwks.json", "url: http://127.0.0.1:1/jwks"))
    ran = extauthz("check", "-c", config, "-u", ALICE, "GET", RUNS)
    assert (ran.code, ran.err) == (0, "")


def test_keys_out_of_reach_are_an_error(extauthz: Run, config: Path, issuer: Issuer) -> None:
    """A token that cannot be verified is neither an allow nor a refusal: 503."""
    config.write_text(config.read_text().replace("file: jwks.json", "url: http://127.0.0.1:1/jwks"))
    ran = extauthz("check", "-c", config, "-o", "json", "--token", token(issuer), "GET", RUNS)
    assert (ran.code, ran.answer["outcome"], ran.answer["status"]) == (1, "error", 503)


def test_a_lookup_out_of_reach_is_an_error(check: Run, tmp_path: Path) -> None:
    """A namespace that nobody can tell is neither an allow nor a refusal: 503."""
    (tmp_path / "token").write_text("x")
    ran = check("-u", ALICE, "GET", "/pipeline/apis/v2beta1/runs/5f3e5b7e-8d2c-4d0a-9c54-0a1b2c3d4e5f")
    assert (ran.code, ran.answer["outcome"], ran.answer["status"]) == (1, "error", 503)
    assert ran.answer["values"][-1]["value"] is None


# What they ask for


def test_headers_of_one_name_are_joined(check: Run) -> None:
    """As Envoy joins them, whatever the letters' case."""
    ran = check("-u", ALICE, "-H", "X-HTTP-Method: PUT", "-H", "x-http-method:DELETE", "GET", RUNS)
    assert ran.answer["reason"] == "method_override"


@pytest.mark.parametrize(
    ("url", "status", "reason"),
    [
        ("http://kubeflow.example/app", 200, "allowed"),
        ("HTTPS://kubeflow.example:8443/app?x=1", 200, "allowed"),
        ("https://user:secret@kubeflow.example/app", 200, "allowed"),
        ("http://evil.example/admin", 403, "no_rule"),
        ("https://kubeflow.example", 403, "no_rule"),
        ("https://kubeflow.example?x=1", 403, "no_rule"),
        ("//kubeflow.example/app", 400, "empty_segment"),
        ("//[", 400, "empty_segment"),
        ("*", 400, "target_not_origin_form"),
        ("", 400, "target_not_origin_form"),
        ("team-b.svc:443", 400, "target_not_origin_form"),
        ("ftp://kubeflow.example/app", 400, "target_not_origin_form"),
        ("/app#/../admin", 400, "fragment"),
        ("https://kubeflow.example/app#top", 400, "fragment"),
        ("/app?x=1#top", 400, "fragment"),
        ("/notebook/team-a/nb/%ff", 400, "invalid_utf8"),
        ("/notebook/team-a/nb/\udcff", 400, "raw_non_ascii"),
        ("/" + "a" * 65536, 400, "target_too_long"),
    ],
)
def test_urls(check: Run, url: str, status: int, reason: str) -> None:
    """A whole URL is asked for by its path; what no server may get as a target is refused."""
    ran = check("-u", ALICE, "GET", url)
    assert (ran.answer["status"], ran.answer["reason"]) == (status, reason)
    assert ran.code == (status != 200)


def test_the_host_of_a_url_counts(check: Run, config: Path, tmp_path: Path) -> None:
    """Absolute URLs win over a host header, as in Envoy, and without the credentials in them."""
    policy = tmp_path / "hosts.yaml"
    rule = "{name: only, match: {path: /only, hosts: [a.example]}, allow: public}"
    policy.write_text(f"apiVersion: extauthz.dev/v1\nkind: Policy\nrules: [{rule}]\n")
    config.write_text(config.read_text().replace("policy:\n  paths:", f"policy:\n  paths:\n  - {policy}"))
    assert check("-H", "host: b.example", "GET", "http://u@a.example/only").code == 0
    assert check("-H", "host: a.example", "GET", "/only").code == 0
    assert check("-H", "host: a.example", "GET", "http://b.example/only").code == 1


@pytest.mark.parametrize("method", ["get", "", "CONNECT", "TRACE", "G\r\nET", "\udcff"])
def test_odd_methods_are_refused(check: Run, method: str) -> None:
    """As in front of the service."""
    ran = check("-u", ALICE, "--", method, "/app")
    assert (ran.code, ran.answer["reason"]) == (1, "method_not_allowed")


BODY = '{"namespace": "team-a"}'


def test_a_body_is_read(check: Run) -> None:
    """By a rule that finds its namespace there."""
    assert check("-u", ALICE, "--body", BODY, "POST", EXPERIMENTS).answer["outcome"] == "allow"
    assert check("-u", BOB, "--body", BODY, "POST", EXPERIMENTS).answer["reason"] == "forbidden"


def test_a_body_is_read_from_a_file(check: Run, tmp_path: Path) -> None:
    """Byte for byte."""
    file = tmp_path / "body.json"
    file.write_text(BODY)
    assert check("-u", ALICE, "--body", f"@{file}", "POST", EXPERIMENTS).code == 0
    file.write_bytes(b'{"namespace": "team-a\xff"}')
    assert check("-u", ALICE, "--body", f"@{file}", "POST", EXPERIMENTS).answer["reason"] == "body_invalid_utf8"


@pytest.mark.parametrize("name", ["missing", "", "nul\0"])
def test_an_unreadable_body_file_is_an_error(check: Run, tmp_path: Path, name: str) -> None:
    """Exit code 2, with the file's name."""
    ran = check("-u", ALICE, "--body", f"@{tmp_path / name}", "POST", EXPERIMENTS)
    assert (ran.code, ran.out) == (2, "")
    assert "cannot be read" in ran.err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--body", "\udcff"], "body_invalid_utf8"),
        (["--body", ""], "namespace_missing"),
        ([], "namespace_missing"),
        (["--body", '{"namespace": "team-a", "x": "' + "x" * 256 + '"}'], "body_truncated"),
        (["--body", BODY, "-H", "x-envoy-auth-partial-body: true"], "body_truncated"),
        (["--body", BODY, "-H", "content-length: 9999"], "body_truncated"),
        (["-H", "content-length: 5"], "body_not_shown"),
        (["--body", BODY, "-H", "content-encoding: gzip"], "body_encoded"),
    ],
)
def test_bodies_that_the_service_would_not_read(check: Run, arguments: list[str], reason: str) -> None:
    """They are refused here too: over the limit, cut, of another length than announced."""
    ran = check("-u", ALICE, *arguments, "POST", EXPERIMENTS)
    assert (ran.code, ran.answer["status"], ran.answer["reason"]) == (1, 400, reason)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.text(st.characters(exclude_characters="\0"), max_size=30),
    st.text(st.characters(exclude_characters="\0"), max_size=30),
    st.sampled_from(["text", "json"]),
)
def test_nothing_on_the_command_line_crashes(extauthz: Run, config: Path, url: str, text: str, output: str) -> None:
    """Whatever the text, there is an answer, and never an allow."""
    ran = extauthz("check", "-c", config, "-o", output, "-u", text, "-H", f"x:{text}", "--body", "x", "--", "PUT", url)
    assert ran.code == 1
    assert ran.err == ""


# A CheckRequest


def fixture(name: str) -> Any:
    return json.loads((DATA / "check-requests" / f"{name}.json").read_text())["check_request"]


CAPTURED = sorted(
    file.stem for file in (DATA / "check-requests").glob("*.json") if "check_request" in json.loads(file.read_text())
)


REACHABLE = {"get-dup-headers", "get-query", "h2-get", "head", "header-name-odd", "non-utf8-header", "websocket"}


@pytest.mark.parametrize("name", CAPTURED)
def test_every_captured_check_is_decided(check: Run, tmp_path: Path, name: str) -> None:
    """Allowed is exactly what asks for a path that alice may reach, and the answer says what was asked."""
    file = tmp_path / "check.json"
    file.write_text(json.dumps(fixture(name)))
    ran = check("--request", file, "--user", ALICE)
    assert ran.code == (name not in REACHABLE)
    http = fixture(name)["attributes"].get("request", {}).get("http")
    if http:
        assert ran.answer["request"]["method"] == http["method"]
        assert ran.answer["request"]["path"] in http.get("path", "")
    else:
        assert ran.answer["reason"] == "not_http"


def test_a_check_that_is_no_http_request_is_explained(extauthz: Run, config: Path, tmp_path: Path) -> None:
    """There is no request to show."""
    file = tmp_path / "check.json"
    file.write_text(json.dumps(fixture("tcp-plain")))
    ran = extauthz("check", "-c", config, "--request", file)
    assert (ran.code, ran.out) == (1, "DENY 403 not_http\n  Only HTTP requests can be checked.\n\nrule      none\n")


def asked(tmp_path: Path, path: str, **headers: str) -> Path:
    message = fixture("get-query")
    message["attributes"]["request"]["http"] |= {"path": path, "headers": headers}
    file = tmp_path / "check.json"
    file.write_text(json.dumps(message))
    return file


def test_a_captured_check_is_explained(check: Run, tmp_path: Path, issuer: Issuer) -> None:
    """With the identity that its own headers prove, or with another."""
    file = asked(tmp_path, RUNS, authorization=f"Bearer {token(issuer)}")
    assert check("--request", file).code == 0
    assert check("--request", file, "--user", BOB).code == 1
    assert check("--request", asked(tmp_path, RUNS)).answer["reason"] == "no_credential"


@pytest.mark.parametrize("content", [b"", b"no JSON", b"\xff", b'{"attributes": 1}', b'{"attributes":' * 5000])
def test_what_is_no_check_request_is_an_error(check: Run, tmp_path: Path, content: bytes) -> None:
    """Exit code 2, with the file's name."""
    file = tmp_path / "check.json"
    file.write_bytes(content)
    ran = check("--request", file)
    assert (ran.code, ran.out) == (2, "")
    assert str(file) in ran.err
    assert "Traceback" not in ran.err


def test_a_lone_surrogate_in_a_check_request_is_no_crash(check: Run, tmp_path: Path) -> None:
    """It has no UTF-8 form, so it is either an error of the file or a refusal."""
    ran = check("--request", asked(tmp_path, "/app?x=\ud800"), "--user", ALICE)
    assert ran.code in (1, 2)
    assert "Traceback" not in ran.err


# Usage


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["GET"],
        ["GET", "/app", "more"],
        ["GET", "/app", "--request", "x"],
        ["--batch", "x", "--request", "x"],
        ["-u", ALICE, "-t", "x", "GET", "/app"],
        ["-g", "x", "GET", "/app"],
        ["-H", "no colon", "GET", "/app"],
        ["-H", ": no name", "GET", "/app"],
        ["-o", "yaml", "GET", "/app"],
        ["--batch", "x", "-u", ALICE],
        ["--batch", "x", "--body", "x"],
        ["--request", "x", "-H", "a: b"],
        ["--request", "x", "-t", "x"],
    ],
)
def test_contradicting_options_are_a_usage_error(check: Run, arguments: list[str]) -> None:
    """Nothing that was given is ignored."""
    ran = check(*arguments)
    assert (ran.code, ran.out) == (2, "")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("kind: [", ":1:"),
        ("kind: Settings\n", "'apiVersion' is missing"),
        ("a: 1\na: 2\n", ":2:1: duplicate key 'a'"),
    ],
)
def test_broken_settings_are_exit_code_2(extauthz: Run, tmp_path: Path, content: str, said: str) -> None:
    """With file and line."""
    file = tmp_path / "settings.yaml"
    file.write_text(content)
    ran = extauthz("check", "-c", file, "-u", ALICE, "GET", "/app")
    assert (ran.code, ran.out) == (2, "")
    assert f"{file}:" in ran.err
    assert said in ran.err


def test_a_broken_policy_is_exit_code_2(check: Run, config: Path, tmp_path: Path) -> None:
    """Nothing is decided by what would not serve."""
    policy = tmp_path / "policy.yaml"
    policy.write_text("apiVersion: extauthz.dev/v1\nkind: Policy\nrules: [{name: x}]\n")
    config.write_text(config.read_text().replace("policy:\n  paths:", f"policy:\n  paths:\n  - {policy}"))
    ran = check("-u", ALICE, "GET", "/app")
    assert (ran.code, ran.out) == (2, "")
    assert f"{policy}:3:" in ran.err
