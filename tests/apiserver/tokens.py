"""The accounts that both the double and the real API server know by static tokens."""

from __future__ import annotations

from dataclasses import dataclass

SERVER_AUDIENCE = "https://kubernetes.default.svc"


@dataclass(frozen=True, slots=True)
class Account:
    """Who a bearer token belongs to, and which audiences it is for."""

    user: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    audiences: tuple[str, ...] = (SERVER_AUDIENCE,)


ADMIN = "admin-token"
EXTAUTHZ = "extauthz-token"
STRANGER = "stranger-token"
EXTAUTHZ_USER = "system:serviceaccount:extauthz:extauthz"

ACCOUNTS = {
    ADMIN: Account("admin", ("system:authenticated", "system:masters"), "1"),
    EXTAUTHZ: Account(
        EXTAUTHZ_USER,
        ("system:authenticated", "system:serviceaccounts", "system:serviceaccounts:extauthz"),
        "2",
    ),
    STRANGER: Account("stranger", ("system:authenticated",), "3"),
}
