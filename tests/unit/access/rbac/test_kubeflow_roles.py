"""Kubeflow's own ClusterRoles, which are aggregated three levels deep."""

from __future__ import annotations

import yaml

from extauthz.access.rbac import load
from extauthz.review import ResourceAttributes
from tests.unit.access.rbac.cluster import DATA, ask, binding, user


def test_each_kubeflow_role_has_its_rights_and_those_below_it_and_no_more() -> None:
    """View, edit and admin permit what the platform's facts list for them; none has what the next one adds."""
    filled = load([DATA / "kubeflow-roles.yaml"])
    added = yaml.safe_load((DATA / "kubeflow-rights.yaml").read_text())
    for name in added:
        filled.apply(binding(name, user(name), to=name))
    for level, name in enumerate(added):
        for adding_level, rights in enumerate(added.values()):
            answers = {right: ask(filled, name, attributes(right)).allowed for right in rights}
            assert answers == dict.fromkeys(rights, adding_level <= level), name


def attributes(right: str) -> ResourceAttributes:
    verb, group, path = right.split()
    resource, _, subresource = path.partition("/")
    return ResourceAttributes(verb, "" if group == "-" else group, "", resource, subresource)
