"""Who asks: from the credentials of a request to a verified `Subject`."""

from extauthz.identity.faults import CredentialFault
from extauthz.identity.jwt import JwtAuthenticator

__all__ = ["CredentialFault", "JwtAuthenticator"]
