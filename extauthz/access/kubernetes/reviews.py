"""The authorizer `kubernetes`: each review is a SubjectAccessReview.

Promises: every call ends by its deadline; what is under way and what waits is bounded, in
all and per user; a failing API server is not asked again and again; and whatever is not
one clear answer is Unavailable, never an allow. Only connection errors, 429 and 5xx are
asked again: a review has no side effect. An API server that refuses extauthz itself (401,
403, 404, 422) is a mistake in the installation: it is logged once, with the way to mend it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from extauthz import settings
from extauthz.access.kubernetes import wire
from extauthz.access.kubernetes.breaker import Breaker, State
from extauthz.access.kubernetes.connection import Answer, Connection, Disconnected, TimedOut, Untrusted
from extauthz.errors import Unavailable
from extauthz.limiter import Limiter
from extauthz.review import Attributes, Review
from extauthz.subject import Subject

FIRST_PAUSE_SECONDS = 0.05
REFUSED_PAUSE_SECONDS = 1.0
"""After 401 or 403 one review is asked in this time, for these are about us and would meet all others, too."""
FAIR_SHARE = 0.5
"""The part of the deadline that a request must have had before its timeout counts as the API server's failure."""
_DELEGATE = (
    "kubectl create clusterrolebinding extauthz-auth-delegator --clusterrole=system:auth-delegator"
    " --serviceaccount=NAMESPACE:NAME"
)
_MISTAKES = {
    401: "the API server does not accept extauthz's own credentials; mount a current ServiceAccount token",
    403: "extauthz may not create SubjectAccessReviews; bind ClusterRole system:auth-delegator to its"
    f" ServiceAccount: {_DELEGATE}",
    404: "the API server does not serve authorization.k8s.io/v1; name a kube-apiserver in the kubeconfig",
    422: "the API server finds extauthz's SubjectAccessReview invalid; use a supported Kubernetes version",
}
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class ReviewCounts:
    """What has happened since the start."""

    sent: int = 0
    retried: int = 0
    answered: int = 0
    failed: int = 0
    """Ended without an answer, for whatever reason."""


class KubernetesAuthorizer:
    """Asks the API server.

    `clock` is monotonic, in seconds. `tell` is told False when reviews get no answers any
    more (the circuit breaker opens), and True when they do again.
    """

    def __init__(
        self,
        connection: Connection,
        limits: settings.KubernetesAuthorizer,
        *,
        clock: Callable[[], float] = time.monotonic,
        tell: Callable[[bool], None] = lambda answered: None,
    ) -> None:
        self.counts = ReviewCounts()
        self.breaker = Breaker(clock=clock, tell=tell)
        self.limiter = Limiter(
            concurrent=limits.max_concurrent_reviews,
            queued=limits.max_queued_reviews,
            per_user=limits.max_reviews_per_user,
            full=partial(_unavailable, "authorizer_overloaded", "too many checks are waiting"),
        )
        self._connection = connection
        self._timeout = limits.timeout_seconds
        self._clock = clock
        self._mistake: _Mistake | None = None
        self._refused_until = 0.0
        self._evaluation_error = ""

    async def review(self, subject: Subject, attributes: Attributes) -> Review:
        """Ask whether a subject has a right. Raises Unavailable, or Refused for text that is no Unicode."""
        deadline = asyncio.get_running_loop().time() + self._timeout
        body = wire.question(subject, attributes)
        try:
            self._check()
            async with self.limiter.slot(subject.user, deadline):
                answer = await self._ask(body, deadline)
            review = self._read(answer, attributes)
        except TimeoutError:
            self.counts.failed += 1
            raise _unavailable("authorizer_timeout", "too many checks are waiting") from None
        except Unavailable:
            self.counts.failed += 1
            raise
        self.counts.answered += 1
        return review

    def problems(self) -> list[str]:
        """Return what an operator must mend, for health; empty when reviews work."""
        problems = [self._mistake.text] if self._mistake else []
        if self.breaker.state is not State.CLOSED:
            problems.append(
                "the API server does not answer reviews; one is tried every second,"
                " and kept answers are believed no longer than without a watch"
            )
        return problems

    def _check(self) -> None:
        """Raise Unavailable where asking is known to be of no use. After a refusal of ours one passes at a time."""
        self.breaker.check()
        if self._refused_until:
            now = self._clock()
            if now < self._refused_until:
                raise _misconfigured()
            self._refused_until = now + REFUSED_PAUSE_SECONDS

    async def _ask(self, body: bytes, deadline: float) -> Answer:
        """Ask until there is an answer that asking again would not change. Raises Unavailable."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                with self.breaker.attempt():
                    return await self._exchange(body, deadline)
            except _Again as again:
                wait = max(pause * random.uniform(0.5, 1), again.wait)  # noqa: S311 (jitter)
                if asyncio.get_running_loop().time() + wait >= deadline:
                    raise
            self.counts.retried += 1
            await asyncio.sleep(wait)
            pause *= 2

    async def _exchange(self, body: bytes, deadline: float) -> Answer:
        """Ask once; a connection that the server was just closing is replaced without notice."""
        try:
            answer = await self._post(body, deadline)
        except Disconnected:
            self.counts.retried += 1
            try:
                answer = await self._post(body, deadline)
            except Disconnected as error:
                raise _Again(0) from error
        if answer.status == 429 or answer.status >= 500:
            raise _Again(answer.retry_after)
        return answer

    async def _post(self, body: bytes, deadline: float) -> Answer:
        self.counts.sent += 1
        left = max(0.001, deadline - asyncio.get_running_loop().time())
        try:
            return await self._connection.request("POST", wire.PATH, body=body, timeout=left)
        except TimedOut as error:
            if left < self._timeout * FAIR_SHARE:
                raise TimeoutError from error  # waiting for a slot took the time, which proves nothing
            raise _unavailable("authorizer_timeout", "the API server did not answer in time") from error
        except Untrusted as error:
            raise _unavailable("authorizer_untrusted", "the API server's certificate is not trusted") from error

    def _read(self, answer: Answer, attributes: Attributes) -> Review:
        if answer.status in _MISTAKES:
            self._note_mistake(answer)
            raise _misconfigured()
        if answer.status not in (200, 201):
            raise wire.bad_answer()
        review = wire.review(answer, attributes)
        if self._mistake:
            _log.info("reviews work again")
            self._mistake = None
            self._refused_until = 0.0
        if review.evaluation_error not in ("", self._evaluation_error):
            self._evaluation_error = review.evaluation_error
            _log.warning("the API server could not evaluate everything: %r", review.evaluation_error[:500])
        return review

    def _note_mistake(self, answer: Answer) -> None:
        ours = answer.status in (401, 403)  # 422 may be about one question alone
        self._refused_until = self._clock() + REFUSED_PAUSE_SECONDS if ours else 0.0
        if self._mistake and self._mistake.status == answer.status:
            return
        text = f"{_MISTAKES[answer.status]} (it said: {wire.message(answer)!r})"
        self._mistake = _Mistake(answer.status, text)
        _log.error("every request that needs a review is refused: %s", text)


@dataclass(frozen=True, slots=True)
class _Mistake:
    """Why the API server refuses extauthz itself."""

    status: int
    text: str


class _Again(Unavailable):
    """Asking again may help, after `wait` seconds at the least."""

    def __init__(self, wait: float) -> None:
        self.wait = wait
        super().__init__(
            "authorizer_unavailable",
            "Access cannot be checked: the API server is failing.",
            retry_after=max(1, math.ceil(wait)),
        )


def _misconfigured() -> Unavailable:
    return _unavailable("authorizer_misconfigured", "the API server refuses the question itself")


def _unavailable(reason: str, why: str) -> Unavailable:
    return Unavailable(reason, f"Access cannot be checked: {why}.")
