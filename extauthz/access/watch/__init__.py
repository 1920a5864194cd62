"""Seeing every change of RBAC as it happens, and knowing when that is not so."""

from extauthz.access.watch.follower import State, WatchCounts
from extauthz.access.watch.rbac_watch import RbacWatch
from extauthz.access.watch.resources import RESOURCES, Resource, Sink

__all__ = ["RESOURCES", "RbacWatch", "Resource", "Sink", "State", "WatchCounts"]
