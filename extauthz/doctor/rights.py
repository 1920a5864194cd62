"""The rights of extauthz's own ServiceAccount, as the RBAC objects grant them."""

from __future__ import annotations

from collections.abc import Iterator

from extauthz.access.rbac import RbacAuthorizer
from extauthz.access.rbac.fields import Unacceptable, Undecodable
from extauthz.access.rbac.objects import KINDS, Binding, Role, decode
from extauthz.access.rbac.store import RbacStore
from extauthz.doctor.finding import Finding, critical, warning
from extauthz.doctor.installation import Installation, pod_spec
from extauthz.doctor.manifests import Manifest
from extauthz.review import ResourceAttributes
from extauthz.settings import Settings
from extauthz.subject import Subject

_RBAC = "rbac.authorization.k8s.io"
_WATCHED = (
    *((_RBAC, name) for name in ("clusterrolebindings", "clusterroles", "rolebindings", "roles")),
    ("", "namespaces"),
)
_FIX = "bind the ClusterRole of istio/base/shared/rbac.yaml to it"


def examine(found: Installation) -> Iterator[Finding]:
    """Yield the rights that are missing. Without any RBAC objects nothing is known, and nothing is said."""
    objects = [item for item in found.of(*KINDS) if not item.labels.get("kubernetes.io/bootstrapping")]
    if not objects:
        return
    authorizer = RbacAuthorizer(RbacStore(decoded for item in objects for decoded in _decoded(item)))
    accounts = {(pods.namespace, str(pod_spec(pods).get("serviceAccountName", "default"))): pods for pods in found.pods}
    for (namespace, name), pods in accounts.items():
        subject = _account(namespace, name)

        def may(verb: str, group: str, resource: str, subject: Subject = subject) -> bool:
            return authorizer.review(subject, ResourceAttributes(verb, group, "v1", resource)).allowed

        who = f"system:serviceaccount:{namespace}:{name}"
        if not may("create", "authorization.k8s.io", "subjectaccessreviews"):
            what = f"{who} may not create subjectaccessreviews: nobody's rights can be found out, all requests get 503."
            yield critical("rights-missing", pods, what, _FIX)
        if _reviews_tokens(found) and not may("create", "authentication.k8s.io", "tokenreviews"):
            what = f"{who} may not create tokenreviews, which identity.tokenReview needs: no Kubernetes token passes."
            yield critical("rights-missing", pods, what, _FIX)
        blind = [r for g, r in _WATCHED if not (may("list", g, r) and may("watch", g, r))]
        if blind:
            what = (
                f"{who} may not list and watch {', '.join(blind)}: a right that is taken away goes on for as long as "
                "cache.ttlWithoutWatchSeconds, and every user is asked about anew so often."
            )
            yield warning("watch-forbidden", pods, what, _FIX)


def _decoded(item: Manifest) -> Iterator[Role | Binding]:
    try:
        yield decode(dict(item.data))
    except (Undecodable, Unacceptable):
        return


def _account(namespace: str, name: str) -> Subject:
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
    return Subject.authenticated(f"system:serviceaccount:{namespace}:{name}", groups)


def _reviews_tokens(found: Installation) -> bool:
    loaded = [settings for _, settings in found.settings.values() if isinstance(settings, Settings)]
    return any(settings.identity.token_review for settings in loaded)
