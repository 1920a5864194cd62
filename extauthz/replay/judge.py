"""One policy, and rights, that recorded requests are put to: by the gateway that serves.

Promises: a request is decided only where all that the policy's rule reads is known from the
record; else it is undecidable, and never taken for unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

from extauthz.decision import Decision
from extauthz.errors import Refused, Unavailable
from extauthz.found import Found
from extauthz.gateway import Gateway
from extauthz.observe.audit.mask import MASK
from extauthz.policy import Answer, Missing, Policy, Rule
from extauthz.policy.rule import nobody
from extauthz.policy.sources import LookedUp, Reading
from extauthz.replay.record import Recorded, is_plain_pointer
from extauthz.request import Request
from extauthz.request.faults import Fault
from extauthz.review import Attributes, Review
from extauthz.settings import ResponseSettings
from extauthz.steps import Authorizer
from extauthz.subject import Subject

UNDECIDABLE = "undecidable"
"""The reason of a decision that the record does not suffice for; its message says what is missing."""

_PLAIN = ("path:", "query:", "host:")
_BODILESS = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})


class _Unknown(Unavailable):
    def __init__(self, what: str) -> None:
        super().__init__(UNDECIDABLE, what)


@dataclass(slots=True)
class _Desk:
    """Who asks, which rights there are and what objects are, as far as one record tells."""

    rights: Authorizer | None
    recorded: Recorded | None = None
    objects: dict[tuple[str, str], Found] = field(default_factory=dict)
    alone: bool = False
    """Whether the recorded reviews were asked by the user's name alone."""

    def authenticate(self, request: Request) -> Subject | None:
        recorded = self._told()
        if recorded.subject is None and not recorded.anonymous:
            raise _Unknown("who asked is not in the record")
        return recorded.subject

    def review(self, subject: Subject, attributes: Attributes) -> Review:
        if self.rights is not None:
            return cast("Review", self.rights.review(subject, attributes))  # manifests never have to wait
        recorded = self._told()
        as_recorded = recorded.subject and (recorded.subject.alone() if self.alone else recorded.subject)
        if attributes not in recorded.reviews or subject != as_recorded:
            raise _Unknown("the right that the rule asks for is not in the record; name --manifests")
        return Review(attributes, recorded.reviews[attributes])

    def namespace(self, kind: str, id: str, user: str) -> Found:  # noqa: A002  # the APIs' own word
        found = self.objects.get((kind, id))
        if found is None:
            raise _Unknown(f"the namespace of the {kind} is not in the record")
        return found

    def _told(self) -> Recorded:
        if self.recorded is None:
            raise _Unknown("nothing is recorded")
        return self.recorded


class Judge:
    """Decides recorded requests.

    Without `rights` the reviews are those of the record; `recorded_by` is the policy that made
    it, which tells in whose name they were asked.
    """

    def __init__(self, policy: Policy, rights: Authorizer | None = None, *, recorded_by: Policy | None = None) -> None:
        self.policy = policy
        self._recorded_by = recorded_by or policy
        self._desk = _Desk(rights)
        self._gateway = Gateway(
            policy=policy,
            authenticator=self._desk,
            authorizer=self._desk,
            response=ResponseSettings(),
            lookup=self._desk,
        )

    @property
    def cookies(self) -> frozenset[str]:
        """The cookies that some rule keeps from the upstream, by the start of their names."""
        return frozenset(name for rule in self.policy.rules if rule.withheld for name in rule.withheld.cookies)

    def decide(self, recorded: Recorded) -> Decision:
        """Decide a recorded request; reason `undecidable` where the record does not tell enough."""
        desk, request = self._desk, recorded.request
        if recorded.cut:
            return self._gateway.refuse(_Unknown(f"the {recorded.cut} is cut in the record"))
        asked = self._recorded_by.find(request)
        desk.recorded, desk.objects = recorded, {}
        desk.alone = isinstance(asked, Rule) and asked.user_only
        try:
            for rule in self._rules(request):
                desk.objects |= _objects(rule, recorded)
        except _Unknown as error:
            return self._gateway.refuse(error)
        except Refused:
            pass  # the gateway comes to the same
        return cast("Decision", self._gateway.decide(request))  # nothing here has to be awaited

    def _rules(self, request: Request) -> Iterator[Rule]:
        """Yield the rules that read the request: one, or one in shadow and the one that decides."""
        for routes in (self.policy, self.policy.enforced):
            found = routes.find(request)
            if isinstance(found, Missing) or found.fault(request):
                return
            if found.answer is not Answer.DENY:
                yield found
            if not found.shadow:
                return


def _objects(rule: Rule, recorded: Recorded) -> dict[tuple[str, str], Found]:
    """Return the objects that a rule looks up, as far as the record knows them. Raises Unavailable."""
    if Fault.FORM_BODY in rule.tolerated and recorded.request.method not in _BODILESS:
        raise _Unknown("whether the body is a form is not in the record")
    reading = Reading(recorded.request, recorded.subject, nobody)
    absent = set()
    found: dict[tuple[str, str], Found] = {}
    for bound in rule.bounds():
        if not isinstance(bound.source, LookedUp):
            continue
        text, source = bound.text.removesuffix("?"), bound.source
        identifier = source.inner.read(reading) if _inner(text).startswith(_PLAIN) else ""
        told = recorded.values.get(text)
        if identifier is None:
            absent.add(text)  # nothing is looked up
        elif told is not None:
            known = found.get((source.kind, identifier), Found(""))
            found[source.kind, identifier] = Found(known.namespace, told) if source.named else Found(told, known.name)
    for text, _ in rule.reads():
        if text not in absent:
            _must_be_known(text, recorded)
    return found


def _must_be_known(text: str, recorded: Recorded) -> None:
    """Raise Unavailable where the record does not tell what a source of a rule reads."""
    kind, inner = text.partition(":")[0], _inner(text)
    if inner.startswith("path:") and MASK in recorded.request.path:
        raise _Unknown("a part of the path is masked in the record")
    if inner.startswith("query:") and MASK in recorded.request.target:
        raise _Unknown("a parameter is masked in the record")
    plain = inner.startswith(_PLAIN)
    read_again = plain and kind != "lookup"
    told = text in recorded.values and kind != "key" and (plain or inner == text)
    if not read_again and not (told and (kind != "body" or is_plain_pointer(text))):
        raise _Unknown(f"{text} is not in the record")


def _inner(text: str) -> str:
    """Return the source that stands inside a key or a lookup; another one stands for itself."""
    kind, _, rest = text.partition(":")
    return rest.partition(":")[2] if kind in ("key", "lookup") else text
