"""What operators are told: decisions and the cluster's states, in Prometheus' format."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from aiohttp import ClientSession
from grpc.aio import insecure_channel
from prometheus_client.parser import text_string_to_metric_families as parse

from extauthz import __version__, policy, settings
from extauthz.access.authority import Cluster
from extauthz.decision import Decision, Outcome, Reason, failed
from extauthz.edge.grpc import GrpcEdge
from extauthz.edge.http import HttpEdge
from extauthz.errors import Unavailable
from extauthz.loading import KEYS, LOOKUPS
from extauthz.observe import meter as meter_module
from extauthz.observe.meter import BOUNDS, Histogram, Meter, MeteredGateway
from extauthz.observe.metrics import Metrics
from extauthz.request import Request, read
from extauthz.review import Attributes, ResourceAttributes, Review
from extauthz.settings import ResponseSettings
from extauthz.settings.listeners import GrpcListener, HttpListener
from extauthz.subject import Subject
from tests.apiserver import Double, answer
from tests.apiserver.fixtures import double
from tests.cases import REPOSITORY

__all__ = ["double"]

Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]
ALLOW = Decision(Outcome.ALLOW, 200, Reason.ALLOWED, "")
LIST_RUNS = read(method="GET", target="/pipeline/apis/v2beta1/runs?namespace=team-a", headers={})


class Desk:
    """Knows ann, and answers reviews at once or when the test says so."""

    def __init__(self) -> None:
        self.later: asyncio.Future[Review] | None = None

    def authenticate(self, request: Request) -> Subject:
        return Subject.authenticated("ann")

    def review(self, subject: Subject, attributes: Attributes) -> Review | Awaitable[Review]:
        return self.later or Review(attributes, allowed=True)


class Nothing:
    """An authority without a cluster."""

    def review(self, subject: Subject, attributes: Attributes) -> Review:
        raise Unavailable("authorizer_stopped", "")

    async def start(self) -> None: ...
    async def stop(self) -> None: ...

    def blockers(self) -> list[str]:
        return []

    def warnings(self) -> list[str]:
        return []

    def owner(self, namespace: str) -> str:
        return ""


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def gateway(desk: Desk) -> MeteredGateway:
    """A gateway over the shipped policy."""
    rules = policy.load([REPOSITORY / "policies" / "kubeflow" / "pipelines-v2beta1.yaml"], KEYS, LOOKUPS)
    return MeteredGateway(policy=rules, authenticator=desk, authorizer=desk, response=ResponseSettings())


@asynccontextmanager
async def started(double: Double, limits: settings.KubernetesAuthorizer) -> AsyncIterator[Cluster]:
    """A started cluster that is synced."""
    cluster = Cluster(limits, kubeconfig=double.kubeconfig())
    await cluster.start()
    await cluster.answered.wait()
    await cluster.watch.wait_until(lambda: not cluster.watch.problems())
    yield cluster
    await cluster.stop()


@pytest.fixture
async def cluster(double: Double) -> AsyncIterator[Cluster]:
    """A cluster by the default settings."""
    async with started(double, settings.KubernetesAuthorizer()) as cluster:
        yield cluster


def samples(metrics: Metrics) -> Samples:
    """Read what a scrape would get; two samples of one name and labels would be an error to Prometheus."""
    body, content_type = metrics.exposition("")
    assert content_type.startswith("text/plain")
    found = [sample for family in parse(body.decode()) for sample in family.samples]
    by_name = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in found}
    assert len(by_name) == len(found)
    return by_name


def of(meter: Meter) -> Samples:
    return samples(Metrics(meter, Nothing(), lambda: True))


def value(found: Samples, name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


def test_a_decision_from_memory_is_counted_and_timed(gateway: MeteredGateway) -> None:
    """What is decided at once counts by outcome and reason, and among the fast ones."""
    assert isinstance(gateway.decide(LIST_RUNS), Decision)
    assert isinstance(gateway.decide(read(method="GET", target="/nowhere", headers={})), Decision)
    found = of(gateway.meter)
    assert (
        value(found, "extauthz_decisions_total", outcome="allow", reason="allowed", rule="kfp-v2beta1-runs-list") == 1
    )
    assert value(found, "extauthz_decisions_total", outcome="deny", reason="no_rule", rule="") == 1
    assert value(found, "extauthz_decision_seconds_count", answered="from_memory") == 2
    assert value(found, "extauthz_decision_seconds_count", answered="after_asking") == 0


async def test_a_decision_that_waits_is_counted_when_it_falls(gateway: MeteredGateway, desk: Desk) -> None:
    """What had to be asked for counts once it is decided, and apart from the fast ones."""
    desk.later = asyncio.get_running_loop().create_future()
    waiting = gateway.decide(LIST_RUNS)
    assert not isinstance(waiting, Decision)
    assert gateway.meter.decisions == {}
    desk.later.set_result(Review(ResourceAttributes("list"), allowed=False))
    assert not (await waiting).allowed
    found = of(gateway.meter)
    assert (
        value(found, "extauthz_decisions_total", outcome="deny", reason="forbidden", rule="kfp-v2beta1-runs-list") == 1
    )
    assert value(found, "extauthz_decision_seconds_count", answered="after_asking") == 1


async def test_an_abandoned_check_is_counted(gateway: MeteredGateway, desk: Desk) -> None:
    """A check that Envoy gives up on is no decision, but shows."""
    desk.later = asyncio.get_running_loop().create_future()
    waiting = asyncio.ensure_future(gateway.decide(LIST_RUNS))  # type: ignore[arg-type] # it is no Decision yet
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    found = of(gateway.meter)
    assert value(found, "extauthz_checks_abandoned_total") == 1
    assert value(found, "extauthz_decision_seconds_count", answered="after_asking") == 0


async def test_a_check_that_is_no_request_is_counted(gateway: MeteredGateway) -> None:
    """What an edge refuses before there is a request shows by its reason, on both edges."""
    http = HttpEdge(gateway, HttpListener(address="127.0.0.1:0", path_prefix="/check"), max_body_bytes=1024)
    grpc = GrpcEdge(gateway, GrpcListener(address="127.0.0.1:0"), max_body_bytes=1024)
    await http.start()
    await grpc.start()
    async with ClientSession() as client, client.get(f"http://127.0.0.1:{http.port}/elsewhere") as response:
        assert response.status == 403
    async with insecure_channel(f"127.0.0.1:{grpc.port}") as channel:
        check = channel.unary_unary("/envoy.service.auth.v3.Authorization/Check")
        for content in (b"", b"\xff"):
            assert await check(content)
    await http.stop(0)
    await grpc.stop(0)
    found = of(gateway.meter)
    for reason in ("path_prefix_missing", "not_http", "check_undecodable"):
        assert value(found, "extauthz_decisions_total", outcome="deny", reason=reason, rule="") == 1


def test_one_code_is_one_series() -> None:
    """A reason counts the same whether it comes as an enum or as its text."""
    meter = Meter()
    meter.count(replace(ALLOW, reason="allowed"))
    meter.count(ALLOW)
    assert value(of(meter), "extauthz_decisions_total", outcome="allow", reason="allowed", rule="") == 2


def test_series_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many different reasons came, the series stay few, and none goes uncounted."""
    monkeypatch.setattr(meter_module, "MAX_SERIES", 3)
    meter = Meter()
    for number in range(10):
        meter.count(failed(Unavailable(f"reason_{number}", "")))
    assert len(meter.decisions) == 4
    assert value(of(meter), "extauthz_decisions_total", outcome="error", reason="other", rule="other") == 7


def test_histograms_are_cumulative() -> None:
    """Each bucket holds all shorter durations; a bound belongs to its bucket; the sum is in seconds."""
    histogram = Histogram()
    for seconds in (BOUNDS[0], 0.000_05, 99.0):
        histogram.observe(seconds)
    found = of(Meter(from_memory=histogram))
    bucket = "extauthz_decision_seconds_bucket"
    assert value(found, bucket, answered="from_memory", le="1e-05") == 1
    assert value(found, bucket, answered="from_memory", le="5e-05") == 2
    assert value(found, bucket, answered="from_memory", le="2.5") == 2
    assert value(found, bucket, answered="from_memory", le="+Inf") == 3
    assert value(found, "extauthz_decision_seconds_sum", answered="from_memory") == pytest.approx(99.000_06)


def test_without_a_cluster_there_is_nothing_of_it() -> None:
    """The version, readiness and the process are always told; nothing is made up for what is not there."""
    metrics = Metrics(Meter(), Nothing(), lambda: False)
    found = samples(metrics)
    assert value(found, "extauthz_info", version=__version__) == 1
    assert value(found, "extauthz_ready") == 0
    assert value(found, "process_resident_memory_bytes") > 0
    assert not [name for name, _ in found if "review" in name or "watch" in name]
    assert b"# EOF" in metrics.exposition("application/openmetrics-text; version=1.0.0")[0]


async def test_a_cluster_s_states_are_told(double: Double, cluster: Cluster) -> None:
    """Reviews, cache, breaker and the watch of each resource show, in health and in trouble."""
    metrics = Metrics(Meter(), cluster, lambda: True)
    for _ in range(2):
        answered = cluster.review(Subject.authenticated("ann"), ResourceAttributes("list", resource="pods"))
        assert isinstance(answered, Review) or not (await answered).allowed
    found = samples(metrics)
    assert value(found, "extauthz_reviews_total", result="answered") == 2  # one is the probe
    assert value(found, "extauthz_review_requests_total") == 2
    assert value(found, "extauthz_review_cache_requests_total", result="hit") == 1
    assert value(found, "extauthz_review_cache_requests_total", result="miss") == 1
    assert value(found, "extauthz_review_cache_entries") == 1
    assert 500 < value(found, "extauthz_review_cache_bytes") < 2000
    assert value(found, "extauthz_reviews_in_flight") == value(found, "extauthz_reviews_waiting") == 0
    assert value(found, "extauthz_authorizer_breaker_state", state="closed") == 1
    assert value(found, "extauthz_watch_state", resource="rolebindings", state="synced") == 1
    assert value(found, "extauthz_watch_events_total") > 0
    assert 0 <= value(found, "extauthz_watch_age_seconds", resource="rolebindings") < 600

    with double.fault("subjectaccessreviews", answer(400)), double.fault("/rolebindings", answer(403)):
        double.objects.drop_watches()
        await cluster.watch.wait_until(lambda: cluster.watch.states["rolebindings"] == "forbidden")
        with pytest.raises(Unavailable):
            await cluster.reviews.review(Subject.authenticated("bob"), ResourceAttributes("list"))
        found = samples(metrics)
    assert value(found, "extauthz_reviews_total", result="failed") == 1
    assert value(found, "extauthz_watch_state", resource="rolebindings", state="forbidden") == 1
    assert value(found, "extauthz_watch_state", resource="rolebindings", state="synced") == 0


async def test_local_evaluation_is_told_and_its_end_is_loud(double: Double) -> None:
    """Who answered, what comparing came to, and 0 where an alert should ring."""
    local = settings.LocalSettings(verify_sample=1)
    cache = settings.ReviewCacheSettings(settling_seconds=0.1)
    asked = ResourceAttributes("list", resource="pods")
    granted = {"kind": "SubjectAccessReview", "status": {"allowed": True}}
    async with started(double, settings.KubernetesAuthorizer(local=local, cache=cache)) as cluster:
        metrics = Metrics(Meter(), cluster, lambda: True)
        assert value(samples(metrics), "extauthz_local_trusted") == 1
        with double.fault("subjectaccessreviews", answer(201, granted)):
            assert isinstance(cluster.review(Subject.authenticated("ann"), asked), Review)
            assert cluster.local
            assert cluster.local._comparison
            await cluster.local._comparison
        found = samples(metrics)
    assert value(found, "extauthz_local_trusted") == 0
    assert value(found, "extauthz_local_reviews_total", answered="local") == 1
    assert value(found, "extauthz_local_comparisons_total", result="different") == 1


async def test_a_stopped_cluster_can_be_scraped(cluster: Cluster) -> None:
    """A scrape during the shutdown is no error."""
    await cluster.stop()
    assert value(samples(Metrics(Meter(), cluster, lambda: False)), "extauthz_ready") == 0
