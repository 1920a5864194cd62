"""A circuit breaker: when the API server keeps failing, ask it once a second instead of always.

Closed, it counts failures in a row; at the limit it opens and refuses at once. After
`open_seconds` one attempt at a time may pass as a probe: its success closes the circuit,
its failure opens it anew. An attempt that was cancelled proves nothing and frees the probe.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum

from extauthz.errors import Unavailable

FAILURES_TO_OPEN = 5
OPEN_SECONDS = 1.0


class State(StrEnum):
    """What the breaker does with the next attempt."""

    CLOSED = "closed"
    HALF_OPEN = "half_open"
    OPEN = "open"


class Breaker:
    """Guards attempts; `clock` is monotonic, in seconds. `tell` is told False when it opens and True when it closes."""

    def __init__(
        self,
        *,
        failures: int = FAILURES_TO_OPEN,
        open_seconds: float = OPEN_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        tell: Callable[[bool], None] = lambda closed: None,
    ) -> None:
        self._tell = tell
        self._limit = failures
        self._open_seconds = open_seconds
        self._clock = clock
        self._failures = 0
        self._retry_at = 0.0
        self._probe: object | None = None

    @property
    def state(self) -> State:
        """What the next attempt would meet."""
        if self._failures < self._limit:
            return State.CLOSED
        return State.OPEN if self._clock() < self._retry_at or self._probe else State.HALF_OPEN

    def check(self) -> None:
        """Raise Unavailable where an attempt would not be let through."""
        if self.state is State.OPEN:
            wait = max(1, math.ceil(self._retry_at - self._clock()))
            raise Unavailable(
                "authorizer_unavailable", "Access cannot be checked: the API server is failing.", retry_after=wait
            )

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Let one attempt through and learn from it: Unavailable is a failure. Raises Unavailable when open."""
        self.check()
        ticket = object()
        if self.state is State.HALF_OPEN:
            self._probe = ticket
        try:
            yield
        except Unavailable:
            self._failed(ticket)
            raise
        else:
            self._succeeded()
        finally:
            if self._probe is ticket:
                self._probe = None

    def _succeeded(self) -> None:
        was_open = self._failures >= self._limit
        self._failures = 0
        if was_open:
            self._tell(True)

    def _failed(self, ticket: object) -> None:
        """Count a failure. One that began before the circuit opened does not keep it open longer."""
        was_closed = self._failures < self._limit
        self._failures += 1
        opens = was_closed and self._failures >= self._limit
        if opens or self._probe is ticket:
            self._retry_at = self._clock() + self._open_seconds
        if opens:
            self._tell(False)
