"""Envoy's filters as istiod generates them for a provider and the policies that name it.

Written after Istio's `pilot/pkg/security/authz/builder` (1.29 and 1.30): a shadow RBAC filter says
which policy a request meets, and ext_authz asks where it met one. What Istio never sets is not set
here either. Ports are left out: the test's listener stands for the port that a rule names.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from extauthz.demo.envoy import EnvoyConfig, bootstrap_json

Json = dict[str, Any]

_TYPE = "type.googleapis.com/envoy.extensions."
_HTTP = f"{_TYPE}filters.http."
_SHADOW = "istio_ext_authz_"
_EVERYTHING: Json = {"any": True}
_NORMALIZATION: Mapping[str, Json] = {
    "BASE": {"normalizePath": True, "mergeSlashes": False},
    "MERGE_SLASHES": {"normalizePath": True, "mergeSlashes": True},
    "DECODE_AND_MERGE_SLASHES": {
        "normalizePath": True,
        "mergeSlashes": True,
        "pathWithEscapedSlashesAction": "UNESCAPE_AND_FORWARD",
    },
}


def building(mesh: Json, policies: Mapping[str, Json], *, istio: str = "1.29") -> Callable[[EnvoyConfig], str]:
    """Return a builder of Envoy's configuration: the listener `grpc` has the first of `policies`, and so on.

    `mesh` is a MeshConfig, `policies` are AuthorizationPolicies by the name of Envoy's listener.
    """

    def build(config: EnvoyConfig) -> str:
        bootstrap = json.loads(bootstrap_json(config))
        ports = {"envoyExtAuthzGrpc": "authz-grpc", "envoyExtAuthzHttp": "authz-http"}
        providers = {provider["name"]: provider for provider in mesh["extensionProviders"]}
        for listener in bootstrap["staticResources"]["listeners"]:
            policy = policies[listener["name"]]
            provider = providers[policy["spec"]["provider"]["name"]]
            (kind,) = (key for key in provider if key in ports)
            manager = listener["filterChains"][0]["filters"][0]["typedConfig"]
            manager.update(_NORMALIZATION[mesh["pathNormalization"]["normalization"]])
            manager["httpFilters"][:1] = _filters(policy, provider["name"], kind, provider[kind], istio)
            for cluster in bootstrap["staticResources"]["clusters"]:
                if cluster["name"] == ports[kind]:
                    cluster["name"] = cluster["loadAssignment"]["clusterName"] = _cluster(provider[kind])
        return json.dumps(bootstrap)

    return build


def _filters(policy: Json, provider: str, kind: str, settings: Json, istio: str) -> Sequence[Json]:
    prefix = "istio-ext-authz" if istio == "1.29" else f"istio-ext-authz-{provider}"
    check = _grpc(settings) if kind == "envoyExtAuthzGrpc" else _http(settings)
    matcher = {
        "filter": "envoy.filters.http.rbac",
        "path": [{"key": f"{_SHADOW}shadow_effective_policy_id"}],
        "value": {"string_match": {"prefix": prefix}},
    }
    ext_authz = {
        "@type": f"{_HTTP}ext_authz.v3.ExtAuthz",
        "transport_api_version": "V3",
        "failure_mode_allow": settings["failOpen"],
        "status_on_error": {"code": int(settings["statusOnError"])},
        "with_request_body": _body(settings["includeRequestBodyInCheck"]),
        "filter_enabled_metadata": matcher,
        **check,
    }
    rules = {f"{prefix}-ns[x]-policy[{policy['metadata']['name']}]-rule[{index}]": _rule(rule)
             for index, rule in enumerate(policy["spec"]["rules"])}  # fmt: skip
    rbac = {
        "@type": f"{_HTTP}rbac.v3.RBAC",
        "shadow_rules": {"action": "DENY", "policies": rules},
        "shadow_rules_stat_prefix": _SHADOW,
    }
    return (
        {"name": "envoy.filters.http.rbac", "typed_config": rbac},
        {"name": "envoy.filters.http.ext_authz", "typed_config": ext_authz},
    )


def _cluster(settings: Json) -> str:
    return f"outbound|{settings['port']}||{settings['service']}"


def _grpc(settings: Json) -> Json:
    envoy_grpc = {"cluster_name": _cluster(settings), "authority": settings["service"]}
    return {"grpc_service": {"envoy_grpc": envoy_grpc, "timeout": settings["timeout"]}}


def _http(settings: Json) -> Json:
    server = {"uri": f"http://{settings['service']}", "cluster": _cluster(settings), "timeout": settings["timeout"]}
    response = {
        "allowed_upstream_headers": _names(settings["headersToUpstreamOnAllow"]),
        "allowed_client_headers": _names(settings["headersToDownstreamOnDeny"]),
        "allowed_client_headers_on_success": _names(settings["headersToDownstreamOnAllow"]),
    }
    return {
        "http_service": {
            "server_uri": server,
            "path_prefix": settings["pathPrefix"],
            "authorization_response": response,
        },
        "allowed_headers": _names(settings["includeRequestHeadersInCheck"]),
    }


def _body(settings: Json) -> Json:
    return {
        "max_request_bytes": settings["maxRequestBytes"],
        "allow_partial_message": settings["allowPartialMessage"],
        "pack_as_bytes": settings.get("packAsBytes", False),
    }


def _names(names: Iterable[str]) -> Json:
    return {"patterns": [{**_pattern(name), "ignore_case": True} for name in names]}


def _pattern(name: str) -> Json:
    return {"prefix": name[:-1]} if name.endswith("*") else {"exact": name}


def _rule(rule: Json) -> Json:
    """A rule without `from` or `when`, which CUSTOM policies of ours never have."""
    operations = [_operation(target["operation"]) for target in rule.get("to", ())]
    return {"principals": [_EVERYTHING], "permissions": operations or [_EVERYTHING]}


def _operation(operation: Json) -> Json:
    parts = [_any([_method(value) for value in operation.get("methods", ())])]
    parts += [{"not_rule": _any([_method(value) for value in operation.get("notMethods", ())], nothing=True)}]
    parts += [_any([_path(value) for value in operation.get("paths", ())])]
    parts += [{"not_rule": _any([_path(value) for value in operation.get("notPaths", ())], nothing=True)}]
    return {"and_rules": {"rules": parts}}


def _any(rules: list[Json], *, nothing: bool = False) -> Json:
    if rules:
        return {"or_rules": {"rules": rules}}
    return {"not_rule": _EVERYTHING} if nothing else _EVERYTHING


def _method(value: str) -> Json:
    return {"header": {"name": ":method", "string_match": {"exact": value}}}


def _path(value: str) -> Json:
    if "{" in value:
        template = {"@type": f"{_TYPE}path.match.uri_template.v3.UriTemplateMatchConfig",
                    "path_template": value.replace("{*}", "*").replace("{**}", "**")}  # fmt: skip
        return {"uri_template": {"name": "uri-template", "typed_config": template}}
    match = {"prefix": value[:-1]} if value.endswith("*") else {"exact": value}
    return {"url_path": {"path": match}}
