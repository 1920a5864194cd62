"""An Envoy whose authorization endpoints come and go, as endpoint discovery in a cluster makes them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from aiohttp import ClientSession

from extauthz.demo import HOST
from extauthz.demo.envoy import Envoy, EnvoyConfig, bootstrap_json

CLUSTERS = {"grpc": "authz-grpc", "http": "authz-http"}

WAIT_SECONDS = 60

Edit = Callable[[dict[str, Any]], None]


class Endpoints:
    """The addresses that Envoy knows of each edge, in files that it watches."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports: dict[str, Mapping[str, int]] = {}

    def build(self, edit: Edit) -> Callable[[EnvoyConfig], str]:
        """Return what makes a configuration with these endpoints; `edit` may change each cluster further."""

        def configuration(config: EnvoyConfig) -> str:
            bootstrap = json.loads(bootstrap_json(config)) | {"node": {"id": "test", "cluster": "test"}}
            for cluster in bootstrap["staticResources"]["clusters"]:
                if cluster["name"] in CLUSTERS.values():
                    self._discover(cluster)
                    edit(cluster)
            return json.dumps(bootstrap)

        return configuration

    def add(self, name: str, ports: Mapping[str, int]) -> None:
        """Let Envoy know of an instance and its edges' ports."""
        self._ports[name] = ports
        self._write()

    def remove(self, name: str) -> None:
        """Let Envoy forget an instance."""
        del self._ports[name]
        self._write()

    async def known(self, envoy: Envoy) -> None:
        """Wait until Envoy has taken the present endpoints."""
        wanted = {cluster: {ports[edge] for ports in self._ports.values()} for edge, cluster in CLUSTERS.items()}
        async with asyncio.timeout(WAIT_SECONDS), ClientSession() as client:
            while await _seen(client, envoy, wanted) != wanted:  # noqa: ASYNC110  # Envoy tells nobody
                await asyncio.sleep(0.05)

    def _discover(self, cluster: dict[str, Any]) -> None:
        del cluster["loadAssignment"]
        file = self._folder / f"{cluster['name']}.json"
        source = {"path": str(file), "watchedDirectory": {"path": str(self._folder)}}
        cluster["type"] = "EDS"
        cluster["edsClusterConfig"] = {"edsConfig": {"pathConfigSource": source, "resourceApiVersion": "V3"}}

    def _write(self) -> None:
        for edge, cluster in CLUSTERS.items():
            ports = [ports[edge] for ports in self._ports.values()]
            new = self._folder / f"{cluster}.new"
            new.write_text(json.dumps({"resources": [_assignment(cluster, ports)]}))
            new.rename(self._folder / f"{cluster}.json")


def _assignment(cluster: str, ports: Iterable[int]) -> Any:
    addresses = [{"socketAddress": {"address": HOST, "portValue": port}} for port in ports]
    return {
        "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
        "clusterName": cluster,
        "endpoints": [{"lbEndpoints": [{"endpoint": {"address": address}} for address in addresses]}],
    }


async def _seen(client: ClientSession, envoy: Envoy, wanted: Mapping[str, set[int]]) -> dict[str, set[int]]:
    async with client.get(f"{envoy.admin_url}/clusters?format=json") as response:
        statuses = (await response.json())["cluster_statuses"]
    return {
        status["name"]: {host["address"]["socket_address"]["port_value"] for host in status.get("host_statuses", ())}
        for status in statuses
        if status["name"] in wanted
    }
