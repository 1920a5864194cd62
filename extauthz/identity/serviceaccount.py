"""ServiceAccounts as kube-apiserver names them, from a verified token or from a mesh principal.

User, groups, uid and extra are those that a TokenReview answers for the same token
(`pkg/serviceaccount` of Kubernetes), so both ways to verify lead to the same rights.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from extauthz.errors import CredentialError
from extauthz.identity.faults import CredentialFault
from extauthz.subject import Subject

GROUP = "system:serviceaccounts"

_EXTRA = "authentication.kubernetes.io"
_LABEL = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_NAMESPACE = re.compile(_LABEL, re.ASCII)
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.ASCII)


def named(namespace: str, name: str, **rest: Any) -> Subject:
    """Return the subject of a ServiceAccount; `rest` are further fields of Subject."""
    user = f"system:serviceaccount:{namespace}:{name}"
    return Subject.authenticated(user, (GROUP, f"{GROUP}:{namespace}"), **rest)


def groups_of(user: str) -> tuple[str, ...]:
    """Return the groups that Kubernetes gives a ServiceAccount by its user name; none to anybody else."""
    match user.split(":"):
        case ["system", "serviceaccount", namespace, name] if is_named(namespace, name):
            return (GROUP, f"{GROUP}:{namespace}")
    return ()


def is_named(namespace: object, name: object) -> bool:
    """Tell whether both are names that Kubernetes admits."""
    return _fits(_NAMESPACE, namespace, 63) and _fits(_NAME, name, 253)


def service_account(claims: dict[str, Any], *, authenticator: str) -> Subject:
    """Return the ServiceAccount that a cluster's verified token names. Raises CredentialError."""
    private = _object(claims, "kubernetes.io")
    account = _object(private, "serviceaccount")
    namespace, name = private.get("namespace"), account.get("name")
    if not isinstance(namespace, str) or not isinstance(name, str) or not is_named(namespace, name):
        raise _invalid("claim kubernetes.io does not name a ServiceAccount")
    subject = named(
        namespace,
        name,
        uid=_text(account, "uid"),
        extra=tuple(sorted((key, (value,)) for key, value in _extra(claims, private).items() if value)),
        authenticator=authenticator,
        expires=float(claims["exp"]),
        claims=MappingProxyType(claims),
    )
    if claims.get("sub") != subject.user:
        raise _invalid("claims sub and kubernetes.io name different subjects")
    return subject


def _extra(claims: Mapping[str, Any], private: Mapping[str, Any]) -> dict[str, str]:
    pod, node = _object(private, "pod"), _object(private, "node")
    token = _text(claims, "jti")
    return {
        f"{_EXTRA}/credential-id": token and f"JTI={token}",
        f"{_EXTRA}/node-name": _text(node, "name"),
        f"{_EXTRA}/node-uid": _text(node, "uid"),
        f"{_EXTRA}/pod-name": _text(pod, "name"),
        f"{_EXTRA}/pod-uid": _text(pod, "uid"),
    }


def _object(parent: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = parent.get(name, {})
    if not isinstance(value, dict):
        raise _invalid(f"claim {name} is not an object")
    return value


def _text(parent: Mapping[str, Any], name: str) -> str:
    value = parent.get(name, "")
    if not isinstance(value, str) or not value.isprintable() or len(value) > 1024:
        raise _invalid(f"claim {name} is not printable text")
    return value


def _fits(pattern: re.Pattern[str], value: object, length: int) -> bool:
    return isinstance(value, str) and len(value) <= length and pattern.fullmatch(value) is not None


def _invalid(message: str) -> CredentialError:
    return CredentialError(CredentialFault.CLAIM_INVALID, message)
