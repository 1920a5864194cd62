"""The test API server speaks what was recorded from a real one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from extauthz.access.kubernetes.connection import Connection, Disconnected
from tests.apiserver import Double
from tests.apiserver.manifests import delegate, role

ROLES = "/apis/rbac.authorization.k8s.io/v1/clusterroles"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Double]:
    async with Double.running(tmp_path) as server:
        for manifest in delegate():
            server.write(manifest)
        yield server


@pytest.fixture
async def connection(server: Double) -> AsyncIterator[Connection]:
    async with await Connection.open(kubeconfig=server.kubeconfig()) as connection:
        yield connection


async def test_list_pages_share_one_version(server: Double, connection: Connection) -> None:
    """A list with `limit` continues at the version of its first page."""
    first = orjson.loads((await connection.request("GET", ROLES, params={"limit": "1"}, timeout=5)).body)
    server.write(role("zzz"))
    token = first["metadata"]["continue"]
    second = orjson.loads((await connection.request("GET", ROLES, params={"continue": token}, timeout=5)).body)
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    assert [item["metadata"]["name"] for item in second["items"]] == ["system:auth-delegator"]
    assert first["items"][0].keys() >= {"metadata", "rules"}


async def test_watch_streams_state_then_changes(server: Double, connection: Connection) -> None:
    """A streaming list ends with the annotated bookmark and goes on with changes."""
    params = {
        "watch": "true",
        "sendInitialEvents": "true",
        "resourceVersionMatch": "NotOlderThan",
        "allowWatchBookmarks": "true",
    }
    async with connection.stream(ROLES, params=params, idle_timeout=5) as lines:
        initial = [orjson.loads(await anext(lines)) for _ in range(3)]
        assert [event["type"] for event in initial] == ["ADDED", "ADDED", "BOOKMARK"]
        assert initial[2]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        server.write(role("more"))
        server.erase(role("more"))
        assert [orjson.loads(await anext(lines))["type"] for _ in range(2)] == ["ADDED", "DELETED"]
        server.objects.send_bookmarks()
        assert orjson.loads(await anext(lines))["type"] == "BOOKMARK"
        assert server.objects.drop_watches() == 1
        with pytest.raises(Disconnected):
            await anext(lines)
