"""The one flow: request → rule → identity → rights → decision.

The steps are handed in; nothing here reads a global. When all answers are in memory the flow
runs through without a coroutine; when one is missing it is awaited and the flow starts over
with that answer in hand, on the policy it began with.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Hashable, Sequence
from typing import cast

from extauthz.basis import ALWAYS, Basis, NotedHeaders, joined
from extauthz.decision import Decision, Outcome, Reason, RuleRef, cannot, failed
from extauthz.errors import ExtauthzError, Refused, Unavailable
from extauthz.found import Found
from extauthz.policy import Answer, Asked, Missing, Rule, Waiting
from extauthz.request import Request
from extauthz.request.faults import refusal
from extauthz.review import MissingRight, NonResourceAttributes, ResourceAttributes, Review
from extauthz.steps import Steps
from extauthz.subject import Subject

_logger = logging.getLogger(__name__)


Missed = dict[Hashable, Awaitable[object]]
_Reviewed = Sequence[tuple[Asked, Review]]

_SHADOWED = frozenset({Reason.FORBIDDEN, Reason.CONDITION_FALSE})
"""What a rule in shadow lets pass where no other rule covers the request."""


class Flow:
    """The state of one decision. `answers` keeps what was awaited, so that no question is put twice."""

    __slots__ = (
        *("answers", "beside", "in_force", "looked_up", "missed", "policy", "request", "rule", "steps", "subject"),
    )

    def __init__(self, steps: Steps, request: Request) -> None:
        self.steps = steps
        self.in_force = steps.in_force
        self.policy = self.in_force.policy
        self.request = request
        self.looked_up = False
        self.rule: Rule | None = None
        self.beside: Rule | None = None
        self.subject: Subject | None = None
        self.answers: dict[Hashable, object] = {}
        self.missed: Missed = {}

    def step(self) -> Decision | Missed:
        """Go as far as the answers in memory reach."""
        self.missed = {}
        try:
            decided = self._run()
            if isinstance(decided, Decision) and decided.in_shadow:
                # Users choose parts of the message.
                _logger.warning("shadow: %s would refuse: %r", decided.rule, decided.message)
        except Waiting:
            return self.missed
        except ExtauthzError as error:
            return self._failed(error)
        except Exception:
            _logger.exception("a decision failed; the request is refused")
            return self._failed(Unavailable(Reason.INTERNAL_ERROR, "The request could not be checked."))
        return decided

    async def finish(self, missed: Missed) -> Decision:
        """Await what is missing, then go on, until there is a decision or no time is left."""
        try:
            async with asyncio.timeout(self.steps.deadline_seconds):
                step: Decision | Missed = missed
                while not isinstance(step, Decision):
                    async with asyncio.timeout(self.steps.together_seconds if _are_several_reviews(step) else None):
                        answers = await asyncio.gather(*step.values())
                    self.answers.update(zip(step, answers, strict=True))
                    step = self.step()
                return step
        except ExtauthzError as error:
            return self._failed(error)
        except TimeoutError:
            return self._failed(Unavailable(Reason.DEADLINE, "The request could not be checked in time."))
        except Exception:
            _logger.exception("a decision failed; the request is refused")
            return self._failed(Unavailable(Reason.INTERNAL_ERROR, "The request could not be checked."))

    def look_up(self, kind: str, identifier: str) -> Found | None:
        """Return what is known of an object. Raises Waiting where that must be awaited first, Unavailable."""
        key = (kind, identifier)
        self.looked_up = True
        if key not in self.answers:
            if self.steps.lookup is None:
                raise Unavailable(
                    "lookup_missing", "The owner of an object could not be found out: nobody can be asked."
                )
            if key in self.missed:
                raise Waiting
            answer = self.steps.lookup.namespace(kind, identifier, self.subject.user if self.subject else "")
            if not (answer is None or isinstance(answer, Found)):
                self.missed[key] = answer
                raise Waiting
            self.answers[key] = answer
        return cast("Found | None", self.answers[key])

    def _run(self) -> Decision | Missed:
        rule = self._find_rule()
        return self._behind(rule) if rule.shadow else self._decide_by(rule)

    def _behind(self, rule: Rule) -> Decision | Missed:
        """Decide as if a rule in shadow were not there, and tell what it would have refused.

        Where no other rule covers the request it passes; what cannot be read, who is not
        known and what is broken is refused all the same.
        """
        self.beside = rule
        try:
            if fault := rule.fault(self.request):
                raise refusal(fault)
            would = self._decide_by(rule)
        except Refused as error:
            would = self._failed(error)
        if not isinstance(would, Decision) or would.outcome not in (Outcome.ALLOW, Outcome.DENY):
            return would
        other = self.policy.enforced.find(self.request)
        if isinstance(other, Missing):
            if other.fault:
                raise refusal(other.fault)
            return self._in_shadow(would) if would.reason in _SHADOWED else would
        self.rule = other
        if fault := other.fault(self.request):
            raise refusal(fault)
        decided = self._decide_by(other)
        if not isinstance(decided, Decision) or not decided.allowed or (would.allowed and not would.in_shadow):
            return decided
        self.rule, self.beside = rule, other
        return self._in_shadow(would, decided.reviews)

    def _in_shadow(self, would: Decision, further: tuple[Review, ...] = ()) -> Decision:
        return self._allow(Reason.SHADOW, would.message, (*would.reviews, *further))

    def _decide_by(self, rule: Rule) -> Decision | Missed:
        if rule.answer is Answer.PUBLIC:
            self.policy.asked(rule, self.request, None)
            return self._judge(rule, None, Reason.PUBLIC, "The rule lets everybody pass.")
        if rule.answer is Answer.DENY:
            return self._refuse(Outcome.DENY, 403, Reason.DENIED_BY_RULE, rule.message)
        if missed := self._authenticate():
            return missed
        if self.subject is None:
            return self._refuse(Outcome.UNAUTHENTICATED, 401, Reason.NO_CREDENTIAL, "Log in: no credential was sent.")
        if rule.answer is Answer.AUTHENTICATED:
            self.policy.asked(rule, self.request, self.subject)
            return self._judge(
                rule, self.subject, Reason.AUTHENTICATED, "The rule lets everybody pass who is logged in."
            )
        return self._review(rule, self.subject)

    def _find_rule(self) -> Rule:
        request = self.request
        found = self.policy.find(request)
        if isinstance(found, Missing):
            fault = request.faults[0][0] if request.faults else found.fault
            if fault:
                raise refusal(fault)
            raise Refused(Reason.NO_RULE, found.sentence(request.method), status=403)
        self.rule = found
        if request.faults and not found.shadow and (fault := found.fault(request)):
            raise refusal(fault)
        return found

    def _authenticate(self) -> Missed | None:
        if "subject" in self.answers:
            self.subject = cast("Subject | None", self.answers["subject"])
            return None
        answer = self.steps.authenticator.authenticate(self.request)
        if answer is None or isinstance(answer, Subject):
            self.subject = answer
            return None
        return {"subject": answer}

    def _review(self, rule: Rule, subject: Subject) -> Decision | Missed:
        reviewed: list[tuple[Asked, Review]] = []
        missed: Missed = {}
        asker = subject.alone() if rule.user_only else subject
        for asked in self.policy.asked(rule, self.request, subject, self.look_up):
            answer = self._ask(asker, asked)
            if isinstance(answer, Review):
                reviewed.append((asked, answer))
            else:
                missed[asked.attributes] = cast("Awaitable[object]", answer)
        if missed:
            return missed
        if not reviewed:
            return self._refuse(Outcome.DENY, 403, Reason.FORBIDDEN, "The rule asks for no right.")
        return self._judge(rule, subject, Reason.ALLOWED, "Every right that the rule asks for is granted.", reviewed)

    def _ask(self, subject: Subject, asked: Asked) -> Review | object:
        if asked.verdict is not None:
            return Review(asked.attributes, asked.verdict, asked.why, ground=ALWAYS)
        return self.answers.get(asked.attributes) or self.steps.authorizer.review(subject, asked.attributes)

    def _judge(
        self, rule: Rule, subject: Subject | None, reason: Reason, message: str, reviewed: _Reviewed = ()
    ) -> Decision:
        """Allow for a reason, unless a right is missing or the rule's condition is false."""
        permitted = rule.condition is None or rule.permits(self.request, subject)
        reviews = tuple(review for _, review in reviewed)
        refused = next((asked for asked, review in reviewed if review.allowed is not True), None)
        if refused is None and permitted:
            return self._allow(reason, message, reviews)
        missing = MissingRight.of(refused.attributes, hidden=refused.hidden) if refused else None
        reason, message = Reason.CONDITION_FALSE, "The condition of the rule is not fulfilled."
        if missing and subject:
            reason, message = Reason.FORBIDDEN, cannot(subject, missing)
        decision = self._refuse(Outcome.DENY, 403, reason, message, reviews, missing)
        return self._in_shadow(decision) if self.policy.shadow.covers(reviews) else decision

    def _allow(self, reason: str, message: str, reviews: tuple[Review, ...] = ()) -> Decision:
        headers, remove = self.steps.identity_headers.of(self.subject, self.request.headers)
        withheld = self.rule.withheld if self.rule else None
        if self.beside and self.beside.withheld:
            # What a rule in shadow takes off is taken off, whoever decides.
            withheld = self.beside.withheld.joined(withheld)
        if withheld:
            kept, gone = withheld.of(self.request)
            headers = (*(pair for pair in headers if pair[0] not in gone), *kept)
            remove = tuple(dict.fromkeys((*remove, *gone)))
        basis = None if reason == Reason.SHADOW else self._basis(reviews)
        return Decision(
            Outcome.ALLOW,
            200,
            reason,
            message,
            self._ref(),
            self.subject,
            reviews,
            headers=headers,
            remove=remove,
            basis=basis,
        )

    def _basis(self, reviews: tuple[Review, ...]) -> Basis | None:
        """Return what an allow rests on; None where some of it is not known, or was not noted."""
        headers = self.request.headers
        if not isinstance(headers, NotedHeaders) or self.looked_up or self.beside is not None:
            return None
        grounds = [review.ground for review in reviews]
        if self.subject is not None:
            grounds.append(self.subject.ground)
        known = joined(grounds)
        return None if known is None else headers.basis((self.in_force, *known))

    def _refuse(
        self,
        outcome: Outcome,
        status: int,
        reason: str,
        message: str,
        reviews: tuple[Review, ...] = (),
        missing: MissingRight | None = None,
    ) -> Decision:
        return Decision(outcome, status, reason, message, self._ref(), self.subject, reviews, missing=missing)

    def _failed(self, error: ExtauthzError) -> Decision:
        return failed(error, rule=self._ref(), subject=self.subject)

    def _ref(self) -> RuleRef | None:
        return self.rule.ref if self.rule else None


def _are_several_reviews(missed: Missed) -> bool:
    return len(missed) > 1 and all(isinstance(key, ResourceAttributes | NonResourceAttributes) for key in missed)


def unknown(kind: str, identifier: str) -> Found | None:
    """Know nothing of any object. Raises Waiting."""
    raise Waiting
