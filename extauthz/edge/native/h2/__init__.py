"""HTTP/2 (RFC 9113) for a server that answers whole requests, most of them at once."""
