"""Envoy's protobuf: CheckRequest to `Request`, `Decision` to CheckResponse.

An empty CheckResponse would allow, so every refusal carries a non-zero status and an HTTP
code; headers are set without `append`, which would keep what the client sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from envoy.service.auth.v3 import external_auth_pb2
from google.protobuf.message import DecodeError

from extauthz.decision import Decision
from extauthz.edge import body
from extauthz.edge.asked import Asked, joined
from extauthz.edge.reply import CODES, PLAIN, Refusals, Reply
from extauthz.errors import Refused
from extauthz.request import Request, read

SERVICE = "envoy.service.auth.v3.Authorization"
BESIDE_BODY_BYTES = 1024 * 1024
"""What a CheckRequest may hold beside the request's body; Envoy's limit for all headers is far below."""
_PERMISSION_DENIED = 7


class MessageHeaders(Mapping[str, str]):
    """The headers as they lie in a message: few are read, and a copy of 25 takes 4 µs."""

    __slots__ = ("_fields", "get")

    def __init__(self, fields: Mapping[str, str]) -> None:
        self._fields = fields
        self.get = fields.get  # type: ignore[method-assign]  # a call of our own between would double its time

    def __getitem__(self, name: str) -> str:
        value: str | None = self.get(name)  # the message's own item access would add what is missing
        if value is None:
            raise KeyError(name)
        return value

    def __contains__(self, name: object) -> bool:
        return name in self._fields

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)


def parse(content: bytes, *, max_body_bytes: int) -> Request:
    """Read a serialized CheckRequest. Raises Refused where it is not an HTTP check."""
    return judged(decoded(content), max_body_bytes=max_body_bytes)


def request_of(check: external_auth_pb2.CheckRequest, *, max_body_bytes: int) -> Request:
    """Return the request that a CheckRequest asks about. Raises Refused where it is not an HTTP check."""
    return judged(_asked(check), max_body_bytes=max_body_bytes)


def decoded(content: bytes) -> Asked:
    """Return what a serialized CheckRequest asks about. Raises Refused where it is not an HTTP check."""
    try:
        check = external_auth_pb2.CheckRequest.FromString(content)
    except DecodeError:
        raise Refused("check_undecodable", "The check could not be decoded.", status=403) from None
    return _asked(check)


def _asked(check: external_auth_pb2.CheckRequest) -> Asked:
    attributes = check.attributes
    http = attributes.request.http
    method = http.method
    if not method:
        raise Refused("not_http", "Only HTTP requests can be checked.", status=403)
    content = http.raw_body or http.body.encode()
    return Asked(method, http.path, _headers(http), content, http.host, attributes.source.principal)


def judged(asked: Asked, *, max_body_bytes: int) -> Request:
    """Return the request that is asked about, with what is wrong with it."""
    headers = asked.headers
    length = headers.get("content-length")
    shown = body.shown(asked.content, headers, limit=max_body_bytes, length=length)
    return read(method=asked.method, target=asked.target, headers=headers, host=asked.host, body=shown, peer=asked.peer)


def _headers(http: external_auth_pb2.AttributeContext.HttpRequest) -> Mapping[str, str]:
    if not (http.HasField("header_map") and http.header_map.headers):
        return MessageHeaders(http.headers)
    # encode_raw_headers: duplicates stand apart here; join them as Envoy does in `headers`.
    return joined(
        (header.key, header.value or header.raw_value.decode("utf-8", errors="replace").replace("\ufffd", "!"))
        for header in http.header_map.headers
    )


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
