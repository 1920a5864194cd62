"""The one flow: which outcome each situation has, and that nothing slips through."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from extauthz.decision import Decision, Outcome, Reason, cannot, failed
from extauthz.errors import CredentialError, ExtauthzError, Refused, Unavailable
from extauthz.found import Found
from extauthz.gateway import Gateway
from extauthz.headers import MAX_GROUPS_HEADER_BYTES
from extauthz.request import Request
from extauthz.request.faults import Fault
from extauthz.review import Attributes, MissingRight, NonResourceAttributes, ResourceAttributes, Review
from extauthz.settings import ResponseSettings
from extauthz.subject import Subject
from tests.cases import ALICE, BOB, Named, decided, gateway, is_sentence, load_policy, policy_of, request

Answered = TypeVar("Answered")
RUNS = "/pipeline/apis/v2beta1/runs?namespace=team-a"


@dataclass
class Raising:
    """An authenticator and authorizer that cannot do its work."""

    error: Exception
    later: bool = False

    def authenticate(self, request: Request) -> Subject | Awaitable[Subject | None] | None:
        return self._fail()

    def review(self, subject: Subject, attributes: Attributes) -> Review | Awaitable[Review]:
        return self._fail()

    def _fail(self) -> Awaitable[Any]:
        if self.later:
            return self._raise()
        raise self.error

    async def _raise(self) -> Any:
        raise self.error


@dataclass
class Slow:
    """An authorizer and authenticator that answer when they are let, and count the questions."""

    allowed: bool = True
    open: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[Attributes] = field(default_factory=list)
    authenticated: int = 0

    def authenticate(self, request: Request) -> Awaitable[Subject | None]:
        self.authenticated += 1
        return self._subject()

    async def _subject(self) -> Subject | None:
        await self.open.wait()
        return Subject.authenticated(ALICE)

    def review(self, subject: Subject, attributes: Attributes) -> Awaitable[Review]:
        self.asked.append(attributes)
        return self._review(attributes)

    async def _review(self, attributes: Attributes) -> Review:
        await self.open.wait()
        return Review(attributes, self.allowed)


def test_a_right_that_is_granted_lets_pass() -> None:
    """The owner of team-a lists its runs; the review says why."""
    decision = decided(gateway().decide(request("GET", RUNS)))
    assert decision.outcome is Outcome.ALLOW
    assert (decision.status, decision.reason) == (200, Reason.ALLOWED)
    assert decision.rule is not None
    assert decision.rule.name == "kfp-v2beta1-runs-list"
    assert [review.allowed for review in decision.reviews] == [True]
    assert dict(decision.headers)["kubeflow-userid"] == ALICE


def test_a_right_that_is_missing_refuses_and_says_which() -> None:
    """The message is kube-apiserver's own wording and names nothing of the other tenant."""
    decision = decided(gateway(BOB).decide(request("GET", RUNS)))
    assert (decision.outcome, decision.status, decision.reason) == (Outcome.DENY, 403, Reason.FORBIDDEN)
    assert decision.message == (
        'User "bob@example.com" cannot list resource "runs" in API group "pipelines.kubeflow.org" '
        'in the namespace "team-a"'
    )
    assert decision.missing == MissingRight(decision.reviews[0].attributes)
    assert decision.subject == Subject.authenticated(BOB)
    assert decision.headers == ()


def test_nobody_is_asked_to_log_in_and_nothing_is_reviewed() -> None:
    """An anonymous flood costs no review."""
    slow = Slow()
    decision = decided(gateway("", authorizer=slow).decide(request("GET", RUNS)))
    assert (decision.outcome, decision.status) == (Outcome.UNAUTHENTICATED, 401)
    assert slow.asked == []


def test_an_unknown_route_is_refused() -> None:
    """What no rule covers, nobody may."""
    decision = decided(gateway().decide(request("GET", "/unknown")))
    assert (decision.status, decision.reason) == (403, Reason.NO_RULE)


def test_a_method_that_no_rule_covers_is_named() -> None:
    """The most specific path decides alone."""
    decision = decided(gateway().decide(request("DELETE", RUNS)))
    assert (decision.status, decision.reason) == (403, Reason.NO_RULE)
    assert "DELETE" in decision.message


def test_an_ambiguous_path_is_refused_even_where_no_rule_matches() -> None:
    """The fault is the better answer than the missing rule."""
    decision = decided(gateway().decide(request("GET", "/nowhere//x")))
    assert (decision.status, decision.reason) == (400, Fault.EMPTY_SEGMENT)


def test_another_letter_case_of_a_path_with_a_rule_is_refused(tmp_path: Path) -> None:
    """express would dispatch it to the handler that the rule guards."""
    policy = policy_of(
        tmp_path,
        "- {name: guarded, match: {path: /ui/artifacts/get}, deny: closed}\n"
        "- {name: rest, match: {path: '/ui/{rest...}'}, allow: public}\n",
    )
    decision = decided(gateway(policy=policy).decide(request("GET", "/ui/ARTIFACTS/get")))
    assert (decision.status, decision.reason) == (400, Fault.PATH_CASE)
    assert decided(gateway(policy=policy).decide(request("GET", "/ui/Logo.svg"))).allowed


def test_faults_are_tolerated_only_below_the_prefix_and_only_as_told() -> None:
    """A notebook's own paths pass; the same fault in its prefix does not."""
    assert decided(gateway().decide(request("GET", "/notebook/team-a/nb//api%2fx?a=1&a=2"))).allowed
    for target in ("/notebook//team-a/nb/", "/notebook/team-a%2fx/nb/", "/notebook/team-a/nb/../../team-b/nb/"):
        decision = decided(gateway().decide(request("GET", target)))
        assert decision.status == 400, target


def test_a_public_rule_lets_everybody_pass_without_a_name() -> None:
    """The client's own identity headers are taken off, so that nobody can be invented."""
    decision = decided(gateway("").decide(request("GET", "/public", kubeflow_userid="admin@corp.example")))
    assert (decision.allowed, decision.reason) == (True, Reason.PUBLIC)
    assert decision.headers == ()
    assert {"kubeflow-userid", "kubeflow_userid", "kubeflow-groups", "kubeflow_groups"} == set(decision.remove)


def test_a_rule_for_everybody_who_is_logged_in(tmp_path: Path) -> None:
    """Authenticated rules ask for a name and nothing else."""
    policy = policy_of(tmp_path, "- {name: home, match: {path: /home}, allow: authenticated}\n")
    assert decided(gateway(policy=policy).decide(request("GET", "/home"))).reason == Reason.AUTHENTICATED
    assert decided(gateway("", policy=policy).decide(request("GET", "/home"))).status == 401


def test_a_rule_that_refuses_always_tells_why(tmp_path: Path) -> None:
    """Nobody needs to log in to learn it."""
    policy = policy_of(tmp_path, "- {name: closed, match: {path: /closed}, deny: Not for users.}\n")
    decision = decided(gateway("", policy=policy).decide(request("GET", "/closed")))
    assert (decision.status, decision.reason, decision.message) == (403, Reason.DENIED_BY_RULE, "Not for users.")


@pytest.mark.parametrize("answer", ["allow: public", "allow: authenticated", "access: [{verb: get, path: /app}]"])
def test_a_forbidden_value_refuses_under_every_kind_of_rule(tmp_path: Path, answer: str) -> None:
    """`forbid` guards what a server would let win over what was checked."""
    rule = f"- name: guarded\n  match: {{path: /app}}\n  forbid: ['query:run_id']\n  {answer}\n"
    policy = policy_of(tmp_path, rule)
    assert decided(gateway(policy=policy).decide(request("GET", "/app"))).allowed
    assert decided(gateway(policy=policy).decide(request("GET", "/app?run_id="))).allowed
    for spelling in ("run_id", "runId"):
        decision = decided(gateway(policy=policy).decide(request("GET", f"/app?{spelling}=x")))
        assert (decision.status, decision.reason) == (403, "forbidden_value")


def test_every_right_of_a_rule_is_needed(tmp_path: Path) -> None:
    """Several reviews are joined by and."""
    policy = policy_of(
        tmp_path,
        "- name: both\n  match: {path: /both}\n  access:\n"
        "  - {verb: list, group: pipelines.kubeflow.org, resource: runs, namespace: query:a}\n"
        "  - {verb: list, group: pipelines.kubeflow.org, resource: runs, namespace: query:b}\n",
    )
    assert decided(gateway(policy=policy).decide(request("GET", "/both?a=team-a&b=team-a"))).allowed
    decision = decided(gateway(policy=policy).decide(request("GET", "/both?a=team-a&b=team-b")))
    assert decision.status == 403
    assert [review.allowed for review in decision.reviews] == [True, False]


def test_a_shadow_rule_allows_and_logs_what_it_would_refuse(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Identity and readable values are still required."""
    rule = (
        "- name: tried\n  match: {path: /tried}\n  enforce: shadow\n  access:\n"
        "  - {verb: list, group: pipelines.kubeflow.org, resource: runs, namespace: query:ns}\n"
    )
    policy = policy_of(tmp_path, rule)
    with caplog.at_level(logging.WARNING):
        decision = decided(gateway(BOB, policy=policy).decide(request("GET", "/tried?ns=team-a")))
    assert (decision.allowed, decision.reason) == (True, Reason.SHADOW)
    assert "would refuse" in caplog.text
    assert dict(decision.headers)["kubeflow-userid"] == BOB
    assert decided(gateway("", policy=policy).decide(request("GET", "/tried?ns=team-a"))).status == 401
    assert decided(gateway(policy=policy).decide(request("GET", "/tried"))).status == 400
    assert decided(gateway(policy=policy).decide(request("GET", "/tried?ns=team-a"))).reason == Reason.ALLOWED


def test_a_user_name_forges_no_log_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Who has line separators or marks that turn the direction of writing in his name is refused before any is told."""
    rule = "- {name: tried, match: {path: /tried}, enforce: shadow, access: [{verb: get, resource: pods}]}\n"
    built = gateway("eve\u2028ERROR forged\u202e\n", policy=policy_of(tmp_path, rule))
    assert not decided(built.decide(request("GET", "/tried"))).allowed
    assert caplog.messages == []


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (CredentialError("token_expired", "The token has expired."), 401, "token_expired"),
        (Unavailable("keys_missing", "No keys.", retry_after=7), 503, "keys_missing"),
        (Refused("odd", "Odd."), 400, "odd"),
        (RuntimeError("boom"), 503, "internal_error"),
    ],
)
async def test_no_error_allows(error: Exception, status: int, reason: str, later: bool) -> None:
    """Whatever breaks, at once or later, in identity or in rights: the request does not pass."""
    broken = Raising(error, later)
    for built in (gateway(authenticator=broken), gateway(authorizer=broken)):
        answer = built.decide(request("GET", RUNS))
        decision = decided(answer if isinstance(answer, Decision) else await answer)
        assert (decision.status, decision.reason) == (status, reason)
        assert bool(decision.retry_after) is (status == 503)
        assert not decision.allowed
        assert "boom" not in decision.message


def test_a_retry_hint_is_passed_on() -> None:
    """503 says when to come back."""
    assert failed(Unavailable("slow", "Slow.", retry_after=7)).retry_after == 7


def test_an_error_of_no_known_kind_is_an_error() -> None:
    """The table of errors ends in a refusal."""
    assert failed(ExtauthzError("new kind")).status == 503


async def test_answers_that_must_be_awaited_are_asked_for_once(tmp_path: Path) -> None:
    """All reviews of a rule are under way at the same time, each exactly once."""
    slow = Slow()
    policy = policy_of(
        tmp_path,
        "- name: both\n  match: {path: /both}\n  access:\n"
        "  - {verb: list, resource: runs, namespace: query:a}\n"
        "  - {verb: get, resource: runs, namespace: query:a}\n",
    )
    answer = gateway(authenticator=slow, authorizer=slow, policy=policy).decide(request("GET", "/both?a=team-a"))
    assert not isinstance(answer, Decision)
    slow.open.set()
    decision = await answer
    assert decision.allowed
    assert len(slow.asked) == 2
    assert slow.authenticated == 1


async def test_a_decision_that_takes_too_long_is_refused_in_time() -> None:
    """One deadline covers keys, lookups and reviews together, so that Envoy never has to give up on us."""
    built = Gateway(
        policy=load_policy(),
        authenticator=Named(ALICE),
        authorizer=Slow(),
        response=ResponseSettings(),
        deadline_seconds=0,
    )
    answer = built.decide(request("GET", RUNS))
    assert not isinstance(answer, Decision)
    decision = decided(await answer)
    assert (decision.outcome, decision.status, decision.reason) == (Outcome.ERROR, 503, Reason.DEADLINE)


class OneIsSlow:
    """Allows one right once it is awaited; the other is never answered."""

    def review(self, subject: Subject, attributes: Attributes) -> Review | Awaitable[Review]:
        return self._answer(attributes)

    async def _answer(self, attributes: Attributes) -> Review:
        if isinstance(attributes, ResourceAttributes) and attributes.resource == "pods":
            await asyncio.Event().wait()
        return Review(attributes, allowed=True)


async def test_an_allow_does_not_grow_old_beside_a_slower_review(tmp_path: Path) -> None:
    """It would outlive a revocation by more than the settling time, so both are waited for no longer than that."""
    rights = "[{verb: get, resource: runs, namespace: a}, {verb: get, resource: pods, namespace: a}]"
    policy = policy_of(tmp_path, f"- {{name: both, match: {{path: /both}}, access: {rights}}}\n")
    built = gateway(policy=policy, authorizer=OneIsSlow())
    built.deadline_seconds, built.together_seconds = 3600, 0.01
    answer = built.decide(request("GET", "/both"))
    assert not isinstance(answer, Decision)
    decision = decided(await answer)
    assert (decision.outcome, decision.status, decision.reason) == (Outcome.ERROR, 503, Reason.DEADLINE)


class NotAtOnce:
    """Answers after some turns of the loop."""

    def review(self, subject: Subject, attributes: Attributes) -> Awaitable[Review]:
        return self._later(Review(attributes, allowed=True))

    def namespace(self, kind: str, id: str, user: str) -> Awaitable[Found | None]:  # noqa: A002
        return self._later(Found("team-a"))

    async def _later(self, answer: Answered) -> Answered:
        for _ in range(5):
            await asyncio.sleep(0)
        return answer


@pytest.mark.parametrize(
    ("rights", "allowed"),
    [
        ("{verb: get, resource: runs, namespace: a}", True),
        ("{verb: get, resource: runs, namespace: ['lookup:run:query:a', 'lookup:run:query:b']}", True),
        ("{verb: get, resource: runs, namespace: a}, {verb: get, path: /x}", False),
    ],
)
async def test_only_reviews_that_wait_for_each_other_are_hurried(tmp_path: Path, rights: str, allowed: bool) -> None:
    """One review alone is as fresh as it can be, and what was looked up is no right."""
    policy = policy_of(tmp_path, f"- {{name: any, match: {{path: /any}}, access: [{rights}]}}\n")
    built = Gateway(
        policy=policy,
        authenticator=Named(ALICE),
        authorizer=NotAtOnce(),
        response=ResponseSettings(),
        lookup=NotAtOnce(),
        deadline_seconds=3600,
        together_seconds=0,
    )
    answer = built.decide(request("GET", "/any?a=1&b=2"))
    assert not isinstance(answer, Decision)
    assert (await answer).allowed is allowed


async def test_a_policy_replaced_while_a_check_waits_does_not_change_it(tmp_path: Path) -> None:
    """Each request sees one policy from start to end."""
    slow = Slow()
    built = gateway(authorizer=slow)
    answer = built.decide(request("GET", RUNS))
    assert not isinstance(answer, Decision)
    built.policy = policy_of(tmp_path, "- {name: closed, match: {path: '/{rest...}'}, deny: closed}\n")
    slow.open.set()
    assert (await answer).allowed
    assert decided(built.decide(request("GET", RUNS))).reason == Reason.DENIED_BY_RULE


def test_a_review_must_say_yes_in_so_many_words() -> None:
    """Anything but True is no."""

    class Odd:
        def review(self, subject: Subject, attributes: Attributes) -> Review:
            return Review(attributes, "true")  # type: ignore[arg-type]  # that is the point

    assert decided(gateway(authorizer=Odd()).decide(request("GET", RUNS))).status == 403


def test_groups_are_told_without_what_could_be_misread() -> None:
    """A separator inside a group, or a reserved group, must not become a group upstream."""
    named = Named(ALICE, ("team", "a,system:masters", "system:masters", "odd\ngroup", " blank "))
    decision = decided(gateway(authenticator=named).decide(request("GET", "/x")))
    assert dict(decision.headers) == {"kubeflow-userid": ALICE, "kubeflow-groups": "team"}
    assert "kubeflow-groups" not in decision.remove


def test_too_many_groups_drop_the_header_and_not_the_decision() -> None:
    """A huge header would make Envoy refuse the request; the review still has them all."""
    many = Named(ALICE, tuple(f"group-{number:04}" for number in range(MAX_GROUPS_HEADER_BYTES // 11 + 2)))
    decision = decided(gateway(authenticator=many).decide(request("GET", "/x")))
    assert decision.allowed
    assert "kubeflow-groups" in decision.remove
    assert set(dict(decision.headers)) == {"kubeflow-userid"}


def test_a_user_that_no_header_can_carry_does_not_pass() -> None:
    """Control characters never leave in a header."""
    for user in ("al\r\nice", "alice ", "al\x00ice"):
        decision = decided(gateway(user).decide(request("GET", "/x")))
        assert (decision.status, decision.reason) == (503, "user_not_a_header")
        assert is_sentence(decision.message)


def test_no_header_is_both_set_and_removed() -> None:
    """Envoy removes after it sets."""
    for user in (ALICE, ""):
        for target in ("/x", "/public"):
            decision = decided(gateway(user, "team").decide(request("GET", target)))
            assert not {name for name, _ in decision.headers} & set(decision.remove)


def test_every_spelling_of_every_identity_header_is_removed() -> None:
    """CGI-like servers read an underscore as a dash."""
    response = ResponseSettings(user_header="x-user", groups_header=None, remove_headers=["x-auth-request-email"])
    decision = decided(gateway(response=response).decide(request("GET", "/x")))
    assert decision.headers == (("x-user", ALICE),)
    assert {"x-auth-request-email", "x_auth_request_email", "x-auth_request-email", "x_user"} <= set(decision.remove)


def test_the_words_of_a_refusal_are_kube_apiservers() -> None:
    """Namespaced, cluster-wide, subresource and URL."""
    alice = Subject.authenticated(ALICE)
    assert cannot(
        alice, MissingRight(ResourceAttributes("get", resource="pods", subresource="log", namespace="a"))
    ) == ('User "alice@example.com" cannot get resource "pods/log" in API group "" in the namespace "a"')
    assert cannot(alice, MissingRight(ResourceAttributes("list", resource="nodes"))).endswith("at the cluster scope")
    assert cannot(alice, MissingRight(NonResourceAttributes("get", "/metrics"))).endswith('cannot get path "/metrics"')


def test_the_json_form_is_the_documented_one() -> None:
    """Scripts read it."""
    form = decided(gateway().decide(request("GET", RUNS))).as_json()
    assert list(form) == ["outcome", "status", "reason", "message", "rule", "identity", "reviews", "headers"]
    assert form["outcome"] == "allow"
    assert form["identity"]["groups"] == ["system:authenticated"]
    assert form["reviews"][0]["namespace"] == "team-a"
    assert form["headers"]["kubeflow-userid"] == ALICE
    assert form["headers"]["kubeflow_userid"] is None


def test_what_failed_before_a_request_was_read_is_a_refusal() -> None:
    """Edges tell of it in the same way."""
    decision = decided(gateway().refuse(Unavailable("overloaded", "Too many requests.", retry_after=3)))
    assert (decision.status, decision.reason, decision.retry_after) == (503, "overloaded", 3)
