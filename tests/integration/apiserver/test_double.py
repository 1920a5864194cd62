"""The test API server speaks what was recorded from a real one."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from extauthz.access.kubernetes.connection import Connection, Disconnected
from extauthz.access.kubernetes.reviews import KubernetesAuthorizer
from extauthz.review import ResourceAttributes
from extauthz.settings import KubernetesAuthorizer as Limits
from extauthz.subject import Subject
from tests.apiserver import Double
from tests.apiserver.manifests import binding, role, rule, user

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


async def test_expired_version_is_an_event(double: Double, connection: Connection) -> None:
    """A watch from a compacted version is 200 and then an ERROR event with code 410."""
    double.objects.compact()
    async with connection.stream(ROLES, params={"watch": "true", "resourceVersion": "1"}, idle_timeout=5) as lines:
        events = [orjson.loads(line) async for line in lines]
    assert [(event["type"], event["object"]["code"]) for event in events] == [("ERROR", 410)]


async def test_expired_page_is_gone(double: Double, connection: Connection) -> None:
    """A page token that has expired is HTTP 410."""
    first = orjson.loads((await connection.request("GET", ROLES, params={"limit": "1"}, timeout=5)).body)
    double.objects.compact()
    params = {"limit": "1", "continue": first["metadata"]["continue"]}
    assert (await connection.request("GET", ROLES, params=params, timeout=5)).status == 410


async def test_reviews_lag_behind_the_watch(double: Double, connection: Connection) -> None:
    """With a manual lag a write is in the list at once, but in reviews only after `settle`."""
    kubernetes = KubernetesAuthorizer(connection, Limits(timeout_seconds=5))
    bound = binding("late", "late", user("late"))
    await double.apply(role("late", rule(["get"], ["pods"])), bound)
    late = Subject.authenticated("late")
    pods = ResourceAttributes("get", resource="pods")
    assert (await kubernetes.review(late, pods)).allowed
    double.lagging.lag_seconds = double.lagging.MANUAL
    double.erase(bound)
    assert (await kubernetes.review(late, pods)).allowed
    assert double.settle() == 1
    assert not (await kubernetes.review(late, pods)).allowed


async def test_lag_in_seconds(double: Double) -> None:
    """With a lag in seconds, reviews learn of a write when the clock has passed it, in order."""
    double.settle()
    now = [0.0]
    double.lagging.clock = lambda: now[0]
    double.lagging.lag_seconds = 0.5
    double.write(role("late", rule(["get"], ["pods"])))
    double.write(binding("late", "late", user("late")))
    late, pods = Subject.authenticated("late"), ResourceAttributes("get", resource="pods")
    now[0] = 0.4
    assert not double.lagging.review(late, pods).allowed
    now[0] = 0.5
    assert double.lagging.review(late, pods).allowed


async def test_held_answers_are_of_before(double: Double, connection: Connection) -> None:
    """A held answer was evaluated before what was written while it was held."""
    kubernetes = KubernetesAuthorizer(connection, Limits(timeout_seconds=5))
    bound = binding("held", "held", user("held"))
    await double.apply(role("held", rule(["get"], ["pods"])), bound)
    with double.held_answers() as gate:
        review = asyncio.ensure_future(
            kubernetes.review(Subject.authenticated("held"), ResourceAttributes("get", resource="pods"))
        )
        await gate.reached()
        double.erase(bound)
    assert (await review).allowed


async def test_runs_as_its_own_process(tmp_path: Path) -> None:
    """`python -m tests.apiserver` serves, and says where."""
    command = (sys.executable, "-m", "tests.apiserver", "--folder", str(tmp_path), "--tls")
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    try:
        assert process.stdout
        ready = json.loads(await process.stdout.readline())
        async with await Connection.open(kubeconfig=Path(ready["kubeconfig"])) as connection:
            assert (await connection.request("GET", ROLES, timeout=5)).status == 200
    finally:
        process.kill()
        await process.communicate()
