"""RBAC read slowly and plainly from manifests: every binding, every subject, every rule in turn.

It shares no code with the product: what the matrix expects comes from here.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from extauthz.review import ResourceAttributes

Json = dict[str, Any]


class Cluster:
    """The objects of a folder of manifests."""

    def __init__(self, folder: Path) -> None:
        self.objects: list[Json] = [
            item for file in sorted(folder.glob("*.yaml")) for item in yaml.safe_load_all(file.read_text()) if item
        ]
        self.allows = cache(self._allows)

    def _allows(self, user: str, groups: tuple[str, ...], asked: ResourceAttributes) -> bool:
        return any(_permits(rule, asked) for rule in self._rules(user, groups, asked.namespace))

    def _rules(self, user: str, groups: tuple[str, ...], namespace: str) -> Iterator[Json]:
        for binding in self.objects:
            everywhere = binding["kind"] == "ClusterRoleBinding"
            here = binding["kind"] == "RoleBinding" and binding["metadata"]["namespace"] == namespace
            if not (everywhere or here):
                continue
            if any(_is(subject, user, groups) for subject in binding.get("subjects", ())):
                yield from self._of_role(binding)

    def _of_role(self, binding: Json) -> Iterator[Json]:
        reference = binding["roleRef"]
        for role in self.objects:
            if (role["kind"], role["metadata"]["name"]) == (reference["kind"], reference["name"]):
                yield from self._with_aggregated(role)

    def _with_aggregated(self, role: Json) -> Iterator[Json]:
        if "aggregationRule" not in role:
            yield from role.get("rules") or ()
            return
        for selector in role["aggregationRule"]["clusterRoleSelectors"]:
            for other in self.objects:
                labels = other["metadata"].get("labels") or {}
                chosen = selector["matchLabels"].items() <= labels.items()
                if other["kind"] == "ClusterRole" and other is not role and chosen:
                    yield from self._with_aggregated(other)


def _is(subject: Json, user: str, groups: tuple[str, ...]) -> bool:
    if subject["kind"] == "Group":
        return subject["name"] in groups
    if subject["kind"] == "ServiceAccount":
        return user == f"system:serviceaccount:{subject['namespace']}:{subject['name']}"
    return bool(subject["name"] == user)


def _permits(rule: Json, asked: ResourceAttributes) -> bool:
    resource = f"{asked.resource}/{asked.subresource}" if asked.subresource else asked.resource
    return (
        _has(rule["verbs"], asked.verb)
        and _has(rule.get("apiGroups", ()), asked.group)
        and _has(rule.get("resources", ()), resource)
        and (not rule.get("resourceNames") or asked.name in rule["resourceNames"])
    )


def _has(values: list[str], wanted: str) -> bool:
    return "*" in values or wanted in values
