"""A KFP API server for tests of lookups: the shapes of its answers, and every way it can fail."""

from tests.kfp.server import KfpServer

__all__ = ["KfpServer"]
