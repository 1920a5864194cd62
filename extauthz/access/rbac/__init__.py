"""The embedded RBAC evaluator: what kube-apiserver would answer, without one.

`load` reads manifests into an `RbacStore`; an `RbacAuthorizer` over it answers reviews.
Answers, words included, are those of the RBAC authorizer of Kubernetes 1.36.
"""

from extauthz.access.rbac.evaluator import RbacAuthorizer
from extauthz.access.rbac.manifests import load
from extauthz.access.rbac.store import RbacStore

__all__ = ["RbacAuthorizer", "RbacStore", "load"]
