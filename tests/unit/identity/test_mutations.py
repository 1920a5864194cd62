"""An attacker who changes a valid token in any way gets nothing.

Every change is made without the issuer's key, or signed by a key the issuer never
published. Whatever comes out must be refused with a `CredentialError` and nothing else.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extauthz.errors import CredentialError
from extauthz.identity import CredentialFault
from tests.issuer import ABSENT, NOW, Issuer, SigningKey, asking, bearer, compact, ec_key, rsa_key, segment
from tests.unit.identity.conftest import Desk

ISSUER = Issuer(keys=[rsa_key("key-1"), ec_key("key-2")])
TOKEN = ISSUER.token()
HEADER, PAYLOAD, SIGNATURE = TOKEN.split(".")
MALLORY = [rsa_key("mallory"), ec_key("mallory")]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
MEMBERS = {
    "alg": st.sampled_from(["none", "None", "HS256", "RS256", "RS384", "PS256", "ES256", "EdDSA", "", ABSENT]),
    "kid": st.sampled_from(["key-1", "key-2", "", "../../dev/null", "key-1\0", "' OR 1=1", ABSENT]),
    "typ": st.sampled_from(["JWT", "at+jwt", "JWE", "", ABSENT]),
    "cty": st.just("JWT"),
    "jku": st.just("https://evil.example/jwks"),
    "x5u": st.just("https://evil.example/chain"),
    "jwk": st.sampled_from([key.jwk(kid="key-1") for key in MALLORY]),
    "x5c": st.just(["AAAA"]),
    "crit": st.sampled_from([["b64"], ["exp"], [], "b64"]),
    "b64": st.booleans(),
    "zip": st.just("DEF"),
    "enc": st.just("A256GCM"),
}
CLAIMS = {
    "sub": st.sampled_from(["bob", "system:admin", "", "alice\n", ABSENT]),
    "exp": st.sampled_from([NOW + 10**6, 10**30, -1, 1e308, float("inf"), float("nan"), "never", None, ABSENT]),
    "nbf": st.sampled_from([0, 10**30, "x"]),
    "iat": st.sampled_from([0, 10**30, None]),
    "aud": st.sampled_from(["kubeflow", [], [""], {}, ABSENT]),
    "iss": st.sampled_from(["https://idp.example/", "https://idp.exampl", "", None, ABSENT]),
    "groups": JSON,
}


@pytest.fixture(scope="module")
def refuse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], None]]:
    """Check that a credential is refused at once by an authenticator that has its keys and is in its cool-down."""
    desk = Desk(tmp_path_factory.mktemp("keys"), ISSUER)
    authenticator = desk.open(algorithms=["RS256", "ES256"], claims={"groups": "groups"})
    assert asyncio.run(desk.ask(bearer(TOKEN)))

    def check(credential: str) -> None:
        with pytest.raises(CredentialError) as refused:
            authenticator.authenticate(asking({"authorization": credential}))
        assert refused.value.reason in set(CredentialFault)

    yield check
    assert authenticator.authenticate(asking(bearer(TOKEN)))


def changes(members: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Some known members with hostile values, and some of any name with any value."""
    known = st.fixed_dictionaries({}, optional=members)
    return st.tuples(
        known, st.dictionaries(st.sampled_from(sorted(members)) | st.text(max_size=5), JSON, max_size=1)
    ).map(lambda both: {**both[0], **both[1]})


Refuse = Callable[[str], None]
many = settings(max_examples=300, deadline=None)


@many
@given(
    header=changes(MEMBERS),
    claims=changes(CLAIMS),
    signature=st.sampled_from([SIGNATURE, "AAAA", "", segment(bytes(64))]),
)
def test_changed_members_under_an_old_signature(
    refuse: Refuse, header: dict[str, Any], claims: dict[str, Any], signature: str
) -> None:
    """New headers and claims under a signature made for others, or none at all, are refused."""
    signed = f"{segment(ISSUER.header(**header))}.{segment(ISSUER.claims(**claims))}"
    if f"{signed}.{signature}" != TOKEN:
        refuse(f"Bearer {signed}.{signature}")


@many
@given(header=changes(MEMBERS), claims=changes(CLAIMS), key=st.sampled_from(MALLORY))
def test_tokens_of_a_stranger(refuse: Refuse, header: dict[str, Any], claims: dict[str, Any], key: Any) -> None:
    """Whatever a stranger writes and signs with his own key is refused."""
    honest = {"alg": key.algorithm, **header}
    refuse(f"Bearer {compact(ISSUER.header(**honest), ISSUER.claims(**claims), key)}")


@many
@given(position=st.integers(0, len(TOKEN) - 1), replacement=st.characters() | st.just(""))
def test_one_character_changed(refuse: Refuse, position: int, replacement: str) -> None:
    """A token with any single character replaced or taken away is refused."""
    changed = TOKEN[:position] + replacement + TOKEN[position + 1 :]
    if changed != TOKEN:
        refuse(f"Bearer {changed}")


@many
@given(position=st.integers(0, len(TOKEN) + 7), inserted=st.text(min_size=1, max_size=4))
def test_characters_inserted(refuse: Refuse, position: int, inserted: str) -> None:
    """A header value with anything inserted, the scheme included, is refused."""
    value = f"Bearer {TOKEN}"
    refuse(value[:position] + inserted + value[position:])


@many
@given(bits=st.lists(st.integers(0, 8 * 250), min_size=1, max_size=3, unique=True))
def test_bits_flipped(refuse: Refuse, bits: list[int]) -> None:
    """A token with any bits of its parts flipped is refused."""
    parts = [bytearray(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in TOKEN.split(".")]
    for bit in bits:
        part = parts[bit % 3]
        part[bit // 8 % len(part)] ^= 1 << bit % 8
    changed = ".".join(segment(bytes(part)) for part in parts)
    if changed != TOKEN:
        refuse(f"Bearer {changed}")


ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@pytest.mark.parametrize("key", ISSUER.keys)
def test_bits_that_nobody_reads(refuse: Refuse, key: SigningKey) -> None:
    """A signature has one spelling: the unused bits of its last character are zero."""
    token = compact(ISSUER.header(alg=key.algorithm, kid=key.id), ISSUER.claims(), key)
    for last in ALPHABET:
        if last != token[-1]:
            refuse(f"Bearer {token[:-1]}{last}")


@many
@given(text=st.text() | st.binary().map(segment), segments=st.integers(1, 6))
def test_anything_at_all(refuse: Refuse, text: str, segments: int) -> None:
    """Arbitrary text in place of a token is refused."""
    refuse("Bearer " + ".".join([text] * segments))
    refuse(text)


@many
@given(first=st.text(max_size=5), second=JSON)
def test_respelled_parts(refuse: Refuse, first: str, second: Any) -> None:
    """The same header or claims in another spelling need a new signature."""
    header = json.dumps({**json.loads(json.dumps(ISSUER.header())), first or "x": second}, indent=1).encode()
    refuse(f"Bearer {segment(header)}.{PAYLOAD}.{SIGNATURE}")
