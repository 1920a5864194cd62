"""Envoy's protobuf: CheckRequest to `Request`, `Decision` to CheckResponse.

An empty CheckResponse would allow, so every refusal carries a non-zero status and an HTTP
code; headers are set without `append`, which would keep what the client sent.
"""

from __future__ import annotations

from collections.abc import Mapping

from envoy.service.auth.v3 import external_auth_pb2
from google.protobuf.message import DecodeError

from extauthz.decision import Decision
from extauthz.edge import body
from extauthz.edge.reply import CODES, PLAIN, Refusals, Reply
from extauthz.errors import Refused
from extauthz.request import Request, read

_PERMISSION_DENIED = 7


def parse(content: bytes, *, max_body_bytes: int) -> Request:
    """Read a serialized CheckRequest. Raises Refused where it is not an HTTP check."""
    try:
        check = external_auth_pb2.CheckRequest.FromString(content)
    except DecodeError:
        raise Refused("check_undecodable", "The check could not be decoded.", status=403) from None
    return request_of(check, max_body_bytes=max_body_bytes)


def request_of(check: external_auth_pb2.CheckRequest, *, max_body_bytes: int) -> Request:
    """Return the request that a CheckRequest asks about. Raises Refused where it is not an HTTP check."""
    attributes = check.attributes
    http = attributes.request.http
    if not http.method:
        raise Refused("not_http", "Only HTTP requests can be checked.", status=403)
    headers = _headers(http)
    content = http.raw_body or http.body.encode()
    return read(
        method=http.method,
        target=http.path,
        headers=headers,
        host=http.host,
        body=body.shown(content, headers, limit=max_body_bytes, length=headers.get("content-length")),
        peer=attributes.source.principal,
    )


def _headers(http: external_auth_pb2.AttributeContext.HttpRequest) -> Mapping[str, str]:
    if not http.header_map.headers:
        headers = http.headers
        return {name: headers[name] for name in headers}
    # encode_raw_headers: duplicates stand apart here; join them as Envoy does in `headers`.
    joined: dict[str, str] = {}
    for header in http.header_map.headers:
        value = header.value or header.raw_value.decode("utf-8", errors="replace").replace("\ufffd", "!")
        name = header.key.lower()
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    return joined


def response_of(
    decision: Decision, request: Request | None, refusals: Refusals = PLAIN
) -> external_auth_pb2.CheckResponse:
    """Return the CheckResponse for a decision; `request` is None where none could be read."""
    return _allowed(decision) if decision.allowed else _denied(refusals.reply(decision, request))


def _allowed(decision: Decision) -> external_auth_pb2.CheckResponse:
    response = external_auth_pb2.CheckResponse()
    response.status.code = 0
    response.ok_response.headers_to_remove.extend(decision.remove)
    for name, value in decision.headers:
        _set(response.ok_response.headers.add(), name, value)
    for cookie in decision.cookies:
        _set(response.ok_response.response_headers_to_add.add(), "set-cookie", cookie)
    return response


def _denied(told: Reply) -> external_auth_pb2.CheckResponse:
    response = external_auth_pb2.CheckResponse()
    response.status.code = CODES.get(told.status, _PERMISSION_DENIED)
    response.denied_response.status.code = told.status
    response.denied_response.body = told.body.decode()
    for name, value in told.headers:
        _set(response.denied_response.headers.add(), name, value)
    return response


def _set(option: object, name: str, value: str) -> None:
    option.header.key = name  # type: ignore[attr-defined]  # HeaderValueOption has no type information
    option.header.value = value  # type: ignore[attr-defined]
