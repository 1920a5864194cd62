"""SubjectAccessReview and TokenReview of the test API server."""

from __future__ import annotations

from collections.abc import Mapping

from extauthz.access.rbac import fields, spec
from extauthz.review import Review
from tests.apiserver.api import StatusError
from tests.apiserver.store import Object
from tests.apiserver.tokens import SERVER_AUDIENCE, Account


def question(body: Object) -> spec.Question:
    """Read a SubjectAccessReview. Raises StatusError 400 or 422."""
    try:
        return spec.read(fields.object_(body, "spec"))
    except fields.Undecodable as error:
        raise StatusError(400, "BadRequest", str(error)) from None
    except fields.Unacceptable as error:
        raise StatusError(422, "Invalid", str(error)) from None


def answered(body: Object, review: Review, evaluation_error: str) -> Object:
    """Return the SubjectAccessReview with its status, empty fields left out."""
    status: Object = {"allowed": review.allowed}
    if review.reason:
        status["reason"] = review.reason
    if evaluation_error:
        status["evaluationError"] = evaluation_error
    return {**body, "metadata": {"creationTimestamp": None}, "status": status}


def token_review(body: Object, accounts: Mapping[str, Account]) -> Object:
    """Answer a TokenReview. Raises StatusError 400 for an empty token."""
    try:
        asked_for = fields.object_(body, "spec")
        token, asked = fields.text(asked_for, "token"), fields.texts(asked_for, "audiences") or (SERVER_AUDIENCE,)
    except fields.Undecodable as error:
        raise StatusError(400, "BadRequest", str(error)) from None
    if not token:
        raise StatusError(400, "BadRequest", "token is required for TokenReview in authentication")
    account = accounts.get(token)
    shared = [audience for audience in asked if account and audience in account.audiences]
    if account is None or not shared:
        return {**body, "status": {"user": {}, "error": "token audiences are invalid" if account else "invalid token"}}
    user = {"username": account.user, "uid": account.uid, "groups": list(account.groups)}
    return {**body, "status": {"authenticated": True, "user": user, "audiences": shared}}
