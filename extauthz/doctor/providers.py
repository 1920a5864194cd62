"""The mesh's side of a check: how Envoy asks, how long it waits, and what it does without an answer."""

from __future__ import annotations

import re
from collections.abc import Iterator

from extauthz.doctor.fields import mapping, mappings, texts
from extauthz.doctor.finding import Finding, critical, warning
from extauthz.doctor.installation import Installation, Provider, pod_spec
from extauthz.request import OVERRIDES
from extauthz.settings import Settings

_SHOWN = ("cookie", "kubeflow-groups", "kubeflow-userid")
_READ = frozenset({"content-encoding", "content-type", "x-envoy-auth-partial-body"}) | OVERRIDES
"""What refusals rest on that every route has."""
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def examine(found: Installation) -> Iterator[Finding]:
    """Yield the faults of the providers and of the mesh configuration."""
    for provider in found.providers.values():
        yield from _open_on_failure(provider)
    for provider in found.ours:
        yield from _timing(found, provider)
        yield from _body(found, provider)
        yield from _service(found, provider)
        yield from _http(found, provider)
    yield from _normalization(found)
    yield from _unread(found)


def _open_on_failure(provider: Provider) -> Iterator[Finding]:
    if provider.fields.get("failOpen"):
        yield critical(
            "fail-open",
            provider.where,
            f"The provider {provider.name} has failOpen: true. Whoever can make a check fail, by load or by an odd "
            "request, gets through without one.",
            "set failOpen: false",
        )


def _timing(found: Installation, provider: Provider) -> Iterator[Finding]:
    timeout = seconds(provider.fields.get("timeout"))
    settings = _settings(found, provider)
    if timeout is None:
        yield critical(
            "timeout-missing",
            provider.where,
            f"The provider {provider.name} has no timeout. Istio then waits ten minutes, and one pod that hangs holds "
            "up every request that asks it.",
            "set timeout: 2s",
        )
    elif settings and timeout <= settings.deadline_seconds:
        yield warning(
            "timeout-too-short",
            provider.where,
            f"Envoy gives up after {timeout:g} s, before extauthz does (deadlineSeconds: "
            f"{settings.deadline_seconds:g}). What would be an answer with its reason is a bare error.",
            "set timeout above deadlineSeconds, or lower deadlineSeconds in the settings",
        )
    if str(provider.fields.get("statusOnError", "")) != "503":
        yield warning(
            "status-on-error",
            provider.where,
            f"Without an answer of the provider {provider.name} clients get "
            f"{provider.fields.get('statusOnError', 403)}, which looks as if they lacked a right.",
            'set statusOnError: "503"',
        )


def _body(found: Installation, provider: Provider) -> Iterator[Finding]:
    body = provider.fields.get("includeRequestBodyInCheck")
    settings = _settings(found, provider)
    if not isinstance(body, dict):
        yield critical(
            "body-not-shown",
            provider.where,
            f"The provider {provider.name} shows no bodies. Every request whose namespace is in its body is refused: "
            "nobody can create runs, experiments or notebooks.",
            "set includeRequestBodyInCheck: {maxRequestBytes: 65536, allowPartialMessage: true, packAsBytes: true}",
        )
        return
    if not body.get("allowPartialMessage"):
        yield critical(
            "uploads-refused",
            provider.where,
            f"The provider {provider.name} does not allow partial messages. Envoy answers 413 to every body above "
            f"{body.get('maxRequestBytes')} bytes: pipelines and files cannot be uploaded.",
            "set includeRequestBodyInCheck.allowPartialMessage: true; a rule that reads a cut body refuses it",
        )
    if provider.is_grpc and not body.get("packAsBytes"):
        yield warning(
            "body-as-text",
            provider.where,
            f"The provider {provider.name} shows bodies as text, with other bytes in place of those that are no UTF-8.",
            "set includeRequestBodyInCheck.packAsBytes: true",
        )
    if settings and body.get("maxRequestBytes") != settings.body.max_request_bytes:
        yield critical(
            "body-limits-differ",
            provider.where,
            f"Envoy shows {body.get('maxRequestBytes')} bytes of a body, and the settings say "
            f"{settings.body.max_request_bytes}: extauthz takes a whole body for a cut one, or a cut one for whole.",
            "give includeRequestBodyInCheck.maxRequestBytes and body.maxRequestBytes the same number",
        )


def _service(found: Installation, provider: Provider) -> Iterator[Finding]:
    service = found.service(provider.host)
    if service is None:
        if found.pods:
            yield critical(
                "provider-without-service",
                provider.where,
                f"The provider {provider.name} asks {provider.host}, and there is no such service. Every check fails.",
                "name the service of extauthz: NAME.NAMESPACE.svc.cluster.local",
            )
        return
    port = next((p for p in mappings(service.spec, "ports") if p.get("port") == provider.fields.get("port")), None)
    if port is None:
        yield critical(
            "provider-without-port",
            provider.where,
            f"The provider {provider.name} asks port {provider.fields.get('port')}, which {service} does not have.",
            f"use one of {', '.join(str(p.get('port')) for p in mappings(service.spec, 'ports'))}",
        )
    elif provider.is_grpc and not _is_http2(
        str(port.get("appProtocol") or str(port.get("name", "")).partition("-")[0])
    ):
        yield critical(
            "port-not-grpc",
            service,
            f"Istio does not take port {port['port']} for gRPC, so Envoy speaks HTTP/1.1 to it and every check fails.",
            "set appProtocol: grpc on the port",
        )


def _http(found: Installation, provider: Provider) -> Iterator[Finding]:
    if provider.is_grpc:
        return
    upstream = {name.lower() for name in texts(provider.fields, "headersToUpstreamOnAllow")}
    if missing := [name for name in _SHOWN if name not in upstream]:
        yield critical(
            "client-headers-pass",
            provider.where,
            f"The provider {provider.name} does not pass on {', '.join(missing)} from extauthz, so what the client "
            "itself sent under that name reaches Kubeflow.",
            f"add {', '.join(missing)} to headersToUpstreamOnAllow",
        )
    patterns = texts(provider.fields, "includeRequestHeadersInCheck")
    if hidden := sorted(name for name in _READ if not any(_fits(name, pattern) for pattern in patterns)):
        yield critical(
            "headers-not-shown",
            provider.where,
            f"The provider {provider.name} does not show {', '.join(hidden)}, so extauthz cannot refuse requests that "
            "servers take for others because of them.",
            "give includeRequestHeadersInCheck the list of istio/components/mesh-config",
        )
    settings = _settings(found, provider)
    prefix = provider.fields.get("pathPrefix", "")
    if settings and settings.listeners.http and settings.listeners.http.path_prefix != prefix:
        yield critical(
            "path-prefix-differs",
            provider.where,
            f"Envoy puts {prefix!r} before each path, and the settings say {settings.listeners.http.path_prefix!r}: "
            "every check is refused.",
            "give pathPrefix and listeners.http.pathPrefix the same text",
        )


def _fits(name: str, pattern: str) -> bool:
    """Tell whether Istio takes a name for one that a pattern means: whole, by its start or by its end."""
    if pattern.startswith("*"):
        return name.endswith(pattern[1:].lower())
    return name.startswith(pattern[:-1].lower()) if pattern.endswith("*") else name == pattern.lower()


def _normalization(found: Installation) -> Iterator[Finding]:
    for where, mesh in found.meshes:
        if mapping(mesh, "pathNormalization").get("normalization") == "NONE":
            yield critical(
                "path-normalization-off",
                where,
                "Envoy does not normalise paths: /a/../b is matched as it stands by every policy of the mesh. extauthz "
                "refuses such paths, other policies do not.",
                "set pathNormalization.normalization: MERGE_SLASHES, or leave it out for Istio's default",
            )


def _unread(found: Installation) -> Iterator[Finding]:
    """A ConfigMap beside Istio's own is read only where istiod is told so."""
    if found.istiod is None:
        return
    shared = environment(found, "SHARED_MESH_CONFIG")
    for where in {provider.where for provider in found.ours}:
        if where.name not in (shared, "istio") and not where.name.startswith("istio-"):
            yield critical(
                "mesh-config-unread",
                where,
                f"istiod does not read {where}, so the providers in it do not exist, and policies that name them "
                "refuse every request.",
                f"kubectl -n {found.root} set env deployment/istiod SHARED_MESH_CONFIG={where.name}",
            )


def environment(found: Installation, name: str) -> str | None:
    """Return a variable of istiod's environment; None where it is not set, or istiod not known."""
    containers = mappings(pod_spec(found.istiod), "containers") if found.istiod else ()
    values = [item.get("value") for held in containers for item in mappings(held, "env") if item.get("name") == name]
    return next(map(str, values), None)


def seconds(duration: object) -> float | None:
    """Read a duration as Istio has it, such as `2s` or `1m30s`; None where it is none."""
    parts = re.findall(r"([0-9.]+)(ms|h|m|s)", str(duration or ""))
    return sum(float(number) * _UNITS[unit] for number, unit in parts) if parts else None


def _settings(found: Installation, provider: Provider) -> Settings | None:
    held = found.settings_of(provider)
    return held[1] if held else None


def _is_http2(protocol: str) -> bool:
    return protocol.lower() in ("grpc", "http2", "kubernetes.io/h2c", "grpc-web")
