"""No answer is ever older than promised, whatever happens in whatever order.

A simulated cluster: two API servers whose own informers lag by up to 0.5 s, a watch whose
events take up to 0.2 s, drops, resumes and new lists of that watch, reviews that are evaluated
and answered at any later moment or fail, callers that are cancelled. Every answer must be
what the cluster's truth was at some moment of the time in which it may still be believed.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from dataclasses import dataclass
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from extauthz.access.cache import CachedAuthorizer
from extauthz.access.generations import Generations
from extauthz.access.watch.objects import KnownObjects
from extauthz.access.watch.resources import RESOURCES
from extauthz.errors import Unavailable
from extauthz.review import Attributes, ResourceAttributes, Review
from extauthz.settings import ReviewCacheSettings
from extauthz.subject import Subject
from tests.apiserver import manifests
from tests.unit.access.desk import UNREACHABLE, Clock

LAG, DELAY, DEADLINE = 0.5, 0.2, 1.5
SETTINGS = ReviewCacheSettings(
    allow_seconds=60, deny_seconds=30, settling_seconds=1, ttl_without_watch_seconds=5, max_entries=20
)
WATCHED_WINDOW = DELAY + SETTINGS.settling_seconds
UNWATCHED_WINDOW = SETTINGS.ttl_without_watch_seconds + LAG

SUBJECTS = [Subject.authenticated("ann", ("devs",)), Subject.authenticated("bob")]
QUESTIONS = [ResourceAttributes("list", resource="pods", namespace=namespace) for namespace in ("", "team-a")]
CLUSTER_SUBJECTS = [manifests.user("bob"), manifests.group("devs")]

Grant = tuple[str, ...]
State = frozenset[Grant]
GRANTS: list[Grant] = [
    ("role",),
    ("namespace", "team-a", "ann"),
    *(("cluster", subject["kind"], subject["name"]) for subject in CLUSTER_SUBJECTS),
]


def allowed(state: State, subject: Subject, asked: ResourceAttributes) -> bool:
    """The truth: the role exists, and it is bound cluster-wide or in the namespace."""
    by_group = any(("cluster", "Group", group) in state for group in subject.groups)
    by_name = ("cluster", "User", subject.user) in state or ("namespace", asked.namespace, subject.user) in state
    return ("role",) in state and (by_group or by_name)


def objects(state: State) -> dict[tuple[str, str], Any]:
    """The manifests of a state by resource and name."""
    subjects = [subject for subject in CLUSTER_SUBJECTS if ("cluster", subject["kind"], subject["name"]) in state]
    found: dict[tuple[str, str], Any] = {}
    if ("role",) in state:
        found["clusterroles", "r"] = manifests.role("r")
    if subjects:
        found["clusterrolebindings", "b"] = manifests.binding("b", "r", *subjects)
    for _, namespace, user in (grant for grant in state if grant[0] == "namespace"):
        manifest = manifests.binding(user, "r", manifests.user(user), namespace=namespace)
        found["rolebindings", f"{namespace}/{user}"] = manifest
    return found


@dataclass(eq=False)
class Pending:
    """A review under way at one of the API servers."""

    subject: Subject
    asked: ResourceAttributes
    sent: float
    answer: asyncio.Future[Review]
    allowed: bool | None = None


class Cluster(RuleBasedStateMachine):
    """Everything that can happen, one rule each."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = Clock()
        self.history: list[tuple[float, State]] = [(self.clock.now - 1000, frozenset([("role",)]))]
        self.seen = [0, 0]
        self.events: deque[tuple[float, str, str, Any]] = deque()
        self.connected, self.connected_since = False, self.clock.now
        self.pending: list[Pending] = []
        self.callers: list[asyncio.Task[None]] = []
        self.generations = Generations(self.clock)
        self.known = {item.plural: KnownObjects(item, self.generations, None) for item in RESOURCES}
        self.cache = CachedAuthorizer(self, SETTINGS, self.generations, clock=self.clock, wall=self.clock.wall)
        self.watch_lists_anew()
        self.clock.now += 100

    def teardown(self) -> None:
        self.loop.run_until_complete(self.cache.close())
        self._spin()
        assert self.callers == []
        self.loop.close()

    def review(self, subject: Subject, attributes: Attributes) -> asyncio.Future[Review]:
        """Take a question to an API server, which answers when a rule says so."""
        assert isinstance(attributes, ResourceAttributes)
        self.pending.append(Pending(subject, attributes, self.clock.now, self.loop.create_future()))
        return self.pending[-1].answer

    @rule(grant=st.sampled_from(GRANTS))
    def write(self, grant: Grant) -> None:
        """Give or take a right."""
        old = self.history[-1][1]
        new = old ^ {grant}
        self.history.append((self.clock.now, new))
        before, after = objects(old), objects(new)
        for key in before.keys() | after.keys():
            if before.get(key) != after.get(key):
                kind = "MODIFIED" if key in after else "DELETED"
                self.events.append((self.clock.now, kind, key[0], after.get(key) or before[key]))

    @rule(seconds=st.sampled_from([0.05, 0.3, 1.0, 3.0, 7.0]))
    def wait(self, seconds: float) -> None:
        """Let time pass; whatever falls due happens at its time."""
        end = self.clock.now + seconds
        while (due := self._next_due()) <= end:
            self.clock.now = max(self.clock.now, due)
            self._do_what_is_due()
        self.clock.now = end

    @precondition(lambda self: self.connected and self.events)
    @rule()
    def event_arrives(self) -> None:
        """The watch tells the oldest change."""
        _, kind, plural, manifest = self.events.popleft()
        known = self.known[plural]
        (known.remove if kind == "DELETED" else known.apply)(manifest)

    @rule(server=st.sampled_from([0, 1]))
    def server_catches_up(self, server: int) -> None:
        """An API server's informer learns of one more write."""
        self.seen[server] = min(self.seen[server] + 1, len(self.history) - 1)

    @precondition(lambda self: self.connected)
    @rule()
    def watch_drops(self) -> None:
        """The watch breaks, and is known to."""
        self.generations.watched = self.connected = False

    @precondition(lambda self: not self.connected)
    @rule()
    def watch_resumes(self) -> None:
        """The watch comes back where it was: everything missed is told."""
        self.connected, self.connected_since = True, self.clock.now
        while self.events:
            self.event_arrives()
        self.generations.watched = True

    @precondition(lambda self: not self.connected)
    @rule()
    def watch_lists_anew(self) -> None:
        """The watch comes back without knowing what it missed."""
        self.events.clear()
        for plural, known in self.known.items():
            known.begin_list()
            for (kind, _), manifest in objects(self.history[-1][1]).items():
                if kind == plural:
                    known.apply(manifest)
            known.end_list()
        self.connected, self.connected_since = True, self.clock.now
        self.generations.watched = True

    @rule(subject=st.sampled_from(SUBJECTS), asked=st.sampled_from(QUESTIONS), server=st.sampled_from([0, 1]))
    def ask(self, subject: Subject, asked: ResourceAttributes, server: int) -> None:
        """Someone asks; an answer that this takes is worked out at once and under way for a while."""
        before = len(self.pending)
        self.callers.append(self.loop.create_task(self._caller(subject, asked)))
        self._spin()
        for review in self.pending[before:]:
            review.allowed = self._known_to(server, review)

    @rule(subject=st.sampled_from(SUBJECTS), asked=st.sampled_from(QUESTIONS), server=st.sampled_from([0, 1]))
    def ask_and_be_answered(self, subject: Subject, asked: ResourceAttributes, server: int) -> None:
        """Someone asks, and is answered without delay where a review is needed."""
        before = len(self.pending)
        self.ask(subject, asked, server)
        for review in self.pending[before:]:
            self._answer(review)

    @precondition(lambda self: self.connected)
    @rule(grant=st.sampled_from(GRANTS), subject=st.sampled_from(SUBJECTS), asked=st.sampled_from(QUESTIONS))
    def write_during_a_review(self, grant: Grant, subject: Subject, asked: ResourceAttributes) -> None:
        """A right changes, and its event arrives, between the working out of an answer and its arrival."""
        before = len(self.pending)
        self.ask(subject, asked, 0)
        self.write(grant)
        while self.events:
            self.event_arrives()
        for review in self.pending[before:]:
            self._answer(review)

    @precondition(lambda self: self.connected)
    @rule(grant=st.sampled_from(GRANTS), subject=st.sampled_from(SUBJECTS), asked=st.sampled_from(QUESTIONS))
    def ask_beside_a_slow_review(self, grant: Grant, subject: Subject, asked: ResourceAttributes) -> None:
        """A review is under way while a right changes; shortly before it is answered somebody asks the same."""
        before = len(self.pending)
        self.ask(subject, asked, 0)
        slow = self.pending[before:]
        self.write(grant)
        self.wait(WATCHED_WINDOW + 0.1)
        self.ask_and_be_answered(subject, asked, 0)
        for review in slow:
            self._answer(review)

    @precondition(lambda self: self.connected)
    @rule(given=st.sets(st.sampled_from(GRANTS)), grant=st.sampled_from(GRANTS))
    def change_what_is_known(self, given: set[Grant], grant: Grant) -> None:
        """All is quiet and everybody's answers are known; then one right changes, and everybody asks again."""
        for each in sorted(given ^ self.history[-1][1]):
            self.write(each)
        self._everybody_asks_after(3.0)
        self.write(grant)
        self._everybody_asks_after(3.0)

    def _everybody_asks_after(self, seconds: float) -> None:
        self.wait(seconds)
        for subject, asked in itertools.product(SUBJECTS, QUESTIONS):
            self.ask_and_be_answered(subject, asked, 0)

    @precondition(lambda self: self.callers)
    @rule(data=st.data())
    def caller_goes(self, data: st.DataObject) -> None:
        """A caller is cancelled."""
        data.draw(st.sampled_from(self.callers)).cancel()
        self._spin()

    @precondition(lambda self: self.pending)
    @rule(data=st.data(), server=st.sampled_from([0, 1]))
    def server_evaluates(self, data: st.DataObject, server: int) -> None:
        """An API server takes longer, and works out the answer from what it knows now."""
        review = data.draw(st.sampled_from(self.pending))
        review.allowed = self._known_to(server, review)

    @precondition(lambda self: any(review.allowed is not None for review in self.pending))
    @rule(data=st.data())
    def server_answers(self, data: st.DataObject) -> None:
        """An answer arrives, perhaps long after it was worked out."""
        self._answer(data.draw(st.sampled_from([review for review in self.pending if review.allowed is not None])))

    @precondition(lambda self: self.pending)
    @rule(data=st.data())
    def server_fails(self, data: st.DataObject) -> None:
        """A review ends without an answer."""
        self._fail(data.draw(st.sampled_from(self.pending)))

    async def _caller(self, subject: Subject, asked: ResourceAttributes) -> None:
        began = self.clock.now
        try:
            answer = self.cache.review(subject, asked)
            review = answer if isinstance(answer, Review) else await answer
        except Unavailable:
            return
        whole = self.connected and self.connected_since <= began - WATCHED_WINDOW
        window = WATCHED_WINDOW if whole else UNWATCHED_WINDOW
        assert review.allowed in self._truth(subject, asked, began - window - 1e-6), (subject.user, asked.namespace)

    def _truth(self, subject: Subject, asked: ResourceAttributes, since: float) -> set[bool]:
        """Return every answer that was true at some moment since."""
        ends = [*(time for time, _ in self.history[1:]), self.clock.now]
        held = [state for (_, state), end in zip(self.history, ends, strict=True) if end >= since]
        return {allowed(state, subject, asked) for state in held}

    def _next_due(self) -> float:
        behind = [self.history[seen + 1][0] for seen in self.seen if seen + 1 < len(self.history)]
        dues = [time + LAG for time in behind] + [review.sent + DEADLINE for review in self.pending]
        if self.connected and self.events:
            dues.append(self.events[0][0] + DELAY)
        return min(dues, default=float("inf"))

    def _do_what_is_due(self) -> None:
        now = self.clock.now
        for server, seen in enumerate(self.seen):
            if seen + 1 < len(self.history) and self.history[seen + 1][0] + LAG <= now:
                self.server_catches_up(server)
        if self.connected and self.events and self.events[0][0] + DELAY <= now:
            self.event_arrives()
        for review in [review for review in self.pending if review.sent + DEADLINE <= now]:
            self._fail(review)

    def _known_to(self, server: int, review: Pending) -> bool:
        return allowed(self.history[self.seen[server]][1], review.subject, review.asked)

    def _answer(self, review: Pending) -> None:
        assert review.allowed is not None
        self.pending.remove(review)
        review.answer.set_result(Review(review.asked, review.allowed))
        self._spin()

    def _fail(self, review: Pending) -> None:
        self.pending.remove(review)
        review.answer.set_exception(UNREACHABLE)
        self._spin()

    def _spin(self) -> None:
        """Let every callback run, and look at the callers that are done."""
        for _ in range(4):
            self.loop.run_until_complete(asyncio.sleep(0))
        for caller in [caller for caller in self.callers if caller.done()]:
            self.callers.remove(caller)
            if not caller.cancelled():
                caller.result()


TestCluster = Cluster.TestCase
TestCluster.settings = settings(max_examples=300, stateful_step_count=50, deadline=None)
