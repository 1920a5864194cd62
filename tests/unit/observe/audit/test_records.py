"""What an audit record tells of a decision, and what it never tells."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from extauthz.decision import Decision, Outcome, Reason, failed
from extauthz.errors import Refused
from extauthz.observe.audit import form
from extauthz.observe.audit.mask import MASK, Mask
from extauthz.request import Request, read
from extauthz.review import ResourceAttributes, Review
from extauthz.subject import Subject
from tests.cases import ALICE, BOB, gateway, policy_of, request
from tests.unit.observe.audit.conftest import as_read, recorded, told

RUNS = "/pipeline/apis/v2beta1/runs?namespace=team-a"
TRACE = "0af7651916cd43dd8448eb211c80319c"
SOURCES = """
  - name: everything
    match: {methods: [POST], path: "/things/{id}"}
    forbid: ["header:x-forbidden"]
    access:
      - {verb: get, resource: things, namespace: ["body:/namespace", "query:namespace?"], name: "path:id"}
      - {verb: list, resource: secrets, namespace: "lookup:run:path:id", ifPresent: "header:x-wanted"}
"""


def record_of(decision: Decision, asked: Request | None = None) -> dict[str, Any]:
    return as_read(form.encode(form.build(asked, decision, seconds=0.1, values={}, mask=Mask())))


def test_an_allow() -> None:
    """Who asked for what with which right, what was answered by which rule, and how it can be found again."""
    asked = read(
        method="GET",
        target=RUNS,
        headers={"x-request-id": "r-1", "traceparent": f"00-{TRACE}-b7ad6b7169203331-01"},
        host="kubeflow.example",
        peer="spiffe://cluster.local/ns/a/sa/b",
    )
    record = recorded(gateway(ALICE, "ml"), asked)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", record.pop("timestamp"))
    assert len(record.pop("auditID")) == 36
    assert record.pop("rule").keys() == {"name", "file", "line"}
    assert record == {
        "kind": "Decision",
        "apiVersion": "audit.extauthz.dev/v1",
        "requestID": "r-1",
        "traceID": TRACE,
        "method": "GET",
        "host": "kubeflow.example",
        "target": RUNS,
        "peer": "spiffe://cluster.local/ns/a/sa/b",
        "user": {"username": ALICE, "groups": ["ml", "system:authenticated"]},
        "authenticator": "test",
        "decision": "allow",
        "status": 200,
        "reason": "allowed",
        "message": "Every right that the rule asks for is granted.",
        "values": [{"source": "lookup:experiment:query:experiment_id"}],
        "reviews": [record["reviews"][0]],
        "latencySeconds": 0.000123,
    }
    review = record["reviews"][0]
    assert "RoleBinding" in review.pop("reason")
    assert review == {
        "verb": "list",
        "group": "pipelines.kubeflow.org",
        "version": "v1beta1",
        "resource": "runs",
        "namespace": "team-a",
        "allowed": True,
        "cached": False,
    }


def test_a_denial() -> None:
    """The missing right stands in the message and in the review."""
    record = recorded(gateway(BOB), request("GET", RUNS))
    assert (record["decision"], record["status"], record["reason"]) == ("deny", 403, "forbidden")
    assert BOB in record["message"]
    assert [review["allowed"] for review in record["reviews"]] == [False]


def test_nobody_is_known() -> None:
    """Without a credential there is no user; what nobody reviewed is left out."""
    record = recorded(gateway(""), request("GET", RUNS))
    assert (record["decision"], record["status"]) == ("unauthenticated", 401)
    assert record.keys().isdisjoint({"user", "authenticator", "reviews", "peer", "requestID", "shadow"})


def test_a_check_without_a_request() -> None:
    """What could not be read is told by its reason alone."""
    record = told(gateway(), None, failed(Refused("check_undecodable", "The check could not be decoded.", status=403)))
    assert (record["decision"], record["reason"]) == ("deny", "check_undecodable")
    assert record.keys().isdisjoint({"method", "target", "host", "rule"})


def test_a_shadow_rule(tmp_path: Path) -> None:
    """What would have been refused is an allow that says so."""
    rule = """
  - name: tried
    enforce: shadow
    match: {path: /tried}
    access: [{verb: delete, resource: secrets, namespace: team-a}]
"""
    record = recorded(gateway(BOB, policy=policy_of(tmp_path, rule)), request("GET", "/tried"))
    assert (record["decision"], record["shadow"], record["rule"]["name"]) == ("allow", True, "tried")
    assert "cannot delete" in record["message"]


def test_values_that_the_target_does_not_tell(tmp_path: Path) -> None:
    """Each source beside method, host and target, with its value or without one where the request has none."""
    service = gateway(policy=policy_of(tmp_path, SOURCES))
    record = recorded(service, request("POST", "/things/t1", body=b'{"namespace": "team-a"}', x_wanted="yes"))
    assert record["values"] == [
        {"source": "header:x-forbidden"},
        {"source": "body:/namespace", "value": "team-a"},
        {"source": "lookup:run:path:id", "value": "team-a"},
        {"source": "header:x-wanted", "value": "yes"},
    ]


def test_values_that_cannot_be_known_are_left_out(tmp_path: Path) -> None:
    """A body that nobody can read in one way has no value, and no object is looked up for the log alone."""
    service = gateway(policy=policy_of(tmp_path, SOURCES))
    record = recorded(service, request("POST", "/things/t1", body=b'{"namespace": 1}'))
    assert record["decision"] == "deny"
    assert record["values"] == [{"source": "header:x-forbidden"}, {"source": "header:x-wanted"}]


def test_a_policy_that_was_replaced_tells_nothing_of_an_older_rule(tmp_path: Path) -> None:
    """Values are read by the deciding rule or not at all."""
    service = gateway(policy=policy_of(tmp_path, SOURCES))
    asked = request("POST", "/things/t1", body=b'{"namespace": "team-a"}')
    decision = service.decide(asked)
    assert isinstance(decision, Decision)
    service.policy = policy_of(tmp_path, "\n  # moved\n" + SOURCES)
    assert "values" not in told(service, asked, decision)


def test_no_secret_is_told(tmp_path: Path) -> None:
    """Neither the credential nor anything that looks like one stands anywhere in the line."""
    rule = """
  - name: secretive
    match: {path: "/s/{rest...}"}
    access: [{verb: get, path: "path:rest"}, {verb: get, path: /x, ifPresent: "header:authorization"}]
"""
    token = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln"
    asked = request(
        "GET",
        f"/s/{token}?token=s3cret",
        authorization="Bearer s3cret",
        cookie="_oauth2_proxy=s3cret",
        x_request_id="s3cret id",
    )
    service = gateway(policy=policy_of(tmp_path, rule))
    decision = service.decide(asked)
    assert isinstance(decision, Decision)
    subject = Subject.authenticated(ALICE, extra=(("pin", ("s3cret",)),), credential=(("authorization", "s3cret"),))
    line = str(told(service, asked, replace(decision, subject=subject), mask=Mask(["PIN"])))
    assert ("s3cret" in line, "c2ln" in line) == (False, False)
    assert line.count(MASK) >= 4


def test_a_review_from_memory_says_so() -> None:
    """Remembered answers are told apart from asked ones; the objects of a right and its words are told, too."""
    asked = ResourceAttributes("get", "g", "v1", "things", "log", "team-a", "t1")
    review = Review(asked, allowed=True, reason="because", cached=True)
    record = record_of(Decision(Outcome.ALLOW, 200, Reason.ALLOWED, "", reviews=(review,)))
    assert record["reviews"][0] == {
        "verb": "get",
        "group": "g",
        "version": "v1",
        "resource": "things",
        "subresource": "log",
        "namespace": "team-a",
        "name": "t1",
        "allowed": True,
        "cached": True,
        "reason": "because",
    }


HOSTILE = 'a"\n{"kind":"Decision"}\r\u2028\x1b[31m\x9b\u202e\udcff'


def test_no_text_ends_a_line_or_reaches_a_terminal() -> None:
    """Names that hold line ends, escapes or half characters stay inside their quotes, and come out as they were."""
    decision = Decision(Outcome.DENY, 403, Reason.FORBIDDEN, HOSTILE, subject=Subject(HOSTILE))
    line = form.encode(
        form.build(read(method="GET", target=f"/{HOSTILE}", headers={}), decision, seconds=0, values={}, mask=Mask())
    )
    assert line.isascii()
    assert all(byte >= 32 for byte in line[:-1])
    record = as_read(line)
    assert (record["message"], record["user"]["username"], record["target"]) == (HOSTILE, HOSTILE, f"/{HOSTILE}")


def test_a_long_target_is_cut() -> None:
    """What is missing is named, so that nobody replays half a request."""
    record = record_of(Decision(Outcome.DENY, 400, "target_too_long", ""), request("GET", "/" + "a" * 5000))
    assert (len(record["target"]), record["truncated"]) == (form.MAX_TARGET, ["target"])


def test_a_line_is_bounded() -> None:
    """The longest members go until a line fits that collectors do not break."""
    groups = tuple(f"group-{number:010}" for number in range(5000))
    decision = Decision(Outcome.DENY, 403, Reason.FORBIDDEN, "\u20ac" * 9000, subject=Subject("ann", groups))
    line = form.encode(form.build(request("GET", "/x"), decision, seconds=0, values={}, mask=Mask()))
    assert len(line) <= form.MAX_LINE_BYTES
    record = as_read(line)
    assert record["truncated"] == ["message", "user"]
    assert record["target"] == "/x"


@pytest.mark.parametrize("trace", ["", "garbage", f"00-{TRACE[:-1]}-b7ad6b7169203331-01", f"00-{TRACE.upper()}-b7-01"])
def test_a_bad_traceparent_is_no_trace(trace: str) -> None:
    """W3C Trace Context: what is not well formed is as if it were not there."""
    record = record_of(Decision(Outcome.DENY, 400, "x", ""), request("GET", "/x", traceparent=trace))
    assert "traceID" not in record
