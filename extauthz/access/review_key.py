"""Which questions are the same question.

Promises: two keys are equal exactly when Kubernetes would be sent the same review.
Nothing is concatenated, so no delimiter can be forged; every field of the attributes
takes part, also fields that are added later. How a user logged in, when the credential
ends and which claims it holds are no part of the question.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import fields
from functools import lru_cache
from operator import attrgetter, itemgetter
from typing import Any

from extauthz.review import Attributes, NonResourceAttributes, ResourceAttributes
from extauthz.subject import Subject

_values: dict[type, Callable[[Any], tuple[str, ...]]] = {
    kind: attrgetter(*(field.name for field in fields(kind))) for kind in (ResourceAttributes, NonResourceAttributes)
}


def review_key(subject: Subject, attributes: Attributes) -> Hashable:
    """Return what identifies the review of `attributes` for `subject`.

    Groups are a set to Kubernetes, so their order and repetition do not count. The order
    of one extra's values does, and so does the order of two extras of one name.
    """
    kind = type(attributes)
    extra = subject.extra
    if extra:
        extra = tuple(sorted(extra, key=itemgetter(0)))
    return subject.user, _as_set(subject.groups), subject.uid, extra, kind, *_values[kind](attributes)


def requester_bytes(attributes: Attributes) -> int:
    """Return the UTF-8 size of the parts that the requester chooses.

    Counted as kube-apiserver's webhook authorizer counts before it caches (`shouldCache`).
    """
    return sum(len(value.encode("utf-8", "surrogatepass")) for value in _values[type(attributes)](attributes))


@lru_cache(maxsize=1024)
def _as_set(groups: tuple[str, ...]) -> tuple[str, ...]:
    """Sort and deduplicate; remembered because the groups of one token come with every request.

    Groups that are in order already are returned as they are, so that keys share them with their subject.
    """
    ordered = tuple(sorted(set(groups)))
    return groups if ordered == groups else ordered
