"""The namespace in the token of a TensorBoard proxy path."""

from __future__ import annotations

import base64

import pytest

from extauthz.lookup.viewer import namespace_of_token


def token(payload: bytes, signature: str = "c2ln") -> str:
    return f"{base64.urlsafe_b64encode(payload).decode().rstrip('=')}.{signature}"


def test_a_token_names_its_namespace() -> None:
    """Whatever else it holds."""
    assert namespace_of_token(token(b'{"namespace": "team-a", "viewerName": "v"}')) == "team-a"


@pytest.mark.parametrize(
    "told",
    [
        "",
        "abc",
        token(b'{"namespace": "team-a"}', ""),
        token(b'{"namespace": "team-a"}', "a.b"),
        token(b'{"namespace": "team-a", "namespace": "team-b"}'),
        token(b'{"namespace": 1}'),
        token(b'{"namespace": ""}'),
        token(b"{}"),
        token(b"[]"),
        token(b"no JSON"),
        token(b"\xff"),
        token(b"[" * 1500),
        "A.c2ln",
        token(b'{"namespace": "team-a"}') + "/..",
    ],
)
def test_a_token_that_tells_nothing(told: str) -> None:
    """What could be read in two ways, or not at all, names no namespace."""
    assert namespace_of_token(told) is None
