"""Traces: a span for each decision below the caller's, one for each wait in it, and no secret."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from extauthz.decision import Decision
from extauthz.errors import ConfigurationError, Unavailable
from extauthz.found import Found
from extauthz.loading import load_tracing
from extauthz.observe.tracing import TracedGateway, Tracing
from extauthz.request import Request
from extauthz.review import Attributes, Review
from extauthz.settings import ResponseSettings, Settings
from extauthz.settings.observe import TracingSettings
from extauthz.subject import Subject
from tests.cases import load_policy, request

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = f"00-{TRACE}-{PARENT}-01"
UNSAMPLED = f"00-{TRACE}-{PARENT}-00"
RUN = "/pipeline/apis/v2beta1/runs/some-run"
NOWHERE = "http://127.0.0.1:1/v1/traces"


class Desk:
    """Answers at once, or when the test says so."""

    def __init__(self) -> None:
        self.later = False
        self.fails = False

    def authenticate(self, request: Request) -> Subject | Awaitable[Subject | None] | None:
        subject = Subject.authenticated("ann", authenticator="desk")
        return self._after(subject) if self.later else subject

    def namespace(self, kind: str, id: str, user: str) -> Found | Awaitable[Found | None] | None:  # noqa: A002
        found = Found("team-a", "some-run")
        return self._after(found) if self.later else found

    def review(self, subject: Subject, attributes: Attributes) -> Review | Awaitable[Review]:
        review = Review(attributes, allowed=True)
        return self._after(review) if self.later else review

    async def _after(self, answer: Any) -> Any:
        await asyncio.sleep(0)
        if self.fails:
            raise Unavailable("out_of_order", "")
        return answer


class Traced:
    """A gateway whose spans are kept."""

    def __init__(self, share: float = 0.0) -> None:
        self.desk = Desk()
        self.exporter = InMemorySpanExporter()
        self.tracing = Tracing(TracingSettings(endpoint=NOWHERE, sample_share=share), self.exporter)
        self.gateway = TracedGateway(
            self.tracing,
            policy=load_policy(),
            authenticator=self.desk,
            authorizer=self.desk,
            lookup=self.desk,
            response=ResponseSettings(),
        )

    async def decide(self, target: str, **headers: Any) -> Decision:
        answer = self.gateway.decide(request("GET", target, **headers))
        return answer if isinstance(answer, Decision) else await answer

    def spans(self) -> dict[str, ReadableSpan]:
        """Return what was sent, by name; no name comes twice."""
        self.tracing.stop()
        found = self.exporter.get_finished_spans()
        assert len({span.name for span in found}) == len(found)
        return {span.name: span for span in found}


async def test_a_decision_is_a_span_below_the_caller_s() -> None:
    """With what was decided and by which rule, but without path, user or credential."""
    traced = Traced()
    await traced.decide(f"{RUN}?token=s3cret", traceparent=SAMPLED, tracestate="a=b", authorization="Bearer s3cret")
    (span,) = traced.spans().values()
    assert span.context is not None
    assert span.parent is not None
    assert (f"{span.context.trace_id:x}", f"{span.parent.span_id:x}") == (TRACE.lstrip("0"), PARENT)
    assert dict(span.attributes or {}) == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "extauthz.decision": "allow",
        "extauthz.reason": "allowed",
        "extauthz.shadow": False,
        "extauthz.rule": "kfp-v2beta1-runs-get",
        "extauthz.authenticator": "desk",
    }
    assert "s3cret" not in span.to_json()
    assert "ann" not in span.to_json()


async def test_what_is_waited_for_is_below_it() -> None:
    """Keys or sessions, the owner of an object, and reviews: each with its own times, inside the decision's."""
    traced = Traced()
    traced.desk.later = True
    assert (await traced.decide(RUN, traceparent=SAMPLED)).allowed
    spans = traced.spans()
    assert spans.keys() == {"check", "authenticate", "lookup", "review"}
    check = spans.pop("check")
    assert check.context is not None
    for span in spans.values():
        assert span.parent is not None
        assert span.parent.span_id == check.context.span_id
        assert check.start_time <= span.start_time <= span.end_time <= check.end_time  # type: ignore[operator]
    assert spans["lookup"].attributes == {"extauthz.lookup.kind": "run"}
    assert (spans["review"].attributes or {})["k8s.namespace.name"] == "team-a"


async def test_a_failure_is_an_error() -> None:
    """A decision that could not be made is marked as one; a refusal is none."""
    traced = Traced()
    traced.desk.later = traced.desk.fails = True
    assert (await traced.decide(RUN, traceparent=SAMPLED)).status == 503
    check = traced.spans()["check"]
    assert (check.status.is_ok, check.status.description) == (False, "out_of_order")


@pytest.mark.parametrize("headers", [{"traceparent": UNSAMPLED}, {}, {"traceparent": "nonsense"}])
async def test_the_caller_decides_what_is_traced(headers: dict[str, str]) -> None:
    """Nothing of a request that is not sampled, nor of one that says nothing, unless a share is set."""
    traced = Traced()
    await traced.decide(RUN, **headers)
    assert traced.spans() == {}


async def test_a_share_of_the_others() -> None:
    """Requests without a trace begin one of their own."""
    traced = Traced(share=1)
    await traced.decide(RUN)
    assert traced.spans()["check"].parent is None


async def test_spans_reach_a_collector() -> None:
    """OTLP over HTTP, as any collector takes it, before the end."""
    received = ExportTraceServiceRequest()

    async def take(incoming: web.BaseRequest) -> web.Response:
        received.MergeFromString(await incoming.read())
        return web.Response()

    runner = web.ServerRunner(web.Server(take))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    tracing = Tracing(TracingSettings(endpoint=f"http://127.0.0.1:{runner.addresses[0][1]}/v1/traces"))
    asked = request("GET", "/public", traceparent=SAMPLED)
    gateway = tracing.gateway(
        policy=load_policy(), authenticator=Desk(), authorizer=Desk(), lookup=None, response=ResponseSettings()
    )
    assert isinstance(gateway.decide(asked), Decision)
    await asyncio.to_thread(tracing.stop)
    await runner.cleanup()
    (resource,) = received.resource_spans
    assert {each.key: each.value.string_value for each in resource.resource.attributes}["service.name"] == "extauthz"
    assert [span.name for span in resource.scope_spans[0].spans] == ["check"]


async def test_a_collector_that_is_gone_harms_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Decisions are made, and the end comes."""
    tracing = Tracing(TracingSettings(endpoint=NOWHERE, sample_share=1))
    gateway = tracing.gateway(
        policy=load_policy(), authenticator=Desk(), authorizer=Desk(), lookup=None, response=ResponseSettings()
    )
    decision = gateway.decide(request("GET", "/public"))
    assert isinstance(decision, Decision)
    assert decision.allowed
    await asyncio.to_thread(tracing.stop)


def test_without_opentelemetry_the_settings_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for traces learns what to install; everybody else does without."""
    monkeypatch.setitem(sys.modules, "extauthz.observe.tracing", None)
    identity = {"jwt": [{"issuer": "i", "audiences": ["a"], "keys": {"url": "https://i/"}}]}
    least = {"identity": identity, "access": {"rbac": {"manifests": ["a"]}}, "policy": {"paths": ["a"]}}
    whole = {"apiVersion": "extauthz.dev/v1", "kind": "Settings", **least, "tracing": {"endpoint": NOWHERE}}
    asked = Settings.model_validate_json(json.dumps(whole))
    with pytest.raises(ConfigurationError, match=r"extauthz\[otel\]"):
        load_tracing(asked)
    assert load_tracing(asked.model_copy(update={"tracing": None})) is None
