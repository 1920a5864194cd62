"""Asks for what doctor looks at: the objects of a cluster, and the admin listeners of running pods."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path

import aiohttp

from extauthz.access.kubernetes.connection import Answer, Connection
from extauthz.doctor.fields import mappings
from extauthz.doctor.finding import Finding, warning
from extauthz.doctor.installation import NAME
from extauthz.doctor.manifests import Manifest, of_list
from extauthz.doctor.running import Told, examine
from extauthz.errors import ConfigurationError, Problem, Unavailable

SECONDS = 15.0
MAX_BYTES = 64 * 1024 * 1024
ADMIN_PORT = "admin"

_RESOURCES = {
    "api/v1/namespaces": "Namespace",
    "api/v1/services": "Service",
    "apis/apps/v1/deployments": "Deployment",
    "apis/networking.k8s.io/v1/networkpolicies": "NetworkPolicy",
    "apis/networking.istio.io/v1/sidecars": "Sidecar",
    "apis/rbac.authorization.k8s.io/v1/clusterrolebindings": "ClusterRoleBinding",
    "apis/rbac.authorization.k8s.io/v1/clusterroles": "ClusterRole",
    "apis/security.istio.io/v1/authorizationpolicies": "AuthorizationPolicy",
    "api/v1/namespaces/istio-system/configmaps": "ConfigMap",
    "api/v1/namespaces/extauthz/configmaps": "ConfigMap",
}


async def cluster(kubeconfig: Path | None, context: str | None) -> tuple[list[Manifest], list[Finding]]:
    """Return the objects of a cluster, and what its pods say. Raises ConfigurationError where it cannot be asked."""
    async with await Connection.open(kubeconfig=kubeconfig, context=context) as connection:
        try:
            objects = [item for path, kind in _RESOURCES.items() for item in await _list(connection, path, kind)]
            pods = await _list(connection, "api/v1/pods", "Pod", labelSelector=f"{NAME}=extauthz")
            found = [finding for pod in pods async for finding in _pod(connection, pod)]
        except Unavailable as error:
            raise ConfigurationError(Problem(f"the cluster cannot be asked: {error.message}")) from error
    return objects, found


async def listener(url: str) -> list[Finding]:
    """Return what an admin listener says, such as a forwarded port. Raises ConfigurationError if it is none."""
    timeout = aiohttp.ClientTimeout(total=SECONDS)
    try:
        async with aiohttp.ClientSession(timeout=timeout, raise_for_status=False) as session:
            async with session.get(f"{url.rstrip('/')}/metrics") as response:
                metrics = await response.text()
            async with session.get(f"{url.rstrip('/')}/readyz") as response:
                told = Told(await response.read(), metrics, response.headers.get("Date", ""), datetime.now(UTC))
        return list(examine(told, None))
    except (aiohttp.ClientError, TimeoutError, ValueError, KeyError) as error:
        message = f"{url} does not answer as an admin listener of extauthz: {error}"
        raise ConfigurationError(
            Problem(message, hint="kubectl -n extauthz port-forward deploy/extauthz 9002")
        ) from error


async def _list(connection: Connection, path: str, kind: str, **params: str) -> list[Manifest]:
    """Return the objects of a collection; none where the cluster does not have it."""
    answer = await connection.request("GET", f"/{path}", timeout=SECONDS, max_bytes=MAX_BYTES, params=params)
    if answer.status == HTTPStatus.NOT_FOUND:
        return []
    if answer.status != HTTPStatus.OK:
        hint = "doctor needs to read everything of an installation; an administrator can"
        raise ConfigurationError(Problem(f"{path} cannot be read: HTTP {answer.status}", hint=hint))
    return of_list(kind, json.loads(answer.body))


async def _pod(connection: Connection, pod: Manifest) -> AsyncIterator[Finding]:
    base = f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}:{_admin_port(pod)}/proxy"
    metrics = await connection.request("GET", f"{base}/metrics", timeout=SECONDS)
    readyz = await connection.request("GET", f"{base}/readyz", timeout=SECONDS)
    try:
        for finding in _told(metrics, readyz, await _now(connection), pod):
            yield finding
    except (ValueError, KeyError):
        yield warning(
            "pod-not-asked",
            pod,
            f"The API server cannot reach its admin listener (HTTP {readyz.status}), so keys, watch and clock are "
            "not known.",
            "kubectl port-forward it, and run `extauthz doctor --admin http://127.0.0.1:9002`",
        )


def _told(metrics: Answer, readyz: Answer, now: datetime, pod: Manifest) -> Iterator[Finding]:
    return examine(Told(readyz.body, metrics.body.decode(), readyz.date, now), pod)


async def _now(connection: Connection) -> datetime:
    """The API server's time, by which tokens are issued."""
    return parsedate_to_datetime((await connection.request("GET", "/version", timeout=SECONDS)).date)


def _admin_port(pod: Manifest) -> int:
    ports = [port for container in mappings(pod.spec, "containers") for port in mappings(container, "ports")]
    return next((int(port["containerPort"]) for port in ports if port.get("name") == ADMIN_PORT), 9002)
