"""The test API server speaks what was recorded from a real one."""

from __future__ import annotations

import orjson
import pytest

from extauthz.access.kubernetes.connection import Connection, Disconnected
from tests.apiserver import Double
from tests.apiserver.manifests import role

ROLES = "/apis/rbac.authorization.k8s.io/v1/clusterroles"


async def test_list_pages_share_one_version(double: Double, connection: Connection) -> None:
    """A list with `limit` continues at the version of its first page."""
    first = orjson.loads((await connection.request("GET", ROLES, params={"limit": "1"}, timeout=5)).body)
    double.write(role("zzz"))
    token = first["metadata"]["continue"]
    second = orjson.loads((await connection.request("GET", ROLES, params={"continue": token}, timeout=5)).body)
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    assert [item["metadata"]["name"] for item in second["items"]] == ["system:auth-delegator"]
    assert first["items"][0].keys() >= {"metadata", "rules"}


async def test_watch_streams_state_then_changes(double: Double, connection: Connection) -> None:
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
        double.write(role("more"))
        double.erase(role("more"))
        assert [orjson.loads(await anext(lines))["type"] for _ in range(2)] == ["ADDED", "DELETED"]
        double.objects.send_bookmarks()
        assert orjson.loads(await anext(lines))["type"] == "BOOKMARK"
        assert double.objects.drop_watches() == 1
        with pytest.raises(Disconnected):
            await anext(lines)
