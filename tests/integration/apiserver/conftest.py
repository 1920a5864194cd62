"""The API servers that these tests talk to."""

from tests.apiserver.fixtures import api_server, connection, double, real_api_server

__all__ = ["api_server", "connection", "double", "real_api_server"]
