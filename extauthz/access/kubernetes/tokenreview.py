"""Whose a Kubernetes token is, by TokenReview.

An answer counts only where it is clear: authenticated, with a user, and for an audience that
was asked for, since an API server that knows no audiences would answer for any. Whatever
else comes is Unavailable, never a user.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from extauthz.access.kubernetes.connection import Answer, Connection, Disconnected
from extauthz.errors import Unavailable
from extauthz.settings.identity import TokenReviewSettings
from extauthz.subject import Subject

PATH = "/apis/authentication.k8s.io/v1/tokenreviews"

_log = logging.getLogger(__name__)


class TokenReviews:
    """Asks an API server. Satisfies `extauthz.identity.review.TokenReviewer`."""

    def __init__(self, settings: TokenReviewSettings, *, kubeconfig: Path | None) -> None:
        """Take the settings; nothing is connected yet."""
        self._settings = settings
        self._kubeconfig = kubeconfig
        self._connection: Connection | None = None
        self._status = 0

    async def start(self) -> None:
        """Read the credentials. Raises ConfigurationError where there are none."""
        settings = self._settings
        self._connection = await Connection.open(
            kubeconfig=self._kubeconfig, context=settings.context, max_connections=settings.max_concurrent
        )

    async def stop(self) -> None:
        """Close all connections."""
        if self._connection is not None:
            await self._connection.close()

    async def review(self, token: str, audiences: Sequence[str]) -> Subject | None:
        """Return the subject of a token that is meant for one of `audiences`, or None. Raises Unavailable."""
        if self._connection is None:
            raise _unavailable("the API server is not connected")
        spec = {"token": token, "audiences": list(audiences)}
        body = orjson.dumps({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec})
        answer = await self._ask(self._connection, body)
        if answer.status not in (200, 201):
            self._note(answer)
            raise _unavailable("the API server refuses the question")
        self._status = 0
        return _subject(answer, audiences)

    async def _ask(self, connection: Connection, body: bytes) -> Answer:
        """Ask, and once more where the server was just closing the connection."""
        timeout = self._settings.timeout_seconds
        try:
            return await connection.request("POST", PATH, body=body, timeout=timeout)
        except Disconnected:
            return await connection.request("POST", PATH, body=body, timeout=timeout)

    def _note(self, answer: Answer) -> None:
        if answer.status != self._status:
            self._status = answer.status
            advice = "; bind ClusterRole system:auth-delegator to extauthz's ServiceAccount" * (answer.status == 403)
            _log.error("Kubernetes tokens cannot be checked: HTTP %d%s", answer.status, advice)


def _subject(answer: Answer, audiences: Sequence[str]) -> Subject | None:
    try:
        review = orjson.loads(answer.body)
        status = review["status"]
        if review["kind"] != "TokenReview":
            raise _unreadable()
        if status.get("authenticated", False) is not True:
            return None
        if not set(audiences).intersection(_texts(status["audiences"])):
            return None
        return _user(status["user"])
    except (orjson.JSONDecodeError, LookupError, TypeError, AttributeError) as error:
        raise _unreadable() from error


def _user(user: dict[str, Any]) -> Subject:
    name, uid, extra = user["username"], user.get("uid", ""), user.get("extra", {})
    if not isinstance(name, str) or not name or not isinstance(uid, str):
        raise _unreadable()
    pairs = tuple(sorted((key, tuple(_texts(values))) for key, values in extra.items()))
    return Subject.authenticated(name, tuple(_texts(user.get("groups", []))), uid=uid, extra=pairs)


def _texts(values: Any) -> list[str]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise _unreadable()
    return values


def _unreadable() -> Unavailable:
    return _unavailable("the API server's answer is unreadable")


def _unavailable(why: str) -> Unavailable:
    return Unavailable("token_review_unavailable", f"The token cannot be checked: {why}.")
