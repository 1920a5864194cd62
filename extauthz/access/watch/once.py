"""All RBAC objects of a cluster, read once: for commands that look and leave."""

from __future__ import annotations

from extauthz.access.generations import Generations
from extauthz.access.kubernetes.connection import Connection
from extauthz.access.rbac import RbacStore
from extauthz.access.watch.feed import Feed
from extauthz.access.watch.objects import KnownObjects
from extauthz.access.watch.resources import RBAC, RESOURCES


async def read(connection: Connection) -> RbacStore:
    """List roles and bindings of all namespaces. Raises Unavailable where the API server does not tell them."""
    store = RbacStore()
    for resource in RESOURCES:
        if resource.api_version == RBAC:
            await Feed(resource, connection, KnownObjects(resource, Generations(), store)).list_pages()
    return store
