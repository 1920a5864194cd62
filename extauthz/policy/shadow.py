"""What of a whole policy is in shadow: everything, or some namespaces.

What is in shadow refuses nothing for lack of a right or by a condition, and is logged. All
else stays as it is: who asks must be proven, what cannot be read is refused, a request
without a rule is refused, and headers are taken off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from extauthz.document import Document
from extauthz.errors import Problem
from extauthz.policy.model import ShadowModel
from extauthz.review import ResourceAttributes, Review


@dataclass(frozen=True, slots=True)
class Shadow:
    """The shadow over a policy; none unless a file says so."""

    everything: bool = False
    namespaces: frozenset[str] = frozenset()
    warnings: tuple[Problem, ...] = ()

    def covers(self, reviews: Sequence[Review]) -> bool:
        """Whether a refusal after these reviews is only told, not made.

        With namespaces, every right that was asked for must lie in one of them.
        """
        if self.everything or not self.namespaces:
            return self.everything
        return bool(reviews) and all(_namespace(review) in self.namespaces for review in reviews)

    def joined(self, part: Document) -> Shadow:
        """Return this shadow and that of a document together. Raises ConfigurationError."""
        model = part.validate(ShadowModel)
        warnings = self.warnings
        if model.everything:
            message = "EVERY RULE IS IN SHADOW: nobody is refused for lack of rights"
            warnings = (*warnings, part.problem(("everything",), message, "remove this file to enforce the policy"))
        return Shadow(self.everything or model.everything, self.namespaces | set(model.namespaces), warnings)


def is_shadow(part: Document) -> bool:
    """Whether a document tells what is in shadow."""
    return isinstance(part.data, dict) and part.data.get("kind") == "Shadow"


def _namespace(review: Review) -> str:
    return review.attributes.namespace if isinstance(review.attributes, ResourceAttributes) else ""
