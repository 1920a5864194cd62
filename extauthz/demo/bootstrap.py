"""Envoy's configuration, as Istio would generate it for an extension provider.

Two listeners lead to one upstream: `grpc` asks the gRPC edge, `http` asks the HTTP edge.
Both normalise paths as Istio's default does (BASE: dot segments are resolved, `//` and
`%2f` stay), buffer request bodies, and refuse with 503 when no answer comes.

The messages are envoy-data-plane's, so a misspelt field is a type error here and not a
silently missing filter.
"""

from __future__ import annotations

from datetime import timedelta

import betterproto2
from envoy_data_plane.envoy.config.bootstrap.v3 import Admin, Bootstrap, BootstrapStaticResources
from envoy_data_plane.envoy.config.cluster.v3 import Cluster, ClusterDiscoveryType
from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    ApiVersion,
    GrpcService,
    GrpcServiceEnvoyGrpc,
    Http2ProtocolOptions,
    HttpUri,
    SocketAddress,
)
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain, Listener
from envoy_data_plane.envoy.config.route.v3 import Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost
from envoy_data_plane.envoy.extensions.filters.http.ext_authz.v3 import (
    AuthorizationResponse,
    BufferSettings,
    ExtAuthz,
    HttpService,
)
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpConnectionManagerPathWithEscapedSlashesAction,
    HttpConnectionManagerUpgradeConfig,
    HttpFilter,
)
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import (
    HttpProtocolOptions,
    HttpProtocolOptionsExplicitHttpConfig,
)
from envoy_data_plane.envoy.type.matcher.v3 import ListStringMatcher, StringMatcher
from envoy_data_plane.envoy.type.v3 import HttpStatus, StatusCode
from envoy_data_plane.google.protobuf import Any

from extauthz.demo import HOST
from extauthz.demo.envoy import EnvoyConfig
from extauthz.request.spelling import header_spellings

_OVERRIDES = ("x-http-method", "x-http-method-override", "x-method-override")
HEADERS_IN_CHECK = (
    *(
        "accept",
        "content-encoding",
        "content-type",
        "cookie",
        "sec-fetch-dest",
        "sec-fetch-mode",
        "traceparent",
        "upgrade",
    ),
    *("x-envoy-auth-partial-body", "x-request-id"),
    # Whatever may name a user, so that it can be taken off.
    *("gap*", "impersonate*", "kubeflow*", "remote*", "x-amzn*", "x-auth*", "x-forwarded*", "x-goog*", "x-remote*"),
    *("x-webauth*", "x_*"),
    # A CGI-like upstream reads every spelling as the same.
    *(spelling for name in _OVERRIDES for spelling in header_spellings(name)),
)
"""Istio's `includeRequestHeadersInCheck`. Envoy adds authorization, content-length, host and method."""
HEADERS_TO_UPSTREAM = ("authorization", "cookie", "kubeflow-groups", "kubeflow-userid")
"""Istio's `headersToUpstreamOnAllow`. Without `cookie`, what `removeCookies` takes off would reach the upstream."""
HEADERS_TO_CLIENT = (
    *("cache-control", "content-security-policy", "content-type", "grpc-message", "grpc-status", "location"),
    *("retry-after", "set-cookie"),
    *("vary", "www-authenticate", "x-content-type-options"),
)
"""Istio's `headersToDownstreamOnDeny`."""
HEADERS_TO_CLIENT_ON_SUCCESS = ("set-cookie",)
"""Istio's `headersToDownstreamOnAllow`: refreshed session cookies."""

_NO_TIMEOUT = timedelta(0)
_HTTP2_CONFIG = HttpProtocolOptions(
    explicit_http_config=HttpProtocolOptionsExplicitHttpConfig(http2_protocol_options=Http2ProtocolOptions())
)


def bootstrap(config: EnvoyConfig) -> Bootstrap:
    """Build the whole configuration. The admin endpoint gets a port of its own choice."""
    return Bootstrap(
        admin=Admin(address=_address(0)),
        static_resources=BootstrapStaticResources(
            listeners=[
                _listener("grpc", config.grpc_port, _grpc_filter(config), login=bool(config.login_port)),
                _listener("http", config.http_port, _http_filter(config), login=bool(config.login_port)),
            ],
            clusters=[
                _cluster("upstream", config.upstream_port),
                _cluster("login", config.login_port),
                _cluster("authz-http", config.authz_http_port),
                _cluster("authz-grpc", config.authz_grpc_port, http2=True),
            ],
        ),
    )


def _grpc_filter(config: EnvoyConfig) -> ExtAuthz:
    envoy_grpc = GrpcServiceEnvoyGrpc(cluster_name="authz-grpc", authority="extauthz")
    return _ext_authz(config, grpc=GrpcService(envoy_grpc=envoy_grpc, timeout=_timeout(config)))


def _http_filter(config: EnvoyConfig) -> ExtAuthz:
    service = HttpService(
        server_uri=HttpUri(uri="http://extauthz", cluster="authz-http", timeout=_timeout(config)),
        path_prefix=config.path_prefix,
        authorization_response=AuthorizationResponse(
            allowed_upstream_headers=_names(HEADERS_TO_UPSTREAM),
            allowed_client_headers=_names(HEADERS_TO_CLIENT),
            allowed_client_headers_on_success=_names(HEADERS_TO_CLIENT_ON_SUCCESS),
        ),
    )
    return _ext_authz(config, http=service)


def _ext_authz(config: EnvoyConfig, *, grpc: GrpcService | None = None, http: HttpService | None = None) -> ExtAuthz:
    return ExtAuthz(
        grpc_service=grpc,
        http_service=http,
        allowed_headers=_names(HEADERS_IN_CHECK) if http else None,  # the gRPC edge is sent all headers
        transport_api_version=ApiVersion.V3,
        failure_mode_allow=False,
        status_on_error=HttpStatus(code=StatusCode.ServiceUnavailable),
        with_request_body=BufferSettings(
            max_request_bytes=config.max_request_bytes,
            allow_partial_message=config.allow_partial,
            pack_as_bytes=True,
        ),
    )


def _listener(name: str, port: int, ext_authz: ExtAuthz, *, login: bool) -> Listener:
    manager = HttpConnectionManager(
        stat_prefix=name,
        use_remote_address=True,
        generate_request_id=True,
        normalize_path=True,
        merge_slashes=False,
        path_with_escaped_slashes_action=HttpConnectionManagerPathWithEscapedSlashesAction.KEEP_UNCHANGED,
        upgrade_configs=[HttpConnectionManagerUpgradeConfig(upgrade_type="websocket")],
        route_config=_routes(login=login),
        http_filters=[
            HttpFilter(name="envoy.filters.http.ext_authz", typed_config=_pack(ext_authz)),
            HttpFilter(name="envoy.filters.http.router", typed_config=_pack(Router())),
        ],
    )
    connection_manager = Filter(name="envoy.filters.network.http_connection_manager", typed_config=_pack(manager))
    return Listener(
        name=name,
        address=_address(port),
        filter_chains=[FilterChain(filters=[connection_manager])],
        enable_reuse_port=False,  # a second mesh on the same port must fail, not share it
    )


def _routes(*, login: bool) -> RouteConfiguration:
    routes = [_route("/oauth2/", "login")] if login else []
    routes.append(_route("/", "upstream"))
    return RouteConfiguration(virtual_hosts=[VirtualHost(name="kubeflow", domains=["*"], routes=routes)])


def _route(prefix: str, cluster: str) -> Route:
    return Route(match=RouteMatch(prefix=prefix), route=RouteAction(cluster=cluster, timeout=_NO_TIMEOUT))


def _cluster(name: str, port: int, *, http2: bool = False) -> Cluster:
    options = {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": _pack(_HTTP2_CONFIG)} if http2 else {}
    endpoint = LbEndpoint(endpoint=Endpoint(address=_address(port)))
    return Cluster(
        name=name,
        type=ClusterDiscoveryType.STATIC,
        connect_timeout=timedelta(seconds=1),
        load_assignment=ClusterLoadAssignment(
            cluster_name=name, endpoints=[LocalityLbEndpoints(lb_endpoints=[endpoint])]
        ),
        typed_extension_protocol_options=options,
    )


def _address(port: int) -> Address:
    return Address(socket_address=SocketAddress(address=HOST, port_value=port))


def _names(names: tuple[str, ...]) -> ListStringMatcher:
    return ListStringMatcher(patterns=[_pattern(name) for name in names])


def _pattern(name: str) -> StringMatcher:
    if name.endswith("*"):
        return StringMatcher(prefix=name[:-1], ignore_case=True)
    return StringMatcher(exact=name, ignore_case=True)


def _timeout(config: EnvoyConfig) -> timedelta:
    return timedelta(seconds=config.timeout_seconds)


def _pack(message: betterproto2.Message) -> Any:
    return Any.pack(message)
