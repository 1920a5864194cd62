"""The answer to a review, in kube-apiserver's words.

Cluster-wide bindings are asked first, then those of the namespace. A missing role is
mentioned only in a refusal. Where several bindings grant, kube-apiserver names any one
of them; here it is the first by name.
"""

from __future__ import annotations

from collections.abc import Iterator

from extauthz.access.rbac.objects import GROUP, Binding
from extauthz.access.rbac.rules import question
from extauthz.access.rbac.store import Grant, RbacStore
from extauthz.basis import Ground
from extauthz.review import Attributes, ResourceAttributes, Review
from extauthz.subject import Subject

SUPERUSERS = "system:masters"
"""The group that kube-apiserver allows everything, before any authorizer is asked."""

_ESCAPES = {"\a": r"\a", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\v": r"\v"}


class RbacAuthorizer:
    """Answers reviews from a store. Never raises, never waits. `ground` is for a store that never changes."""

    def __init__(self, store: RbacStore, *, ground: Ground | None = None) -> None:
        self._store = store
        self._ground = ground

    def review(self, subject: Subject, attributes: Attributes) -> Review:
        """Answer whether a subject has a right. Groups count exactly as given; none is added."""
        if SUPERUSERS in subject.groups:
            return Review(attributes, allowed=True, ground=self._ground)
        permits = question(attributes)
        missing: dict[str, None] = {}
        for grant in self._grants(subject, attributes):
            rules = self._store.rules(grant.binding.role)
            if rules is None:
                missing[_not_found(grant.binding)] = None
            elif permits(rules):
                return Review(attributes, allowed=True, reason=_allowed_by(grant), ground=self._ground)
        return Review(attributes, allowed=False, reason=_refusal(list(missing)))

    def _grants(self, subject: Subject, attributes: Attributes) -> Iterator[Grant]:
        yield from self._store.grants("", subject)
        if isinstance(attributes, ResourceAttributes) and attributes.namespace:
            yield from self._store.grants(attributes.namespace, subject)


def _allowed_by(grant: Grant) -> str:
    binding, subject = grant.binding, grant.subject
    kind, _, name = binding.key
    role_kind, _, role_name = binding.role
    binding_name = _quote(f"{name}/{binding.namespace}" if binding.namespace else name)
    subject_name = _quote(f"{subject.name}/{subject.namespace}" if subject.kind == "ServiceAccount" else subject.name)
    return f"RBAC: allowed by {kind} {binding_name} of {role_kind} {_quote(role_name)} to {subject.kind} {subject_name}"


def _not_found(binding: Binding) -> str:
    kind, _, name = binding.role
    return f"{kind.lower()}.{GROUP} {_quote(name)} not found"


def _refusal(errors: list[str]) -> str:
    if not errors:
        return ""
    return f"RBAC: {errors[0]}" if len(errors) == 1 else f"RBAC: [{', '.join(errors)}]"


def _quote(text: str) -> str:
    """Quote as Go's `%q` does."""
    if text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return f'"{"".join(map(_escape, text))}"'


def _escape(char: str) -> str:
    if char in '"\\':
        return f"\\{char}"
    if char.isprintable():
        return char
    code = ord(char)
    if code < 0x20 or code == 0x7F:
        return _ESCAPES.get(char, f"\\x{code:02x}")
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
