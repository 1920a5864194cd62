"""How a refusal is told, to each kind of caller."""

from __future__ import annotations

import base64
import hashlib
import json
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extauthz.decision import Decision, Outcome, Reason, cannot
from extauthz.edge import reply
from extauthz.review import MissingRight, NonResourceAttributes, ResourceAttributes
from extauthz.settings.page import RefusalPage, RefusalTexts
from extauthz.subject import Subject
from tests.cases import request

FORBIDDEN = Decision(Outcome.DENY, 403, Reason.FORBIDDEN, 'User "bob" cannot list resource "runs"')
PAGE = {"accept": "text/html,*/*"}


def test_an_api_client_gets_a_kubernetes_status() -> None:
    """kubectl, the kfp SDK and the Kubeflow UI print its message."""
    told = reply.PLAIN.reply(FORBIDDEN, request("GET", "/x", x_request_id="0f-1"))
    status = json.loads(told.body)
    assert (status["kind"], status["apiVersion"], status["code"]) == ("Status", "v1", 403)
    assert (status["status"], status["reason"], status["message"]) == ("Failure", "Forbidden", FORBIDDEN.message)
    assert {"reason": "request_id", "message": "0f-1"} in status["details"]["causes"]
    assert {"reason": "forbidden", "message": FORBIDDEN.message} in status["details"]["causes"]
    assert dict(told.headers)["content-type"] == "application/json"


def test_a_browser_gets_a_page_in_which_everything_is_escaped() -> None:
    """No script, no style from elsewhere, nothing to sniff."""
    evil = Decision(Outcome.DENY, 403, Reason.FORBIDDEN, '<script>alert("x")</script>')
    told = reply.PLAIN.reply(evil, request("GET", "/x", accept="text/html,*/*", x_request_id="<b>"))
    assert b"<script" not in told.body
    assert b"&lt;script&gt;" in told.body
    assert b"<b>" not in told.body
    headers = dict(told.headers)
    assert headers["content-type"].startswith("text/html")
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert headers["x-content-type-options"] == "nosniff"


def test_a_page_names_its_request() -> None:
    """Support asks for it."""
    told = reply.PLAIN.reply(FORBIDDEN, request("GET", "/x", accept="text/html", x_request_id="0f-1"))
    assert b"0f-1" in told.body


def test_a_script_in_a_page_gets_no_page() -> None:
    """fetch() wants a status, whatever its accept header says."""
    asked = request("GET", "/x", accept="text/html,*/*", sec_fetch_mode="cors")
    assert dict(reply.PLAIN.reply(FORBIDDEN, asked).headers)["content-type"] == "application/json"


def test_a_grpc_client_gets_one_line_of_text() -> None:
    """Envoy makes it the grpc-message."""
    odd = Decision(Outcome.DENY, 403, Reason.FORBIDDEN, "two\r\nlines")
    told = reply.PLAIN.reply(odd, request("POST", "/x", content_type="application/grpc+proto"))
    assert told.body.decode() == "two\ufffd\ufffdlines"


def test_head_gets_no_body() -> None:
    """RFC 9110 section 9.3.2, whatever the client says that it sends."""
    assert reply.PLAIN.reply(FORBIDDEN, request("HEAD", "/x")).body == b""
    assert reply.PLAIN.reply(FORBIDDEN, request("HEAD", "/x", content_type="application/grpc")).body == b""


def test_nothing_is_cached() -> None:
    """A 403 must not outlive the grant that ends it."""
    headers = dict(reply.PLAIN.reply(FORBIDDEN, request("GET", "/x")).headers)
    assert headers["cache-control"] == "no-store"
    assert "authorization" in headers["vary"]


@pytest.mark.parametrize(
    ("reason", "challenge"),
    [
        (Reason.NO_CREDENTIAL, 'Bearer realm="extauthz"'),
        ("token_expired", 'Bearer realm="extauthz", error="invalid_token"'),
    ],
)
def test_401_challenges_as_rfc_6750_says(reason: str, challenge: str) -> None:
    """No error code where no token was sent."""
    told = reply.PLAIN.reply(Decision(Outcome.UNAUTHENTICATED, 401, reason, "Log in."), request("GET", "/x"))
    assert dict(told.headers)["www-authenticate"] == challenge


def test_503_says_when_to_come_back() -> None:
    """Retry-After is in seconds."""
    told = reply.PLAIN.reply(Decision(Outcome.ERROR, 503, "slow", "Slow.", retry_after=3), request("GET", "/x"))
    assert dict(told.headers)["retry-after"] == "3"


@given(st.text(), st.text(), st.sampled_from(["GET", "HEAD", "POST"]), st.sampled_from(["text/html", "*/*"]))
def test_no_control_character_ever_leaves_in_a_header(message: str, identifier: str, method: str, accept: str) -> None:
    """Envoy does not check denied headers: CR LF would split the client's response."""
    asked = request(method, "/x", accept=accept, x_request_id=identifier)
    told = reply.PLAIN.reply(Decision(Outcome.ERROR, 503, "why", message, retry_after=1), asked)
    assert all(name.isprintable() and value.isprintable() for name, value in told.headers)


ASKED = ResourceAttributes("update", "kubeflow.org", "v1", "notebooks", namespace="team-a", name="nb")
ERIN = Subject.authenticated("erin@example.com")


LACK = MissingRight(ASKED)


def forbidden(missing: MissingRight = LACK, user: Subject = ERIN) -> Decision:
    """Return the refusal of somebody who lacks a right."""
    return Decision(Outcome.DENY, 403, Reason.FORBIDDEN, cannot(user, missing), subject=user, missing=missing)


def page(decision: Decision, owner: str = "", /, **options: Any) -> str:
    """Return the page of a refusal."""
    refusals = reply.Refusals(RefusalPage.model_validate(options), lambda namespace: owner)
    return refusals.reply(decision, request("GET", "/x", accept="text/html", x_request_id="0f-1")).body.decode()


def told(missing: MissingRight, owner: str = "") -> dict[str, Any]:
    """Return the Status of a refusal where owners are told."""
    refusals = reply.Refusals(RefusalPage(tell_owner=True), lambda namespace: owner)
    status: dict[str, Any] = json.loads(refusals.reply(forbidden(missing), request("GET", "/x")).body)
    return status


def test_the_page_says_what_is_missing_and_where_to_turn() -> None:
    """The right, the namespace, who is signed in, who to ask, and a way out."""
    shown = page(forbidden())
    for words in (
        "update notebooks.kubeflow.org",
        "team-a",
        "erin@example.com",
        "The owner of the namespace",
        'href="/"',
    ):
        assert words in shown


def test_an_owner_is_told_only_where_settings_allow_it() -> None:
    """By default nobody can find out whose a namespace is, or whether it is there at all."""
    assert "alice@example.com" not in page(forbidden(), "alice@example.com")
    assert "<strong>alice@example.com</strong>" in page(forbidden(), "alice@example.com", tellOwner=True)
    assert page(forbidden(), "alice@example.com") == page(forbidden(), "")


def test_a_status_names_the_object_as_kube_apiserver_does() -> None:
    """`StatusDetails`, without the name of what may not be told."""
    details = told(MissingRight(ASKED))["details"]
    assert (details["name"], details["group"], details["kind"]) == ("nb", "kubeflow.org", "notebooks")
    assert "name" not in told(MissingRight.of(ASKED, hidden=True))["details"]
    assert set(told(MissingRight(NonResourceAttributes("get", "/metrics")))["details"]) == {"causes"}


def test_the_owner_is_told_to_clients_too() -> None:
    """As one more cause of the Status."""
    causes = told(MissingRight(ASKED), "alice@example.com")["details"]["causes"]
    assert {"reason": "owner", "message": "alice@example.com"} in causes


@pytest.mark.parametrize(
    "missing",
    [MissingRight.of(ASKED, hidden=True), MissingRight(NonResourceAttributes("get", "/metrics"))],
)
def test_no_owner_without_a_namespace_that_may_be_told(missing: MissingRight) -> None:
    """The namespace of an object that may be another tenant's is not told, nor whose it is."""
    shown = json.dumps(told(missing, "alice@example.com")) + page(
        forbidden(missing), "alice@example.com", tellOwner=True
    )
    assert "alice" not in shown
    assert "team-a" not in shown
    assert "nb" not in shown


def test_rights_on_the_whole_cluster() -> None:
    """A right in all namespaces and one on a path have no owner to ask."""
    everywhere = page(forbidden(MissingRight(ResourceAttributes("list", resource="pods", subresource="log"))))
    assert "list pods/log" in everywhere
    assert "All namespaces" in everywhere
    scale = page(
        forbidden(MissingRight(ResourceAttributes("get", "apps", resource="deployments", subresource="scale")))
    )
    assert "get deployments.apps/scale" in scale
    path = page(forbidden(MissingRight(NonResourceAttributes("get", "/metrics"))))
    assert "get /metrics" in path
    assert "administrators of this platform" in path


@pytest.mark.parametrize(
    ("status", "title"), [(400, "cannot be opened"), (401, "not signed in"), (503, "Try again"), (404, "Try again")]
)
def test_each_refusal_has_its_title(status: int, title: str) -> None:
    """And shows the decision's own words."""
    shown = page(Decision(Outcome.ERROR, status, "why", "In one's own words."))
    assert title in shown
    assert "In one&#39;s own words." in shown


def test_every_word_can_be_another() -> None:
    """So that the page speaks the users' language, under the platform's name and logo."""
    texts = {name: f"«{name}»" for name in RefusalTexts.model_fields}
    options = {
        "platform": "ML & Co",
        "language": "de",
        "texts": RefusalTexts(**texts),
        "helpLink": "mailto:it@x?subject={namespace}",
    }
    pages = [page(Decision(Outcome.DENY, status, "why", "."), **options) for status in (400, 401, 403, 503)]
    pages += [
        page(forbidden(MissingRight.of(ASKED, hidden=hidden)), "a", tellOwner=True, **options)
        for hidden in (False, True)
    ]
    pages += [page(forbidden(), **options), page(forbidden(MissingRight(ResourceAttributes("list"))), **options)]
    together = "".join(pages)
    assert [name for name, words in texts.items() if words not in together] == []
    assert "ML &amp; Co" in together
    assert '<html lang="de">' in together
    assert "mailto:it@x?subject=team-a" in together


def test_links_take_values_only_encoded() -> None:
    """No user name makes another link of it."""
    odd = Subject.authenticated('a"&x=1#<b>/../')
    shown = page(forbidden(user=odd), helpLink="https://help.example/ask?user={user}&id={requestId}")
    assert 'href="https://help.example/ask?user=a%22%26x%3D1%23%3Cb%3E%2F..%2F&amp;id=0f-1"' in shown


@pytest.mark.parametrize(
    ("logo", "sources"),
    [
        (None, "data:;"),
        ("data:image/png;base64,AAAA", "data:;"),
        ("https://cdn.example:8443/logo.svg", "data: https://cdn.example:8443;"),
        ("/assets/logo.svg", "data: 'self';"),
    ],
)
def test_the_page_may_fetch_its_logo_and_nothing_else(logo: str | None, sources: str) -> None:
    """No script, no other style, no form; only the dashboard of the same origin may frame it."""
    refusals = reply.Refusals(RefusalPage(logo=logo))
    shown = refusals.reply(forbidden(), request("GET", "/x", accept="text/html"))
    policy = dict(shown.headers)["content-security-policy"]
    style = shown.body.partition(b"<style>")[2].partition(b"</style>")[0]
    assert f"img-src {sources}" in policy
    assert f"style-src 'sha256-{base64.b64encode(hashlib.sha256(style).digest()).decode()}';" in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'self'" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize("destination", ["script", "style", "image", "font", "worker"])
def test_assets_get_no_body(destination: str) -> None:
    """A script of a page that is refused is not parsed as one."""
    asked = request("GET", "/x.js", accept="*/*", sec_fetch_dest=destination, sec_fetch_mode="no-cors")
    answer = reply.PLAIN.reply(forbidden(), asked)
    assert (answer.status, answer.body) == (403, b"")
    assert "content-type" not in dict(answer.headers)


def test_a_framed_page_is_a_page() -> None:
    """Kubeflow's dashboard shows its applications in frames."""
    asked = request("GET", "/x", accept="text/html", sec_fetch_dest="iframe", sec_fetch_mode="navigate")
    assert b'target="_top"' in reply.PLAIN.reply(forbidden(), asked).body


def test_grpc_web_gets_a_status_in_headers() -> None:
    """Envoy makes a grpc-status for gRPC only; the KFP UI speaks gRPC-Web to the metadata store."""
    odd = Decision(Outcome.DENY, 403, Reason.FORBIDDEN, 'User "größe" cannot\n')
    answer = reply.PLAIN.reply(odd, request("POST", "/x", content_type="application/grpc-web-text"))
    headers = dict(answer.headers)
    assert (headers["grpc-status"], answer.body) == ("7", b"")
    assert headers["grpc-message"] == "User %22gr%C3%B6%C3%9Fe%22 cannot%EF%BF%BD"


@settings(max_examples=30)
@given(st.text(), st.text(), st.text())
def test_nothing_that_was_chosen_by_somebody_is_markup(user: str, namespace: str, name: str) -> None:
    """The page has the same elements, whatever the names in it are."""

    class Elements(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.found: list[tuple[str, list[str]]] = []

        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            self.found.append((tag, [key for key, _ in attributes]))

    def elements(subject: str, asked: ResourceAttributes) -> list[tuple[str, list[str]]]:
        parser = Elements()
        decision = forbidden(MissingRight(asked), Subject.authenticated(subject))
        parser.feed(page(decision, name, tellOwner=True, helpLink="/help?{user}{namespace}"))
        return parser.found

    plain = elements("x", ResourceAttributes("list", "g", "", "r", namespace="n", name="x"))
    odd = elements(user or "x", ResourceAttributes(name or "x", user, "", name or "x", namespace=namespace or "n"))
    assert odd == plain
