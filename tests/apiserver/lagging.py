"""RBAC answers that lag behind the store, as a real API server's own informers do."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable

from extauthz.review import Attributes, Review
from extauthz.subject import Subject
from tests.apiserver.evaluation import RbacEvaluator
from tests.apiserver.store import Event


class Lagging:
    """An evaluator that learns of each change `lag_seconds` after it; with `MANUAL`, only from `settle`."""

    MANUAL = math.inf

    def __init__(self, evaluator: RbacEvaluator, clock: Callable[[], float] = time.monotonic) -> None:
        self.lag_seconds = 0.0
        self.clock = clock
        self._evaluator = evaluator
        self._ahead: deque[tuple[float, Event]] = deque()

    def follow(self, event: Event) -> None:
        self._ahead.append((self.clock() + self.lag_seconds, event))

    def settle(self, count: int | None = None) -> int:
        """Catch up with all changes, or the oldest few; return how many there were."""
        taken = 0
        while self._ahead and (count is None or taken < count):
            self._evaluator.follow(self._ahead.popleft()[1])
            taken += 1
        return taken

    def review(self, subject: Subject, attributes: Attributes) -> Review:
        while self._ahead and self._ahead[0][0] <= self.clock():
            self.settle(1)
        return self._evaluator.review(subject, attributes)
