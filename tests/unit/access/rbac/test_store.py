"""A store that changes: as good as one loaded afresh, after any history."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extauthz.access.rbac import RbacAuthorizer, RbacStore
from extauthz.access.rbac.fields import Unacceptable
from extauthz.access.rbac.objects import decode
from extauthz.review import NonResourceAttributes, ResourceAttributes
from extauthz.subject import Subject
from tests.unit.access.rbac.cluster import Json, ask, binding, get, role, store, user


def labelled(name: str, labels: dict[str, str], *resources: str, selects: str = "") -> Json:
    found = role(name, *(get(resource) for resource in resources))
    found["metadata"]["labels"] = labels
    if selects:
        found["aggregationRule"] = {"clusterRoleSelectors": [{"matchLabels": {selects: "yes"}}]}
    return found


def test_a_deleted_binding_grants_nothing() -> None:
    """The next review after a delete is refused, in the namespace and cluster-wide."""
    filled = store(role("r", get("pods")), binding("b", user("u"), namespace="ns"), binding("b", user("u")))
    filled.delete("ClusterRoleBinding", "", "b")
    assert ask(filled, "u", namespace="ns").allowed
    filled.delete("RoleBinding", "ns", "b")
    assert not ask(filled, "u", namespace="ns").allowed


def test_deleting_one_of_two_bindings_leaves_the_other() -> None:
    """A user bound twice keeps what the binding that is left grants."""
    filled = store(role("r", get("pods")), *(binding(name, user("u"), namespace="ns") for name in "ab"))
    filled.delete("RoleBinding", "ns", "a")
    assert 'RoleBinding "b/ns"' in ask(filled, "u", namespace="ns").reason


def test_a_binding_without_subjects_comes_and_goes() -> None:
    """A binding of nobody outlives the others of its namespace, and can be deleted and filled like any."""
    nobody = binding("nobody", namespace="ns")
    filled = store(role("r", get("pods")), nobody, binding("b", user("u"), namespace="ns"))
    filled.delete("RoleBinding", "ns", "b")
    filled.delete("RoleBinding", "ns", "nobody")
    filled.apply(nobody)
    filled.apply({**nobody, "subjects": [user("u")]})
    assert ask(filled, "u", namespace="ns").allowed


def test_a_changed_binding_drops_its_former_subjects() -> None:
    """Replacing a binding takes rights from subjects that it no longer names, one named twice included."""
    filled = store(role("r", get("pods")), binding("b", user("u"), user("u"), user("v"), namespace="ns"))
    filled.apply(binding("b", user("w"), namespace="ns"))
    assert [ask(filled, name, namespace="ns").allowed for name in "uvw"] == [False, False, True]


def test_a_changed_role_counts_at_once() -> None:
    """Rules taken from a Role or a ClusterRole are gone in the next review, and a deleted role is missing."""
    for namespace, kind in (("", "ClusterRole"), ("ns", "Role")):
        filled = store(role("r", get("pods"), namespace=namespace), binding("b", user("u"), namespace="ns", kind=kind))
        assert ask(filled, "u", namespace="ns").allowed
        filled.apply(role("r", get("secrets"), namespace=namespace))
        assert not ask(filled, "u", namespace="ns").allowed
        filled.delete(kind, namespace, "r")
        assert "not found" in ask(filled, "u", namespace="ns").reason


def test_deleting_what_is_not_there_changes_nothing() -> None:
    """Unknown objects can be deleted without harm."""
    filled = store(role("r", get("pods")), binding("b", user("u")))
    for kind in ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding", "Pod"):
        filled.delete(kind, "", "nothing")
    assert (len(filled), ask(filled, "u").allowed) == (2, True)


def test_an_object_that_is_refused_leaves_the_store_unchanged() -> None:
    """A replacement that kube-apiserver would refuse does not take the old object away."""
    filled = store(role("r", get("pods")), binding("b", user("u")))
    with pytest.raises(Unacceptable):
        filled.apply({**binding("b", user("v")), "roleRef": {"kind": "Pod", "name": "r"}})
    assert ask(filled, "u").allowed


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a%2fb"])
def test_what_cannot_stand_in_a_path_is_no_name(name: str) -> None:
    """No server stores such an object, nor a binding to such a role."""
    for item in (role(name, get("pods")), binding(name, user("u")), binding("b", user("u"), to=name)):
        with pytest.raises(Unacceptable, match="is not a name"):
            RbacStore().apply(item)


@pytest.mark.parametrize("more", ["apiGroups", "resources", "resourceNames"])
def test_a_rule_is_of_objects_or_of_urls(more: str) -> None:
    """Beside a URL none of the fields of objects may stand."""
    filled = RbacStore()
    with pytest.raises(Unacceptable, match="both resources and nonResourceURLs"):
        filled.apply(role("r", {"verbs": ["get"], "nonResourceURLs": ["/x"], more: ["pods"]}))
    assert len(filled) == 0


def test_rules_of_its_own_do_not_come_back_after_a_match() -> None:
    """An aggregated role that has matched once is empty when its members go, until it is written anew."""
    view = labelled("r", {}, "pods", selects="x")
    filled = store(view, binding("b", user("u")))
    assert ask(filled, "u").allowed
    filled.apply(labelled("a", {"x": "yes"}, "jobs"))
    assert not ask(filled, "u").allowed
    filled.delete("ClusterRole", "", "a")
    assert not ask(filled, "u").allowed
    filled.apply(view)
    assert ask(filled, "u").allowed


def test_a_label_taken_away_reaches_through_aggregated_roles() -> None:
    """A role that loses its label loses its place in every role fed by it."""
    filled = store(
        labelled("r", {}, selects="to-admin"),
        labelled("edit", {"to-admin": "yes"}, selects="to-edit"),
        labelled("a", {"to-edit": "yes"}, "pods"),
        binding("b", user("u")),
    )
    assert ask(filled, "u").allowed
    filled.apply(labelled("a", {"to-edit": "no"}, "pods"))
    assert not ask(filled, "u").allowed


def test_a_role_that_stops_aggregating_has_its_own_rules() -> None:
    """Without its aggregation rule a role is what it says, and no longer follows the others."""
    filled = store(labelled("a", {"x": "yes"}, "pods"), labelled("r", {}, selects="x"), binding("b", user("u")))
    filled.apply(labelled("r", {}, "jobs"))
    filled.apply(labelled("a", {"x": "yes"}, "pods", "secrets"))
    assert not ask(filled, "u").allowed


NAMES = st.sampled_from(["u", "v", "system:serviceaccount:n1:s"])
GROUPS = st.sampled_from(["g", "h"])
SPACES = st.sampled_from(["n1", "n2"])
RESOURCES = st.sampled_from(["pods", "jobs", "pods/log", "*", "*/log"])
SUBJECTS = st.one_of(
    st.builds(user, NAMES),
    st.builds(lambda name: {"kind": "Group", "name": name}, GROUPS),
    st.just({"kind": "ServiceAccount", "name": "s", "namespace": "n1"}),
)
RULES = st.builds(lambda resource: get(resource), RESOURCES)
ROLES = st.integers(0, 4)


@st.composite
def cluster_roles(draw: st.DrawFn) -> Json:
    """Role number N may be selected by roles of higher numbers only, so that there are no rings."""
    number = draw(ROLES)
    targets = draw(st.sets(ROLES.filter(lambda other: other > number))) if number < 4 else set()
    labels = {f"to-{target}": "yes" for target in targets}
    if draw(st.booleans()):
        return labelled(f"r{number}", labels, selects=f"to-{number}")
    return labelled(f"r{number}", labels, *draw(st.lists(RESOURCES, max_size=2)))


@st.composite
def namespaced_roles(draw: st.DrawFn) -> Json:
    return role(f"r{draw(ROLES)}", *draw(st.lists(RULES, max_size=2)), namespace=draw(SPACES))


@st.composite
def bindings(draw: st.DrawFn) -> Json:
    namespace = draw(st.sampled_from(["", "n1", "n2"]))
    kind = draw(st.sampled_from(["Role", "ClusterRole"])) if namespace else "ClusterRole"
    subjects = draw(st.lists(SUBJECTS, max_size=3))
    name = draw(st.sampled_from(["b1", "b2", "b3"]))
    return binding(name, *subjects, namespace=namespace, to=f"r{draw(ROLES)}", kind=kind)


OBJECTS = st.one_of(cluster_roles(), namespaced_roles(), bindings())
CHANGES = st.lists(st.tuples(st.booleans(), OBJECTS), max_size=40)
QUESTIONS = [
    (Subject(name, groups), ResourceAttributes("get", "", "", resource, subresource, namespace))
    for name in ("u", "v", "system:serviceaccount:n1:s")
    for groups in ((), ("g", "h"))
    for resource, subresource in (("pods", ""), ("jobs", ""), ("pods", "log"))
    for namespace in ("", "n1", "n2")
]


@settings(max_examples=150, deadline=None)
@given(CHANGES)
def test_any_history_answers_as_a_fresh_store_does(changes: list[tuple[bool, Json]]) -> None:
    """After objects were added, replaced and deleted in any order, every answer is that of a store of what is left."""
    changing, left = RbacStore(), dict[Any, Json]()
    for keep, item in changes:
        key = decode(item).key
        if keep:
            changing.apply(item)
            left[key] = item
        else:
            changing.delete(*key)
            left.pop(key, None)
        # Compiled rules must not outlive what they were made from.
        RbacAuthorizer(changing).review(*QUESTIONS[0])
    fresh = RbacStore(decode(item) for item in left.values())
    assert len(changing) == len(fresh)
    one, other = RbacAuthorizer(changing), RbacAuthorizer(fresh)
    for question in QUESTIONS:
        assert one.review(*question) == other.review(*question)


ANY_TEXT = st.text(max_size=8)


@settings(max_examples=100, deadline=None)
@given(
    st.builds(Subject, ANY_TEXT, st.lists(ANY_TEXT, max_size=3).map(tuple)),
    st.one_of(
        st.builds(ResourceAttributes, *[ANY_TEXT] * 7),
        st.builds(NonResourceAttributes, ANY_TEXT, ANY_TEXT),
    ),
)
def test_no_question_raises_or_is_allowed_by_accident(subject: Subject, attributes: Any) -> None:
    """Any text may stand in a question; without a binding to it the answer is a refusal."""
    filled = store(role("r", {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}), binding("b", user("only me")))
    assert not RbacAuthorizer(filled).review(subject, attributes).allowed


@pytest.mark.parametrize("mark", ["uid", "resourceVersion"])
def test_an_aggregated_role_from_a_server_has_the_rules_it_is_stored_with(mark: str) -> None:
    """Without a controller, or before it is done, kube-apiserver judges by what is there."""
    view = labelled("r", {}, selects="x")
    filled = store(view, labelled("a", {"x": "yes"}, "pods"), binding("b", user("u")))
    assert ask(filled, "u").allowed
    view["metadata"][mark] = "17"
    filled.apply(view)
    assert not ask(filled, "u").allowed
