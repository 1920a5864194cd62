"""Tokens that must not be believed, and the few that must."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.issuer import ABSENT, NOW, Issuer, SigningKey, bearer, compact, ec_key, ed_key, rsa_key, segment
from tests.unit.identity.conftest import Desk

Opened = Callable[..., Desk]
LEEWAY = 30


def mac_token(issuer: Issuer, secret: bytes, **header: Any) -> str:
    """A token with an HMAC where the signature should be."""
    signed = f"{segment(issuer.header(alg='HS256', **header))}.{segment(issuer.claims())}"
    return f"{signed}.{segment(hmac.digest(secret, signed.encode(), hashlib.sha256))}"


async def test_a_good_token_names_its_user(desk: Desk, issuer: Issuer) -> None:
    """A verified token becomes a subject with its claims, its end and the authenticator's name."""
    subject = await desk.ask(bearer(issuer.token()))
    assert subject is not None
    assert subject.user == "alice"
    assert subject.groups == ("system:authenticated",)
    assert subject.authenticator == "jwt:https://idp.example"
    assert subject.expires == NOW + 3600
    assert subject.claims == issuer.claims()
    with pytest.raises(TypeError):
        subject.claims["sub"] = "bob"  # type: ignore[index]  # that it cannot be written is the point


async def test_identity_007_no_credential_is_nobody(desk: Desk) -> None:
    """A request without the header is not refused here, it just names nobody."""
    assert await desk.ask({"cookie": "session=1"}) is None


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", ""])
async def test_jwt_001_no_signature(desk: Desk, issuer: Issuer, algorithm: str) -> None:
    """An unsigned token is refused, however `none` is written and whether or not a signature follows."""
    signed = f"{segment(issuer.header(alg=algorithm))}.{segment(issuer.claims())}"
    assert await desk.fault(bearer(f"{signed}.")) == "token_malformed"
    assert await desk.fault(bearer(signed)) == "token_malformed"
    assert await desk.fault(bearer(f"{signed}.AAAA")) == "algorithm_not_allowed"


@pytest.mark.parametrize("form", [Encoding.PEM, Encoding.DER])
async def test_jwt_003_004_public_key_as_mac_secret(desk: Desk, issuer: Issuer, form: Encoding) -> None:
    """An HMAC keyed with the public key's PEM or DER is refused."""
    public = issuer.keys[0].private.public_key().public_bytes(form, PublicFormat.SubjectPublicKeyInfo)
    assert await desk.fault(bearer(mac_token(issuer, public))) == "algorithm_not_allowed"


async def test_jwt_004_jwk_as_mac_secret(desk: Desk, issuer: Issuer) -> None:
    """An HMAC keyed with the bytes of the published JWK is refused."""
    secret = json.dumps(issuer.keys[0].jwk()).encode()
    assert await desk.fault(bearer(mac_token(issuer, secret))) == "algorithm_not_allowed"


@pytest.mark.parametrize("kid", ["key-1", ABSENT])
async def test_jwt_005_embedded_keys_are_ignored(desk: Desk, issuer: Issuer, kid: str) -> None:
    """A key that the token brings along or points to does not verify it."""
    mallory = rsa_key("mallory")
    brought = {"jwk": mallory.jwk(), "jku": "https://evil.example/jwks", "x5u": "https://evil.example", "x5c": ["AA=="]}
    header = issuer.header(kid=kid, **brought)
    assert await desk.fault(bearer(compact(header, issuer.claims(), mallory))) == "signature_invalid"


async def test_jwt_005_embedded_keys_do_no_harm(desk: Desk, issuer: Issuer) -> None:
    """An honest signature counts even where the header carries a key of no use."""
    assert await desk.ask(bearer(issuer.token({"jwk": rsa_key("mallory").jwk()})))


@pytest.mark.parametrize(
    "header",
    [{"crit": ["b64"], "b64": True}, {"crit": ["b64"], "b64": False}, {"b64": False}, {"crit": ["exp"]}, {"crit": []}],
)
async def test_jwt_007_critical_extensions(desk: Desk, issuer: Issuer, header: dict[str, Any]) -> None:
    """Critical extensions are refused, since none is understood."""
    assert await desk.fault(bearer(issuer.token(header))) == "extension_unsupported"


async def test_jwt_008_altered_signature(desk: Desk, issuer: Issuer) -> None:
    """A signature with any bit changed, cut short or lengthened is refused."""
    signed, signature = issuer.token().rsplit(".", 1)
    raw = base64.urlsafe_b64decode(signature + "==")
    altered = [bytes([raw[0] ^ 1]) + raw[1:], raw[:-1] + bytes([raw[-1] ^ 0x80]), raw[:-1], raw + b"\0", b"\0" + raw]
    for forged in altered:
        assert await desk.fault(bearer(f"{signed}.{segment(forged)}")) == "signature_invalid"


async def test_jwt_008_trailing_bits_of_base64(desk: Desk, issuer: Issuer) -> None:
    """A second spelling of the same signature bytes is refused: one token, one text."""
    token = issuer.token()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    twin = token[:-1] + alphabet[alphabet.index(token[-1]) ^ 1]
    assert base64.urlsafe_b64decode(twin.rsplit(".", 1)[1] + "==") == base64.urlsafe_b64decode(
        token.rsplit(".", 1)[1] + "=="
    )
    assert await desk.fault(bearer(twin)) == "token_malformed"


async def test_jwt_008_claims_of_another_token(desk: Desk, issuer: Issuer) -> None:
    """Claims under a signature made for others are refused."""
    header, _, signature = issuer.token().split(".")
    forged = f"{header}.{segment(issuer.claims(sub='bob'))}.{signature}"
    assert await desk.fault(bearer(forged)) == "signature_invalid"


async def test_jwt_009_expired(desk: Desk, issuer: Issuer) -> None:
    """A token holds while `exp` plus the leeway lies ahead, and not a moment longer."""
    assert await desk.ask(bearer(issuer.token(exp=NOW - LEEWAY + 1)))
    assert await desk.fault(bearer(issuer.token(exp=NOW - LEEWAY))) == "token_expired"
    assert await desk.fault(bearer(issuer.token(exp=NOW - LEEWAY - 1))) == "token_expired"


async def test_jwt_010_no_expiry(desk: Desk, issuer: Issuer) -> None:
    """A token without `exp` is refused."""
    assert await desk.fault(bearer(issuer.token(exp=ABSENT))) == "claim_invalid"


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize("value", ['"1800003600"', "1799999999.5", "1800003600.0", "-1", "true", "null", "[]", "{}"])
async def test_jwt_011_times_that_are_no_times(desk: Desk, issuer: Issuer, name: str, value: str) -> None:
    """A time that is not a whole, positive number of seconds is refused."""
    assert await desk.fault(bearer(raw_claim(issuer, name, value))) == "claim_invalid"


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400", "9" * 5000])
async def test_jwt_011_numbers_beyond_json(desk: Desk, issuer: Issuer, value: str) -> None:
    """Numbers on which JSON parsers differ are refused wherever they stand."""
    assert await desk.fault(bearer(raw_claim(issuer, "exp", value))) == "token_malformed"
    assert await desk.fault(bearer(raw_claim(issuer, "other", value))) == "token_malformed"


@pytest.mark.parametrize("value", ["253402300800", "9" * 400])
async def test_jwt_011_times_beyond_the_calendar(desk: Desk, issuer: Issuer, value: str) -> None:
    """A time after the year 9999 is refused, and no arithmetic overflows."""
    assert await desk.fault(bearer(raw_claim(issuer, "exp", value))) == "claim_invalid"


def raw_claim(issuer: Issuer, name: str, value: str) -> str:
    """A signed token with one claim written as given."""
    payload = json.dumps(issuer.claims(**{name: "@"})).replace('"@"', value)
    return compact(issuer.header(), payload.encode(), issuer.keys[0])


@pytest.mark.parametrize("name", ["iat", "nbf"])
async def test_jwt_013_not_yet_valid(desk: Desk, issuer: Issuer, name: str) -> None:
    """`iat` and `nbf` may lie ahead by the leeway, and no further."""
    assert await desk.ask(bearer(raw_claim(issuer, name, f"{NOW + LEEWAY}")))
    assert await desk.fault(bearer(raw_claim(issuer, name, f"{NOW + LEEWAY + 1}"))) == "token_not_yet_valid"


@pytest.mark.parametrize(
    "audience", [[], "", [""], None, 7, {"kubeflow": 1}, ["kubeflow", 7], "kubeflow2", "kube", ["KUBEFLOW"], ABSENT]
)
async def test_jwt_016_audience(desk: Desk, issuer: Issuer, audience: Any) -> None:
    """A token for nobody or for others is refused."""
    assert await desk.fault(bearer(issuer.token(aud=audience))) == "audience_mismatch"


async def test_jwt_016_one_of_several_audiences(desk: Desk, issuer: Issuer) -> None:
    """One matching audience among several is enough."""
    assert await desk.ask(bearer(issuer.token(aud=["other", "kubeflow"])))


@pytest.mark.parametrize(
    "name",
    [
        "https://idp.exampl",
        "https://idp",
        "idp.example",
        "https://idp.example.evil",
        "https://idp.example/",
        "HTTPS://idp.example",
        " https://idp.example",
        "",
        None,
        7,
        ["https://idp.example"],
        {"a": 1},
        ABSENT,
    ],
)
async def test_jwt_017_019_issuer_must_be_exact(desk: Desk, issuer: Issuer, name: Any) -> None:
    """Any other `iss` than the configured one is refused: parts, longer ones, a slash more, another type."""
    assert await desk.fault(bearer(issuer.token(iss=name))) == "issuer_unknown"


@pytest.mark.parametrize("kind", ["JWT", "jwt", "application/jwt", ABSENT])
async def test_jwt_021_plain_tokens(desk: Desk, issuer: Issuer, kind: str) -> None:
    """Without a required type, `JWT` or no type at all is accepted."""
    assert await desk.ask(bearer(issuer.token({"typ": kind})))


@pytest.mark.parametrize("kind", ["at+jwt", "dpop+jwt", "", None, 7, ["JWT"]])
async def test_jwt_021_other_types(desk: Desk, issuer: Issuer, kind: Any) -> None:
    """Without a required type, a token made for another purpose is refused."""
    assert await desk.fault(bearer(issuer.token({"typ": kind}))) == "token_type_mismatch"


async def test_jwt_021_required_type(opened: Opened, issuer: Issuer) -> None:
    """With a required type, only that type is accepted: no ID token where an access token is due."""
    desk = opened(token_type="at+jwt")
    assert await desk.ask(bearer(issuer.token({"typ": "at+jwt"})))
    assert await desk.ask(bearer(issuer.token({"typ": "application/AT+JWT"})))
    assert await desk.fault(bearer(issuer.token())) == "token_type_mismatch"
    assert await desk.fault(bearer(issuer.token({"typ": ABSENT}))) == "token_type_mismatch"


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ("payload", b'{"sub":"bob","sub":"alice"}'),
        ("payload", b'{"a":{"b":1,"b":2}}'),
        ("payload", b'{"\\u0073ub":"bob","sub":"alice"}'),
        ("header", b'{"alg":"RS256","alg":"none","kid":"key-1"}'),
        ("header", b'{"alg":"none","kid":"key-1","alg":"RS256"}'),
    ],
)
async def test_jwt_026_duplicate_members(desk: Desk, issuer: Issuer, where: str, text: bytes) -> None:
    """A name that stands twice in one object is refused, since parsers differ on which counts."""
    header = text if where == "header" else issuer.header()
    payload = text if where == "payload" else issuer.claims()
    assert await desk.fault(bearer(compact(header, payload, issuer.keys[0]))) == "token_malformed"


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[]",
        b'"x"',
        b"7",
        b"{",
        b"{}{}",
        b"{} x",
        b"\xef\xbb\xbf{}",
        b"\xff",
        '{"sub":"alice"}'.encode("utf-16"),
        b'{"sub":"\\ud800"}',
        b'{"\\uDC00":1}',
        b'{"sub":"a\nb"}',
        b'{"a":' * 100_00 + b"1" + b"}" * 100_00,
        b"[" * 10_000,
        zlib.compress(b"{}" * 1000),
    ],
)
@pytest.mark.parametrize("where", ["header", "payload"])
async def test_parts_that_are_not_one_json_object(opened: Opened, issuer: Issuer, where: str, payload: bytes) -> None:
    """Whatever else a part holds, nesting without end and broken text included, is refused."""
    desk = Desk(opened().folder, issuer, max_token_bytes=65536)
    desk.open()
    token = (
        compact(issuer.header(), payload, issuer.keys[0])
        if where == "payload"
        else compact(payload, issuer.claims(), issuer.keys[0])
    )
    assert await desk.fault(bearer(token)) in ("token_malformed", "token_too_large")


async def test_whole_surrogate_pairs_are_text(desk: Desk, issuer: Issuer) -> None:
    """An escaped character beyond the basic plane is ordinary text."""
    subject = await desk.ask(bearer(issuer.token(sub="\U0001f600")))
    assert subject is not None
    assert subject.user == "\U0001f600"


@pytest.mark.parametrize("segments", [1, 2, 4, 5, 6])
async def test_jwt_028_number_of_segments(desk: Desk, issuer: Issuer, segments: int) -> None:
    """Only three segments are a signed token; five are an encrypted one, and nothing is inflated."""
    header = segment({"alg": "RSA-OAEP", "enc": "A256GCM", "zip": "DEF"})
    token = ".".join([header] + [segment(zlib.compress(b" " * 100_000))] * (segments - 1))
    assert await desk.fault(bearer(token)) == "token_malformed"


async def test_jwt_030_two_credentials_in_one_header(desk: Desk, issuer: Issuer) -> None:
    """Two Authorization headers, joined by Envoy, are refused even if both are good and alike."""
    token = issuer.token()
    for joined in (f"Bearer {token},Bearer {token}", f"Bearer {token}, Bearer {token}", f"Bearer {token},"):
        assert await desk.fault({"authorization": joined}) == "credential_ambiguous"


@pytest.mark.parametrize(
    "template",
    [
        "Bearer  {}",
        "Bearer\t{}",
        " Bearer {}",
        "Bearer {} ",
        "Bearer {}\t",
        "Bearer {} x",
        "Bearer {}=",
        "Bearer {}\n",
        "Bearer {}\0",
        "Bearer {};",
        "Bearer {}.",
        "Bearer\u00a0{}",
        "Bearer \u00e9{}",
        "Bearer",
        "Bearer ",
        "",
        " ",
        "bearer {}",
        "BEARER {}",
        "Basic {}",
        "Bearer{}",
        "{}",
        "Token {}",
        "DPoP {}",
    ],
)
async def test_jwt_032_malformed_authorization(desk: Desk, issuer: Issuer, template: str) -> None:
    """Anything but `Bearer`, one space and a token is refused, and never read as no credential."""
    fault = await desk.fault({"authorization": template.format(issuer.token())})
    assert fault in ("token_malformed", "credential_unsupported")


async def test_jwt_035_zero_signature(opened: Opened, issuer: Issuer) -> None:
    """An ECDSA signature of zeros is refused."""
    issuer.keys = [ec_key("key-1")]
    desk = opened(algorithms=["ES256"])
    signed, _ = issuer.token().rsplit(".", 1)
    assert await desk.fault(bearer(f"{signed}.{segment(bytes(64))}")) == "signature_invalid"


@pytest.mark.parametrize("bits", [1024, 2047])
async def test_jwt_035_weak_rsa_key(opened: Opened, issuer: Issuer, bits: int) -> None:
    """A published RSA key below 2048 bits verifies nothing."""
    issuer.keys = [rsa_key(f"weak-{bits}", bits=bits), rsa_key("key-1")]
    assert await opened().fault(bearer(issuer.token())) == "key_unknown"


@pytest.mark.parametrize(
    "key",
    [
        rsa_key("key-1", algorithm="RS384"),
        rsa_key("key-1", algorithm="PS256"),
        ec_key("key-1"),
        ec_key("key-1", ec.SECP384R1(), algorithm="ES384"),
        ec_key("key-1", ec.SECP521R1(), algorithm="ES512"),
        ed_key("key-1"),
    ],
    ids=lambda key: key.algorithm,
)
async def test_every_kind_of_key(opened: Opened, issuer: Issuer, key: SigningKey) -> None:
    """Each algorithm of the settings verifies with its own kind of key, and is refused where it is not listed."""
    issuer.keys = [key]
    assert await opened(algorithms=["RS256", key.algorithm]).ask(bearer(issuer.token()))
    other = rsa_key("key-2")
    desk = Desk(opened().folder, Issuer(keys=[other]))
    desk.open()
    assert await desk.fault(bearer(issuer.token())) == "algorithm_not_allowed"


async def test_the_key_limits_the_algorithm(opened: Opened, issuer: Issuer) -> None:
    """A key published for RS256 does not verify RS512, though the settings allow both."""
    desk = opened(algorithms=["RS256", "RS512"])
    header = issuer.header(alg="RS512")
    signed = f"{segment(header)}.{segment(issuer.claims())}"
    token = f"{signed}.{segment(issuer.keys[0].sign(signed.encode(), 'RS512'))}"
    assert await desk.fault(bearer(token)) == "key_unknown"


@pytest.mark.parametrize("algorithm", [None, 7, ["RS256"], {"RS256": 1}, "rs256", "RS256 ", ABSENT])
async def test_odd_algorithms(desk: Desk, issuer: Issuer, algorithm: Any) -> None:
    """An `alg` that is not exactly a listed name is refused."""
    header = issuer.header(alg=algorithm)
    assert await desk.fault(bearer(compact(header, issuer.claims(), issuer.keys[0]))) == "algorithm_not_allowed"


@pytest.mark.parametrize("kid", [None, 7, ["key-1"], {"key-1": 1}])
async def test_odd_key_ids(desk: Desk, issuer: Issuer, kid: Any) -> None:
    """A `kid` that is not text is refused."""
    assert await desk.fault(bearer(issuer.token({"kid": kid}))) == "token_malformed"


async def test_other_claims_with_fixed_types(desk: Desk, issuer: Issuer) -> None:
    """A registered claim of the wrong type is refused even where nobody reads it."""
    assert await desk.fault(bearer(issuer.token(jti=7))) == "token_malformed"


async def test_oversized_tokens(opened: Opened, issuer: Issuer) -> None:
    """A token beyond the limit is refused before it is parsed; one at the limit is read."""
    token = issuer.token()
    desk = Desk(opened().folder, issuer, max_token_bytes=len(token))
    desk.open()
    assert await desk.ask(bearer(token))
    assert await desk.fault(bearer(token + "A")) == "token_too_large"
    assert await desk.fault({"authorization": "B" * 10_000_000}) == "token_too_large"


async def test_messages_never_repeat_the_credential(desk: Desk, issuer: Issuer) -> None:
    """What the caller is told holds nothing of the token."""
    for token in (issuer.token(sub="secret-user\n"), issuer.token(iss="secret-issuer"), "secret.secret.secret"):
        with pytest.raises(Exception, match=r"^(?!.*secret)") as refused:
            await desk.ask(bearer(token))
        assert "secret" not in str(refused.value)
