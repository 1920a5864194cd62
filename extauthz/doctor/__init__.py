"""Finds what is wrong with an installation: the faults that refuse everything, or open it.

Each module looks at one family of them. What is not among the objects is not known, and nothing
is said of it.
"""

from __future__ import annotations

from collections.abc import Iterable

from extauthz.doctor import configured, policies, providers, reach, rights
from extauthz.doctor.finding import Finding as Finding
from extauthz.doctor.installation import Installation
from extauthz.doctor.manifests import Manifest

_FAMILIES = (providers, policies, reach, rights, configured)


def examine(objects: Iterable[Manifest]) -> list[Finding]:
    """Return the faults of an installation, the critical ones first."""
    installation = Installation(objects)
    found = [finding for family in _FAMILIES for finding in family.examine(installation)]
    return sorted(dict.fromkeys(found), key=lambda finding: finding.severity)
