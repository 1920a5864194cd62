"""What a review looks like on the wire."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from extauthz.access.kubernetes import wire
from extauthz.access.kubernetes.connection import Answer
from extauthz.review import Attributes, NonResourceAttributes, ResourceAttributes
from extauthz.subject import Subject

EVERYTHING = Subject(
    user="alice", groups=("a", "system:authenticated"), uid="7", extra=(("scopes", ("x", "y")), ("z", ()))
)


@pytest.mark.parametrize(
    ("subject", "attributes", "spec"),
    [
        (
            EVERYTHING,
            ResourceAttributes("get", "apps", "v1", "deployments", "scale", "team-a", "web"),
            {
                "user": "alice",
                "groups": ["a", "system:authenticated"],
                "uid": "7",
                "extra": {"scopes": ["x", "y"], "z": []},
                "resourceAttributes": {
                    "verb": "get",
                    "group": "apps",
                    "version": "v1",
                    "resource": "deployments",
                    "subresource": "scale",
                    "namespace": "team-a",
                    "name": "web",
                },
            },
        ),
        (
            Subject("bob"),
            ResourceAttributes("list", resource="pods"),
            {"user": "bob", "resourceAttributes": {"verb": "list", "resource": "pods"}},
        ),
        (
            Subject("", groups=("g",)),
            NonResourceAttributes("get", "/healthz"),
            {"groups": ["g"], "nonResourceAttributes": {"verb": "get", "path": "/healthz"}},
        ),
    ],
)
def test_question(subject: Subject, attributes: Attributes, spec: dict[str, Any]) -> None:
    """Everything that is known is sent, and nothing that is empty."""
    body = orjson.loads(wire.question(subject, attributes))
    assert body == {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}


@pytest.mark.parametrize("body", [b"", b"nonsense", b"[]", b"{}", b'{"message": 1}', b"null"])
def test_message_of_anything_else(body: bytes) -> None:
    """Where a server's refusal has no message, there is none."""
    assert wire.message(Answer(403, body)) == ""


def test_message_is_bounded() -> None:
    """A server's message cannot flood the log."""
    assert wire.message(Answer(403, orjson.dumps({"message": "x" * 10_000}))) == "x" * 500
