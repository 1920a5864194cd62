"""What is told of decisions beside their answers: the audit log."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from extauthz.document import Model
from extauthz.settings.identity import FilePath, NonEmpty


class AuditSettings(Model):
    """The audit log: one line of JSON for every refusal and for a share of what passes; see `docs/audit.md`."""

    output: Literal["off", "stdout", "file"] = "off"
    """Where the lines go."""
    file: FilePath | None = None
    """The file to append to, where `output` is `file`. It may be renamed at any time; a new one is begun then."""
    allow_share: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Which share of the allows is logged, chosen by request id. Refusals, and what shadow rules let pass, all are."""
    queue_records: Annotated[int, Field(ge=1, le=100_000)] = 2048
    """How many records may wait to be written; further ones are dropped and counted."""
    masks: list[NonEmpty] = []
    """Further names of query parameters, headers, claims and body members whose values are secrets."""

    @model_validator(mode="after")
    def _file_is_named(self) -> AuditSettings:
        if (self.file is not None) != (self.output == "file"):
            raise ValueError("audit.file goes with output: file, and output: file needs it")
        return self


class TracingSettings(Model):
    """Traces in OpenTelemetry's form: a span for each decision, below whatever `traceparent` names.

    They need the extra `otel`.
    """

    endpoint: Annotated[str, Field(pattern=r"^https?://(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?/\S*$")]
    """Where a collector takes OTLP over HTTP, such as `http://collector.tracing:4318/v1/traces`."""
    sample_share: Annotated[float, Field(ge=0, le=1)] = 0
    """Which share of the requests without `traceparent` is traced; with one, the caller has decided."""
