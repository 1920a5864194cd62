"""The indexed evaluator against a plain reading of the rules: every binding, every subject, every rule in turn."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from extauthz.access.rbac import RbacAuthorizer
from extauthz.review import Attributes, NonResourceAttributes, ResourceAttributes
from extauthz.subject import Subject
from tests.unit.access.rbac.cluster import Json, binding, role, store, user

WORDS = st.sampled_from(["", "*", "get", "pods", "pods/log", "pods/*", "*/log", "*/*", "log", "a"])
URLS = st.sampled_from(["*", "/", "/a", "/a/", "/a/*", "/a*", "/a/b", "/*", "a**"])
FULL = st.lists(WORDS, min_size=1, max_size=2)
RULES = st.one_of(
    st.fixed_dictionaries(
        {"verbs": FULL, "apiGroups": FULL, "resources": FULL, "resourceNames": st.lists(WORDS, max_size=2)}
    ),
    st.fixed_dictionaries({"verbs": FULL, "nonResourceURLs": st.lists(URLS, min_size=1, max_size=2)}),
)
NAMESPACED_RULES = RULES.filter(lambda rule: "resources" in rule)
SUBJECTS = st.one_of(
    st.builds(user, st.sampled_from(["u", "v", "system:serviceaccount:n:s", "system:serviceaccount:m:s"])),
    st.builds(lambda name: {"kind": "Group", "name": name}, st.sampled_from(["g", "h"])),
    st.builds(lambda space: {"kind": "ServiceAccount", "name": "s", "namespace": space}, st.sampled_from(["n", "m"])),
)
CLUSTERS = st.tuples(
    st.lists(RULES, max_size=3),
    st.lists(NAMESPACED_RULES, max_size=3),
    st.lists(
        st.tuples(st.sampled_from(["", "n", "m"]), st.sampled_from(["Role", "ClusterRole"]), st.lists(SUBJECTS)),
        max_size=4,
    ),
)
ASKERS = st.builds(
    Subject,
    st.sampled_from(["u", "system:serviceaccount:n:s", "x"]),
    st.sampled_from([(), ("g",), ("h", "x"), ("g", "h")]),
)
ASKED = st.one_of(
    st.builds(ResourceAttributes, WORDS, WORDS, st.just("v1"), WORDS, WORDS, st.sampled_from(["", "n", "m"]), WORDS),
    st.builds(NonResourceAttributes, WORDS, st.sampled_from(["", "/", "/a", "/a/", "/a/b/c", "/ab", "*", "a"])),
)


@settings(max_examples=400, deadline=None)
@given(CLUSTERS, ASKERS, ASKED)
def test_indexes_change_no_answer(
    cluster: tuple[list[Json], list[Json], list[tuple[str, str, list[Json]]]], asker: Subject, asked: Attributes
) -> None:
    """For any small cluster and question, the evaluator allows what a plain reading of all objects allows."""
    wide, narrow, plans = cluster
    roles = {"ClusterRole": wide, "Role": narrow}
    objects = [role("r", *wide), role("r", *narrow, namespace="n"), role("r", *narrow, namespace="m")]
    expected = False
    for number, (namespace, kind, subjects) in enumerate(plans):
        bound_kind = kind if namespace else "ClusterRole"
        objects.append(binding(f"b{number}", *subjects, namespace=namespace, kind=bound_kind))
        in_scope = not namespace or (isinstance(asked, ResourceAttributes) and asked.namespace == namespace)
        applies = any(is_named(subject, asker) for subject in subjects)
        expected |= in_scope and applies and any(permits(rule, asked) for rule in roles[bound_kind])
    assert RbacAuthorizer(store(*objects)).review(asker, asked).allowed == expected


def is_named(subject: Json, asker: Subject) -> bool:
    if subject["kind"] == "Group":
        return subject["name"] in asker.groups
    if subject["kind"] == "User":
        return bool(subject["name"] == asker.user)
    return asker.user == f"system:serviceaccount:{subject['namespace']}:{subject['name']}"


def permits(rule: Json, asked: Attributes) -> bool:
    if not has(rule["verbs"], asked.verb):
        return False
    if isinstance(asked, NonResourceAttributes):
        return any(url_permits(url, asked.path) for url in rule.get("nonResourceURLs", ()))
    if "resources" not in rule or not has(rule["apiGroups"], asked.group):
        return False
    if rule["resourceNames"] and asked.name not in rule["resourceNames"]:
        return False
    whole = f"{asked.resource}/{asked.subresource}" if asked.subresource else asked.resource
    part = [f"*/{asked.subresource}"] if asked.subresource else []
    return any(resource in ("*", whole, *part) for resource in rule["resources"])


def has(values: list[str], wanted: str) -> bool:
    return "*" in values or wanted in values


def url_permits(url: str, path: str) -> bool:
    return url == path or (url.endswith("*") and path.startswith(url.rstrip("*")))
