"""The settings that choose and bound the authorizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from extauthz.settings import Access, KubernetesAuthorizer

RBAC = {"manifests": ["rbac.yaml"]}


def test_kubernetes_needs_no_further_settings() -> None:
    """An empty section means the pod's ServiceAccount and a deadline below Envoy's."""
    access = Access.model_validate({"kubernetes": {}})
    assert access.kubernetes
    assert (access.kubernetes.kubeconfig, access.kubernetes.timeout_seconds, access.rbac) == (None, 1.5, None)


@pytest.mark.parametrize("sections", [{}, {"kubernetes": {}, "rbac": RBAC}, {"kubernetes": None}])
def test_exactly_one_authorizer(sections: dict[str, Any]) -> None:
    """None or two authorizers are refused."""
    with pytest.raises(ValidationError, match="exactly one of kubernetes and rbac"):
        Access.model_validate(sections)


def test_no_user_may_take_every_slot() -> None:
    """The bound of one user must be below the bound of all."""
    with pytest.raises(ValidationError, match="must be smaller"):
        KubernetesAuthorizer(max_concurrent_reviews=4, max_reviews_per_user=4)
    assert KubernetesAuthorizer(kubeconfig=Path("config"), context="lab").context == "lab"
