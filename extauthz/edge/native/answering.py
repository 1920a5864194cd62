"""From a request to its answer, alike for all native edges: at once where the decision is, awaited where it is not.

Whatever fails becomes a refusal: an error on the wire would be an allow under failOpen.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from extauthz.basis import NotedHeaders
from extauthz.decision import Decision
from extauthz.edge.asked import Asked
from extauthz.edge.native.memory import Key, Keys, Memory
from extauthz.errors import ExtauthzError, Unavailable
from extauthz.gateway import Gateway
from extauthz.request import Request

MAX_PREPARED = 1024
MAX_PREPARED_CHARACTERS = 1024
"""Allows with longer headers are written anew each time."""

AskedT = TypeVar("AskedT", bound=Asked)
Answer = TypeVar("Answer")

_logger = logging.getLogger(__name__)


class Answering(Generic[AskedT, Answer]):
    """Decides what is asked in an edge's own form.

    `read` makes a request of it, or raises Refused; `render` writes a decision. Allows with the
    same headers, removals and cookies are written once, so nothing else of them may be written.
    `keys` tell which requests are the same; those are decided once while their answer stands.
    """

    def __init__(
        self,
        gateway: Gateway,
        *,
        keys: Keys[AskedT],
        read: Callable[[AskedT], Request],
        render: Callable[[Decision, Request | None], Answer],
    ) -> None:
        self._gateway = gateway
        self._read = read
        self._render = render
        self._keys = keys
        self._memory: Memory[AskedT, Answer] = Memory(keys)
        self._prepared: dict[object, Answer] = {}

    def answer(self, asked: AskedT, seconds: float | None = None) -> Answer | Awaitable[Answer]:
        """Answer, within `seconds` where something must be waited for. Neither this nor its awaitable raises."""
        key = self._keys.of(asked)
        if key is not None:
            request_id = asked.headers.get("x-request-id", "")
            known = self.recall(key, request_id, lambda: self._read(asked))
            if known is not None:
                return known
        return self.decide(asked, seconds)

    def recall(self, key: Key, request_id: str, request: Callable[[], Request]) -> Answer | None:
        """Return the answer to the request with this key, if one is remembered and stands.

        `request_id` is Envoy's, or empty; `request` reads the request. Never raises.
        """
        kept = self._memory.get(key)
        if kept is None:
            return None
        try:
            return kept[1] if self._gateway.repeat(kept[0], request_id, request) else None
        except Exception:
            _logger.exception("an answer could not be given again; the request is decided anew")
            return None

    def decide(self, asked: AskedT, seconds: float | None = None) -> Answer | Awaitable[Answer]:
        """Answer as `answer` does, without looking into the memory."""
        request = None
        try:
            if not asked.content:
                asked.headers = NotedHeaders(asked.headers)
            request = self._read(asked)
            decision = self._gateway.decide(request)
            if isinstance(decision, Decision):
                return self._write(asked, decision, request)
        except Exception as error:  # noqa: BLE001 -- whatever fails is a refusal
            return self.refuse(error, request)
        return self._wait(asked, decision, request, seconds)

    def refuse(self, error: Exception, request: Request | None = None) -> Answer:
        """Write the refusal that an error becomes."""
        if isinstance(error, ExtauthzError):
            return self._render(self._gateway.refuse(error), request)
        _logger.error("a check failed; the request is refused", exc_info=error)
        return self._render(self._gateway.refuse(ExtauthzError()), None)

    def _write(self, asked: AskedT, decision: Decision, request: Request) -> Answer:
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
        self._memory.keep(asked, decision, answer)
        return answer

    async def _wait(
        self, asked: AskedT, decision: Awaitable[Decision], request: Request, seconds: float | None
    ) -> Answer:
        try:
            async with asyncio.timeout(seconds):
                return self._write(asked, await decision, request)
        except TimeoutError:
            return self.refuse(
                Unavailable("deadline_exceeded", "The check took longer than the caller waits."), request
            )
        except Exception as error:  # noqa: BLE001 -- whatever fails is a refusal
            return self.refuse(error, request)
