"""Who asks: from the credentials of a request to a verified `Subject`."""

from extauthz.identity.chain import Authenticators
from extauthz.identity.faults import CredentialFault
from extauthz.identity.tokens import TokenAuthenticator

__all__ = ["Authenticators", "CredentialFault", "TokenAuthenticator"]
