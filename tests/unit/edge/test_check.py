"""Envoy's protobuf: what is read from a CheckRequest, and what leaves as a CheckResponse."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from envoy.service.auth.v3 import external_auth_pb2
from hypothesis import example, given
from hypothesis import strategies as st

from extauthz.decision import Decision, Outcome, Reason
from extauthz.edge import check
from extauthz.errors import Refused
from extauthz.request import Request, read
from extauthz.request.faults import Fault
from tests.cases import DATA, decided, gateway, request

LIMIT = 65536


def captured(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((DATA / "check-requests" / f"{name}.json").read_text())
    return content


def wire(name: str) -> bytes:
    found = captured(name)
    if found.get("check_request_pb_b64"):
        return base64.b64decode(found["check_request_pb_b64"])
    from google.protobuf import json_format

    message = json_format.ParseDict(found["check_request"], external_auth_pb2.CheckRequest())
    return bytes(message.SerializeToString())


def parsed(name: str, limit: int = LIMIT) -> Request:
    return check.parse(wire(name), max_body_bytes=limit)


def test_a_captured_request_is_read_as_the_upstream_will_see_it() -> None:
    """Method, path, query, headers and host come from the message."""
    read = parsed("get-query")
    assert (read.method, read.path, read.host) == ("GET", "/pipeline/apis/v2beta1/runs", "kubeflow.example")
    assert read.parameters["namespace"] == "team-a"
    assert read.headers["authorization"] == "Bearer throwaway"
    assert read.faults == ()


def test_header_014_context_extensions_say_nothing() -> None:
    """Whatever a route adds beside the request, no host, namespace or user is taken from it."""
    message = external_auth_pb2.CheckRequest.FromString(wire("get-query"))
    plain = check.parse(message.SerializeToString(), max_body_bytes=LIMIT)
    for name in ("host", "namespace", "kubeflow-userid", "authorization", ":path", "x-forwarded-client-cert"):
        message.attributes.context_extensions[name] = "team-b"
    extended = check.parse(message.SerializeToString(), max_body_bytes=LIMIT)
    assert all(getattr(extended, name) == getattr(plain, name) for name in ("target", "host", "headers", "peer"))


def test_duplicate_headers_stay_visible() -> None:
    """Envoy joins them, so a comma in a credential tells."""
    read = parsed("get-dup-headers")
    assert read.headers["authorization"] == "Bearer a,Bearer b"
    assert read.headers["kubeflow-userid"] == "alice@x,bob@x"


def test_raw_headers_read_like_joined_ones() -> None:
    """`encode_raw_headers` leaves `headers` empty; the decision must not change."""
    read = parsed("encode-raw-headers")
    assert read.headers["kubeflow-userid"] == "a,b"
    assert read.headers["x-bin"] == "!!"
    assert read.headers[":path"] == read.path


def test_the_peer_is_the_mtls_principal() -> None:
    """It comes from Envoy's own attributes, never from a header."""
    assert parsed("sidecar-mtls").peer.startswith("spiffe://")


@pytest.mark.parametrize("name", ["tcp-plain", "tcp-mtls"])
def test_a_check_without_http_is_refused(name: str) -> None:
    """Istio widens HTTP-only rules to all TCP on a workload."""
    with pytest.raises(Refused, match="not_http"):
        parsed(name)


@pytest.mark.parametrize("content", [b"\xff\xff", b"\x0a\xff", b"not protobuf at all"])
def test_an_undecodable_check_is_refused(content: bytes) -> None:
    """An exception would be a gRPC error, and with failOpen an allow."""
    with pytest.raises(Refused, match="check_undecodable"):
        check.parse(content, max_body_bytes=LIMIT)


def test_an_empty_check_is_refused() -> None:
    """No attributes, no decision."""
    with pytest.raises(Refused, match="not_http"):
        check.parse(b"", max_body_bytes=LIMIT)


def test_connect_is_refused() -> None:
    """It has no path to decide on."""
    faults = {fault for fault, _ in parsed("connect-with-route").faults}
    assert {Fault.METHOD, Fault.TARGET_FORM} <= faults


@pytest.mark.parametrize(
    ("name", "limit", "content", "problem"),
    [
        ("post-small-bytes-whole", LIMIT, True, ""),
        ("post-small-text-whole", LIMIT, True, ""),
        ("post-chunked-bytes-whole", LIMIT, True, ""),
        ("post-127-bytes-whole", 128, True, ""),
        ("post-128-bytes-whole", 128, False, "body_truncated"),
        ("post-129-bytes-partial", 128, False, "body_truncated"),
        ("post-split-at-max-cl", 128, False, "body_truncated"),
        ("post-split-at-max-cl", LIMIT, False, "body_truncated"),
        ("post-split-at-max-chunked", 128, False, "body_truncated"),
        ("h2-oversize-single-frame-partial-false", 128, False, "body_truncated"),
        ("post-spoof-partial-bytes-whole", LIMIT, True, ""),
        ("get-nobody-bytes-whole", LIMIT, False, "body_not_shown"),
        ("post-empty-bytes-whole", LIMIT, False, "body_not_shown"),
    ],
)
def test_only_a_whole_body_is_readable(name: str, limit: int, content: bool, problem: str) -> None:
    """Envoy announces some truncated bodies as whole."""
    body = parsed(name, limit).body
    assert (body.content is not None, body.problem) == (content, problem)


@pytest.mark.parametrize("kind", ["text", "bytes"])
def test_text_and_bytes_bodies_read_alike(kind: str) -> None:
    """`pack_as_bytes` changes the field, not the meaning."""
    assert parsed(f"post-small-{kind}-whole").body == parsed("post-small-bytes-whole").body


@pytest.mark.parametrize(
    "name", sorted(path.stem for path in (DATA / "check-requests").glob("*.json") if path.stem != "paths-matrix")
)
def test_no_captured_request_contradicts_itself(name: str) -> None:
    """The check for contradicting headers must not refuse what Envoy really sends."""
    try:
        read = parsed(name)
    except Refused:
        return
    assert read.method == "CONNECT" or Fault.TARGET_MISMATCH not in {fault for fault, _ in read.faults}


ALLOWED = Decision(
    Outcome.ALLOW, 200, Reason.ALLOWED, "", headers=(("kubeflow-userid", "alice"),), remove=("kubeflow_userid",)
)


def test_an_allow_overwrites_and_removes() -> None:
    """Appending would keep the client's value."""
    response = check.response_of(ALLOWED, None)
    assert response.WhichOneof("http_response") == "ok_response"
    assert response.status.code == 0
    (option,) = response.ok_response.headers
    assert (option.header.key, option.header.value) == ("kubeflow-userid", "alice")
    assert not option.HasField("append")
    assert list(response.ok_response.headers_to_remove) == ["kubeflow_userid"]


@pytest.mark.parametrize(
    ("outcome", "status", "code"),
    [(Outcome.DENY, 400, 3), (Outcome.UNAUTHENTICATED, 401, 16), (Outcome.DENY, 403, 7), (Outcome.ERROR, 503, 14)],
)
def test_a_refusal_is_never_an_empty_answer(outcome: Outcome, status: int, code: int) -> None:
    """On the wire: a non-zero status and an HTTP code, since anything less allows."""
    content = check.response_of(Decision(outcome, status, "why", "Because."), None).SerializeToString()
    response = external_auth_pb2.CheckResponse.FromString(content)
    assert response.status.code == code
    assert response.denied_response.status.code == status
    assert response.WhichOneof("http_response") == "denied_response"


def test_the_wire_bytes_of_the_four_answers_stay() -> None:
    """Golden bytes: an encoder that dropped the status would open the door."""
    http = request("HEAD", "/x")
    starts = {
        400: b"\n\x02\x08\x03",
        401: b"\n\x02\x08\x10",
        403: b"\n\x02\x08\x07",
        503: b"\n\x02\x08\x0e",
    }
    for status, start in starts.items():
        content = check.response_of(Decision(Outcome.DENY, status, "why", "Because."), http).SerializeToString()
        assert content.startswith(start + b"\x12"), status
    assert check.response_of(ALLOWED, http).SerializeToString().startswith(b"\n\x00\x1a")


GATEWAY = gateway("")


@given(
    st.text(max_size=40),
    st.sampled_from(["GET", "HEAD", "POST", "get", "TRACE", "\r\n"]),
    st.dictionaries(
        st.sampled_from(["x-request-id", "accept", "content-type", "authorization", "host"]),
        st.text(max_size=30) | st.sampled_from(["text/html", "application/grpc", "a\r\nset-cookie: b=1"]),
    ),
)
@example("", "GET", {"accept": "text/html"})
def test_no_control_character_leaves_in_a_refusal(target: str, method: str, headers: dict[str, str]) -> None:
    """Envoy writes the headers of a refusal as they are, so CR LF in one would split the client's response."""
    asked = read(method=method, target=target, headers=headers)
    denied = check.response_of(decided(GATEWAY.decide(asked)), asked).denied_response
    assert denied.status.code in (400, 401, 403, 503)
    for option in denied.headers:
        assert option.header.key.isprintable()
        assert option.header.value.isprintable()
    assert denied.body.replace("\n", "").isprintable()  # lines are those of the page for people
