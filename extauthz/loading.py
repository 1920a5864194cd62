"""From settings to the parts that they describe: what the service and the commands build, they build alike."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from extauthz import policy
from extauthz.access import authority
from extauthz.access.authority import Authority
from extauthz.edge.tls import Certificates
from extauthz.errors import ConfigurationError, Problem
from extauthz.identity import Authenticators
from extauthz.lookup import kfp
from extauthz.lookup.artifact import namespace_of_key
from extauthz.lookup.kfp import KfpLookup
from extauthz.lookup.viewer import namespace_of_token
from extauthz.observe.audit.writer import AuditWriter
from extauthz.policy import Policy
from extauthz.settings import Settings

if TYPE_CHECKING:
    from extauthz.observe.tracing import Tracing

KEYS = {"artifact": namespace_of_key, "viewer": namespace_of_token}
"""The kinds of keys that a policy may name in `key:KIND:SOURCE`."""

LOOKUPS = kfp.KINDS
"""The kinds of objects that a policy may name in `lookup:KIND:SOURCE` where the settings say whom to ask."""


def load_policy(settings: Settings, instead: Sequence[Path] = ()) -> Policy:
    """Load the policy that settings name, or `instead` of it others. Raises ConfigurationError."""
    lookups = LOOKUPS if settings.lookups.kfp else ()
    paths = instead or [settings.resolve(path) for path in settings.policy.paths]
    session = settings.identity.session
    return policy.load(
        paths,
        KEYS,
        lookups,
        placement=settings.policy.placement,
        hosts=settings.policy.hosts,
        values=settings.policy.values,
        session_cookie=session.cookie if session else "",
    )


def load_lookup(settings: Settings) -> KfpLookup | None:
    """Build the lookup that settings name, or None. Raises ConfigurationError."""
    return KfpLookup(settings.lookups.kfp, resolve=settings.resolve) if settings.lookups.kfp else None


def load_authority(settings: Settings) -> Authority:
    """Build the authority that settings name. Raises ConfigurationError."""
    return authority.of(settings.access, settings.resolve)


def load_authenticator(settings: Settings) -> Authenticators:
    """Build the authenticators that settings name."""
    asked = settings.identity.token_review
    if asked is None:
        return Authenticators(settings.identity, resolve=settings.resolve)
    # This brings the kubernetes package, which everybody else does without.
    from extauthz.access.kubernetes.tokenreview import TokenReviews

    reviewer = TokenReviews(asked, kubeconfig=settings.resolve(asked.kubeconfig) if asked.kubeconfig else None)
    return Authenticators(settings.identity, resolve=settings.resolve, reviewer=reviewer)


def load_audit_writer(settings: Settings) -> AuditWriter | None:
    """Build the writer of the audit log that settings name, or None."""
    audit = settings.audit
    if audit.output == "off":
        return None
    file = settings.resolve(audit.file) if audit.file else None
    return AuditWriter(file, queue_records=audit.queue_records)


def load_certificates(settings: Settings) -> dict[str, Certificates]:
    """Read the certificates of each listener that has TLS, by the listener's name. Raises ConfigurationError."""
    listeners = settings.listeners
    http = ("http/1.1", "h2") if listeners.http and listeners.http.server == "native" else ("http/1.1",)
    named = (
        ("grpc", listeners.grpc, ("h2",)),
        ("http", listeners.http, http),
        ("admin", listeners.admin, ("http/1.1",)),
    )
    return {
        name: Certificates(name, listener.tls, resolve=settings.resolve, protocols=protocols)
        for name, listener, protocols in named
        if listener and listener.tls
    }


def load_tracing(settings: Settings) -> Tracing | None:
    """Build the tracing that settings ask for, or None. Raises ConfigurationError where OpenTelemetry is missing."""
    if settings.tracing is None:
        return None
    try:
        from extauthz.observe.tracing import Tracing

        return Tracing(settings.tracing)
    except ImportError as error:
        # xds-protos brings an older copy of opentelemetry-proto's files; whichever is installed last counts.
        hint = "pip install 'extauthz[otel]', then pip install --force-reinstall --no-deps opentelemetry-proto"
        raise ConfigurationError(Problem(f"tracing needs OpenTelemetry: {error}", hint=hint)) from error
