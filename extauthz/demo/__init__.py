"""The local mesh: a real Envoy in both ext_authz modes, a stub Kubeflow, and a token issuer.

It is the first thing a newcomer runs and what the integration tests run on, so it is made
like the real mesh: Envoy is configured as Istio configures it, and the rights of the three
tenants are Kubeflow's own ClusterRoles.
"""

from __future__ import annotations

from extauthz.errors import ExtauthzError

HOST = "127.0.0.1"


class DemoError(ExtauthzError):
    """The local mesh cannot run; the message says what to do about it."""
