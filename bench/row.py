"""What every scenario returns: rows of one form, and gates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Row:
    """One measurement. Times in microseconds, memory in MB; what a scenario does not measure is None."""

    scenario: str
    server: str
    cpu_us: float | None = None
    """CPU of the server per check: user and system, all threads."""
    p50_us: float | None = None
    p99_us: float | None = None
    p999_us: float | None = None
    per_core: float | None = None
    """Checks per second that one core does at this cost."""
    rss_mb: float | None = None
    ratio: float | None = None
    """CPU beside the no-op of the same protocol, load and run: the median of the rounds' ratios."""
    p99_ratio: float | None = None
    errors: int = 0
    """Requests that were not answered with an allow."""
    more: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return what is there."""
        return {name: value for name, value in asdict(self).items() if value not in (None, {})}


Sections = dict[str, Callable[[], list[Row]]]
"""What a run measures, one after the other, by name."""


@dataclass(frozen=True)
class Gate:
    """A limit that must hold."""

    name: str
    value: float | None
    """None where it could not be measured, which is no success."""
    limit: float
    note: str = ""

    @property
    def ok(self) -> bool:
        """Whether it holds."""
        return self.value is not None and self.value <= self.limit

    def to_json(self) -> dict[str, Any]:
        """Return it as the summary has it."""
        value = None if self.value is None else round(self.value, 3)
        told = {"name": self.name, "value": value, "limit": self.limit, "ok": self.ok}
        return {**told, "note": self.note} if self.note else told
