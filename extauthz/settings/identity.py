"""Settings of who is believed: issuers, sessions, Kubernetes tokens, and hops of the mesh.

A part of `extauthz.settings`. Durations are in seconds and sizes in bytes. What can only be
a mistake or a hole is refused at load.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from extauthz.document import Model

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
HeaderName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
NonEmpty = Annotated[str, Field(min_length=1)]
FilePath = Annotated[Path, Field(strict=False)]
Url = Annotated[str, Field(pattern=r"^https?://[^\s/?#]+[^\s#]*$")]
Principal = Annotated[str, Field(pattern=r"^spiffe://[a-z0-9._-]+/ns/[a-z0-9-]+/sa/[a-z0-9.-]+$")]
PrincipalPattern = Annotated[
    str, Field(pattern=r"^spiffe://[a-z0-9._-]+/ns/([a-z0-9-]+/sa/([a-z0-9.-]+|\*)|\*/sa/[a-z0-9.-]+)$")
]
Kind = Literal["session", "token", "header", "peer"]


class Keys(Model):
    """Where an issuer's public keys come from: exactly one of `url`, `discovery`, `pemUrl` and `file`."""

    url: Url | None = None
    """Address of a JWKS."""
    discovery: bool = False
    """Read the JWKS address from the issuer's `/.well-known/openid-configuration`."""
    pem_url: Annotated[str, Field(pattern=r"^https?://[^\s{}]+/\{kid\}$")] | None = None
    """Address of one PEM key per key id, ending in `/{kid}`, as AWS load balancers publish them."""
    file: FilePath | None = None
    """A JWKS on disk."""
    refresh_seconds: Annotated[float, Field(ge=1)] = 300
    """How often the keys are fetched anew, unless the answer's `cache-control` says sooner."""
    cooldown_seconds: Annotated[float, Field(ge=1)] = 10
    """The least time between two fetches, whatever `cache-control` or tokens with unknown key ids say."""
    timeout_seconds: Annotated[float, Field(gt=0, le=30)] = 5
    """How long one fetch may take."""
    max_stale_seconds: Annotated[float, Field(ge=0)] = 86400
    """How long the last good keys serve while the issuer cannot be reached."""
    ca_file: FilePath | None = None
    """Certificate authorities to trust for the fetch instead of the system's."""
    bearer_token_file: FilePath | None = None
    """A token to send with the fetch, read anew each time, as kube-apiserver asks for one at `/openid/v1/jwks`."""
    proxy: Url | None = None
    """An HTTP proxy for the fetch. The environment's proxies are not used."""
    redirects: bool = False
    """Follow up to three redirects, never from https to http."""
    private_addresses: bool = True
    """Fetch from private and loopback addresses, where a cluster's own issuer lives. Link-local ones never serve."""

    @model_validator(mode="after")
    def _exactly_one_source(self) -> Keys:
        if sum((self.url is not None, self.discovery, self.pem_url is not None, self.file is not None)) != 1:
            raise ValueError("keys need exactly one of url, discovery, pemUrl and file")
        return self

    @model_validator(mode="after")
    def _nothing_is_promised_in_vain(self) -> Keys:
        if self.proxy is not None and not self.private_addresses:
            raise ValueError("privateAddresses cannot be refused behind a proxy: the proxy resolves names")
        if self.bearer_token_file is not None and self.url is None:
            raise ValueError("bearerTokenFile needs url, so that nobody else chooses where the token is sent")
        return self


class Claims(Model):
    """Which claims name the user and the groups, with Kubernetes' prefixes."""

    user: NonEmpty = "sub"
    """The claim that names the user. It must hold text."""
    user_prefix: str = ""
    """Put before every user name, so that two issuers cannot name the same user."""
    groups: NonEmpty | None = None
    """The claim that lists the groups, as text or a list of texts."""
    groups_prefix: str = ""
    """Put before every group name."""


class JwtIssuer(Model):
    """One issuer whose JSON Web Tokens are accepted."""

    issuer: NonEmpty
    """The exact `iss` of its tokens."""
    audiences: Annotated[list[NonEmpty], Field(min_length=1)]
    """A token must name at least one of these in `aud`."""
    algorithms: Annotated[list[Algorithm], Field(min_length=1)] = ["RS256"]
    """Accepted signature algorithms; asymmetric ones only."""
    keys: Keys
    claims: Claims = Field(default_factory=Claims)
    header: HeaderName = "authorization"
    """The request header that carries the token; only `authorization` has the prefix `Bearer`."""
    leeway_seconds: Annotated[float, Field(ge=0, le=300)] = 30
    """Allowed clock difference when `exp`, `nbf` and `iat` are checked."""
    max_token_age_seconds: Annotated[float, Field(gt=0)] | None = None
    """Refuse tokens issued longer ago than this, whatever their `exp`; `iat` is then required."""
    token_type: NonEmpty | None = None
    """The required `typ` of the token header, such as `at+jwt`; unset accepts `JWT` or none."""
    trust_system_groups: bool = False
    """Believe groups that start with `system:`, `system:masters` included. Otherwise they are dropped."""
    service_accounts: bool = False
    """The issuer is a cluster: read its tokens as kube-apiserver does, `claims` aside.

    A deleted ServiceAccount's token is then valid until it expires; `tokenReview` notices within seconds.
    """
    alb_signer: Annotated[str, Field(pattern=r"^arn:[^\s]+$")] | None = None
    """The ARN of the AWS load balancer that signs: the header must name it as `signer`, and one of
    the `audiences` as `client`. Its padded segments are accepted."""

    @model_validator(mode="after")
    def _parts_fit(self) -> JwtIssuer:
        if self.keys.discovery and not self.issuer.startswith(("https://", "http://")):
            raise ValueError("discovery needs an issuer that is a URL")
        if (self.alb_signer is None) != (self.keys.pem_url is None):
            raise ValueError("albSigner and keys.pemUrl belong together")
        if self.alb_signer is not None and self.header == "authorization":
            raise ValueError("albSigner needs the header that the load balancer sets, such as x-amzn-oidc-data")
        if self.service_accounts and (self.claims != Claims() or self.trust_system_groups):
            raise ValueError("serviceAccounts leaves no choice of claims or groups")
        return self


class TokenReviewSettings(Model):
    """Kubernetes tokens, by asking an API server: it knows at once which ones were revoked.

    An answer is believed for `maxCacheSeconds`; the API server's own cache adds up to ten seconds.
    """

    issuers: Annotated[list[NonEmpty], Field(min_length=1)]
    """The `iss` of the tokens to ask about. Others never reach the API server."""
    audiences: Annotated[list[NonEmpty], Field(min_length=1)] = ["pipelines.kubeflow.org"]
    """A token must be meant for at least one of these."""
    kubeconfig: FilePath | None = None
    """Which cluster to ask, and as whom; unset means the pod's ServiceAccount, else the user's own kubeconfig."""
    context: NonEmpty | None = None
    """The kubeconfig's context, instead of its current one."""
    timeout_seconds: Annotated[float, Field(gt=0, le=30)] = 1.5
    """How long one review may take. Keep it below Envoy's own timeout."""
    max_concurrent: Annotated[int, Field(ge=1, le=1000)] = 32
    """How many tokens are reviewed at once; further ones are refused with 503."""
    max_cache_seconds: Annotated[float, Field(ge=0, le=3600)] = 10
    """How long an answer is believed, never beyond the token's `exp`."""
    refused_seconds: Annotated[float, Field(ge=0, le=10)] = 5
    """How long a refused token is not asked about again. Outages are not remembered."""


class SessionSettings(Model):
    """Browser sessions of oauth2-proxy, which keeps login for itself. Its token is verified by `jwt`."""

    url: Url
    """oauth2-proxy's auth endpoint, such as `http://oauth2-proxy.oauth2-proxy.svc.cluster.local/oauth2/auth`."""
    cookie: Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")] = "_oauth2_proxy"
    """Its `cookie_name`; the parts `NAME_0`, `NAME_1`, … of a long session belong to it."""
    token_header: Literal["authorization", "x-auth-request-access-token"] = "authorization"  # noqa: S105 - a name
    """The header of its answer that carries the token: `set_authorization_header`, or `pass_access_token`."""
    sign_in: Annotated[str, Field(pattern=r"^/[A-Za-z0-9._~-][A-Za-z0-9._~/-]*$")] = "/oauth2/start"
    """The path on the same host where a browser logs in; the way back is added as `rd`."""
    timeout_seconds: Annotated[float, Field(gt=0, le=30)] = 1.5
    """How long one answer may take. Keep it below Envoy's own timeout."""
    max_concurrent: Annotated[int, Field(ge=1, le=1000)] = 64
    """How many cookies are asked about at once; further ones are refused with 503."""
    max_cache_seconds: Annotated[float, Field(ge=0, le=3600)] = 60
    """How long a session is believed without asking again: so long it may outlive a logout."""
    refused_seconds: Annotated[float, Field(ge=0, le=10)] = 5
    """How long a cookie that was refused, or whose token is, is not asked about again. Outages are not remembered."""
    max_cached: Annotated[int, Field(ge=0)] = 10000
    """How many sessions are remembered."""


class PeerSettings(Model):
    """Callers in the mesh, known by their mTLS principal: by gRPC, or where `listeners.http.peersFrom` is set."""

    principals: Annotated[list[PrincipalPattern], Field(min_length=1)]
    """Who is believed, as `spiffe://cluster.local/ns/NAMESPACE/sa/NAME`; either of the two may be `*`.

    Never name a gateway: whoever comes through it would be taken for it.
    """


class TrustedHeaderSettings(Model):
    """Users whom a hop of the mesh has authenticated and names in a header. Whoever holds such a
    hop's key can be everybody. It is known by its mTLS principal, as `peer` is."""

    principals: Annotated[list[Principal], Field(min_length=1)]
    """The hops that are believed, exactly. They must overwrite what their own clients send."""
    user_header: HeaderName = "kubeflow-userid"
    """Names the user."""
    groups_header: HeaderName | None = "kubeflow-groups"
    """Lists the groups; those that start with `system:` are dropped."""
    groups_format: Literal["commas", "base64-json"] = "commas"
    """Groups are separated by commas, or one base64url JSON list, as Envoy's jwt_authn writes it."""


class Identity(Model):
    """Who is believed. The first of `order` that recognises its credential decides."""

    jwt: list[JwtIssuer] = []
    token_review: TokenReviewSettings | None = None
    session: SessionSettings | None = None
    header: TrustedHeaderSettings | None = None
    peer: PeerSettings | None = None
    order: list[Kind] = ["session", "token", "header", "peer"]
    """`token` stands for `jwt` and `tokenReview`. A session and a token in one request must name the same user."""
    max_token_bytes: Annotated[int, Field(ge=256, le=65536)] = 16384
    """Larger credentials are refused before they are parsed."""
    max_cached_tokens: Annotated[int, Field(ge=0)] = 10000
    """How many verified tokens are remembered until they expire."""
    max_cache_seconds: Annotated[float, Field(ge=0)] = 300
    """How long a verified token is remembered at the most, whatever its `exp` says."""

    @property
    def kinds(self) -> list[Kind]:
        """The authenticators that are on, in their order."""
        return [kind for kind in self.order if kind in self._configured()]

    def _configured(self) -> set[Kind]:
        parts: dict[Kind, object] = {
            "session": self.session,
            "token": self.jwt or self.token_review,
            "header": self.header,
            "peer": self.peer,
        }
        return {kind for kind, part in parts.items() if part}

    @model_validator(mode="after")
    def _somebody_is_believed(self) -> Identity:
        configured = self._configured()
        if not configured:
            raise ValueError("identity needs at least one of jwt, tokenReview, session, header and peer")
        if len(set(self.order)) != len(self.order) or not configured.issubset(self.order):
            raise ValueError(f"order must name each of {', '.join(sorted(configured))} once")
        if self.session is not None and not any(issuer.header == "authorization" for issuer in self.jwt):
            raise ValueError("session needs a jwt issuer with the header authorization, to verify its tokens")
        return self

    @model_validator(mode="after")
    def _nobody_is_ambiguous(self) -> Identity:
        reviewed = self.token_review.issuers if self.token_review else []
        places = [(issuer.header, issuer.issuer) for issuer in self.jwt]
        places += [("authorization", issuer) for issuer in reviewed]
        if len(set(places)) != len(places):
            raise ValueError("the same issuer is configured twice for one header")
        hops = self.header.principals if self.header else []
        peers = self.peer.principals if self.peer else []
        if any(fnmatchcase(hop, pattern) for hop in hops for pattern in peers):
            raise ValueError("a principal cannot be a user itself (peer) and speak for users (header)")
        return self
