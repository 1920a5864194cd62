"""Who has a right, and what rights somebody has: the evaluator's answers, read from the other side."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from extauthz.access.rbac.evaluator import SUPERUSERS
from extauthz.access.rbac.objects import Binding, BoundSubject, Key, Rule
from extauthz.access.rbac.rules import question
from extauthz.access.rbac.store import RbacStore
from extauthz.review import Attributes, ResourceAttributes
from extauthz.subject import Subject


@dataclass(frozen=True, slots=True)
class Holder:
    """Somebody who has a right. `binding` is None for the group that kube-apiserver allows everything."""

    subject: BoundSubject
    binding: Binding | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """A rule that counts for somebody, and the binding that gives it; `binding` is None as in Holder."""

    rule: Rule
    binding: Binding | None = None


_EVERYTHING = Rule(("*",), ("*",), ("*",))
_EVERY_URL = Rule(("*",), non_resource_urls=("*",))


def who_can(store: RbacStore, attributes: Attributes) -> Iterator[Holder]:
    """Yield everybody who has a right, once for each binding that gives it."""
    yield Holder(BoundSubject("Group", SUPERUSERS))
    permits = question(attributes)
    namespace = attributes.namespace if isinstance(attributes, ResourceAttributes) else ""
    for binding in _bindings(store, namespace):
        rules = store.rules(binding.role)
        if rules is not None and permits(rules):
            yield from (Holder(subject, binding) for subject in dict.fromkeys(binding.subjects))


def what_can(store: RbacStore, subject: Subject, namespace: str) -> Iterator[Held]:
    """Yield the rules that count for somebody in a namespace, cluster-wide ones first; empty is the cluster's scope."""
    if SUPERUSERS in subject.groups:
        yield from (Held(_EVERYTHING), Held(_EVERY_URL))
    for scope in dict.fromkeys(("", namespace)):
        for grant in store.grants(scope, subject):
            yield from (Held(rule, grant.binding) for rule in store.effective(grant.binding.role) or ())


def resource(text: str, verb: str, namespace: str, name: str) -> Attributes | None:
    """Read a resource as kubectl has it: `pods/log`, `runs.pipelines.kubeflow.org`; None where it is none."""
    whole, _, subresource = text.partition("/")
    plural, _, group = whole.partition(".")
    if not plural:
        return None
    return ResourceAttributes(verb, group, "", plural, subresource, namespace, name)


def shown(role: Key) -> str:
    """Return a role or a binding as kubectl names it: `clusterrole/admin`."""
    kind, _, name = role
    return f"{kind.lower()}/{name}"


def _bindings(store: RbacStore, namespace: str) -> Iterator[Binding]:
    for scope in dict.fromkeys(("", namespace)):
        yield from store.bindings(scope)
