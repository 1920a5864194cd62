"""From verified claims to user and groups."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from extauthz.errors import CredentialError
from extauthz.identity.claims import MAX_GROUPS, MAX_NAME_BYTES, subject_of
from extauthz.settings.identity import JwtIssuer
from tests.issuer import ABSENT, Issuer

Build = Callable[..., JwtIssuer]
GROUPS = {"groups": "groups"}


def groups_of(settings: JwtIssuer, value: Any) -> tuple[str, ...]:
    return subject_of(Issuer().claims(groups=value), settings).groups


@pytest.mark.parametrize(
    "user",
    [
        ABSENT,
        None,
        "",
        7,
        True,
        ["alice"],
        {"name": "alice"},
        " ",
        "alice ",
        "\u00a0alice",
        "ali\0ce",
        "alice\r\nx-admin: 1",
        "ali\tce",
        "ali\x7fce",
        "ali\x85ce",
        "ali\x9fce",
        "a" * (MAX_NAME_BYTES + 1),
        "é" * MAX_NAME_BYTES,
    ],
)
def test_jwt_022_user_claim(jwt_issuer: Build, user: Any) -> None:
    """A user that is missing, no text, blank, overlong or unfit for a header is refused."""
    with pytest.raises(CredentialError) as refused:
        subject_of(Issuer().claims(email=user), jwt_issuer(claims={"user": "email"}))
    assert refused.value.reason == "claim_invalid"


def test_user_prefix(jwt_issuer: Build) -> None:
    """The prefix is put before the user and counts towards its length."""
    settings = jwt_issuer(claims={"user_prefix": "oidc:"})
    assert subject_of(Issuer().claims(), settings).user == "oidc:alice"
    with pytest.raises(CredentialError):
        subject_of(Issuer().claims(sub="a" * MAX_NAME_BYTES), settings)


def test_a_user_and_groups_at_their_bounds_are_good(jwt_issuer: Build) -> None:
    """So many bytes and so many groups are allowed, one more is not."""
    longest, groups = "é" * (MAX_NAME_BYTES // 2), [f"g{number}" for number in range(MAX_GROUPS)]
    subject = subject_of(Issuer().claims(sub=longest, groups=groups), jwt_issuer(claims=GROUPS))
    assert subject.user == longest
    assert set(groups) < set(subject.groups)


@pytest.mark.parametrize(
    ("prefix", "user"), [("", "system:admin"), ("", "system:serviceaccount:a:b"), ("system", ":x"), ("system:", "x")]
)
def test_identity_001_reserved_users(jwt_issuer: Build, prefix: str, user: str) -> None:
    """No token may name a user of Kubernetes itself, however the prefix helps."""
    with pytest.raises(CredentialError) as refused:
        subject_of(Issuer().claims(sub=user), jwt_issuer(claims={"user_prefix": prefix}))
    assert refused.value.reason == "claim_invalid"


def test_identity_001_reserved_groups(jwt_issuer: Build, caplog: pytest.LogCaptureFixture) -> None:
    """Reserved groups are dropped after prefixing, counted in the log, and the rest stays."""
    with caplog.at_level(logging.DEBUG):
        kept = groups_of(jwt_issuer(claims=GROUPS), ["system:masters", "devs", "system:authenticated", "System:x"])
    assert kept == ("System:x", "devs", "system:authenticated")
    assert "dropped 2 reserved groups" in caplog.text


def test_nothing_is_said_of_groups_that_are_all_kept(jwt_issuer: Build, caplog: pytest.LogCaptureFixture) -> None:
    """The log tells of dropped groups only."""
    with caplog.at_level(logging.DEBUG):
        assert groups_of(jwt_issuer(claims=GROUPS), ["devs"]) == ("devs", "system:authenticated")
    assert "dropped" not in caplog.text


def test_identity_001_a_prefix_makes_groups_ordinary(jwt_issuer: Build) -> None:
    """With a prefix of its own, an issuer's `system:masters` is another group; a prefix can also make one reserved."""
    prefixed = jwt_issuer(claims={**GROUPS, "groups_prefix": "oidc:"})
    assert groups_of(prefixed, ["system:masters"]) == ("oidc:system:masters", "system:authenticated")
    assert groups_of(jwt_issuer(claims={**GROUPS, "groups_prefix": "system"}), [":masters"]) == (
        "system:authenticated",
    )


def test_identity_003_groups_as_text(jwt_issuer: Build) -> None:
    """One text is one group, and is never split."""
    settings = jwt_issuer(claims=GROUPS)
    assert groups_of(settings, "a") == ("a", "system:authenticated")
    assert groups_of(settings, "a,b") == ("a,b", "system:authenticated")


def test_identity_003_groups_as_list(jwt_issuer: Build) -> None:
    """A list of texts becomes sorted, unique groups."""
    assert groups_of(jwt_issuer(claims=GROUPS), ["b", "a", "b"]) == ("a", "b", "system:authenticated")
    assert groups_of(jwt_issuer(claims=GROUPS), []) == ("system:authenticated",)


@pytest.mark.parametrize(
    "value",
    [None, 7, True, {"a": 1}, ["a", 7], ["a", None], [["a"]], "", [""], ["a\nb"], [" a"], ["a"] * (MAX_GROUPS + 1)],
)
def test_identity_003_other_groups(jwt_issuer: Build, value: Any) -> None:
    """Groups of any other type, or unfit as names, are refused."""
    with pytest.raises(CredentialError) as refused:
        groups_of(jwt_issuer(claims=GROUPS), value)
    assert refused.value.reason == "claim_invalid"


def test_no_groups(jwt_issuer: Build) -> None:
    """Without the claim, or without a setting that names it, a user has only what every login has."""
    assert groups_of(jwt_issuer(claims=GROUPS), ABSENT) == ("system:authenticated",)
    assert groups_of(jwt_issuer(), ["devs"]) == ("system:authenticated",)
