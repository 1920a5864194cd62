"""Why a credential is refused: the reason codes of every `CredentialError` of this package."""

from __future__ import annotations

from enum import StrEnum


class CredentialFault(StrEnum):
    """One code per kind of fault; the message beside it says which part of the token it is about."""

    CREDENTIAL_AMBIGUOUS = "credential_ambiguous"
    CREDENTIAL_UNSUPPORTED = "credential_unsupported"
    TOKEN_TOO_LARGE = "token_too_large"  # noqa: S105 - a reason code
    TOKEN_MALFORMED = "token_malformed"  # noqa: S105 - a reason code
    TOKEN_TYPE_MISMATCH = "token_type_mismatch"  # noqa: S105 - a reason code
    TOKEN_EXPIRED = "token_expired"  # noqa: S105 - a reason code
    TOKEN_TOO_OLD = "token_too_old"  # noqa: S105 - a reason code
    TOKEN_REJECTED = "token_rejected"  # noqa: S105 - a reason code
    TOKEN_NOT_YET_VALID = "token_not_yet_valid"  # noqa: S105 - a reason code
    EXTENSION_UNSUPPORTED = "extension_unsupported"
    ALGORITHM_NOT_ALLOWED = "algorithm_not_allowed"
    ISSUER_UNKNOWN = "issuer_unknown"
    AUDIENCE_MISMATCH = "audience_mismatch"
    KEY_UNKNOWN = "key_unknown"
    SIGNER_MISMATCH = "signer_mismatch"
    SIGNATURE_INVALID = "signature_invalid"
    CLAIM_INVALID = "claim_invalid"
    SESSION_INVALID = "session_invalid"
    SESSION_REFUSED = "session_refused"


KEYS_UNAVAILABLE = "keys_unavailable"
"""The reason of `Unavailable` while an issuer has no keys."""
