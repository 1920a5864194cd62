"""The owner of an artifact: the namespace that the prefix of its object key names.

Kubeflow Pipelines lays objects out as `private-artifacts/{namespace}/…` and
`private/{namespace}/…`. The prefix is the authority: whatever else a key holds was chosen
by whoever ran the pipeline.
"""

from __future__ import annotations

import re

_OWNED = re.compile(r"(?:private-artifacts|private)/([a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?)/")


def namespace_of_key(key: str) -> str | None:
    """Return the namespace that owns an object key, or None where the key does not tell.

    Keys with empty or dot segments, backslashes or percent signs tell nothing: object
    stores and their clients read them in several ways.
    """
    if "\\" in key or "%" in key or any(part in ("", ".", "..") for part in key.split("/")[:-1]):
        return None
    if key.rpartition("/")[2] in (".", ".."):
        return None
    owned = _OWNED.match(key)
    return owned[1] if owned else None
