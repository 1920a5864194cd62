"""Which decisions are told, and to whom: the audit log and the console's memory of recent ones.

Promises: a decision that is not told costs a comparison or two, and nothing that goes wrong
here reaches a decision.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING
from zlib import crc32

from extauthz.decision import Decision, Outcome, Reason
from extauthz.observe.audit import form
from extauthz.observe.audit.mask import Mask
from extauthz.observe.audit.recent import RecentDecisions
from extauthz.observe.audit.writer import AuditWriter
from extauthz.policy import Missing
from extauthz.request import Request

if TYPE_CHECKING:
    from extauthz.gateway import Gateway

_HASHES = 2**32
_SHADOW = Reason.SHADOW.value  # plain text: this is compared for each allow

_logger = logging.getLogger(__name__)


class AuditLog:
    """Tells of the decisions of a gateway. Refusals are all told, allows by their share."""

    def __init__(
        self,
        gateway: Gateway,
        *,
        writer: AuditWriter | None,
        recent: RecentDecisions | None = None,
        allow_share: float = 0.0,
        mask: Mask | None = None,
    ) -> None:
        self._gateway = gateway
        self._writer = writer
        self._recent = recent
        self._below = allow_share * _HASHES
        self._mask = mask or Mask()

    def observe(self, request: Request | None, decision: Decision, seconds: float) -> None:
        """Take note of a decision; `request` is None where none could be read. Never raises."""
        try:
            written = self._writer is not None and self._is_written(request, decision) and self._writer.has_room()
            shown = self._recent is not None and self._recent.wants(decision)
            if written or shown:
                self._tell(request, decision, seconds, written=written, shown=shown)
        except Exception:
            _logger.exception("a decision could not be told to the audit log")

    def observe_repeated(self, decision: Decision, request_id: str, request: Callable[[], Request]) -> None:
        """Take note of an allow that was given again; its request is read only where that is told. Never raises."""
        try:
            written = self._writer is not None and self._is_drawn(request_id) and self._writer.has_room()
            shown = self._recent is not None and self._recent.wants(decision)
            if written or shown:
                self._tell(request(), decision, 0.0, written=written, shown=shown)
        except Exception:
            _logger.exception("a decision could not be told to the audit log")

    def _is_written(self, request: Request | None, decision: Decision) -> bool:
        if decision.outcome is not Outcome.ALLOW or decision.reason == _SHADOW:
            return True
        return self._is_drawn(request.headers.get("x-request-id", "") if request else "")

    def _is_drawn(self, request_id: str) -> bool:
        """Draw by the request id, so that here and in other replicas all or nothing is told of a request."""
        if not self._below:
            return False
        try:
            return crc32(request_id.encode()) < self._below if request_id else random.random() * _HASHES < self._below  # noqa: S311
        except UnicodeEncodeError:
            return True

    def _tell(self, request: Request | None, decision: Decision, seconds: float, *, written: bool, shown: bool) -> None:
        values = self._values(request, decision) if request else {}
        record = form.build(request, decision, seconds=seconds, values=values, mask=self._mask)
        if written and self._writer:
            self._writer.put(record)
        if shown and self._recent:
            self._recent.add(record)

    def _values(self, request: Request, decision: Decision) -> Mapping[str, str | None]:
        rule = self._gateway.policy.find(request) if decision.rule else None
        if rule is None or isinstance(rule, Missing) or rule.ref != decision.rule:
            return {}  # the policy was replaced meanwhile
        return self._gateway.values_beside_target(rule, request, decision)
