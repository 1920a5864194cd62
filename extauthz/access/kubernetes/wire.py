"""SubjectAccessReview as JSON: the question exactly, the answer strictly."""

from __future__ import annotations

from typing import Any

import orjson

from extauthz.access.kubernetes.connection import Answer
from extauthz.errors import Refused, Unavailable
from extauthz.review import Attributes, ResourceAttributes, Review
from extauthz.subject import Subject

PATH = "/apis/authorization.k8s.io/v1/subjectaccessreviews"

_RESOURCE_FIELDS = tuple(ResourceAttributes.__dataclass_fields__)
_PATH_FIELDS = ("verb", "path")


def question(subject: Subject, attributes: Attributes) -> bytes:
    """Return the body of a review, empty fields left out as kubectl does.

    Raises Refused for text that is no Unicode, such as half of a surrogate pair from a token's claim.
    """
    resource = isinstance(attributes, ResourceAttributes)
    names = _RESOURCE_FIELDS if resource else _PATH_FIELDS
    spec: dict[str, Any] = {
        "resourceAttributes" if resource else "nonResourceAttributes": {
            name: value for name in names if (value := getattr(attributes, name))
        }
    }
    if subject.user:
        spec["user"] = subject.user
    if subject.groups:
        spec["groups"] = subject.groups
    if subject.uid:
        spec["uid"] = subject.uid
    if subject.extra:
        spec["extra"] = dict(subject.extra)
    try:
        return orjson.dumps({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec})
    except orjson.JSONEncodeError as error:
        raise Refused("not_unicode", "The identity or the object's name is not valid Unicode.") from error


def review(answer: Answer, attributes: Attributes) -> Review:
    """Read an answer. Raises Unavailable for anything but a complete SubjectAccessReview with a real boolean."""
    try:
        body = orjson.loads(answer.body)
    except orjson.JSONDecodeError as error:
        raise bad_answer() from error
    if not isinstance(body, dict) or body.get("kind") != "SubjectAccessReview":
        raise bad_answer()
    status = body.get("status")
    if not isinstance(status, dict):
        raise bad_answer()
    allowed = _typed(status, "allowed", bool) and not _typed(status, "denied", bool, default=False)
    return Review(
        attributes,
        allowed=allowed,
        reason=_typed(status, "reason", str, default=""),
        evaluation_error=_typed(status, "evaluationError", str, default=""),
    )


def message(answer: Answer) -> str:
    """Return the message of a Kubernetes Status, for the operator's log; empty where there is none."""
    try:
        text = orjson.loads(answer.body)["message"]
    except (orjson.JSONDecodeError, LookupError, TypeError):
        return ""
    return text[:500] if isinstance(text, str) else ""


def bad_answer() -> Unavailable:
    """The error for whatever is not a clear answer."""
    return Unavailable("authorizer_bad_answer", "Access cannot be checked: the API server's answer is unreadable.")


def _typed(status: dict[str, Any], name: str, kind: type, **default: Any) -> Any:
    value = status.get(name, default.get("default"))
    if not isinstance(value, kind):
        raise bad_answer()
    return value
