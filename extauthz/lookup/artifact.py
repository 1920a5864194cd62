"""The owner of an artifact: the namespace that the prefix of its object key names.

Kubeflow Pipelines lays objects out as `private-artifacts/{namespace}/…` and
`private/{namespace}/…`. The prefix is the authority: whatever else a key holds was chosen
by whoever ran the pipeline. Only the layout without such a prefix, of before August 2025,
is told by the run id inside, `v2/artifacts/{pipeline}/{run id}/…`.
"""

from __future__ import annotations

import re

_OWNED = re.compile(r"(?:private-artifacts|private)/([a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?)/")
_OF_RUN = re.compile(r"v2/artifacts/[^/]+/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/")
_DOUBTFUL = re.compile(r"[\\%?#\x00-\x1f\x7f]|(?:^|/)\.{0,2}/|(?:^|/)\.{1,2}\Z")


def namespace_of_key(key: str) -> str | None:
    """Return the namespace that owns an object key, or None where the key does not tell.

    Keys with empty or dot segments, backslashes, control characters or what has a meaning
    in a URL tell nothing: object stores and their clients read them in several ways.
    """
    return _told(_OWNED, key)


def run_of_key(key: str) -> str | None:
    """Return the id of the run that an object key of the older layout belongs to, or None."""
    return _told(_OF_RUN, key)


def _told(layout: re.Pattern[str], key: str) -> str | None:
    told = layout.match(key)
    return told[1] if told and not _DOUBTFUL.search(key) else None
