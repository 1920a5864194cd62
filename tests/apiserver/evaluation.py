"""The embedded RBAC evaluator, fed by the store's events."""

from __future__ import annotations

from extauthz.access.rbac import RbacAuthorizer, RbacStore
from extauthz.review import Attributes, Review
from extauthz.subject import Subject
from tests.apiserver.store import RESOURCES, Event


class RbacEvaluator:
    """Answers by the RBAC objects that it was told of."""

    def __init__(self) -> None:
        self._store = RbacStore()
        self._authorizer = RbacAuthorizer(self._store)

    def follow(self, event: Event) -> None:
        """Take one change over; namespaces have no part in RBAC."""
        metadata = event.object["metadata"]
        if event.plural == "namespaces":
            return
        if event.type == "DELETED":
            self._store.delete(RESOURCES[event.plural].kind, metadata.get("namespace", ""), metadata["name"])
        else:
            self._store.apply(event.object)

    def review(self, subject: Subject, attributes: Attributes) -> Review:
        return self._authorizer.review(subject, attributes)
