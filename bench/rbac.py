"""How long the embedded RBAC evaluator takes to load a large cluster and to answer.

    python -m bench.rbac [--namespaces 10000] [--bindings 5] [--json FILE]

Manifests are made in a temporary folder: one YAML file of bindings per 1,000 namespaces,
and the ClusterRoles of an aggregated admin, edit and view.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from extauthz.access.rbac import RbacAuthorizer, load
from extauthz.review import ResourceAttributes
from extauthz.subject import Subject

LABEL = "rbac.authorization.example.com/aggregate-to-"
API = "apiVersion: rbac.authorization.k8s.io/v1"
ROLES = ("admin", "edit", "view")
PARTS = 20
RUNS = 20_000


def cluster_roles() -> str:
    """Return three aggregated roles of 60 rules each, and what they are made of."""
    documents = []
    for role in ROLES:
        documents.append(
            f"{API}\nkind: ClusterRole\nmetadata:\n  name: {role}\n"
            f"aggregationRule:\n  clusterRoleSelectors:\n  - matchLabels:\n      {LABEL}{role}: 'true'\nrules: []\n"
        )
        for part in range(PARTS):
            rules = "".join(
                f"- apiGroups: [group{part}.example.com]\n  resources: [things{number}, things{number}/status]\n"
                "  verbs: [get, list, watch, create]\n"
                for number in range(3)
            )
            documents.append(
                f"{API}\nkind: ClusterRole\nmetadata:\n  name: {role}-{part}\n"
                f"  labels:\n    {LABEL}{role}: 'true'\nrules:\n{rules}"
            )
    documents.append(
        f"{API}\nkind: ClusterRoleBinding\nmetadata:\n  name: auditors\n"
        "roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}\n"
        "subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: auditors}]\n"
    )
    return "---\n".join(documents)


def binding(namespace: int, number: int) -> str:
    """Return a RoleBinding of a user, or for number 0 of a group."""
    kind, name = ("User", f"user-{namespace}-{number}@example.com") if number else ("Group", f"team-{namespace}")
    return (
        f"{API}\nkind: RoleBinding\nmetadata:\n  name: binding-{number}\n  namespace: ns-{namespace}\n"
        f"roleRef:\n  apiGroup: rbac.authorization.k8s.io\n  kind: ClusterRole\n  name: {ROLES[number % 3]}\n"
        f"subjects:\n- apiGroup: rbac.authorization.k8s.io\n  kind: {kind}\n  name: {name}\n"
    )


def write(folder: Path, namespaces: int, bindings: int) -> None:
    """Write all manifests."""
    (folder / "roles.yaml").write_text(cluster_roles())
    for start in range(0, namespaces, 1000):
        chunk = range(start, min(start + 1000, namespaces))
        text = "---\n".join(binding(namespace, number) for namespace in chunk for number in range(bindings))
        (folder / f"bindings-{start:06}.yaml").write_text(text)


def questions(namespace: int) -> dict[str, tuple[Subject, ResourceAttributes]]:
    """Return one question of each kind; the resource stands in the last of an aggregated role's parts."""
    asked = ResourceAttributes("create", f"group{PARTS - 1}.example.com", "", "things2", "status", f"ns-{namespace}")
    denied = ResourceAttributes("delete", asked.group, "", asked.resource, asked.subresource, asked.namespace)
    user = Subject.authenticated(f"user-{namespace}-1@example.com")
    groups = tuple(f"other-{number}" for number in range(30))
    return {
        "allow, by user": (user, asked),
        "deny, bound but not permitted": (user, denied),
        "deny, unknown user": (Subject.authenticated("mallory"), asked),
        "allow, by group": (Subject.authenticated("bob", (f"team-{namespace}",)), asked),
        "allow, by 1 of 31 groups": (Subject.authenticated("bob", (f"team-{namespace}", *groups)), asked),
        "allow, cluster-wide": (Subject.authenticated("eve", ("auditors",)), asked),
    }


def microseconds(call: Callable[[], object]) -> float:
    """Return the median of five measurements of one call, in microseconds."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(RUNS // 5):
            call()
        times.append((time.perf_counter() - start) / (RUNS // 5) * 1e6)
    return statistics.median(times)


def measure(namespaces: int, bindings: int) -> dict[str, Any]:
    """Return seconds of loading, microseconds per review, and memory in MB."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, namespaces, bindings)
        size = sum(file.stat().st_size for file in folder.iterdir())
        start = time.perf_counter()
        store = load([folder])
        loading = time.perf_counter() - start
    authorizer = RbacAuthorizer(store)
    reviews = {}
    for name, (subject, attributes) in questions(namespaces // 2).items():
        answer = authorizer.review(subject, attributes)
        if answer.allowed != name.startswith("allow"):
            raise SystemExit(f"{name}: answered {answer}")
        reviews[name] = round(microseconds(lambda s=subject, a=attributes: authorizer.review(s, a)), 2)  # type: ignore[misc]  # a lambda's defaults have no types
    return {
        "objects": len(store),
        "bytes": size,
        "loadSeconds": round(loading, 2),
        "maxResidentMB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "microsecondsPerReview": reviews,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--namespaces", type=int, default=10_000)
    parser.add_argument("--bindings", type=int, default=5, help="per namespace")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    arguments = parser.parse_args()
    found = measure(arguments.namespaces, arguments.bindings)
    print(f"{found['objects']} objects, {found['bytes'] / 1e6:.1f} MB of YAML, {found['maxResidentMB']} MB resident")
    print(f"{'loading':32} {found['loadSeconds']:8.2f} s")
    for name, figure in found["microsecondsPerReview"].items():
        print(f"{name:32} {figure:8.2f} µs")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
