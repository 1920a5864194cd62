"""When did something last change that could alter an answer?

One counter, the epoch, rises with every RBAC event; each scope remembers the epoch and
the time of its last event. An answer is dead once a scope that it rests on has an event
younger than the moment its review was sent. So an answer needs to remember one number,
and ten thousand events cost ten thousand additions.

Which scopes an answer rests on, and why that is all of them (Kubernetes' RBAC authorizer
visits the ClusterRoleBindings, then the RoleBindings of the attributes' namespace, and
reads the roles of those whose subjects match the user):

- A Role or RoleBinding is read only for attributes in its own namespace: the scope is
  that namespace. A RoleBinding cannot name a Role of another namespace.
- A ClusterRoleBinding counts only for users it names, directly, by group, or as a
  ServiceAccount (whose user name is fixed). An event can only change the answers of its
  old and new subjects: the scopes are those users and groups.
- A ClusterRole may be named by any binding and feed others by aggregation: everything.

Answers of another authorizer in the cluster's chain do not depend on RBAC objects at
all; they live by their time alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from extauthz.review import Attributes, ResourceAttributes
from extauthz.subject import Subject

Scope = tuple[str, str]
"""A kind and a name: `("Namespace", "team-a")`, `("User", "ann")`, `("Group", "devs")`."""

MAX_SCOPES = 65536
"""More scopes than this are folded into one event that changes everything."""


class Change(NamedTuple):
    """The last event of a scope: the epoch it began, and when it arrived (monotonic seconds)."""

    epoch: int
    at: float


class Generations:
    """Counts the events that can change an answer.

    `epoch` differs whenever anything has happened, so an equal epoch needs no further
    look. `watched` says whether events do arrive: until a watch says so, they do not. Nor
    is a watch believed while the API server leaves reviews unanswered (`tell_answering`),
    since one that hangs keeps its watches open and silent.
    """

    __slots__ = ("_answering", "_changes", "_clock", "_everything", "_watched", "epoch")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.epoch = 0
        self._clock = clock
        self._answering = True
        self._watched = False
        self._everything = Change(0, -math.inf)
        self._changes: dict[Scope, Change] = {}

    @property
    def watched(self) -> bool:
        """Whether every change of RBAC is seen as it happens."""
        return self._watched and self._answering

    @watched.setter
    def watched(self, watched: bool) -> None:
        if watched != self._watched:
            self._watched = watched
            self.epoch += 1  # the time that entries may live is to be worked out anew

    def tell_answering(self, answering: bool) -> None:
        """Take note whether the API server answers reviews."""
        self._answering = answering
        self.epoch += 1

    def raise_for(self, scopes: Iterable[Scope]) -> None:
        """Record one event that changes the answers resting on any of `scopes`."""
        self.epoch += 1
        self._changes.update(dict.fromkeys(scopes, Change(self.epoch, self._clock())))
        if len(self._changes) > MAX_SCOPES:
            self.raise_all()

    def raise_all(self) -> None:
        """Record an event that may change any answer."""
        self.epoch += 1
        self._everything = Change(self.epoch, self._clock())
        self._changes.clear()

    def latest(self, subject: Subject, attributes: Attributes) -> Change:
        """Return the youngest event that could change what `subject` may do."""
        everything = self._everything
        return max(everything, *(self._changes.get(scope, everything) for scope in _scopes(subject, attributes)))

    def unchanged_since(self, epoch: int, subject: Subject, attributes: Attributes) -> bool:
        """Tell whether an answer to a review sent in `epoch` still rests on the same objects."""
        return self.latest(subject, attributes).epoch <= epoch


def _scopes(subject: Subject, attributes: Attributes) -> list[Scope]:
    scopes = [("User", subject.user), *(("Group", group) for group in subject.groups)]
    if isinstance(attributes, ResourceAttributes) and attributes.namespace:
        scopes.append(("Namespace", attributes.namespace))
    return scopes
