"""The service's own configuration: listeners, identity, access, policy.

Durations are in seconds and sizes in bytes; the unit is in the name. Relative paths
count from the settings file's folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PrivateAttr, model_validator

from extauthz import document
from extauthz.document import Document, Model
from extauthz.errors import ConfigurationError, Problem
from extauthz.settings.environment import override
from extauthz.settings.identity import FilePath, HeaderName, Identity, NonEmpty
from extauthz.settings.listeners import Listeners, ShutdownSettings
from extauthz.settings.observe import AuditSettings, TracingSettings
from extauthz.settings.page import RefusalPage


class RbacAuthorizer(Model):
    """The embedded evaluator over RBAC manifests, for a laptop, CI and the demo."""

    manifests: Annotated[list[FilePath], Field(min_length=1)]
    """Files and folders of YAML or JSON manifests."""


class ReviewCacheSettings(Model):
    """How long an answer is believed. Times count from the moment its review was sent."""

    allow_seconds: Annotated[float, Field(ge=0, le=3600)] = 60
    """How long an allow is believed while the RBAC watch sees every change."""
    deny_seconds: Annotated[float, Field(ge=0, le=3600)] = 10
    """How long a denial is believed while the RBAC watch sees every change."""
    ttl_without_watch_seconds: Annotated[float, Field(ge=0, le=300)] = 10
    """The longest that any answer is believed while the watch is off, down or behind."""
    settling_seconds: Annotated[float, Field(ge=0.1, le=60)] = 1
    """How far an API server may lag behind its own watch: answers from this time after a change are kept no longer."""
    max_stale_seconds: Annotated[float, Field(ge=0, le=3600)] = 0
    """The greatest age of an allow that serves while reviews get no answer; 0 refuses instead."""
    max_entries: Annotated[int, Field(ge=0)] = 100_000
    """The most answers to keep; the least recently used go first. 0 keeps none."""
    max_bytes: Annotated[int, Field(ge=0)] = 128 * 1024 * 1024
    """The most memory the answers may take, as estimated. 0 keeps none."""


class WatchSettings(Model):
    """How RBAC objects are watched, so that a revoked right ends cached answers at once."""

    rotate_seconds: Annotated[int, Field(ge=5, le=600)] = 20
    """How long one watch connection lasts at most; a silently dead one is noticed 5 s after that."""
    backoff_seconds: Annotated[float, Field(gt=0, le=60)] = 0.5
    """The first pause after a failure; it doubles with each further one, with jitter."""
    max_backoff_seconds: Annotated[float, Field(gt=0, le=300)] = 30
    """The longest pause between two tries."""


class LocalSettings(Model):
    """Reviews answered here, from the watched RBAC objects: only for clusters where RBAC is the only authorizer.

    The API server is asked instead while the watch does not see every change, and for good, until
    the next start, once one of its answers differs or an object cannot be read.
    """

    verify_sample: Annotated[float, Field(gt=0, le=1)] = 0.01
    """Which share of the answers is compared with real reviews, in the background."""


class KubernetesAuthorizer(Model):
    """SubjectAccessReviews by the API server of a cluster."""

    kubeconfig: FilePath | None = None
    """Which cluster to ask, and as whom; unset means the pod's ServiceAccount, else the user's own kubeconfig."""
    context: NonEmpty | None = None
    """The kubeconfig's context, instead of its current one. With it a kubeconfig is read in a pod, too."""
    timeout_seconds: Annotated[float, Field(gt=0, le=30)] = 1.5
    """How long one review may take, waiting and retries included. Keep it below Envoy's own timeout."""
    max_concurrent_reviews: Annotated[int, Field(ge=2, le=1000)] = 64
    """How many reviews the API server is asked at once."""
    max_queued_reviews: Annotated[int, Field(ge=0)] = 512
    """How many more may wait; further ones are refused with 503 at once. One user can take a quarter of these."""
    max_reviews_per_user: Annotated[int, Field(ge=1)] = 16
    """How many reviews of one user are asked at once, so that no user can hold up the others."""
    cache: ReviewCacheSettings = Field(default_factory=ReviewCacheSettings)
    """How long answers are believed."""
    watch: WatchSettings = Field(default_factory=WatchSettings)
    """How changes of rights are seen."""
    local: LocalSettings | None = None
    """Evaluate RBAC here instead of asking; unset asks the API server."""

    @model_validator(mode="after")
    def _nobody_takes_all(self) -> KubernetesAuthorizer:
        if self.max_reviews_per_user >= self.max_concurrent_reviews:
            raise ValueError("maxReviewsPerUser must be smaller than maxConcurrentReviews")
        return self


class Access(Model):
    """Who answers whether a user has a right: exactly one of `kubernetes` and `rbac`."""

    kubernetes: KubernetesAuthorizer | None = None
    rbac: RbacAuthorizer | None = None

    @property
    def settling_seconds(self) -> float:
        """How far an answer may lag behind a change of rights."""
        return (self.kubernetes.cache if self.kubernetes else ReviewCacheSettings()).settling_seconds

    @model_validator(mode="after")
    def _exactly_one(self) -> Access:
        if (self.kubernetes is None) == (self.rbac is None):
            raise ValueError("access needs exactly one of kubernetes and rbac")
        return self


class PolicySettings(Model):
    """Where the rules are."""

    paths: Annotated[list[FilePath], Field(min_length=1)]
    """Files and folders of policy YAML; folders are read recursively and watched for changes."""
    placement: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")] = "gateway"
    """Which place of the mesh is guarded: a policy file with `placements` counts only where it names this one."""
    hosts: list[Annotated[str, Field(pattern=r"^(\*\.)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")]] = []
    """The platform's own host names. Rules that name no host count for these only; empty means every host."""
    values: dict[str, NonEmpty | Annotated[list[NonEmpty], Field(min_length=1)]] = {}
    """Replaces `values` of the policy files by name, such as the buckets whose artifacts are served."""


class KfpLookupSettings(Model):
    """How the Kubeflow Pipelines API is asked to which namespace an object belongs."""

    url: Annotated[str, Field(pattern=r"^https?://(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?$")]
    """Where the API is, such as `http://ml-pipeline.kubeflow:8888`; paths start with `/apis`."""
    token_file: FilePath = Path("/var/run/secrets/kubeflow/pipelines/token")
    """Our own ServiceAccount token for the audience `pipelines.kubeflow.org`; read again for every call."""
    timeout_seconds: Annotated[float, Field(gt=0, le=30)] = 1.5
    """How long one lookup may take, waiting included. Keep it below Envoy's own timeout."""
    max_concurrent: Annotated[int, Field(ge=2, le=1000)] = 32
    """How many calls may be under way at once; sixteen times as many may wait, a quarter of them for one user."""
    max_per_user: Annotated[int, Field(ge=1)] = 8
    """How many calls for one user may be under way at once, so that no user can hold up the others."""
    max_entries: Annotated[int, Field(ge=1)] = 20_000
    """How many answers are remembered; the least recently used go first."""
    keep_seconds: Annotated[float, Field(gt=0, le=86400)] = 3600
    """How long an answer is remembered: namespaces never change, but ids may come back after a delete."""
    unknown_seconds: Annotated[float, Field(gt=0, le=300)] = 5
    """How long an unknown id is remembered."""
    ca_file: FilePath | None = None
    """Certificate authorities to trust instead of the system's."""

    @model_validator(mode="after")
    def _nobody_takes_all(self) -> KfpLookupSettings:
        if self.max_per_user >= self.max_concurrent:
            raise ValueError("maxPerUser must be smaller than maxConcurrent")
        return self


class Lookups(Model):
    """Who knows the namespace of an object that a request names only by its id."""

    kfp: KfpLookupSettings | None = None
    """Kinds: experiment, run, job, pipeline, pipeline_version, artifact, artifact_key, unscoped_list. Unset: no rule
    may use them."""


class ResponseSettings(Model):
    """What the upstream is told about the caller, and the caller about a refusal."""

    user_header: HeaderName = "kubeflow-userid"
    """Carries the user name, minus nothing: exactly as it was reviewed."""
    groups_header: HeaderName | None = "kubeflow-groups"
    """Carries the groups, separated by commas, without `system:` groups."""
    remove_headers: list[HeaderName] = []
    """Further headers that only a trusted hop may set; always taken off the request."""
    refusal_page: RefusalPage = Field(default_factory=RefusalPage)
    """What a person sees in the browser instead of what was refused."""

    @model_validator(mode="after")
    def _names_differ(self) -> ResponseSettings:
        names = [self.user_header, self.groups_header, *self.remove_headers]
        if len(set(names)) != len(names):
            raise ValueError("userHeader, groupsHeader and removeHeaders must all differ")
        return self


class BodySettings(Model):
    """How Envoy buffers request bodies for us."""

    max_request_bytes: Annotated[int, Field(ge=1)] = 65536
    """Envoy's `max_request_bytes`. A body of this size or more may be truncated and is not read."""


class Settings(Model):
    """The whole settings file."""

    api_version: Literal["extauthz.dev/v1"]
    """The version of the settings' form."""
    kind: Literal["Settings"]
    """What the file holds."""
    listeners: Listeners = Field(default_factory=Listeners)
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """How many processes share the listeners. One does for dozens of Envoys: add pods first."""
    identity: Identity
    access: Access
    lookups: Lookups = Field(default_factory=Lookups)
    policy: PolicySettings
    response: ResponseSettings = Field(default_factory=ResponseSettings)
    body: BodySettings = Field(default_factory=BodySettings)
    audit: AuditSettings = Field(default_factory=AuditSettings)
    tracing: TracingSettings | None = None
    deadline_seconds: Annotated[float, Field(gt=0, le=30)] = 1.8
    """How long one decision may take, keys, lookups and reviews together. Keep it below Envoy's own timeout."""
    shutdown: ShutdownSettings = Field(default_factory=ShutdownSettings)

    _folder: Path = PrivateAttr(default_factory=Path)

    @model_validator(mode="after")
    def _principals_are_seen(self) -> Settings:
        told = self.listeners.grpc or (self.listeners.http and self.listeners.http.peers_from)
        if (self.identity.peer or self.identity.header) and not told:
            raise ValueError("identity.peer and identity.header need listeners.grpc, or listeners.http.peersFrom")
        return self

    @model_validator(mode="after")
    def _workers_share(self) -> Settings:
        edges = (self.listeners.grpc, self.listeners.http)
        if self.workers > 1 and any(edge is not None and edge.server != "native" for edge in edges):
            raise ValueError("workers needs `server: native` for listeners.grpc and listeners.http")
        if self.workers > 1 and self.listeners.admin.console is not None:
            raise ValueError("listeners.admin.console needs `workers: 1`: each worker knows its own decisions only")
        return self

    def to_json(self) -> str:
        """Return all of it for another process of ours, which `from_json` reads."""
        return json.dumps({"folder": str(self._folder), "settings": self.model_dump_json(by_alias=True)})

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """Return what `to_json` wrote."""
        told = json.loads(text)
        settings = cls.model_validate_json(told["settings"])
        settings._folder = Path(told["folder"])
        return settings

    def resolve(self, path: Path) -> Path:
        """Return a path of this file as seen from the settings file's folder."""
        return self._folder / path


def read(file: Path, environment: Mapping[str, str] | None = None) -> tuple[Settings, Document]:
    """Read a settings file and what the environment lays over it; return with it where each value stands.

    Raises ConfigurationError with every problem found.
    """
    documents = document.read(file)
    if len(documents) != 1:
        raise ConfigurationError(Problem(f"expected one YAML document, found {len(documents)}", file))
    found = override(documents[0], Settings, environment or {})
    settings = found.validate(Settings)
    settings._folder = file.resolve().parent
    return settings, found


def load(file: Path, environment: Mapping[str, str] | None = None) -> Settings:
    """Read a settings file and what the environment lays over it. Raises ConfigurationError."""
    return read(file, environment)[0]
