"""The authority's whole life, against the test API server: start, answers, outages, stop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from extauthz import settings
from extauthz.access import authority
from extauthz.access.authority import Cluster, Embedded
from extauthz.basis import ALWAYS
from extauthz.errors import ConfigurationError, Unavailable
from extauthz.review import ResourceAttributes, Review
from extauthz.settings import Access, LocalSettings, ReviewCacheSettings, WatchSettings
from extauthz.subject import Subject
from tests.apiserver import Double, answer
from tests.apiserver.fixtures import double
from tests.apiserver.manifests import binding, delegate, role, rule, user

__all__ = ["double"]

ANN, BOB = Subject.authenticated("ann"), Subject.authenticated("bob")
LIST_PODS = ResourceAttributes("list", resource="pods", namespace="team-a")
EDITOR = role("editor", rule(["list"], ["pods"]))
GRANT = binding("grant", "editor", user("ann"), namespace="team-a")
BRISK = settings.KubernetesAuthorizer(
    timeout_seconds=30, watch=WatchSettings(backoff_seconds=0.01, max_backoff_seconds=0.1)
)
SILENT = (
    "the API server does not answer reviews; one is tried every second,"
    " and kept answers are believed no longer than without a watch"
)
REVIEWS = "subjectaccessreviews"


@pytest.fixture(autouse=True)
def _probes_in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authority, "PROBE_SECONDS", 0.01)


@asynccontextmanager
async def started(kubeconfig: Path, **limits: Any) -> AsyncIterator[Cluster]:
    """A cluster that is started, and stopped in the end."""
    cluster = Cluster(BRISK.model_copy(update=limits), kubeconfig=kubeconfig)
    await cluster.start()
    try:
        yield cluster
    finally:
        await cluster.stop()


async def may(cluster: Cluster, subject: Subject = ANN) -> bool:
    """Ask whether a subject may list pods in team-a."""
    answered = cluster.review(subject, LIST_PODS)
    return (answered if isinstance(answered, Review) else await answered).allowed


async def synced(cluster: Cluster) -> None:
    """Wait until every change is seen."""
    await cluster.watch.wait_until(lambda: cluster.watch.problems() == [])


async def test_a_started_cluster_answers_and_sees_changes(double: Double) -> None:
    """Reviews are the API server's, kept answers end with the watch's events, and all is well then."""
    double.write(EDITOR)
    double.write(GRANT)
    async with started(double.kubeconfig()) as cluster:
        await asyncio.gather(cluster.answered.wait(), synced(cluster))
        assert (cluster.blockers(), cluster.warnings()) == ([], [])
        assert await may(cluster)
        assert not await may(cluster, BOB)
        double.erase(GRANT)
        await cluster.watch.wait_until(lambda: cluster.cached.review(ANN, LIST_PODS).__class__ is not Review)
        assert not await may(cluster)


async def test_the_watch_tells_whose_a_namespace_is(double: Double) -> None:
    """For the words of a refusal only."""
    double.write({"kind": "Namespace", "metadata": {"name": "team-a", "annotations": {"owner": "alice"}}})
    async with started(double.kubeconfig()) as cluster:
        await cluster.watch.wait_until(lambda: cluster.owner("team-a") == "alice")


async def test_it_is_blocked_until_the_first_review_is_answered(double: Double) -> None:
    """From construction to the first answer there is a sentence that says what is missing."""
    cluster = Cluster(settings.KubernetesAuthorizer(), kubeconfig=double.kubeconfig())
    assert cluster.blockers() == ["the API server is not connected"]
    with double.held_answers() as gate:
        await cluster.start()
        assert cluster.blockers() == ["the API server has not answered a review yet"]
        await gate.reached(1)
        assert cluster.blockers() == ["the API server has not answered a review yet"]
        gate.open()
        await cluster.answered.wait()
    assert cluster.blockers() == []
    await cluster.stop()
    assert cluster.blockers() == ["the API server is not connected"]


async def test_before_the_start_and_after_the_stop_nothing_is_answered(double: Double) -> None:
    """A review outside the authority's life is Unavailable, even where memory could answer it."""
    double.write(EDITOR)
    double.write(GRANT)
    cluster = Cluster(settings.KubernetesAuthorizer(), kubeconfig=double.kubeconfig())
    with pytest.raises(Unavailable, match=r"^authorizer_stopped: No reviews are asked now\.$"):
        cluster.review(ANN, LIST_PODS)
    await cluster.start()
    assert await may(cluster)
    await cluster.stop()
    with pytest.raises(Unavailable, match=r"^authorizer_stopped: No reviews are asked now\.$"):
        cluster.review(ANN, LIST_PODS)
    assert cluster.warnings() == []


async def test_stop_answers_everyone_who_waits(double: Double) -> None:
    """Whoever waits for a review at the stop is told that there is no answer, and nothing stays open."""
    with double.held_answers() as gate:
        async with started(double.kubeconfig()) as cluster:
            waiting = [asyncio.ensure_future(may(cluster, Subject.authenticated(f"user-{n}"))) for n in range(100)]
            await gate.reached(64)
            await cluster.stop()
            outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {Unavailable}
    assert (cluster.reviews.limiter.running, cluster.reviews.limiter.waiting) == (0, 0)


async def test_stop_without_a_start_is_nothing(double: Double) -> None:
    """A service that failed before it started its authority can still be stopped."""
    await Cluster(settings.KubernetesAuthorizer(), kubeconfig=double.kubeconfig()).stop()


async def test_an_api_server_that_comes_up_later_is_found(tmp_path: Path) -> None:
    """Started before its API server, the authority says so, and is ready once the server is, by itself."""
    async with Double.running(tmp_path, tls=False) as gone:
        kubeconfig, port = gone.kubeconfig(), int(gone.url.rpartition(":")[2])
    async with started(kubeconfig) as cluster:
        await cluster.watch.wait_until(lambda: cluster.watch.counts.failures >= 5)
        with pytest.raises(Unavailable):
            await may(cluster)
        (blocker,) = cluster.blockers()
        assert blocker.startswith("the API server has not answered a review yet")
        assert len(cluster.watch.problems()) == 5
        assert cluster.watch.problems()[0] in cluster.warnings()
        async with Double.running(tmp_path, tls=False, port=port) as server:
            for manifest in (*delegate(), EDITOR, GRANT):
                server.write(manifest)
            await asyncio.gather(cluster.answered.wait(), synced(cluster))
            assert await may(cluster)
            assert (cluster.blockers(), cluster.warnings()) == ([], [])


async def test_a_cluster_restored_from_a_backup_ends_what_was_granted_after_it(tmp_path: Path) -> None:
    """An API server that comes back with older versions is listed anew; a resumed watch would be silent for ever."""
    async with Double.running(tmp_path, tls=False) as server:
        for manifest in (*delegate(), EDITOR, GRANT):
            server.write(manifest)
        port = int(server.url.rpartition(":")[2])
        cluster = Cluster(BRISK, kubeconfig=server.kubeconfig())
        await cluster.start()
        await asyncio.gather(cluster.answered.wait(), synced(cluster))
        assert await may(cluster)
    await cluster.watch.wait_until(lambda: set(cluster.watch.states.values()) == {"down"})
    async with Double.running(tmp_path, tls=False, port=port) as restored:
        for manifest in (*delegate(), EDITOR):
            restored.write(manifest)
        lists = cluster.watch.counts.lists
        await synced(cluster)
        assert cluster.watch.counts.lists == lists + len(cluster.watch.states)
        assert not await may(cluster)
        restored.write(GRANT)
        await cluster.watch.wait_until(lambda: cluster.cached.review(ANN, LIST_PODS).__class__ is not Review)
        assert await may(cluster)
        await cluster.stop()


async def test_missing_rights_block_and_the_warning_says_the_cure(double: Double) -> None:
    """An extauthz that may not ask reviews is never ready, names the role to bind, and recovers once it is bound."""
    with ExitStack() as unbound:
        unbound.enter_context(double.fault(REVIEWS, answer(403)))
        async with started(double.kubeconfig()) as cluster:
            await synced(cluster)
            with pytest.raises(Unavailable, match="authorizer_misconfigured"):
                await may(cluster)
            assert cluster.blockers()
            (warning,) = cluster.warnings()
            assert "bind ClusterRole system:auth-delegator" in warning
            unbound.close()
            await cluster.answered.wait()
            assert (cluster.blockers(), cluster.warnings()) == ([], [])


async def five_failures(cluster: Cluster) -> None:
    """Let as many reviews fail as open the circuit breaker."""
    for number in range(5):
        with pytest.raises(Unavailable):
            await may(cluster, Subject.authenticated(f"user-{number}"))


async def test_while_reviews_get_no_answer_the_watch_is_not_believed(double: Double) -> None:
    """A hanging API server keeps its watches open: what is kept then serves no longer than without a watch."""
    double.write(EDITOR)
    double.write(GRANT)
    brief = ReviewCacheSettings(settling_seconds=0.1, ttl_without_watch_seconds=0)
    async with started(double.kubeconfig(), cache=brief) as cluster:
        await asyncio.gather(cluster.answered.wait(), synced(cluster))
        over = asyncio.get_running_loop().time() + brief.settling_seconds
        while asyncio.get_running_loop().time() <= over:
            assert await may(cluster)
        assert await may(cluster)
        assert isinstance(cluster.review(ANN, LIST_PODS), Review)
        with double.fault(REVIEWS, answer(500, headers={"Retry-After": "99"})):
            await five_failures(cluster)
            assert cluster.watch.problems() == []
            with pytest.raises(Unavailable):
                await may(cluster)


async def test_an_outage_after_the_first_answer_is_a_warning(double: Double) -> None:
    """Once ready, a failing API server is told in words, and is no reason to take the replica out."""
    async with started(double.kubeconfig()) as cluster:
        await asyncio.gather(cluster.answered.wait(), synced(cluster))
        with double.fault(REVIEWS, answer(500, headers={"Retry-After": "99"})):
            await five_failures(cluster)
        assert cluster.blockers() == []
        assert cluster.warnings() == [SILENT]


async def compared(cluster: Cluster) -> None:
    """Wait until the comparison under way is over."""
    assert cluster.local
    assert cluster.local._comparison
    await cluster.local._comparison


async def test_local_answers_follow_the_live_watch_and_ask_nothing(double: Double) -> None:
    """Rights come and go with the watch's events; the API server is asked only to compare."""
    double.write(EDITOR)
    double.write(GRANT)
    async with started(double.kubeconfig(), local=LocalSettings(verify_sample=1)) as cluster:
        await asyncio.gather(cluster.answered.wait(), synced(cluster))
        assert cluster.local
        double.calls.clear()
        assert await may(cluster)
        await compared(cluster)
        double.erase(GRANT)
        await cluster.watch.wait_until(lambda: not local_allow(cluster))
        await compared(cluster)
        assert double.calls[f"create {REVIEWS}"] == cluster.local.counts.verified == 2
        assert cluster.local.counts.fallback == 0
        assert cluster.local.trusted
        assert cluster.warnings() == []


def local_allow(cluster: Cluster) -> bool:
    """Whether ann may list pods, answered at once."""
    answered = cluster.review(ANN, LIST_PODS)
    assert isinstance(answered, Review)
    return answered.allowed


async def test_the_first_difference_from_the_server_ends_local_answers(double: Double) -> None:
    """Where another authorizer has a say, the API server's word counts from then on, and everybody is told."""
    double.write(EDITOR)
    double.write(GRANT)
    refused = {"kind": "SubjectAccessReview", "status": {"allowed": False, "denied": True, "reason": "a webhook"}}
    local = LocalSettings(verify_sample=1)
    async with started(double.kubeconfig(), local=local, cache=ReviewCacheSettings(settling_seconds=0.1)) as cluster:
        await asyncio.gather(cluster.answered.wait(), synced(cluster))
        assert cluster.local
        with double.fault(REVIEWS, answer(201, refused)):
            assert local_allow(cluster)
            await compared(cluster)
            assert not cluster.local.trusted
            assert cluster.local.counts.differences == 1
            assert not await may(cluster)
            (warning,) = cluster.warnings()
            assert "local RBAC evaluation is off: a real review differs for 'ann'" in warning
        assert cluster.local.counts.fallback == 1
        assert await may(cluster, BOB) is False
        assert cluster.local.counts.fallback == 2


async def test_while_the_watch_is_down_local_answers_are_asked_for(double: Double) -> None:
    """What is not seen is not evaluated: the cache and the API server stand in."""
    double.write(EDITOR)
    async with started(double.kubeconfig(), local=LocalSettings()) as cluster:
        await asyncio.gather(cluster.answered.wait(), synced(cluster))
        assert cluster.local
        with double.fault("/rolebindings", answer(503)):
            double.objects.drop_watches()
            await cluster.watch.wait_until(lambda: cluster.watch.states["rolebindings"] == "down")
            double.write(GRANT)
            assert await may(cluster)
            assert cluster.local.counts.fallback == 1
        await synced(cluster)
        assert local_allow(cluster)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "kubeconfig cannot be used: Invalid kube-config file"),
        ("{}", "kubeconfig cannot be used"),
        ("\t:", "kubeconfig cannot be used"),
    ],
)
async def test_an_unusable_kubeconfig_is_a_configuration_error(tmp_path: Path, content: str | None, says: str) -> None:
    """A kubeconfig that is missing or empty ends the start with one sentence that names the file."""
    file = tmp_path / "kubeconfig"
    if content is not None:
        file.write_text(content)
    cluster = Cluster(settings.KubernetesAuthorizer(), kubeconfig=file)
    with pytest.raises(ConfigurationError, match=says) as caught:
        await cluster.start()
    assert str(file) in str(caught.value)
    assert cluster.blockers() == ["the API server is not connected"]
    await cluster.stop()


async def test_the_context_of_the_settings_counts(double: Double) -> None:
    """One that the kubeconfig does not know ends the start."""
    cluster = Cluster(settings.KubernetesAuthorizer(context="elsewhere"), kubeconfig=double.kubeconfig())
    with pytest.raises(ConfigurationError, match="elsewhere"):
        await cluster.start()
    await cluster.stop()


def test_settings_choose_the_authority(tmp_path: Path) -> None:
    """Manifests mean the embedded evaluator; a cluster's kubeconfig counts from the settings file's folder."""
    (tmp_path / "rbac.yaml").write_text("\n---\n".join(json.dumps(each) for each in (EDITOR, GRANT)))
    embedded = authority.of(Access.model_validate({"rbac": {"manifests": ["rbac.yaml"]}}), tmp_path.joinpath)
    assert isinstance(embedded, Embedded)
    cluster = authority.of(Access.model_validate({"kubernetes": {"kubeconfig": "config"}}), tmp_path.joinpath)
    assert isinstance(cluster, Cluster)
    assert cluster._kubeconfig == tmp_path / "config"
    access = Access.model_validate({"kubernetes": {"context": "other"}})
    in_pod = authority.of(access, tmp_path.joinpath)
    assert isinstance(in_pod, Cluster)
    assert (in_pod._kubeconfig, in_pod._limits) == (None, access.kubernetes)


async def test_the_embedded_evaluator_is_always_ready(tmp_path: Path) -> None:
    """Manifests that loaded answer at once, and have neither blockers nor warnings."""
    (tmp_path / "rbac.yaml").write_text("\n---\n".join(json.dumps(each) for each in (EDITOR, GRANT)))
    embedded = Embedded([tmp_path / "rbac.yaml"])
    await embedded.start()
    review = embedded.review(ANN, LIST_PODS)
    assert isinstance(review, Review)
    assert review.allowed
    assert review.ground is ALWAYS
    assert (embedded.blockers(), embedded.warnings()) == ([], [])
    await embedded.stop()


def test_the_embedded_evaluator_knows_whose_a_namespace_of_the_manifests_is(tmp_path: Path) -> None:
    """Namespaces may lie among the manifests; what they say of their owner is told."""
    named = {"name": "team-a", "annotations": {"owner": "ann@example.com"}}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": named}
    (tmp_path / "rbac.yaml").write_text(json.dumps(namespace))
    embedded = Embedded([tmp_path / "rbac.yaml"])
    assert embedded.owner("team-a") == "ann@example.com"
    assert embedded.owner("team-b") == ""
