"""Questions and answers as JSON lines, put to a cluster: `extauthz review --live`.

The spec of a line is sent as it stands, so the API server itself judges it, selectors
included. Answers keep the order of the lines, and only so many are asked at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import suppress
from typing import Any

import orjson

from extauthz.access.kubernetes import wire
from extauthz.access.kubernetes.connection import Answer, Connection, Disconnected, TimedOut, Untrusted
from extauthz.access.rbac import fields
from extauthz.errors import ConfigurationError, Problem, Unavailable
from extauthz.review import NonResourceAttributes

CONCURRENT = 16
TRIES = 3
PAUSE_SECONDS = 0.2
MAX_PAUSE_SECONDS = 5
TIMEOUT_SECONDS = 10

_ASKED = NonResourceAttributes("", "")
"""Stands for what was asked, which only the line itself says in full."""
_HINTS = {
    401: "the API server does not accept the credentials; log in anew, or name another --context",
    403: "this user may not create SubjectAccessReviews; bind ClusterRole system:auth-delegator to it",
    404: "this is no kube-apiserver: it does not serve authorization.k8s.io/v1",
}


async def answers(connection: Connection, lines: Iterable[bytes]) -> AsyncGenerator[dict[str, Any]]:
    """Yield one answer per line of the form `{"id": …, "spec": …}`; blank lines are skipped.

    A line that the API server refuses or does not answer gets an answer with `error`, and the rest goes
    on. Raises ConfigurationError where no line could be answered: the server is out of reach or refuses us.
    """
    pending: deque[asyncio.Task[dict[str, Any]]] = deque()
    try:
        for number, line in enumerate(lines, 1):
            if not line.isspace():
                pending.append(asyncio.create_task(_answer(connection, line, number)))
            if len(pending) >= CONCURRENT:
                yield await pending.popleft()
        while pending:
            yield await pending.popleft()
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)


async def _answer(connection: Connection, line: bytes, number: int) -> dict[str, Any]:
    identifier = None
    try:
        data = orjson.loads(line)
        if not isinstance(data, dict):
            raise fields.Undecodable(f"expected an object, found {fields.kind_of(data)}")
        identifier = data.get("id")
        return {"id": identifier, **await _ask(connection, fields.object_(data, "spec"))}
    except (Disconnected, Untrusted) as error:
        place = connection.credentials.url
        raise ConfigurationError(Problem(f"{error.message}: {place}", hint="is it the right --context?")) from error
    except Unavailable as error:
        return {"id": identifier, "line": number, "error": error.message}
    except ValueError as error:
        return {"id": identifier, "line": number, "error": str(error)}


async def _ask(connection: Connection, spec: Mapping[str, Any]) -> dict[str, Any]:
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
    answer = await _exchange(connection, orjson.dumps(review))
    if answer.status in _HINTS:
        said = wire.message(answer)
        raise ConfigurationError(Problem(f"HTTP {answer.status}: {said!r}", hint=_HINTS[answer.status]))
    if answer.status not in (200, 201):
        raise ValueError(f"HTTP {answer.status}: {wire.message(answer)}")
    status = wire.review(answer, _ASKED)
    told = {"allowed": status.allowed, "reason": status.reason}
    return {**told, "evaluationError": status.evaluation_error} if status.evaluation_error else told


async def _exchange(connection: Connection, body: bytes) -> Answer:
    """Ask, and ask again where that may help. Raises Unavailable."""
    for _ in range(TRIES - 1):
        wait = PAUSE_SECONDS
        with suppress(Disconnected, TimedOut):
            answer = await _post(connection, body)
            if answer.status != 429 and answer.status < 500:
                return answer
            wait = min(max(wait, answer.retry_after), MAX_PAUSE_SECONDS)
        await asyncio.sleep(wait)
    return await _post(connection, body)


async def _post(connection: Connection, body: bytes) -> Answer:
    return await connection.request("POST", wire.PATH, body=body, timeout=TIMEOUT_SECONDS)
