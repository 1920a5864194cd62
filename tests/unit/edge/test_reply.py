"""How a refusal is told, to each kind of caller."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extauthz.decision import Decision, Outcome, Reason
from extauthz.edge import reply
from tests.cases import request

FORBIDDEN = Decision(Outcome.DENY, 403, Reason.FORBIDDEN, 'User "bob" cannot list resource "runs"')
PAGE = {"accept": "text/html,*/*"}


def test_an_api_client_gets_a_kubernetes_status() -> None:
    """kubectl, the kfp SDK and the Kubeflow UI print its message."""
    told = reply.refusal(FORBIDDEN, request("GET", "/x", x_request_id="0f-1"))
    status = json.loads(told.body)
    assert (status["kind"], status["apiVersion"], status["code"]) == ("Status", "v1", 403)
    assert (status["status"], status["reason"], status["message"]) == ("Failure", "Forbidden", FORBIDDEN.message)
    assert {"reason": "request_id", "message": "0f-1"} in status["details"]["causes"]
    assert {"reason": "forbidden", "message": FORBIDDEN.message} in status["details"]["causes"]
    assert dict(told.headers)["content-type"] == "application/json"


def test_a_browser_gets_a_page_in_which_everything_is_escaped() -> None:
    """No script, no style from elsewhere, nothing to sniff."""
    evil = Decision(Outcome.DENY, 403, Reason.FORBIDDEN, '<script>alert("x")</script>')
    told = reply.refusal(evil, request("GET", "/x", accept="text/html,*/*", x_request_id="<b>"))
    assert b"<script" not in told.body
    assert b"&lt;script&gt;" in told.body
    assert b"<b>" not in told.body
    headers = dict(told.headers)
    assert headers["content-type"].startswith("text/html")
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert headers["x-content-type-options"] == "nosniff"


def test_a_page_names_its_request() -> None:
    """Support asks for it."""
    told = reply.refusal(FORBIDDEN, request("GET", "/x", accept="text/html", x_request_id="0f-1"))
    assert b"0f-1" in told.body


def test_a_script_in_a_page_gets_no_page() -> None:
    """fetch() wants a status, whatever its accept header says."""
    asked = request("GET", "/x", accept="text/html,*/*", sec_fetch_mode="cors")
    assert dict(reply.refusal(FORBIDDEN, asked).headers)["content-type"] == "application/json"


def test_a_grpc_client_gets_one_line_of_text() -> None:
    """Envoy makes it the grpc-message."""
    odd = Decision(Outcome.DENY, 403, Reason.FORBIDDEN, "two\r\nlines")
    told = reply.refusal(odd, request("POST", "/x", content_type="application/grpc+proto"))
    assert told.body.decode() == "two\ufffd\ufffdlines"


def test_head_gets_no_body() -> None:
    """RFC 9110 section 9.3.2, whatever the client says that it sends."""
    assert reply.refusal(FORBIDDEN, request("HEAD", "/x")).body == b""
    assert reply.refusal(FORBIDDEN, request("HEAD", "/x", content_type="application/grpc")).body == b""


def test_nothing_is_cached() -> None:
    """A 403 must not outlive the grant that ends it."""
    headers = dict(reply.refusal(FORBIDDEN, request("GET", "/x")).headers)
    assert headers["cache-control"] == "no-store"
    assert "authorization" in headers["vary"]


@pytest.mark.parametrize(
    ("reason", "challenge"),
    [
        (Reason.NO_CREDENTIAL, 'Bearer realm="extauthz"'),
        ("token_expired", 'Bearer realm="extauthz", error="invalid_token"'),
    ],
)
def test_401_challenges_as_rfc_6750_says(reason: str, challenge: str) -> None:
    """No error code where no token was sent."""
    told = reply.refusal(Decision(Outcome.UNAUTHENTICATED, 401, reason, "Log in."), request("GET", "/x"))
    assert dict(told.headers)["www-authenticate"] == challenge


def test_503_says_when_to_come_back() -> None:
    """Retry-After is in seconds."""
    told = reply.refusal(Decision(Outcome.ERROR, 503, "slow", "Slow.", retry_after=3), request("GET", "/x"))
    assert dict(told.headers)["retry-after"] == "3"


@given(st.text(), st.text(), st.sampled_from(["GET", "HEAD", "POST"]), st.sampled_from(["text/html", "*/*"]))
def test_no_control_character_ever_leaves_in_a_header(message: str, identifier: str, method: str, accept: str) -> None:
    """Envoy does not check denied headers: CR LF would split the client's response."""
    asked = request(method, "/x", accept=accept, x_request_id=identifier)
    told = reply.refusal(Decision(Outcome.ERROR, 503, "why", message, retry_after=1), asked)
    assert all(name.isprintable() and value.isprintable() for name, value in told.headers)
