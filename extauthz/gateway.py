"""The one flow: request → rule → identity → rights → decision.

Every edge and every command calls `Gateway.decide`, so they cannot disagree. The steps are
handed in; nothing here reads a global. When all answers are in memory the flow runs through
without a coroutine; when one is missing it is awaited and the flow starts over with that
answer in hand, on the policy it began with.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Hashable
from typing import Protocol, cast

from extauthz.decision import Decision, Outcome, Reason, RuleRef
from extauthz.errors import CredentialError, ExtauthzError, Refused, Unavailable
from extauthz.faults import refusal
from extauthz.found import Found
from extauthz.headers import IdentityHeaders
from extauthz.policy import Answer, Asked, Missing, Policy, Rule, Waiting
from extauthz.request import Request
from extauthz.review import Attributes, MissingRight, NonResourceAttributes, Review
from extauthz.settings import ResponseSettings
from extauthz.subject import Subject

_logger = logging.getLogger(__name__)


class Authenticator(Protocol):
    """Finds out who asks."""

    def authenticate(self, request: Request) -> Subject | Awaitable[Subject | None] | None:
        """Return the subject, or None without a credential. Raises CredentialError, Unavailable."""
        ...


class Authorizer(Protocol):
    """Finds out whether a subject has a right."""

    def review(self, subject: Subject, attributes: Attributes) -> Review | Awaitable[Review]:
        """Return the review. Raises Unavailable."""
        ...


class NamespaceLookup(Protocol):
    """Finds out to which namespace an object belongs that a request names only by its id."""

    def namespace(self, kind: str, id: str, user: str) -> Found | Awaitable[Found | None] | None:  # noqa: A002  # the APIs' own word
        """Return what is known of an object, None where there is none. Raises Unavailable.

        `user` is for whom it is asked, so that nobody can hold up the others.
        An awaitable may be left alone: another fault of the request may end the flow first.
        """
        ...


class Gateway:
    """Decides requests. Replace `policy` to reload it; a decision under way keeps the one it began with."""

    def __init__(
        self,
        *,
        policy: Policy,
        authenticator: Authenticator,
        authorizer: Authorizer,
        response: ResponseSettings,
        lookup: NamespaceLookup | None = None,
        deadline_seconds: float = 1.8,
    ) -> None:
        self.deadline_seconds = deadline_seconds
        self.lookup = lookup
        self.policy = policy
        self.authenticator = authenticator
        self.authorizer = authorizer
        self.identity_headers = IdentityHeaders(response)

    def decide(self, request: Request) -> Decision | Awaitable[Decision]:
        """Decide a request; the answer is awaitable only where something had to be asked for. Never raises."""
        flow = _Flow(self, request)
        step = flow.step()
        return step if isinstance(step, Decision) else flow.finish(step)

    def refuse(self, error: ExtauthzError) -> Decision:
        """Decide a check that no request could be read from, or that failed beside the flow."""
        return failed(error)

    def values(self, rule: Rule, request: Request, subject: Subject | None) -> list[dict[str, str | None]]:
        """Return every source of a rule and what it reads, as far as that is in memory."""
        return rule.values(request, subject, _Flow(self, request).look_up)

    def values_beside_target(self, rule: Rule, request: Request, decision: Decision) -> dict[str, str | None]:
        """Return what a decision's rule read that method, host and target do not tell; nobody is asked."""
        # Reviews were asked once every lookup was answered, so those answers are at hand.
        look_up = _Flow(self, request).look_up if decision.reviews else _unknown
        return rule.beside_target(request, decision.subject, look_up)


Missed = dict[Hashable, Awaitable[object]]


class _Flow:
    """The state of one decision. `answers` keeps what was awaited, so that no question is put twice."""

    __slots__ = ("answers", "gateway", "missed", "policy", "request", "rule", "subject")

    def __init__(self, gateway: Gateway, request: Request) -> None:
        self.gateway = gateway
        self.policy = gateway.policy
        self.request = request
        self.rule: Rule | None = None
        self.subject: Subject | None = None
        self.answers: dict[Hashable, object] = {}
        self.missed: Missed = {}

    def step(self) -> Decision | Missed:
        """Go as far as the answers in memory reach."""
        self.missed = {}
        try:
            return self._run()
        except Waiting:
            return self.missed
        except ExtauthzError as error:
            return self._failed(error)
        except Exception:
            _logger.exception("a decision failed; the request is refused")
            return self._failed(Unavailable(Reason.INTERNAL_ERROR, "The request could not be checked."))

    async def finish(self, missed: Missed) -> Decision:
        """Await what is missing, then go on, until there is a decision or no time is left."""
        try:
            async with asyncio.timeout(self.gateway.deadline_seconds):
                step: Decision | Missed = missed
                while not isinstance(step, Decision):
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
        if key not in self.answers:
            if self.gateway.lookup is None:
                raise Unavailable(
                    "lookup_missing", "The owner of an object could not be found out: nobody can be asked."
                )
            if key in self.missed:
                raise Waiting
            answer = self.gateway.lookup.namespace(kind, identifier, self.subject.user if self.subject else "")
            if not (answer is None or isinstance(answer, Found)):
                self.missed[key] = answer
                raise Waiting
            self.answers[key] = answer
        return cast("Found | None", self.answers[key])

    def _run(self) -> Decision | Missed:
        rule = self._find_rule()
        if rule.answer is Answer.PUBLIC:
            self.policy.asked(rule, self.request, None)
            return self._allow(Reason.PUBLIC, "The rule lets everybody pass.")
        if rule.answer is Answer.DENY:
            return self._refuse(Outcome.DENY, 403, Reason.DENIED_BY_RULE, rule.message)
        if missed := self._authenticate():
            return missed
        if self.subject is None:
            return self._refuse(Outcome.UNAUTHENTICATED, 401, Reason.NO_CREDENTIAL, "Log in: no credential was sent.")
        if rule.answer is Answer.AUTHENTICATED:
            self.policy.asked(rule, self.request, self.subject)
            return self._allow(Reason.AUTHENTICATED, "The rule lets everybody pass who is logged in.")
        return self._review(rule, self.subject)

    def _find_rule(self) -> Rule:
        request = self.request
        found = self.policy.find(request)
        if isinstance(found, Missing):
            fault = request.faults[0][0] if request.faults else found.fault
            if fault:
                raise refusal(fault)
            raise Refused(Reason.NO_RULE, _no_rule(request, found), status=403)
        self.rule = found
        if request.faults and (fault := found.fault(request)):
            raise refusal(fault)
        return found

    def _authenticate(self) -> Missed | None:
        if "subject" in self.answers:
            self.subject = cast("Subject | None", self.answers["subject"])
            return None
        answer = self.gateway.authenticator.authenticate(self.request)
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
        return missed or self._judge(rule, subject, reviewed)

    def _ask(self, subject: Subject, asked: Asked) -> Review | object:
        if asked.verdict is not None:
            return Review(asked.attributes, asked.verdict, asked.why)
        return self.answers.get(asked.attributes) or self.gateway.authorizer.review(subject, asked.attributes)

    def _judge(self, rule: Rule, subject: Subject, reviewed: list[tuple[Asked, Review]]) -> Decision:
        reviews = tuple(review for _, review in reviewed)
        refused = next((asked for asked, review in reviewed if review.allowed is not True), None)
        if refused is None and reviews:
            return self._allow(Reason.ALLOWED, "Every right that the rule asks for is granted.", reviews)
        missing = MissingRight.of(refused.attributes, hidden=refused.hidden) if refused else None
        message = cannot(subject, missing) if missing else "The rule asks for no right."
        if rule.shadow:
            _logger.warning("shadow rule %s would refuse: %r", rule.ref, message)  # users choose parts of it
            return self._allow(Reason.SHADOW, message, reviews)
        return self._refuse(Outcome.DENY, 403, Reason.FORBIDDEN, message, reviews, missing)

    def _allow(self, reason: str, message: str, reviews: tuple[Review, ...] = ()) -> Decision:
        headers, remove = self.gateway.identity_headers.of(self.subject)
        if self.rule is not None and self.rule.withheld:
            kept, gone = self.rule.withheld.of(self.request)
            headers = (*(pair for pair in headers if pair[0] not in gone), *kept)
            remove = tuple(dict.fromkeys((*remove, *gone)))
        return Decision(
            Outcome.ALLOW, 200, reason, message, self._ref(), self.subject, reviews, headers=headers, remove=remove
        )

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


def _unknown(kind: str, identifier: str) -> Found | None:
    raise Waiting


def failed(error: ExtauthzError, *, rule: RuleRef | None = None, subject: Subject | None = None) -> Decision:
    """Return the decision that an error becomes: the one table from errors to outcomes."""
    if isinstance(error, Refused):
        return Decision(Outcome.DENY, error.status, error.reason, error.message, rule, subject)
    if isinstance(error, CredentialError):
        return Decision(Outcome.UNAUTHENTICATED, 401, error.reason, error.message, rule, login=error.login)
    if isinstance(error, Unavailable):
        reason, message, after = error.reason, error.message, error.retry_after
        return Decision(Outcome.ERROR, 503, reason, message, rule, subject, retry_after=after)
    return Decision(Outcome.ERROR, 503, Reason.INTERNAL_ERROR, "The request could not be checked.", rule, subject)


def cannot(subject: Subject, missing: MissingRight) -> str:
    """Say which right is missing, in the words of kube-apiserver's own refusals, but for what is hidden."""
    attributes = missing.attributes
    if isinstance(attributes, NonResourceAttributes):
        return f'User "{subject.user}" cannot {attributes.verb} path "{attributes.path}"'
    resource = "/".join(filter(None, (attributes.resource, attributes.subresource)))
    scope = f'in the namespace "{attributes.namespace}"' if attributes.namespace else "at the cluster scope"
    if missing.hidden:
        scope = "in the namespace of this object, or there is no such object"
    return (
        f'User "{subject.user}" cannot {attributes.verb} resource "{resource}" '
        f'in API group "{attributes.group}" {scope}'
    )


def _no_rule(request: Request, missing: Missing) -> str:
    if missing.methods:
        return f"No rule of the policy lets {request.method} pass on this path."
    return "No rule of the policy covers this path."
