"""The RBAC evaluator behind the test API server's answers."""

from __future__ import annotations

from typing import Any

from extauthz.review import Attributes, NonResourceAttributes, Review
from extauthz.subject import Subject
from tests.apiserver.store import Event, Object

_MASTERS = "system:masters"


class RbacEvaluator:
    """A plain reading of RBAC: no aggregation, no wildcards but `*`."""

    def __init__(self) -> None:
        self._objects: dict[tuple[str, str, str], Object] = {}

    def follow(self, event: Event) -> None:
        metadata = event.object["metadata"]
        key = event.plural, metadata.get("namespace", ""), metadata["name"]
        if event.type == "DELETED":
            self._objects.pop(key, None)
        else:
            self._objects[key] = event.object

    def review(self, subject: Subject, attributes: Attributes) -> Review:
        if _MASTERS in subject.groups:
            return Review(attributes, allowed=True)
        for (plural, namespace, name), binding in self._objects.items():
            reaches = plural == "clusterrolebindings" or namespace == getattr(attributes, "namespace", "")
            if plural.endswith("bindings") and reaches and self._binds(binding, namespace, subject, attributes):
                return Review(attributes, allowed=True, reason=f'RBAC: allowed by "{name}"')
        return Review(attributes, allowed=False)

    def _binds(self, binding: Object, namespace: str, subject: Subject, attributes: Attributes) -> bool:
        return any(_is(item, subject, namespace) for item in binding.get("subjects") or ()) and any(
            _grants(rule, attributes) for rule in self._rules(binding["roleRef"], namespace)
        )

    def _rules(self, reference: dict[str, str], namespace: str) -> list[Any]:
        place = ("roles", namespace) if reference["kind"] == "Role" else ("clusterroles", "")
        return (self._objects.get((*place, reference["name"])) or {}).get("rules") or []


def _is(item: dict[str, str], subject: Subject, namespace: str) -> bool:
    if item["kind"] == "ServiceAccount":
        return subject.user == f"system:serviceaccount:{item.get('namespace', namespace)}:{item['name']}"
    return item["name"] in (subject.groups if item["kind"] == "Group" else (subject.user,))


def _grants(rule: dict[str, list[str]], attributes: Attributes) -> bool:
    if not _any(rule, "verbs", attributes.verb):
        return False
    if isinstance(attributes, NonResourceAttributes):
        return _any(rule, "nonResourceURLs", attributes.path)
    resource = "/".join(filter(None, (attributes.resource, attributes.subresource)))
    named = not rule.get("resourceNames") or attributes.name in rule["resourceNames"]
    return named and _any(rule, "apiGroups", attributes.group) and _any(rule, "resources", resource)


def _any(rule: dict[str, list[str]], key: str, value: str) -> bool:
    return bool({"*", value} & set(rule.get(key) or ()))
