"""SubjectAccessReview and TokenReview of the test API server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from extauthz.review import Attributes, NonResourceAttributes, ResourceAttributes, Review
from extauthz.subject import Subject
from tests.apiserver.api import StatusError
from tests.apiserver.tokens import SERVER_AUDIENCE, Account

_TEXTS = ("namespace", "verb", "group", "version", "resource", "subresource", "name")


def question(body: Mapping[str, Any]) -> tuple[Subject, Attributes]:
    """Read a SubjectAccessReview as strictly as kube-apiserver does. Raises StatusError 400 or 422."""
    spec = _typed(body.get("spec", {}), dict)
    user, groups = _typed(spec.get("user", ""), str), _texts(spec.get("groups", []))
    extra = _typed(spec.get("extra", {}), dict)
    if not user and not groups:
        raise StatusError(422, "Invalid", "at least one of user or group must be specified")
    resource, other = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if (resource is None) == (other is None):
        raise StatusError(
            422, "Invalid", "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        )
    attributes: Attributes
    if resource is not None:
        attributes = ResourceAttributes(**{name: _typed(resource.get(name, ""), str) for name in _TEXTS})
    else:
        attributes = NonResourceAttributes(_typed(other.get("verb", ""), str), _typed(other.get("path", ""), str))
    pairs = tuple((key, tuple(_texts(values))) for key, values in extra.items())
    return Subject(user, tuple(groups), _typed(spec.get("uid", ""), str), pairs), attributes


def answered(body: Mapping[str, Any], review: Review) -> dict[str, Any]:
    """Return the SubjectAccessReview with its status, empty fields left out."""
    status: dict[str, Any] = {"allowed": review.allowed}
    if review.reason:
        status["reason"] = review.reason
    if review.evaluation_error:
        status["evaluationError"] = review.evaluation_error
    return {**body, "metadata": {"creationTimestamp": None}, "status": status}


def token_review(body: Mapping[str, Any], accounts: Mapping[str, Account]) -> dict[str, Any]:
    """Answer a TokenReview. Raises StatusError 400 for an empty token."""
    spec = _typed(body.get("spec", {}), dict)
    token, asked = _typed(spec.get("token", ""), str), _texts(spec.get("audiences", [])) or [SERVER_AUDIENCE]
    if not token:
        raise StatusError(400, "BadRequest", "token is required for TokenReview in authentication")
    account = accounts.get(token)
    shared = [audience for audience in asked if account and audience in account.audiences]
    if account is None or not shared:
        return {**body, "status": {"user": {}, "error": "token audiences are invalid" if account else "invalid token"}}
    user = {"username": account.user, "uid": account.uid, "groups": list(account.groups)}
    return {**body, "status": {"authenticated": True, "user": user, "audiences": shared}}


def _typed(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise StatusError(400, "BadRequest", f"cannot unmarshal {value!r} into {kind.__name__}")
    return value


def _texts(value: Any) -> list[str]:
    return [_typed(item, str) for item in _typed(value if value is not None else [], list)]
