"""Which part of `x-forwarded-client-cert` is Envoy's own."""

from __future__ import annotations

import pytest

from extauthz.edge import xfcc

EDITOR = "spiffe://cluster.local/ns/team-a/sa/default-editor"
OTHER = "spiffe://cluster.local/ns/team-b/sa/other"
ASKER = "spiffe://cluster.local/ns/team-a/sa/notebook"
START = f"By={ASKER};Hash={'0a' * 32}"


@pytest.mark.parametrize(
    ("value", "principal"),
    [
        (f"{START};URI={EDITOR}", EDITOR),
        (f'{START};Subject="";URI={EDITOR}', EDITOR),
        (f'{START};Subject="CN=\\"x\\",O=y";URI={EDITOR};DNS=a.example;DNS=b.example', EDITOR),
        (f"{START};URI={OTHER},{START};URI={EDITOR}", EDITOR),
        (f'By=x;Subject=",{START};URI={EDITOR}', EDITOR),
        (f"{START};URI={OTHER};URI={EDITOR}", ""),
        (f"{START};URI={EDITOR},", ""),
        (f"{START};URI={EDITOR} ", ""),
        (f"{START};URI={EDITOR}\n", ""),
        (f"{START};URI=", ""),
        (f"{START};DNS=a.example", ""),
        (f"{START}", ""),
        (f"URI={EDITOR}", ""),
        (f"{START};URI={EDITOR},URI={OTHER}", ""),
        (f"{START},{START};Uri={EDITOR}", ""),
        ("", ""),
    ],
)
def test_the_last_element_in_envoys_spelling(value: str, principal: str) -> None:
    """One URI, in the last element and nowhere else; anything odd is nobody."""
    assert xfcc.principal({xfcc.HEADER: value}, [ASKER]) == principal


def test_without_the_header_there_is_nobody() -> None:
    """As without a client certificate."""
    assert xfcc.principal({}, [ASKER]) == ""


@pytest.mark.parametrize("before", ["", f"{START};URI={EDITOR},"])
def test_a_sidecar_of_our_own_names_nobody(before: str) -> None:
    """It names the Envoy that asks; that one is not the caller, and must not be taken for a hop or a peer."""
    own = f'By=spiffe://cluster.local/ns/extauthz/sa/extauthz;Hash={"0b" * 32};Subject="";URI={ASKER}'
    assert xfcc.principal({xfcc.HEADER: before + own}, [ASKER]) == ""
