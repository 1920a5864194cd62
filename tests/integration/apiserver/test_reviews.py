"""The authorizer `kubernetes` over real sockets: what it asks, and what becomes of every kind of answer."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from extauthz.access.kubernetes.connection import Connection
from extauthz.access.kubernetes.reviews import KubernetesAuthorizer
from extauthz.errors import Refused, Unavailable
from extauthz.review import NonResourceAttributes, ResourceAttributes
from extauthz.settings import KubernetesAuthorizer as Limits
from extauthz.subject import Subject
from tests.apiserver import Double, Gate, answer, hang, hold, pki, reset
from tests.apiserver.manifests import binding, delegate, role, rule, user

REVIEWS = "subjectaccessreviews"
CREATE = f"create {REVIEWS}"
ALICE = Subject.authenticated("alice")
PODS = ResourceAttributes(verb="get", resource="pods", namespace="team-a")
SILENT = (
    "the API server does not answer reviews; one is tried every second,"
    " and kept answers are believed no longer than without a watch"
)


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def server(double: Double) -> Double:
    """The double, where alice may read pods of team-a."""
    await double.apply(
        role("reader", rule(["get"], ["pods"])), binding("alice", "reader", user("alice"), namespace="team-a")
    )
    double.calls.clear()
    return double


@pytest.fixture
def clock() -> Clock:
    return Clock()


def authorizer(connection: Connection, clock: Clock | None = None, **limits: Any) -> KubernetesAuthorizer:
    """An authorizer whose circuit breaker runs on the test's clock."""
    return KubernetesAuthorizer(connection, Limits(**{"timeout_seconds": 5, **limits}), clock=clock or Clock())


TOLD = {
    "authorizer_bad_answer": "the API server's answer is unreadable",
    "authorizer_misconfigured": "the API server refuses the question itself",
    "authorizer_unavailable": "the API server is failing",
    "authorizer_untrusted": "the API server's certificate is not trusted",
}
"""What callers are told."""


async def reason_of(kubernetes: KubernetesAuthorizer, subject: Subject = ALICE) -> str:
    """Return the reason with which a review is refused."""
    with pytest.raises(Unavailable) as refused:
        await kubernetes.review(subject, PODS)
    if refused.value.reason in TOLD:
        assert refused.value.message == f"Access cannot be checked: {TOLD[refused.value.reason]}."
    return refused.value.reason


async def test_allows_and_denies_as_the_server_says(server: Double, connection: Connection) -> None:
    """The review is the API server's answer, words included."""
    kubernetes = authorizer(connection)
    granted = await kubernetes.review(ALICE, PODS)
    assert (granted.allowed, granted.attributes) == (True, PODS)
    assert granted.reason == 'RBAC: allowed by RoleBinding "alice/team-a" of ClusterRole "reader" to User "alice"'
    assert not (await kubernetes.review(Subject.authenticated("bob"), PODS)).allowed
    assert kubernetes.problems() == []


async def test_nonresource_attributes_are_asked(server: Double, connection: Connection) -> None:
    """A right on a path is asked as such."""
    paths = {"verbs": ["get"], "nonResourceURLs": ["/healthz"]}
    await server.apply(role("health", paths), binding("health", "health", user("alice")))
    kubernetes = authorizer(connection)
    assert (await kubernetes.review(ALICE, NonResourceAttributes("get", "/healthz"))).allowed
    assert not (await kubernetes.review(ALICE, NonResourceAttributes("get", "/metrics"))).allowed


@pytest.mark.parametrize(("status", "fix"), [(401, "credentials"), (403, "system:auth-delegator"), (404, "kubeconfig")])
async def test_mistakes_are_one_call(
    server: Double, connection: Connection, clock: Clock, status: int, fix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """401, 403 and 404 are asked once, refuse, and are logged once with the way to mend them (sar-003, sar-004)."""
    caplog.set_level(logging.INFO)
    kubernetes = authorizer(connection, clock)
    with server.fault(REVIEWS, answer(status)):
        assert await reason_of(kubernetes) == "authorizer_misconfigured"
        assert server.calls[CREATE] == 1
        assert await reason_of(kubernetes) == "authorizer_misconfigured"
        assert [fix in problem for problem in kubernetes.problems()] == [True]
        assert [fix in record.getMessage() for record in caplog.records] == [True]
    clock.now += 1
    assert (await kubernetes.review(ALICE, PODS)).allowed
    assert kubernetes.problems() == []
    assert caplog.messages[1:] == ["reviews work again"]


async def test_a_refusal_of_ours_is_not_asked_for_by_every_miss(
    server: Double, connection: Connection, clock: Clock
) -> None:
    """After 403 one review a second finds out whether that has changed; all others are refused from memory."""
    kubernetes = authorizer(connection, clock)
    with server.fault(REVIEWS, answer(403)):
        for seconds in range(3):
            for _ in range(10):
                assert await reason_of(kubernetes) == "authorizer_misconfigured"
            assert server.calls[CREATE] == seconds + 1
            clock.now += 1
    for _ in range(10):
        assert (await kubernetes.review(ALICE, PODS)).allowed


async def test_while_one_finds_out_the_others_are_refused(server: Double, connection: Connection, clock: Clock) -> None:
    """When the pause is over it is one review that is sent, however many are waiting for that moment."""
    kubernetes = authorizer(connection, clock)
    with server.fault(REVIEWS, answer(401), times=1):
        assert await reason_of(kubernetes) == "authorizer_misconfigured"
    clock.now += 1
    with server.held_answers() as gate:
        first = asyncio.create_task(kubernetes.review(ALICE, PODS))
        await gate.reached()
        assert await reason_of(kubernetes) == "authorizer_misconfigured"
        gate.open()
        assert (await first).allowed


@pytest.mark.parametrize("status", [404, 422])
async def test_a_refusal_that_may_be_about_one_question_holds_up_no_other(
    server: Double, connection: Connection, status: int
) -> None:
    """Otherwise whoever can provoke it could lock out everybody."""
    kubernetes = authorizer(connection)
    with server.fault(REVIEWS, answer(status), times=1):
        assert await reason_of(kubernetes) == "authorizer_misconfigured"
    assert (await kubernetes.review(ALICE, PODS)).allowed


async def test_caller_without_the_right_is_a_mistake(server: Double) -> None:
    """The API server's own 403 names us, and health shows it."""
    async with await Connection.open(kubeconfig=server.kubeconfig("stranger-token")) as connection:
        kubernetes = authorizer(connection)
        assert await reason_of(kubernetes) == "authorizer_misconfigured"
        assert 'User "stranger" cannot create' in kubernetes.problems()[0]


async def test_unaskable_review_is_a_mistake(server: Double, connection: Connection) -> None:
    """A review that names nobody is 422 at the server, and refused."""
    assert await reason_of(authorizer(connection), Subject("")) == "authorizer_misconfigured"


async def test_text_without_unicode_is_refused(server: Double, connection: Connection) -> None:
    """Half a surrogate pair, as a token's claim can hold it, is refused before anything is sent."""
    with pytest.raises(Refused):
        await authorizer(connection).review(Subject.authenticated("\ud800"), PODS)
    assert not server.calls


async def test_evaluation_error_is_kept_and_logged_once(
    server: Double, connection: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    """An evaluation error with a denial denies; the log has it once (sar-007)."""
    status = {"allowed": False, "evaluationError": "no such role"}
    body = {"kind": "SubjectAccessReview", "status": status}
    kubernetes = authorizer(connection)
    with server.fault(REVIEWS, answer(201, body)), caplog.at_level(logging.WARNING):
        for _ in range(2):
            review = await kubernetes.review(ALICE, PODS)
            assert (review.allowed, review.evaluation_error) == (False, "no such role")
    assert len(caplog.records) == 1


@pytest.mark.parametrize("status", [200, 201])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b'{"kind": "SubjectAccessReview", "status": {"allowed": true}',
        [],
        {},
        {"kind": "SubjectAccessReview"},
        {"kind": "SubjectAccessReview", "status": []},
        {"kind": "SubjectAccessReview", "status": {}},
        {"kind": "SubjectAccessReview", "status": {"allowed": "true"}},
        {"kind": "SubjectAccessReview", "status": {"allowed": 1}},
        {"kind": "SubjectAccessReview", "status": {"allowed": None}},
        {"kind": "SubjectAccessReview", "status": {"allowed": True, "denied": "false"}},
        {"kind": "SubjectAccessReview", "status": {"allowed": True, "reason": ["x"]}},
        {"kind": "Status", "status": {"allowed": True}},
        {"status": {"allowed": True}},
    ],
)
async def test_unclear_answers_refuse(server: Double, connection: Connection, status: int, body: Any) -> None:
    """Whatever is not a complete review with a real boolean is no answer (sar-009)."""
    with server.fault(REVIEWS, answer(status, body)):
        assert await reason_of(authorizer(connection)) == "authorizer_bad_answer"
    assert server.calls[CREATE] == 1


@pytest.mark.parametrize("status", [202, 204, 302, 307, 400, 405, 409, 418])
async def test_unexpected_status_refuses(server: Double, connection: Connection, status: int) -> None:
    """No other status counts as an answer, whatever the body claims; a redirect is not followed."""
    body = {"kind": "SubjectAccessReview", "status": {"allowed": True}}
    headers = {"Location": f"{server.url}/apis/authorization.k8s.io/v1/{REVIEWS}"}
    with server.fault(REVIEWS, answer(status, body, headers)):
        assert await reason_of(authorizer(connection)) == "authorizer_bad_answer"
    assert server.calls.total() == 1


async def test_denied_beats_allowed(server: Double, connection: Connection) -> None:
    """An answer that both allows and denies is a denial."""
    body = {"kind": "SubjectAccessReview", "status": {"allowed": True, "denied": True}}
    with server.fault(REVIEWS, answer(201, body)):
        assert not (await authorizer(connection).review(ALICE, PODS)).allowed


async def test_endless_answer_is_cut_off(server: Double, connection: Connection) -> None:
    """An answer above the bound is refused and its connection closed."""
    with server.fault(REVIEWS, answer(201, b" " * 2_000_000)):
        assert await reason_of(authorizer(connection)) == "apiserver_bad_answer"


async def test_hanging_server_is_bounded(server: Double, connection: Connection) -> None:
    """A server that does not answer costs the deadline, and its connection is closed (sar-010)."""
    gate = Gate()
    with server.fault(REVIEWS, hold(gate)):
        kubernetes = authorizer(connection, timeout_seconds=0.5)
        with pytest.raises(Unavailable, match=r"^authorizer_timeout: .* the API server did not answer in time\.$"):
            await kubernetes.review(ALICE, PODS)
        await gate.abandoned.wait()
    assert kubernetes.limiter.running == 0
    assert (await authorizer(connection).review(ALICE, PODS)).allowed


async def test_wait_for_a_slot_counts_against_the_deadline(server: Double, connection: Connection) -> None:
    """A review that waits behind a hanging one ends by its own deadline."""
    with server.fault(REVIEWS, hang()):
        kubernetes = authorizer(connection, timeout_seconds=0.1, max_concurrent_reviews=2, max_reviews_per_user=1)
        reasons = await asyncio.gather(*(reason_of(kubernetes) for _ in range(3)))
    assert set(reasons) == {"authorizer_timeout"}
    assert kubernetes.counts.failed == 3
    assert (kubernetes.limiter.running, kubernetes.limiter.waiting) == (0, 0)


async def test_rotated_token_is_read_again(server: Double, connection: Connection, clock: Clock) -> None:
    """After its token was replaced on disk, extauthz goes on with the new one (sar-011)."""
    kubernetes = authorizer(connection, clock)
    server.accounts["rotated"] = server.accounts.pop("extauthz-token")
    server.kubeconfig("rotated")
    assert await reason_of(kubernetes) == "authorizer_misconfigured"
    await connection.credentials.refresh()
    clock.now += 1
    assert (await kubernetes.review(ALICE, PODS)).allowed


async def test_untrusted_certificate_refuses(server: Double) -> None:
    """A server whose certificate another authority signed is not asked (sar-012)."""
    other = pki.create(server.folder / "other")
    kubeconfig = server.kubeconfig(**{"certificate-authority": str(other.ca)})
    async with await Connection.open(kubeconfig=kubeconfig) as connection:
        assert await reason_of(authorizer(connection)) == "authorizer_untrusted"
    assert not server.calls


async def test_flood_of_one_user_leaves_room_for_others(server: Double, connection: Connection) -> None:
    """A user with many distinct questions is held to his bound while another is answered (sar-015)."""
    gate = Gate()
    kubernetes = authorizer(connection, max_concurrent_reviews=8, max_queued_reviews=40, max_reviews_per_user=4)
    names = [ResourceAttributes("get", resource="pods", namespace="team-a", name=f"p{n}") for n in range(60)]
    with server.fault(REVIEWS, hold(gate), times=4):
        flood = [asyncio.ensure_future(kubernetes.review(ALICE, attributes)) for attributes in names]
        await gate.reached(4)
        assert (kubernetes.limiter.running, kubernetes.limiter.waiting) == (4, 10)
        assert not (await kubernetes.review(Subject.authenticated("bob"), PODS)).allowed
        gate.open()
        results = await asyncio.gather(*flood, return_exceptions=True)
    refused = [result for result in results if isinstance(result, Unavailable)]
    assert {error.reason for error in refused} == {"authorizer_overloaded"}
    assert len(refused) == 60 - 14


async def test_many_users_stay_within_the_bounds(server: Double, connection: Connection) -> None:
    """A burst of distinct users is never more than the concurrency and the queue; the rest is refused at once."""
    gate = Gate()
    kubernetes = authorizer(connection, max_concurrent_reviews=8, max_queued_reviews=20, max_reviews_per_user=4)
    with server.fault(REVIEWS, hold(gate)):
        subjects = [Subject.authenticated(f"user-{number}") for number in range(1000)]
        burst = [asyncio.ensure_future(kubernetes.review(subject, PODS)) for subject in subjects]
        await gate.reached(8)
        assert (kubernetes.limiter.running, kubernetes.limiter.waiting) == (8, 20)
        gate.open()
        results = await asyncio.gather(*burst, return_exceptions=True)
    assert sum(isinstance(result, Unavailable) for result in results) == 1000 - 28
    assert server.calls[CREATE] == 28


async def test_open_circuit_refuses_without_a_call(server: Double, connection: Connection, clock: Clock) -> None:
    """After failures in a row nothing is sent any more; later one probe closes the circuit (sar-016)."""
    kubernetes = authorizer(connection, clock)
    with server.fault(REVIEWS, answer(503)):
        assert await reason_of(kubernetes) == "authorizer_unavailable"
    assert str(kubernetes.breaker.state) == "open"
    assert kubernetes.problems() == [SILENT]
    calls = server.calls[CREATE]
    assert calls == 5
    assert await reason_of(kubernetes) == "authorizer_unavailable"
    assert server.calls[CREATE] == calls
    clock.now += 1
    assert (await kubernetes.review(ALICE, PODS)).allowed
    assert str(kubernetes.breaker.state) == "closed"


async def test_half_open_circuit_lets_one_probe_through(server: Double, connection: Connection, clock: Clock) -> None:
    """While a probe is under way everyone else is refused; a cancelled probe leaves room for the next."""
    kubernetes = authorizer(connection, clock)
    with server.fault(REVIEWS, answer(500)):
        await reason_of(kubernetes)
    clock.now += 1
    gate = Gate()
    with server.fault(REVIEWS, hold(gate), times=1):
        probe = asyncio.ensure_future(kubernetes.review(ALICE, PODS))
        await gate.reached()
        assert await reason_of(kubernetes) == "authorizer_unavailable"
        probe.cancel()
        await asyncio.wait([probe])
    assert str(kubernetes.breaker.state) == "half_open"
    assert (await kubernetes.review(ALICE, PODS)).allowed


async def test_connection_that_was_just_closed_is_replaced(server: Double, connection: Connection) -> None:
    """A kept connection that dies under a review costs one more call and nothing else (sar-017)."""
    kubernetes = authorizer(connection)
    await kubernetes.review(ALICE, PODS)
    with server.fault(REVIEWS, reset(), times=1):
        assert (await kubernetes.review(ALICE, PODS)).allowed
    assert str(kubernetes.breaker.state) == "closed"
    assert server.calls[CREATE] == 3


async def test_all_kept_connections_closing_at_once_is_no_outage(server: Double, connection: Connection) -> None:
    """When every pooled connection dies under its review, all reviews are answered and the circuit stays closed."""
    kubernetes = authorizer(connection)
    with server.fault(REVIEWS, reset(), times=12):
        reviews = await asyncio.gather(*(kubernetes.review(ALICE, PODS) for _ in range(12)))
    assert all(review.allowed for review in reviews)
    assert str(kubernetes.breaker.state) == "closed"


@pytest.mark.parametrize("failure", [answer(500), answer(503), answer(429), answer(429, headers={"Retry-After": "x"})])
async def test_passing_failures_are_retried(server: Double, connection: Connection, failure: Any) -> None:
    """5xx and 429 are asked again within the deadline."""
    kubernetes = authorizer(connection)
    with server.fault(REVIEWS, failure, times=2):
        assert (await kubernetes.review(ALICE, PODS)).allowed
    assert server.calls[CREATE] == 3
    assert (kubernetes.counts.sent, kubernetes.counts.retried, kubernetes.counts.answered) == (3, 2, 1)


async def test_repeated_resets_are_retried(server: Double, connection: Connection) -> None:
    """Connections that keep breaking are retried with a pause, until one holds."""
    kubernetes = authorizer(connection)
    with server.fault(REVIEWS, reset(), times=3):
        assert (await kubernetes.review(ALICE, PODS)).allowed
    assert (kubernetes.counts.sent, kubernetes.counts.retried) == (4, 3)


async def test_failures_that_do_not_pass_end_the_review(server: Double, connection: Connection) -> None:
    """The caller is told to come back soon."""
    kubernetes = authorizer(connection, timeout_seconds=0.1)
    for times in (1, 2):
        with server.fault(REVIEWS, answer(503)), pytest.raises(Unavailable) as refused:
            await kubernetes.review(ALICE, PODS)
        assert (refused.value.reason, refused.value.retry_after) == ("authorizer_unavailable", 1)
        assert kubernetes.counts.failed == times


async def test_retry_after_beyond_the_deadline_ends_the_review(server: Double, connection: Connection) -> None:
    """When the server wants a longer pause than is left, the review ends at once and passes the pause on."""
    with server.fault(REVIEWS, answer(429, headers={"Retry-After": "7"})), pytest.raises(Unavailable) as refused:
        await authorizer(connection).review(ALICE, PODS)
    assert (refused.value.retry_after, server.calls[CREATE]) == (7, 1)


async def test_retry_after_is_waited_for(server: Double, connection: Connection) -> None:
    """A pause that fits the deadline is kept; only its lower bound is measured, so a slow machine does no harm."""
    loop = asyncio.get_running_loop()
    with server.fault(REVIEWS, answer(429, headers={"Retry-After": "1"}), times=1):
        start = loop.time()
        assert (await authorizer(connection).review(ALICE, PODS)).allowed
    assert loop.time() - start >= 1


async def test_server_that_is_gone_refuses_and_recovers(server: Double, connection: Connection, clock: Clock) -> None:
    """Refused connections refuse; a server that comes back, even with a new authority, is used without a restart."""
    kubernetes = authorizer(connection, clock)
    port = int(server.url.rpartition(":")[2])
    await server.stop()
    assert await reason_of(kubernetes) == "authorizer_unavailable"
    async with Double.running(server.folder, port=port) as again:
        await again.apply(*delegate())
        await connection.credentials.refresh()
        clock.now += 1
        assert not (await kubernetes.review(ALICE, PODS)).allowed


async def test_cancelled_review_frees_its_slot(server: Double, connection: Connection) -> None:
    """A caller who goes away takes neither a slot nor a connection with him."""
    gate = Gate()
    kubernetes = authorizer(connection)
    with server.fault(REVIEWS, hold(gate), times=1):
        review = asyncio.ensure_future(kubernetes.review(ALICE, PODS))
        await gate.reached()
        review.cancel()
        await asyncio.wait([review])
        await gate.abandoned.wait()
    assert review.cancelled()
    assert kubernetes.limiter.running == 0
    assert (await kubernetes.review(ALICE, PODS)).allowed
