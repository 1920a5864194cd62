"""The last decisions, newest first, as a reader wants them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields

from extauthz.observe.audit.recent import Numbered
from extauthz.observe.audit.record import AuditRecord, ReviewRecord
from extauthz.review import qualified

MAX_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Filter:
    """Which decisions to show; what is empty selects nothing."""

    q: str = ""
    outcome: str = ""
    user: str = ""
    namespace: str = ""
    rule: str = ""

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Filter:
        """Read a filter from a query."""
        return cls(**{field.name: query.get(field.name, "").strip() for field in fields(cls)})

    def takes(self, record: AuditRecord) -> bool:
        """Whether a record is to be shown."""
        return (
            (not self.outcome or self.outcome == outcome(record))
            and self.user.lower() in record.get("user", {}).get("username", "").lower()
            and (not self.namespace or self.namespace in namespaces(record))
            and (not self.rule or self.rule == record.get("rule", {}).get("name"))
            and all(word in _text(record) for word in self.q.lower().split())
        )


def newest(records: Iterable[Numbered], wanted: Filter) -> list[Numbered]:
    """Return the newest records that a filter takes, at most MAX_SHOWN."""
    return [numbered for numbered in reversed(list(records)) if wanted.takes(numbered[1])][:MAX_SHOWN]


def outcome(record: AuditRecord) -> str:
    """Return how a decision ended, a shadow's allow apart."""
    return "shadow" if record.get("shadow") else record["decision"]


def namespaces(record: AuditRecord) -> list[str]:
    """Return the namespaces in which rights were asked for."""
    return list(dict.fromkeys(review["namespace"] for review in record.get("reviews", ()) if "namespace" in review))


def right(review: ReviewRecord) -> str:
    """Say which right a review asked for."""
    if "path" in review:
        return f"{review['verb']} {review['path']}"
    kind = qualified(review.get("resource", ""), review.get("group", ""), review.get("subresource", ""))
    return " ".join(filter(None, (review["verb"], kind, review.get("name"))))


def _text(record: AuditRecord) -> str:
    parts = (record.get(key, "") for key in ("method", "host", "target", "message", "reason", "requestID", "traceID"))
    return " ".join(map(str, parts)).lower()
