"""Traces: one span for each decision, below the one that `traceparent` names, and one for each wait in it.

Promises: whether a request is traced is the caller's choice (W3C Trace Context), spans leave
by a thread of the SDK that drops what it cannot send, and nothing here changes a decision. No
span holds a credential, a path, or a user's name: those are in the audit log, by the same
trace id. Without tracing none of this is loaded.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from time import time_ns
from typing import Any, TypeVar

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from extauthz import __version__
from extauthz.decision import Decision, Outcome, Reason
from extauthz.found import Found
from extauthz.observe.meter import MeteredGateway
from extauthz.request import Request
from extauthz.review import Attributes, NonResourceAttributes, Review
from extauthz.settings.observe import TracingSettings
from extauthz.steps import Authenticator, Authorizer, NamespaceLookup
from extauthz.subject import Subject

EXPORT_SECONDS = 2.0
"""How long sending may take, also at the end of the process."""

Answer = TypeVar("Answer")

_PROPAGATOR = TraceContextTextMapPropagator()
_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Wait:
    """Something that a decision waited for; times are Unix nanoseconds."""

    name: str
    attributes: Mapping[str, str]
    began: int = field(default_factory=time_ns)
    ended: int = 0


_waits: ContextVar[list[Wait] | None] = ContextVar("waits", default=None)


class Tracing:
    """Makes spans of decisions."""

    def __init__(self, settings: TracingSettings, exporter: SpanExporter | None = None) -> None:
        """Send to the settings' collector, or hand spans to `exporter`."""
        sampler = ParentBased(TraceIdRatioBased(settings.sample_share))
        resource = Resource.create({"service.name": "extauthz", "service.version": __version__})
        self._provider = TracerProvider(sampler=sampler, resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(
            BatchSpanProcessor(exporter or _exporter(settings), export_timeout_millis=EXPORT_SECONDS * 1000)
        )
        self._tracer = self._provider.get_tracer("extauthz", __version__)

    def gateway(self, **parts: Any) -> TracedGateway:
        """Return a gateway of these parts whose decisions are traced."""
        return TracedGateway(self, **parts)

    def tell(self, request: Request, decision: Decision, began: int, waits: list[Wait]) -> None:
        """Make the spans of a decision. Never raises."""
        try:
            self._tell(request, decision, began, waits)
        except Exception:
            _logger.exception("a decision could not be traced")

    def stop(self) -> None:
        """Send what waits. May block for EXPORT_SECONDS."""
        self._provider.force_flush(int(EXPORT_SECONDS * 1000))
        self._provider.shutdown()

    def _tell(self, request: Request, decision: Decision, began: int, waits: list[Wait]) -> None:
        headers = {name: value for name in ("traceparent", "tracestate") if (value := request.headers.get(name))}
        parent = _PROPAGATOR.extract(headers)
        span = self._tracer.start_span("check", context=parent, kind=SpanKind.SERVER, start_time=began)
        if span.is_recording():
            span.set_attributes(_attributes(request, decision))
            if decision.outcome is Outcome.ERROR:
                span.set_status(Status(StatusCode.ERROR, str(decision.reason)))
            inside = set_span_in_context(span)
            for wait in waits:
                child = self._tracer.start_span(
                    wait.name,
                    context=inside,
                    kind=SpanKind.CLIENT,
                    start_time=wait.began,
                    attributes=dict(wait.attributes),
                )
                child.end(wait.ended or time_ns())
        span.end(time_ns())


class TracedGateway(MeteredGateway):
    """A gateway whose decisions are traced, and what they wait for."""

    def __init__(
        self,
        tracing: Tracing,
        *,
        authenticator: Authenticator,
        authorizer: Authorizer,
        lookup: NamespaceLookup | None,
        **rest: Any,
    ) -> None:
        super().__init__(
            authenticator=_Authenticator(authenticator),
            authorizer=_Authorizer(authorizer),
            lookup=_Lookup(lookup) if lookup else None,
            **rest,
        )
        self._tracing = tracing

    def decide(self, request: Request) -> Decision | Awaitable[Decision]:
        """Decide a request, as `Gateway.decide` does."""
        began, waits = time_ns(), list[Wait]()
        with _noting(waits):
            answer = super().decide(request)
        if isinstance(answer, Decision):
            self._tracing.tell(request, answer, began, waits)
            return answer
        return self._trace(request, answer, began, waits)

    def repeat(self, decision: Decision, request_id: str, request: Callable[[], Request]) -> bool:
        """Give an allow again, as `Gateway.repeat` does."""
        began = time_ns()
        repeated = super().repeat(decision, request_id, request)
        if repeated:
            self._tracing.tell(request(), decision, began, [])
        return repeated

    async def _trace(self, request: Request, answer: Awaitable[Decision], began: int, waits: list[Wait]) -> Decision:
        with _noting(waits):
            decision = await answer
        self._tracing.tell(request, decision, began, waits)
        return decision


class _Authenticator:
    def __init__(self, inner: Authenticator) -> None:
        self._inner = inner

    def authenticate(self, request: Request) -> Subject | Awaitable[Subject | None] | None:
        answer = self._inner.authenticate(request)
        if answer is None or isinstance(answer, Subject):
            return answer
        return _noted(answer, Wait("authenticate", {}))


class _Authorizer:
    def __init__(self, inner: Authorizer) -> None:
        self._inner = inner

    def review(self, subject: Subject, attributes: Attributes) -> Review | Awaitable[Review]:
        answer = self._inner.review(subject, attributes)
        return answer if isinstance(answer, Review) else _noted(answer, Wait("review", _right(attributes)))


class _Lookup:
    def __init__(self, inner: NamespaceLookup) -> None:
        self._inner = inner

    def namespace(self, kind: str, id: str, user: str) -> Found | Awaitable[Found | None] | None:  # noqa: A002
        answer = self._inner.namespace(kind, id, user)
        if answer is None or isinstance(answer, Found):
            return answer
        return _noted(answer, Wait("lookup", {"extauthz.lookup.kind": kind}))


@contextmanager
def _noting(waits: list[Wait]) -> Iterator[None]:
    """Note here what is waited for."""
    token = _waits.set(waits)
    try:
        yield
    finally:
        _waits.reset(token)


def _noted(answer: Awaitable[Answer], wait: Wait) -> Awaitable[Answer]:
    """Note how long an answer takes. It may be left alone, as the original may."""
    if (waits := _waits.get()) is None:
        return answer
    waits.append(wait)
    future = asyncio.ensure_future(answer)

    def end(done: asyncio.Future[Answer]) -> None:
        wait.ended = time_ns()
        if not done.cancelled():
            done.exception()  # seen: whoever asked for it may have gone

    future.add_done_callback(end)
    return future


def _attributes(request: Request, decision: Decision) -> dict[str, str | int | bool]:
    found: dict[str, str | int | bool] = {
        "http.request.method": request.method,
        "http.response.status_code": decision.status,
        "extauthz.decision": Outcome(decision.outcome).value,
        "extauthz.reason": str(decision.reason),
        "extauthz.shadow": decision.reason == Reason.SHADOW,
    }
    if decision.rule:
        found["extauthz.rule"] = decision.rule.name
    if decision.subject:
        found["extauthz.authenticator"] = decision.subject.authenticator
    return found


def _right(asked: Attributes) -> dict[str, str]:
    if isinstance(asked, NonResourceAttributes):
        return {"k8s.verb": asked.verb}
    return {
        "k8s.verb": asked.verb,
        "k8s.group": asked.group,
        "k8s.resource": asked.resource,
        "k8s.namespace.name": asked.namespace,
    }


def _exporter(settings: TracingSettings) -> SpanExporter:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(endpoint=settings.endpoint, timeout=int(EXPORT_SECONDS))
