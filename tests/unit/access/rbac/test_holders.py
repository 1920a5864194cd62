"""Who has a right, and what rights somebody has: the same answers as the evaluator's, read from the other side."""

from __future__ import annotations

from hypothesis import given, settings

from extauthz.access.rbac import RbacAuthorizer, RbacStore
from extauthz.access.rbac.holders import resource, what_can, who_can
from extauthz.access.rbac.objects import BoundSubject
from extauthz.access.rbac.rules import RuleIndex, question
from extauthz.review import Attributes, ResourceAttributes, qualified
from extauthz.subject import Subject
from tests.unit.access.rbac.cluster import Json, binding, role, store, user
from tests.unit.access.rbac.test_against_a_plain_reading import ASKED, ASKERS, CLUSTERS

Cluster = tuple[list[Json], list[Json], list[tuple[str, str, list[Json]]]]


def built(cluster: Cluster) -> RbacStore:
    """Return a store of a drawn cluster."""
    wide, narrow, plans = cluster
    objects = [role("r", *wide), role("r", *narrow, namespace="n"), role("r", *narrow, namespace="m")]
    for number, (namespace, kind, subjects) in enumerate(plans):
        bound_kind = kind if namespace else "ClusterRole"
        objects.append(binding(f"b{number}", *subjects, namespace=namespace, kind=bound_kind))
    return store(*objects)


def asker(subject: BoundSubject) -> Subject:
    """Return somebody who is just this subject."""
    if subject.kind == "Group":
        return Subject("somebody", (subject.name,))
    if subject.kind == "User":
        return Subject(subject.name)
    return Subject(f"system:serviceaccount:{subject.namespace}:{subject.name}")


EVERYBODY = [
    *(BoundSubject("User", name) for name in ("u", "v", "system:serviceaccount:n:s", "system:serviceaccount:m:s")),
    *(BoundSubject("Group", name) for name in ("g", "h", "system:masters", "others")),
    *(BoundSubject("ServiceAccount", "s", namespace) for namespace in ("n", "m")),
]


@settings(max_examples=100, deadline=None)
@given(CLUSTERS, ASKED)
def test_who_can_names_exactly_those_whom_the_evaluator_allows(cluster: Cluster, asked: Attributes) -> None:
    """Nobody is missing and nobody is too many, however the subjects are written."""
    filled = built(cluster)
    told = {(subject.user, subject.groups) for holder in who_can(filled, asked) if (subject := asker(holder.subject))}
    evaluator = RbacAuthorizer(filled)
    for subject in map(asker, EVERYBODY):
        assert evaluator.review(subject, asked).allowed is ((subject.user, subject.groups) in told), subject


@settings(max_examples=100, deadline=None)
@given(CLUSTERS, ASKERS, ASKED)
def test_what_can_lists_exactly_the_rules_that_the_evaluator_counts(
    cluster: Cluster, subject: Subject, asked: Attributes
) -> None:
    """Whoever reads the listed rules comes to the evaluator's answer."""
    filled = built(cluster)
    namespace = asked.namespace if isinstance(asked, ResourceAttributes) else ""
    rules = RuleIndex(held.rule for held in what_can(filled, subject, namespace))
    assert question(asked)(rules) is RbacAuthorizer(filled).review(subject, asked).allowed


def test_holders_come_with_their_bindings() -> None:
    """Cluster-wide bindings, then the namespace's own; each subject once, and nobody of another namespace or role."""
    filled = store(
        role("r", {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}),
        role("other", {"apiGroups": [""], "resources": ["jobs"], "verbs": ["get"]}),
        binding("wide", user("w"), user("w")),
        binding("a", user("u"), user("v"), namespace="n"),
        binding("elsewhere", user("x"), namespace="m"),
        binding("less", user("y"), namespace="n", to="other"),
        binding("gone", user("z"), namespace="n", to="missing"),
    )
    found = list(who_can(filled, ResourceAttributes("get", resource="pods", namespace="n")))[1:]
    told = [(holder.binding and holder.binding.name, holder.subject.name) for holder in found]
    assert told == [("wide", "w"), ("a", "u"), ("a", "v")]
    held = [item.binding and item.binding.name for item in what_can(filled, Subject("u"), "n")]
    assert held == ["a"]
    assert [item.rule.resources for item in what_can(filled, Subject("w"), "")] == [("pods",)]


def test_superusers_can_everything() -> None:
    """The group that kube-apiserver never asks RBAC about is told as such, without a binding."""
    first, *others = who_can(store(), ResourceAttributes("get", resource="pods"))
    assert (first.subject.name, first.binding, others) == ("system:masters", None, [])
    held = list(what_can(store(), Subject("root", ("system:masters",)), "n"))
    assert [(item.rule.verbs, item.binding) for item in held] == [(("*",), None)] * 2


def test_resources_are_written_as_kubectl_has_them() -> None:
    """Plural, a dot and the group, a slash and the subresource."""
    runs = ResourceAttributes("get", "pipelines.kubeflow.org", "", "runs", "", "n", "x")
    assert resource("runs.pipelines.kubeflow.org", "get", "n", "x") == runs
    assert resource("pods/log", "get", "n", "") == ResourceAttributes("get", "", "", "pods", "log", "n")
    scale = ResourceAttributes("get", "apps", "", "deployments", "scale", "n")
    assert resource("deployments.apps/scale", "get", "n", "") == scale
    assert resource(".apps", "get", "n", "") is None
    for asked in (runs, scale):
        assert resource(qualified(asked.resource, asked.group, asked.subresource), "get", "n", asked.name) == asked
