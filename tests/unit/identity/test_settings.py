"""Settings that could only be a mistake or a hole do not load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from extauthz import settings
from extauthz.errors import ConfigurationError
from extauthz.settings.identity import Identity

FILE = {"file": "jwks.json"}
GATEWAY = "spiffe://cluster.local/ns/istio-system/sa/gateway"


def jwt(**changes: Any) -> dict[str, Any]:
    """Return an identity with one issuer."""
    return {"jwt": [{"issuer": "https://idp.example", "audiences": ["kubeflow"], "keys": FILE, **changes}]}


ALB = {
    "header": "x-amzn-oidc-data",
    "algorithms": ["ES256"],
    "keys": {"pemUrl": "https://public-keys.auth.elb.eu-west-1.amazonaws.com/{kid}"},
    "albSigner": "arn:aws:elasticloadbalancing:eu-west-1:1:loadbalancer/app/kubeflow/1",
}
SESSION = {"url": "http://oauth2-proxy.oauth2-proxy.svc/oauth2/auth"}


@pytest.mark.parametrize(
    "identity",
    [
        jwt(),
        jwt(**ALB),
        jwt(serviceAccounts=True),
        {**jwt(), "session": SESSION},
        {**jwt(), "session": SESSION, "order": ["token", "session"]},
        {"tokenReview": {"issuers": ["https://kubernetes.default.svc.cluster.local"]}},
        {"peer": {"principals": [GATEWAY, "spiffe://td/ns/*/sa/a", "spiffe://td/ns/a/sa/*"]}},
        {"header": {"principals": [GATEWAY]}},
    ],
)
def test_each_way_to_be_known_can_stand_alone(identity: dict[str, Any]) -> None:
    """None needs another, but a session, whose token must be verified."""
    assert Identity.model_validate(identity).kinds


@pytest.mark.parametrize(
    ("identity", "hint"),
    [
        ({}, "at least one"),
        ({"jwt": []}, "at least one"),
        ({"session": SESSION}, "session needs a jwt issuer"),
        ({**jwt(header="x-token"), "session": SESSION}, "session needs a jwt issuer"),
        ({**jwt(), "order": ["session"]}, "order must name"),
        ({**jwt(), "order": ["token", "token"]}, "order must name"),
        ({**jwt(), "order": ["jwt"]}, "order"),
        ({"jwt": jwt()["jwt"] * 2}, "configured twice"),
        ({**jwt(), "tokenReview": {"issuers": ["https://idp.example"]}}, "configured twice"),
        ({"tokenReview": {"issuers": []}}, "issuers"),
        (jwt(issuer="dex", keys={"discovery": True}), "issuer that is a URL"),
        (jwt(issuer="ftp://idp.example", keys={"discovery": True}), "issuer that is a URL"),
        (jwt(keys={}), "exactly one of"),
        (jwt(keys={"url": "https://idp.example/keys", "file": "jwks.json"}), "exactly one of"),
        (jwt(keys={"url": "idp.example/keys"}), "url"),
        (jwt(keys={"url": "https:///keys"}), "url"),
        (jwt(keys={"url": "https://a", "proxy": "http://p:1", "privateAddresses": False}), "behind a proxy"),
        (jwt(keys={**FILE, "bearerTokenFile": "token"}), "bearerTokenFile needs url"),
        (jwt(keys={"discovery": True, "bearerTokenFile": "token"}), "bearerTokenFile needs url"),
        (jwt(**{**ALB, "albSigner": None}), "belong together"),
        (jwt(**{**ALB, "keys": FILE}), "belong together"),
        (jwt(**{**ALB, "header": "authorization"}), "header that the load balancer sets"),
        (jwt(**{**ALB, "keys": {"pemUrl": "https://{kid}.example/"}}), "pemUrl"),
        (jwt(serviceAccounts=True, trustSystemGroups=True), "leaves no choice"),
        (jwt(serviceAccounts=True, claims={"user": "email"}), "leaves no choice"),
        (jwt(maxTokenAgeSeconds=0), "maxTokenAgeSeconds"),
        ({**jwt(), "session": {**SESSION, "signIn": "//evil.example"}}, "signIn"),
        ({**jwt(), "session": {**SESSION, "signIn": "https://evil.example"}}, "signIn"),
        ({**jwt(), "session": {**SESSION, "signIn": "/oauth2/start?x=1"}}, "signIn"),
        ({"peer": {"principals": []}}, "principals"),
        ({"peer": {"principals": ["spiffe://td/ns/*/sa/*"]}}, "principals"),
        ({"peer": {"principals": ["spiffe://*/ns/a/sa/b"]}}, "principals"),
        ({"peer": {"principals": ["*"]}}, "principals"),
        ({"header": {"principals": ["spiffe://td/ns/*/sa/gateway"]}}, "principals"),
        ({"header": {"principals": [GATEWAY]}, "peer": {"principals": [GATEWAY]}}, "speak for users"),
        (
            {"header": {"principals": [GATEWAY]}, "peer": {"principals": ["spiffe://cluster.local/ns/*/sa/gateway"]}},
            "speak for users",
        ),
    ],
)
def test_a_mistake_is_told(identity: dict[str, Any], hint: str) -> None:
    """The message says what is wrong."""
    with pytest.raises(ValidationError, match=hint):
        Identity.model_validate(identity)


@pytest.mark.parametrize("identity", ["peer", "header"])
def test_principals_need_the_grpc_edge(tmp_path: Path, identity: str) -> None:
    """HTTP checks carry none, so such settings would believe nobody, and look as if they did."""
    file = tmp_path / "settings.yaml"
    file.write_text(
        "apiVersion: extauthz.dev/v1\nkind: Settings\nlisteners: {grpc: null}\n"
        f"identity: {{{identity}: {{principals: ['{GATEWAY}']}}}}\n"
        "access: {kubernetes: {}}\npolicy: {paths: [policies]}\n"
    )
    with pytest.raises(ConfigurationError, match=r"listeners\.grpc"):
        settings.load(file)
    file.write_text(file.read_text().replace("listeners: {grpc: null}\n", ""))
    assert settings.load(file).identity.kinds == [identity]
