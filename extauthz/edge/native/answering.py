"""From a request to its answer, alike for all native edges: at once where the decision is, awaited where it is not.

Whatever fails becomes a refusal: an error on the wire would be an allow under failOpen.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from extauthz.decision import Decision
from extauthz.errors import ExtauthzError, Unavailable
from extauthz.gateway import Gateway
from extauthz.request import Request

MAX_PREPARED = 1024
MAX_PREPARED_CHARACTERS = 1024
"""Allows with longer headers are written anew each time."""

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")

_logger = logging.getLogger(__name__)


class Answering(Generic[Asked, Answer]):
    """Decides what is asked in an edge's own form.

    `read` makes a request of it, or raises Refused; `render` writes a decision. Allows with the
    same headers, removals and cookies are written once, so nothing else of them may be written.
    """

    def __init__(
        self,
        gateway: Gateway,
        *,
        read: Callable[[Asked], Request],
        render: Callable[[Decision, Request | None], Answer],
    ) -> None:
        self._gateway = gateway
        self._read = read
        self._render = render
        self._prepared: dict[object, Answer] = {}

    def answer(self, asked: Asked, seconds: float | None = None) -> Answer | Awaitable[Answer]:
        """Answer, within `seconds` where something must be waited for. Neither this nor its awaitable raises."""
        request = None
        try:
            request = self._read(asked)
            decision = self._gateway.decide(request)
            if isinstance(decision, Decision):
                return self._write(decision, request)
        except Exception as error:  # noqa: BLE001 -- whatever fails is a refusal
            return self.refuse(error, request)
        return self._wait(decision, request, seconds)

    def refuse(self, error: Exception, request: Request | None = None) -> Answer:
        """Write the refusal that an error becomes."""
        if isinstance(error, ExtauthzError):
            return self._render(self._gateway.refuse(error), request)
        _logger.error("a check failed; the request is refused", exc_info=error)
        return self._render(self._gateway.refuse(ExtauthzError()), None)

    def _write(self, decision: Decision, request: Request) -> Answer:
        if not decision.allowed:
            return self._render(decision, request)
        key = decision.headers, decision.remove, decision.cookies
        answer = self._prepared.get(key)
        if answer is None:
            answer = self._render(decision, None)
            if sum(len(value) for _, value in decision.headers) <= MAX_PREPARED_CHARACTERS and not decision.cookies:
                if len(self._prepared) >= MAX_PREPARED:
                    self._prepared.clear()
                self._prepared[key] = answer
        return answer

    async def _wait(self, decision: Awaitable[Decision], request: Request, seconds: float | None) -> Answer:
        try:
            async with asyncio.timeout(seconds):
                return self._write(await decision, request)
        except TimeoutError:
            return self.refuse(
                Unavailable("deadline_exceeded", "The check took longer than the caller waits."), request
            )
        except Exception as error:  # noqa: BLE001 -- whatever fails is a refusal
            return self.refuse(error, request)
