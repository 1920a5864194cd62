"""No secret reaches a log, however it is spelt and wherever it stands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extauthz.observe.audit.mask import MASK, Mask

JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl"
SECRETS = [
    "/notebook/team-a/nb/?token=s3cret",
    "/x?Token=s3cret&a=b",
    "/x?a=b&tok%65n=s3cret",
    "/x?access_token=s3cret",
    "/x?X-Amz-Signature=s3cret",
    "/x?X-Amz-Credential=s3cret&key=team-a/1",
    "/x?client-secret=s3cret",
    "/x?apiKey=s3cret",
    "/x?code=s3cret&state=s3cret",
    "/x?a=1;session_id=s3cret",
    "/x?filter[password]=s3cret",
    "/oauth2/start?rd=%2Fnotebook%2F%3Ftoken%3Ds3cret",
    "/oauth2/start?rd=%252Fnotebook%252F%253Ftoken%253Ds3cret",
    "/x?next=/y#access_token=s3cret",
    "/x?url=https%3A%2F%2Fuser%3As3cret@git.example%2F",
    "https://user:s3cret@host/x",
    "/x;jsessionid=s3cret/y",
    "/x#id_token=s3cret",
    "/x?bearer=s3cret",
    "/x?otp=s3cret",
    "/x?ticket=s3cret",
    "/x?hmac=s3cret",
    "/x?private_key=s3cret",
    "/x?passphrase=s3cret",
    "/x?code_verifier=s3cret",
    "/x?auth_header=s3cret",
    "/x/token=s3cret/y",
    "/x?config=password%3Ds3cret",
    "/x?config=%7B%22password%22%3A%20%22s3cret%22%7D",
    "/x?upstream=Basic%20s3cret",
    "/x?upstream=Basic+s3cret",
]


@pytest.mark.parametrize("target", SECRETS)
def test_a_secret_in_a_target_is_masked(target: str) -> None:
    """Whatever spelling the client chose."""
    shown = Mask().target(target)
    assert "s3cret" not in shown
    assert MASK in shown


@pytest.mark.parametrize("place", ["/x?a={}", "/x/{}/y", "/x?{}", "/x?a=Bearer%20{}", "/x?a=%22{}%22&b=1"])
def test_a_token_is_known_by_its_looks(place: str) -> None:
    """A JSON Web Token is masked under every name and without one."""
    assert "c2lnbmF0dXJl" not in Mask().target(place.format(JWT))


@pytest.mark.parametrize(
    "target",
    [
        "/pipeline/apis/v2beta1/runs?namespace=team-a&page_size=10&sort_by=created_at%20desc",
        "/pipeline/artifacts/get?source=minio&bucket=mlpipeline&key=private-artifacts%2Fteam-a%2Fx",
        "/notebook/team-a/nb/api/kernels?1700000000",
        "/a//b/%2F?&&a&=b",
        "/",
        "",
    ],
)
def test_what_is_no_secret_stays_as_it_was(target: str) -> None:
    """A replay needs the target byte for byte."""
    assert Mask().target(target) == target


@given(st.text(max_size=300))
def test_masking_takes_any_text(target: str) -> None:
    """Whatever arrives is masked without an error, and masking twice changes nothing more."""
    once = Mask().target(target)
    assert Mask().target(once) == once


def test_the_settings_name_more() -> None:
    """A name is named in any spelling."""
    assert Mask(["employee-number"]).target("/x?employeeNumber=17&a=1") == f"/x?employeeNumber={MASK}&a=1"


@pytest.mark.parametrize(
    ("source", "value", "shown"),
    [
        ("body:/namespace", "team-a", "team-a"),
        ("body:/spec/password", "s3cret", MASK),
        ("header:authorization", "Bearer x", MASK),
        ("lookup:run:body:/run_id", "team-a", "team-a"),
        ("body:/name", JWT, MASK),
        ("header:x-upstream", "Basic dTpzM2NyZXQ=", MASK),
        ("header:x-upstream", "bearer s3cret", MASK),
        ("header:x-upstream", "basic", "basic"),
        ("claims:service", '{"access_token": "s3cret"}', MASK),
        ("claims:teams", '["a", "b"]', '["a", "b"]'),
    ],
)
def test_values_of_sources(source: str, value: str, shown: str) -> None:
    """The last name of a source, or the value's looks, make it a secret."""
    assert Mask().value(source, value) == shown


@pytest.mark.parametrize("host", ["u:s3cret@kubeflow.example", "u:s3cret@h:80", "s3cret@h", "a@b:s3cret@h"])
def test_a_host_loses_what_stands_before_it(host: str) -> None:
    """No browser sends a password there, but a client may."""
    assert Mask().host(host) == f"{MASK}@{host.rpartition('@')[2]}"


def test_a_host_stays_as_it_was() -> None:
    """A replay needs it."""
    assert Mask().host("kubeflow.example:443") == "kubeflow.example:443"


def test_sentences_lose_their_tokens() -> None:
    """A message that repeats a token from the request is written without it."""
    assert Mask().text(f'User "a" cannot get path "/x/{JWT}"') == f'User "a" cannot get path "/x/{MASK}"'
