"""What of a JSON Web Key Set is used, and what is not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from extauthz.identity.keys import MAX_KEYS, KeySet, KeySourceError, parse_key_set
from tests.issuer import ABSENT, ec_key, ed_key, rsa_key, segment

ALL = ["RS256", "RS512", "PS256", "ES256", "ES384", "ES512", "EdDSA"]
GOOD = rsa_key("key-1")
CURVED = ec_key("key-1")


def parse(*keys: Any, allowed: list[str] = ALL) -> KeySet:
    return parse_key_set(json.dumps({"keys": keys}).encode(), allowed)


UNUSABLE: list[Any] = [
    {"kty": "oct", "k": "c2VjcmV0", "kid": "key-1", "alg": "HS256"},
    GOOD.jwk(alg="HS256"),
    GOOD.jwk(alg="none"),
    GOOD.jwk(alg="RSA-OAEP"),
    GOOD.jwk(alg="ES256"),
    GOOD.jwk(alg=None),
    GOOD.jwk(alg=["RS256"]),
    GOOD.jwk(use="enc"),
    GOOD.jwk(use=None),
    GOOD.jwk(key_ops=["encrypt"]),
    GOOD.jwk(key_ops="verify"),
    GOOD.jwk(d="AQAB"),
    GOOD.jwk(k="AQAB"),
    GOOD.jwk(kid=7),
    GOOD.jwk(kid=None),
    GOOD.jwk(kty="rsa"),
    GOOD.jwk(kty=None),
    GOOD.jwk(kty=["RSA"]),
    GOOD.jwk(kty=ABSENT),
    GOOD.jwk(crv="P-256"),
    GOOD.jwk(n=7),
    GOOD.jwk(n=ABSENT),
    GOOD.jwk(n=""),
    GOOD.jwk(n="AA"),
    GOOD.jwk(n="€"),
    GOOD.jwk(e="AQ"),
    GOOD.jwk(e="Ag"),
    GOOD.jwk(e=None),
    GOOD.jwk(n="_" * 2000),
    rsa_key("key-1", bits=1024).jwk(),
    CURVED.jwk(crv="P-384"),
    CURVED.jwk(crv="secp256k1", alg="ES256K"),
    CURVED.jwk(crv=ABSENT),
    CURVED.jwk(crv=["P-256"]),
    CURVED.jwk(x="A" * 43),
    CURVED.jwk(x="AA"),
    CURVED.jwk(y={}),
    ed_key("key-1").jwk(crv="Ed448"),
    ed_key("key-1").jwk(x="AA"),
    {},
    None,
    7,
    "key",
    [GOOD.jwk()],
]


@pytest.mark.parametrize("entry", UNUSABLE, ids=range(len(UNUSABLE)))
def test_unusable_keys_are_left_out(entry: Any) -> None:
    """A key that is secret, weak, for another use or broken is left out and spoils no other."""
    keys = parse(entry, ed_key("good").jwk())
    assert [key.id for key in keys.keys] == ["good"]
    with pytest.raises(KeySourceError, match="none of 1 keys"):
        parse(entry)


def test_a_key_without_alg_verifies_what_its_type_can() -> None:
    """Without an `alg` of its own, a key serves the settings' algorithms of its type and curve."""
    keys = parse(GOOD.jwk(alg=ABSENT), ec_key("p384", ec.SECP384R1(), algorithm="ES384").jwk(alg=ABSENT))
    assert [key.algorithms for key in keys.keys] == [{"RS256", "RS512", "PS256"}, {"ES384"}]


def test_keys_for_other_algorithms_are_left_out() -> None:
    """A key that could verify none of the settings' algorithms is not kept."""
    assert [key.id for key in parse(ec_key("ec").jwk(), GOOD.jwk(), allowed=["RS256"]).keys] == ["key-1"]


def test_key_ops_may_allow_verifying() -> None:
    """A key whose operations name `verify` is used, whatever else they name and with no `use`."""
    assert parse(GOOD.jwk(key_ops=["verify", "wrapKey"], use=ABSENT)).keys


def test_jwks_010_without_a_key_id_the_choice_must_be_forced() -> None:
    """A token without `kid` gets a key only where exactly one fits its algorithm."""
    keys = parse(GOOD.jwk(), ec_key("key-2").jwk(), ed_key("key-3").jwk(), ec_key("key-4").jwk())
    assert keys.find(algorithm="RS256", key_id=None) is keys.keys[0]
    assert keys.find(algorithm="ES256", key_id=None) is None
    assert keys.find(algorithm="ES256", key_id="key-2") is keys.keys[1]


def test_a_key_id_that_stands_twice_is_no_choice() -> None:
    """Two keys with one id verify nothing, unless the algorithm tells them apart."""
    keys = parse(GOOD.jwk(), rsa_key("other").jwk(kid="key-1"), CURVED.jwk())
    assert keys.find(algorithm="RS256", key_id="key-1") is None
    assert keys.find(algorithm="ES256", key_id="key-1") is keys.keys[2]


def test_a_named_key_is_not_an_unnamed_one() -> None:
    """A token that names a key is not verified with a key without an id."""
    keys = parse(GOOD.jwk(kid=ABSENT))
    assert keys.find(algorithm="RS256", key_id="key-1") is None
    assert keys.find(algorithm="RS256", key_id="") is None
    assert keys.find(algorithm="RS256", key_id=None) is keys.keys[0]


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"keys": {}}',
        b'{"keys": null}',
        b'{"keys": []}',
        b'{"keys": [], "keys": []}',
        b"\xff",
        b"[" * 100_000,
        json.dumps({"keys": [GOOD.jwk()] * (MAX_KEYS + 1)}).encode(),
    ],
)
def test_documents_that_are_no_key_set(document: bytes) -> None:
    """Anything but a bounded list with a usable key is an error."""
    with pytest.raises(KeySourceError):
        parse_key_set(document, ALL)


@pytest.mark.parametrize(("bits", "usable"), [(2047, False), (2048, True), (8192, True), (8193, False)])
def test_rsa_keys_have_a_least_and_a_largest_size(bits: int, usable: bool) -> None:
    """Weak ones are left out, and those that cost much to verify with."""
    modulus = (1 << (bits - 1)) + 1
    keys = parse(GOOD.jwk(n=segment(modulus.to_bytes((bits + 7) // 8))), ed_key("good").jwk())
    assert [key.id for key in keys.keys] == (["key-1", "good"] if usable else ["good"])


def test_a_set_may_hold_as_many_keys_as_it_may() -> None:
    """The bound itself is allowed."""
    jwk = GOOD.jwk()
    assert len(parse(*({**jwk, "kid": str(number)} for number in range(MAX_KEYS))).keys) == MAX_KEYS


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        (b"[" * 100_000, "not a JSON Web Key Set: nested too deeply"),
        (b"[]", "not a JSON Web Key Set: not an object"),
        (b'{"keys": [], "keys": []}', "not a JSON Web Key Set: duplicate name"),
        (b'{"keys": [], "n": NaN}', "not a JSON Web Key Set: NaN is not JSON"),
        (b'{"keys": [], "n": 1e999}', "not a JSON Web Key Set: number out of range"),
        (b'{"keys": {}}', f"not a JSON Web Key Set of at most {MAX_KEYS} keys"),
        (b'{"keys": [7, 7]}', "none of 2 keys can be used"),
    ],
)
def test_the_operator_is_told_what_is_wrong_with_a_document(document: bytes, problem: str) -> None:
    with pytest.raises(KeySourceError) as refused:
        parse_key_set(document, ALL)
    assert str(refused.value) == problem


def test_sets_with_the_same_keys_are_equal() -> None:
    """Two readings of the same keys are equal, so that a refresh without a change changes nothing."""
    assert parse(GOOD.jwk(), CURVED.jwk()) == parse(GOOD.jwk(), CURVED.jwk())
    assert parse(GOOD.jwk()) != parse(rsa_key("key-9").jwk(kid="key-1"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from([GOOD.jwk(), CURVED.jwk(), ed_key("key-1").jwk()]), st.data())
def test_no_entry_breaks_the_reading(entry: dict[str, Any], data: st.DataObject) -> None:
    """Whatever stands in a key, reading the set ends in keys or in the one error."""
    member = data.draw(st.sampled_from([*entry, "key_ops", "x5c"]))
    changed = {**entry, member: data.draw(JSON)}
    assert parse(changed, rsa_key("good").jwk()).keys
