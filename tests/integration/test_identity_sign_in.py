"""What a browser is answered: refreshed cookies, and where to log in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from extauthz.decision import Decision, Outcome
from extauthz.edge import check, reply
from extauthz.errors import CredentialError
from extauthz.request import Request, read
from extauthz.settings import ResponseSettings
from tests.cases import gateway, policy_of
from tests.integration.sessions import World
from tests.integration.sessions import world as world
from tests.issuer import asking
from tests.oauth2proxy import COOKIE


async def test_refreshed_cookies_reach_the_browser_and_others_do_not(world: World, tmp_path: Path) -> None:
    """On an allow and on a refusal, in both edges' forms, while the browser still sends the old one."""
    fresh = [f"{COOKIE}_0=new; Path=/; HttpOnly", f"{COOKIE}_1=er; Path=/; HttpOnly"]
    world.proxy.refreshed = [*fresh, "tracking=1"]
    rules = "- {name: home, match: {path: /x}, allow: authenticated}\n"
    rules += "- {name: other, match: {path: /y}, access: [{verb: get, resource: pods, namespace: team-z}]}\n"
    built = gateway(authenticator=world.authenticators, policy=policy_of(tmp_path, rules))
    allowed = await decided(built.decide(asking({"cookie": f"{COOKIE}=one"})))
    assert allowed.allowed
    response = check.response_of(allowed, None)
    assert [option.header.value for option in response.ok_response.response_headers_to_add] == fresh
    assert {option.header.key for option in response.ok_response.headers} == {"kubeflow-userid", "authorization"}
    assert "ey" not in str(allowed.as_json()["headers"])
    refused = await decided(built.decide(asking({"cookie": f"{COOKIE}=one"}, target="/y")))
    assert refused.outcome is Outcome.DENY
    told = reply.PLAIN.reply(refused, None)
    assert [value for name, value in told.headers if name == "set-cookie"] == fresh


async def test_the_upstream_is_not_told_a_credential_that_is_to_be_removed(world: World, tmp_path: Path) -> None:
    """No header is both set and removed."""
    policy = policy_of(tmp_path, "- {name: home, match: {path: /x}, allow: authenticated}\n")
    built = gateway(
        authenticator=world.authenticators,
        policy=policy,
        response=ResponseSettings(remove_headers=["authorization"]),
    )
    decision = await decided(built.decide(asking({"cookie": f"{COOKIE}=one"})))
    assert "authorization" in decision.remove
    assert "authorization" not in dict(decision.headers)


NAVIGATION = {"accept": "text/html,*/*;q=0.8", "sec-fetch-mode": "navigate"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (NAVIGATION, 302),
        ({"accept": "text/html"}, 302),
        ({"accept": "application/json"}, 401),
        ({}, 401),
        ({"accept": "text/html", "sec-fetch-mode": "cors"}, 401),
    ],
)
async def test_response_009_only_a_navigation_is_sent_to_log_in(
    world: World, tmp_path: Path, headers: dict[str, str], status: int
) -> None:
    """An XHR or an SDK gets 401: a redirect would end in a CORS failure or a lost POST."""
    for cookie in ({}, {"cookie": f"{COOKIE}=unknown"}):
        told = await refusal(world, tmp_path, read(method="GET", target="/x", headers={**headers, **cookie}))
        assert told.status == status
        assert ("location" in dict(told.headers)) is (status == 302)
        assert ("www-authenticate" in dict(told.headers)) is (status == 401)


async def test_a_form_that_is_posted_is_not_redirected(world: World, tmp_path: Path) -> None:
    """The data would be lost on the way."""
    told = await refusal(world, tmp_path, read(method="POST", target="/x", headers=NAVIGATION))
    assert told.status == 401


async def test_a_redirect_is_a_refusal_to_envoy(world: World, tmp_path: Path) -> None:
    """The gRPC status is not OK, and the HTTP status is the redirect's."""
    built = gateway(authenticator=world.authenticators, policy=policy_of(tmp_path, HOME))
    request = asking(NAVIGATION)
    response = check.response_of(await decided(built.decide(request)), request)
    assert response.status.code != 0
    assert response.denied_response.status.code == 302


@pytest.mark.parametrize(
    ("target", "back"),
    [
        ("/x", "%2Fx"),
        ("/x/y?ns=team-a&q=a%20b", "%2Fx%2Fy%3Fns%3Dteam-a%26q%3Da%2Bb"),
        ("/x/a@evil.example", "%2Fx%2Fa%40evil.example"),
        ("/x?rd=//evil.example", "%2Fx%3Frd%3D%252F%252Fevil.example"),
        ("/x//evil.example", "%2F"),
        ("//evil.example", "%2F"),
        ("/\\evil.example", "%2F"),
        ("/%2f%2fevil.example", "%2F"),
        ("/%09/evil.example", "%2F"),
        ("/..//evil.example", "%2F"),
        ("https://evil.example/", "%2F"),
    ],
)
async def test_response_002_the_way_back_is_a_path_of_the_same_host(world: World, target: str, back: str) -> None:
    """Whatever two readers could take for another host becomes the root."""
    with pytest.raises(CredentialError) as refused:
        world.authenticators.authenticate(asking({}, target=target))
    assert refused.value.login == f"/oauth2/start?rd={back}"


HOME = "- {name: home, match: {path: /x}, allow: authenticated}\n"


async def refusal(world: World, folder: Path, request: Request) -> reply.Reply:
    """Return the reply to a request that does not pass."""
    rule = "- {name: home, match: {path: /x, methods: [GET, POST]}, allow: authenticated}\n"
    built = gateway(authenticator=world.authenticators, policy=policy_of(folder, rule))
    return reply.PLAIN.reply(await decided(built.decide(request)), request)


async def decided(answer: Any) -> Decision:
    """Return the decision, waited for where it must be."""
    decision = answer if isinstance(answer, Decision) else await answer
    assert isinstance(decision, Decision)
    return decision
