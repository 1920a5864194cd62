"""What doctor finds: what is wrong, where, what comes of it, and the fix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from extauthz.doctor.manifests import Manifest

Severity = Literal["critical", "warning"]
"""`critical` refuses everything, or lets somebody in; `warning` is weaker than it should be."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault of an installation; `check` names its kind and never changes."""

    check: str
    severity: Severity
    where: Manifest | None
    what: str
    fix: str

    def fields(self) -> dict[str, object]:
        """Return it as plain data, for JSON."""
        return {
            "check": self.check,
            "severity": self.severity,
            "object": str(self.where) if self.where else None,
            "file": self.where.file if self.where else None,
            "line": self.where.line if self.where else None,
            "what": self.what,
            "fix": self.fix,
        }

    def text(self) -> str:
        """Return it in words, for people."""
        place = f"  {self.where.place}" if self.where else ""
        return f"{self.severity.upper()}  {self.check}{place}\n  What: {self.what}\n  Fix:  {self.fix}"


def critical(check: str, where: Manifest | None, what: str, fix: str) -> Finding:
    """Return a fault that refuses everything, or lets somebody in."""
    return Finding(check, "critical", where, what, fix)


def warning(check: str, where: Manifest | None, what: str, fix: str) -> Finding:
    """Return a fault that makes something weaker than it should be."""
    return Finding(check, "warning", where, what, fix)
