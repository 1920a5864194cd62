"""A file of policy tests, loaded and run.

Every identity makes every request, so whoever is not expected to pass is proven not to.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from extauthz import document, policy
from extauthz.access import rbac
from extauthz.decision import Decision
from extauthz.document import Document
from extauthz.errors import ConfigurationError, Problem
from extauthz.found import Found
from extauthz.gateway import Gateway
from extauthz.identity.serviceaccount import groups_of
from extauthz.loading import KEYS, LOOKUPS
from extauthz.lookup.artifact import namespace_of_key, run_of_key
from extauthz.policy import files
from extauthz.policytest import expect
from extauthz.policytest.model import NOBODY, IdentityModel, ObjectModel, PolicyTestModel, RequestModel
from extauthz.request import Body, Request, read
from extauthz.settings import ResponseSettings
from extauthz.subject import Subject


@dataclass(frozen=True, slots=True)
class Result:
    """How one request of one identity was decided. `problem` says what is wrong, or is empty."""

    file: Path
    line: int
    case: str
    identity: str
    decision: Decision
    problem: str = ""
    request: str = ""
    """The name of the request, where the case has several."""

    @property
    def who(self) -> str:
        """Who made which request."""
        return f"{self.identity} ({self.request})" if self.request else self.identity


@dataclass(frozen=True, slots=True)
class _Known:
    """An authenticator for one subject, or none; and the lookup of a table."""

    subject: Subject | None
    objects: Mapping[str, Mapping[str, Found]]

    def authenticate(self, request: Request) -> Subject | Awaitable[Subject | None] | None:
        return self.subject

    def namespace(self, kind: str, id: str, user: str) -> Found | Awaitable[Found | None] | None:  # noqa: A002  # the APIs' own word
        if kind != "artifact_key":
            return self.objects.get(kind, {}).get(id)
        namespace, run = namespace_of_key(id), run_of_key(id)
        return Found(namespace) if namespace else self.objects.get("run", {}).get(run or "")


class Suite:
    """One file of tests, ready to run."""

    def __init__(self, part: Document) -> None:
        """Load the policy and the manifests that the tests name. Raises ConfigurationError."""
        self.file = part.file
        self.model = part.validate(PolicyTestModel)
        self.policies = self.model.resolved(part.file, self.model.policies)
        model = self.model
        self.policy = policy.load(
            self.policies, KEYS, LOOKUPS, placement=model.placement, hosts=model.hosts, values=model.values
        )
        self._part = part
        manifests = self.model.resolved(part.file, self.model.manifests)
        self._authorizer = rbac.RbacAuthorizer(rbac.load(manifests) if manifests else rbac.RbacStore())
        if problems := list(self._strangers()):
            raise ConfigurationError(*problems)

    def run(self) -> Iterator[Result]:
        """Make every request in every identity's name."""
        gateways = {name: self.gateway(identity) for name, identity in self.model.identities.items()}
        gateways[NOBODY] = self.gateway(None)
        for index, case in enumerate(self.model.tests):
            line, _ = self._part.position(("tests", index))
            for label, model, passing in case.matrix():
                request = request_of(model)
                for name, gateway in gateways.items():
                    decision = cast("Decision", gateway.decide(request))  # nothing here has to be awaited
                    wrong = expect.problem(case, decision, passes=name in passing)
                    yield Result(self.file, line, case.name, name, decision, wrong, label)

    def gateway(self, identity: IdentityModel | None) -> Gateway:
        """Return the gateway as somebody meets it; None is nobody."""
        known = _Known(_subject(identity), _objects(self.model.lookups))
        return Gateway(
            policy=self.policy,
            authenticator=known,
            authorizer=self._authorizer,
            response=ResponseSettings(),
            lookup=known,
        )

    def _strangers(self) -> Iterator[Problem]:
        """Find expectations of somebody whom the file does not know."""
        known = {*self.model.identities, NOBODY}
        for index, case in enumerate(self.model.tests):
            for place, name in enumerate(case.allow):
                if name not in known:
                    hint = document.near(name, known) or f"the identities are {', '.join(sorted(known))}"
                    at = name if isinstance(case.allow, dict) else place
                    yield self._part.problem(("tests", index, "allow", at), f"unknown identity {name!r}", hint)
            for name, requests in case.allow.items() if isinstance(case.allow, dict) else ():
                for place, request in enumerate(requests):
                    if request not in (case.requests or {}):
                        hint = document.near(request, case.requests or {})
                        where = ("tests", index, "allow", name, place)
                        yield self._part.problem(where, f"unknown request {request!r}", hint)
        for kind in self.model.lookups:
            if kind not in LOOKUPS:
                yield self._part.problem(("lookups", kind), f"unknown kind {kind!r}", document.near(kind, LOOKUPS))
        if NOBODY in self.model.identities:
            yield self._part.problem(("identities", NOBODY), f"{NOBODY!r} is who sends no credential")


def load(paths: Sequence[Path]) -> list[Suite]:
    """Load every PolicyTest of files and folders; other files are left alone. Raises ConfigurationError."""
    suites: list[Suite] = []
    problems: list[Problem] = []
    for file in files.find(paths):
        try:
            suites += [Suite(part) for part in document.read(file) if _is_test(part)]
        except ConfigurationError as error:
            problems += error.problems
    if problems:
        raise ConfigurationError(*dict.fromkeys(problems))
    if not suites:
        raise ConfigurationError(Problem("no file of kind PolicyTest", next(iter(paths), None)))
    return suites


def named(paths: Sequence[Path]) -> set[Path]:
    """Return the files and folders on which tests depend, as far as they can be read."""
    found = set(paths)
    with contextlib.suppress(ConfigurationError):
        parts = (part for file in files.find(paths) for part in document.read(file) if _is_test(part))
        for part in parts:
            model = part.validate(PolicyTestModel)
            found.update(model.resolved(part.file, [*model.policies, *model.manifests]))
    return {path for path in found if path.exists()}


def _is_test(part: Document) -> bool:
    """Whether a document is one of tests."""
    return isinstance(part.data, dict) and part.data.get("kind") == "PolicyTest"


def _subject(identity: IdentityModel | None) -> Subject | None:
    if identity is None:
        return None
    groups = (*identity.groups, *groups_of(identity.user))
    return Subject.authenticated(identity.user, groups, authenticator="test", claims=identity.claims)


def _objects(lookups: Mapping[str, Mapping[str, str | ObjectModel]]) -> dict[str, dict[str, Found]]:
    return {kind: {key: _found(told) for key, told in table.items()} for kind, table in lookups.items()}


def _found(told: str | ObjectModel) -> Found:
    return Found(told) if isinstance(told, str) else Found(told.namespace, told.name)


def request_of(model: RequestModel) -> Request:
    """Return the request that a test describes, as an edge would have read it."""
    body = model.body
    content = b"" if body is None else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    headers = {name.lower(): value for name, value in model.headers.items()}
    return read(method=model.method, target=model.path, headers=headers, host=model.host, body=Body(content))
