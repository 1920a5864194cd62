"""What was recorded from a real kube-apiserver, asked of each API server there is.

The double must answer as the real one; where KUBEBUILDER_ASSETS names a real one's
binaries, the same tests run against it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from extauthz.access.kubernetes.connection import Connection
from extauthz.access.kubernetes.reviews import KubernetesAuthorizer
from extauthz.review import ResourceAttributes
from extauthz.settings import KubernetesAuthorizer as Limits
from extauthz.subject import Subject
from tests.apiserver import Cluster, tokens
from tests.apiserver.cluster import REVIEWS
from tests.apiserver.manifests import binding, group, namespace, role, rule, service_account, user

pytestmark = pytest.mark.apiserver

RBAC = "/apis/rbac.authorization.k8s.io/v1"
TOKEN_REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"
READ = rule(["get"], ["pods"])
PODS = {"verb": "get", "resource": "pods", "namespace": "recorded"}


@pytest.fixture
async def live(api_server: Cluster) -> AsyncIterator[Connection]:
    """A connection as extauthz's ServiceAccount."""
    await api_server.apply(namespace("recorded"))
    async with await Connection.open(kubeconfig=api_server.kubeconfig()) as connection:
        yield connection


async def post(connection: Connection, path: str, body: Any) -> tuple[int, Any]:
    """Send JSON and return status and JSON."""
    answer = await connection.request("POST", path, body=orjson.dumps(body), timeout=10)
    return answer.status, orjson.loads(answer.body)


async def ask(connection: Connection, spec: dict[str, Any]) -> tuple[int, Any]:
    """Send a SubjectAccessReview; return the HTTP status and the review's own."""
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
    code, answer = await post(connection, REVIEWS, body)
    return code, answer["status"]


@pytest.mark.parametrize(
    ("subject", "spec", "reason"),
    [
        (
            user("u"),
            {"user": "u"},
            'RBAC: allowed by RoleBinding "b/recorded" of ClusterRole "r" to User "u"',
        ),
        (
            group("g"),
            {"user": "x", "groups": ["g"]},
            'RBAC: allowed by RoleBinding "b/recorded" of ClusterRole "r" to Group "g"',
        ),
        (
            service_account("recorded", "editor"),
            {"user": "system:serviceaccount:recorded:editor"},
            'RBAC: allowed by RoleBinding "b/recorded" of ClusterRole "r" to ServiceAccount "editor/recorded"',
        ),
    ],
)
async def test_allowed_with_reason(
    api_server: Cluster, live: Connection, subject: dict[str, Any], spec: dict[str, Any], reason: str
) -> None:
    """The status holds `allowed` and the binding that grants, and no other field."""
    await api_server.apply(role("r", READ), binding("b", "r", subject, namespace="recorded"))
    await api_server.settled()
    assert await ask(live, {**spec, "resourceAttributes": PODS}) == (201, {"allowed": True, "reason": reason})
    elsewhere = {**PODS, "namespace": ""}
    assert await ask(live, {**spec, "resourceAttributes": elsewhere}) == (201, {"allowed": False})


async def test_missing_role_is_named(api_server: Cluster, live: Connection) -> None:
    """A binding to a role that is not there denies and says so."""
    await api_server.apply(binding("b", "recorded-none", user("u"), namespace="recorded"))
    await api_server.settled()
    reason = 'RBAC: clusterrole.rbac.authorization.k8s.io "recorded-none" not found'
    assert await ask(live, {"user": "u", "resourceAttributes": PODS}) == (201, {"allowed": False, "reason": reason})


async def test_masters_need_no_binding(live: Connection) -> None:
    """`system:masters` is allowed without a reason."""
    spec = {"user": "x", "groups": ["system:masters"], "resourceAttributes": PODS}
    assert await ask(live, spec) == (201, {"allowed": True})


@pytest.mark.parametrize(
    "spec",
    [
        {"user": "u"},
        {"resourceAttributes": PODS},
        {"user": "u", "resourceAttributes": PODS, "nonResourceAttributes": {"path": "/", "verb": "get"}},
    ],
)
async def test_unaskable_reviews_are_invalid(live: Connection, spec: dict[str, Any]) -> None:
    """No attributes, both kinds, or nobody to ask about: 422."""
    code, _ = await ask(live, spec)
    assert code == 422


async def test_wrong_types_are_bad_requests(live: Connection) -> None:
    """A number where text belongs: 400."""
    code, _ = await ask(live, {"user": 1, "resourceAttributes": PODS})
    assert code == 400


async def test_unknown_token_and_missing_right(api_server: Cluster) -> None:
    """A bad token is 401; a caller without the right to review is 403 and named."""
    async with await Connection.open(kubeconfig=api_server.kubeconfig("nonsense")) as connection:
        assert (await post(connection, REVIEWS, {}))[0] == 401
    async with await Connection.open(kubeconfig=api_server.kubeconfig(tokens.STRANGER)) as connection:
        code, status = await ask(connection, {"user": "u", "resourceAttributes": PODS})
    assert (code, status) == (403, "Failure")


async def test_token_reviews(live: Connection) -> None:
    """A known token is authenticated for its audience; others are not, and an empty one is a bad request."""
    body: dict[str, Any] = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview"}
    code, good = await post(live, TOKEN_REVIEWS, {**body, "spec": {"token": tokens.STRANGER}})
    assert (code, good["status"]["authenticated"], good["status"]["user"]["username"]) == (201, True, "stranger")
    code, bad = await post(live, TOKEN_REVIEWS, {**body, "spec": {"token": tokens.STRANGER, "audiences": ["other"]}})
    assert (code, bad["status"].get("authenticated")) == (201, None)
    code, bad = await post(live, TOKEN_REVIEWS, {**body, "spec": {"token": "nonsense"}})
    assert (code, bad["status"].get("authenticated")) == (201, None)
    assert (await post(live, TOKEN_REVIEWS, {**body, "spec": {"token": ""}}))[0] == 400


async def test_revocation_reaches_the_review(api_server: Cluster, live: Connection) -> None:
    """The authorizer allows while the binding stands and denies once its end has reached the API server."""
    bound = binding("b", "r", user("u"), namespace="recorded")
    authorizer = KubernetesAuthorizer(live, Limits(timeout_seconds=10))
    await api_server.apply(role("r", READ), bound)
    await api_server.settled()
    attributes = ResourceAttributes("get", resource="pods", namespace="recorded")
    assert (await authorizer.review(Subject.authenticated("u"), attributes)).allowed
    await api_server.delete(bound)
    await api_server.settled()
    assert not (await authorizer.review(Subject.authenticated("u"), attributes)).allowed


async def test_lists_bear_a_version_and_items_no_kind(api_server: Cluster, live: Connection) -> None:
    """A list has a resourceVersion; its items have no kind of their own."""
    await api_server.apply(role("r", READ))
    listed = orjson.loads((await live.request("GET", f"{RBAC}/clusterroles", timeout=10)).body)
    assert (listed["kind"], listed["apiVersion"]) == ("ClusterRoleList", "rbac.authorization.k8s.io/v1")
    assert int(listed["metadata"]["resourceVersion"]) > 0
    assert not any("kind" in item for item in listed["items"])


async def test_watch_from_a_list(api_server: Cluster, live: Connection) -> None:
    """A watch from a list's version tells every later change, with rising versions."""
    listed = orjson.loads((await live.request("GET", f"{RBAC}/clusterroles", timeout=10)).body)
    params = {"watch": "true", "resourceVersion": listed["metadata"]["resourceVersion"]}
    async with live.stream(f"{RBAC}/clusterroles", params=params, idle_timeout=10) as lines:
        await api_server.apply(role("r", READ), role("r", READ, READ))
        await api_server.delete(role("r"))
        events = [orjson.loads(await anext(lines)) for _ in range(3)]
    assert [event["type"] for event in events] == ["ADDED", "MODIFIED", "DELETED"]
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in events]
    assert versions == sorted(set(versions))


async def test_streaming_list(api_server: Cluster, live: Connection) -> None:
    """`sendInitialEvents` gives everything there is, then an annotated bookmark, then changes."""
    params = {
        "watch": "true",
        "sendInitialEvents": "true",
        "resourceVersionMatch": "NotOlderThan",
        "allowWatchBookmarks": "true",
    }
    async with live.stream(f"{RBAC}/clusterrolebindings", params=params, idle_timeout=10) as lines:
        kinds = []
        async for line in lines:
            event = orjson.loads(line)
            kinds.append(event["type"])
            if event["type"] == "BOOKMARK":
                break
        assert set(kinds[:-1]) == {"ADDED"}
        assert event["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        await api_server.apply(binding("recorded", "recorded-none", user("u")))
        assert orjson.loads(await anext(lines))["type"] == "ADDED"


async def test_future_version_is_silent(api_server: Cluster, live: Connection) -> None:
    """A watch from a version that does not exist yet is an empty answer, not an error."""
    params = {"watch": "true", "resourceVersion": "999999999", "timeoutSeconds": "1"}
    async with live.stream(f"{RBAC}/roles", params=params, idle_timeout=10) as lines:
        assert [line async for line in lines] == []


async def test_discovery(live: Connection) -> None:
    """The version and the RBAC group can be found."""
    version = orjson.loads((await live.request("GET", "/version", timeout=10)).body)
    assert version["gitVersion"].startswith("v1.")
    groups = orjson.loads((await live.request("GET", "/apis", timeout=10)).body)["groups"]
    assert "rbac.authorization.k8s.io" in {item["name"] for item in groups}
    resources = orjson.loads((await live.request("GET", RBAC, timeout=10)).body)["resources"]
    assert {"roles", "rolebindings", "clusterroles", "clusterrolebindings"} <= {item["name"] for item in resources}
    core = orjson.loads((await live.request("GET", "/api", timeout=10)).body)
    assert core["versions"] == ["v1"]
