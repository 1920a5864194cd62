"""Host names: how a request's is read, and patterns that name a namespace in one.

A pattern is a name, `*.` and a domain, or labels in braces and a domain, such as
`{name}.{namespace}.models.example.com`. Each brace is one whole label, so such a host can be
read in one way only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

PATTERN = r"^(\*\.|(\{[a-z][a-z0-9_]*\}\.)+)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"

_HOST = re.compile(r"([a-z0-9_-]+(?:\.[a-z0-9_-]+)*)\.?(?::[0-9]{1,5})?|(\[[0-9a-f:.]+\])(?::[0-9]{1,5})?", re.A | re.I)
_VARIABLE = re.compile(r"\{([a-z0-9_]+)\}\.")


@dataclass(frozen=True, slots=True)
class HostPattern:
    """A host pattern with labels in braces."""

    variables: tuple[str, ...]
    domain: str

    def label(self, host: str, index: int) -> str | None:
        """Return the label that a variable stands for; None where the host has another number of labels."""
        name = name_of(host) or ""
        labels = name.removesuffix(f".{self.domain}").split(".")
        fits = name.endswith(f".{self.domain}") and len(labels) == len(self.variables)
        return labels[index] if fits else None


def parse(text: str) -> HostPattern:
    """Split a pattern into its variables and its domain; one without variables has only a domain."""
    return HostPattern(tuple(_VARIABLE.findall(text)), _VARIABLE.sub("", text))


def matched(text: str) -> str:
    """Return the name, or `*.` and the domain, of the hosts that a pattern can match."""
    pattern = parse(text)
    return f"*.{pattern.domain}" if pattern.variables else text


def name_of(host: str) -> str | None:
    """Return a host without its port and in lower case, or None where servers could read it in several ways."""
    found = _HOST.fullmatch(host)
    return (found[1] or found[2]).lower() if found else None
