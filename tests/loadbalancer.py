"""An AWS load balancer as an issuer: its name and client in the token's header, padding, one key per id."""

from __future__ import annotations

from typing import Any

from tests.issuer import ABSENT, Issuer, SigningKey, changed, compact, segment
from tests.pem import pem
from tests.site import Site

LOAD_BALANCER = "arn:aws:elasticloadbalancing:eu-west-1:1:loadbalancer/app/kubeflow/1"
HEADER = {"typ": "JWT", "alg": "ES256", "signer": LOAD_BALANCER, "client": "kubeflow"}


class LoadBalancer:
    """An AWS load balancer: padded tokens, and keys published one by one."""

    def __init__(self, site: Site, key: SigningKey) -> None:
        self.site = site
        self.key = key
        self.publish(key)

    def publish(self, key: SigningKey) -> None:
        self.site.pages[f"/{key.id}"] = pem(key)

    def token(self, key: SigningKey | None = None, *, padded: bool = True, **header: Any) -> str:
        """Return alice's token, signed by a key; `header` are changes to a good one."""
        key = key or self.key
        named = changed({**HEADER, "kid": key.id}, header)
        claims = Issuer().claims(email="alice", aud=ABSENT)
        if not padded:
            return compact(named, claims, key)
        signed = ".".join(f"{part}{'=' * (-len(part) % 4)}" for part in (segment(named), segment(claims)))
        signature = segment(key.sign(signed.encode()))
        return f"{signed}.{signature}{'=' * (-len(signature) % 4)}"

    def headers(self, *args: Any, **header: Any) -> dict[str, str]:
        return {"x-amzn-oidc-data": self.token(*args, **header)}
