"""A sample of requests, decided with all that was known, recorded, and decided again from the record alone."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from extauthz import document, policy
from extauthz.access import rbac
from extauthz.decision import Decision
from extauthz.demo.mesh import MANIFESTS
from extauthz.gateway import Gateway
from extauthz.loading import KEYS, LOOKUPS
from extauthz.observe.audit.form import build, encode
from extauthz.observe.audit.mask import Mask
from extauthz.policy import Policy, Rule
from extauthz.policytest.suite import Suite, request_of
from extauthz.replay import Change, Comparison, Judge
from extauthz.request import Request
from tests.cases import REPOSITORY

TESTS = REPOSITORY / "policies" / "tests"
FILES = ("tenants", "pipelines-v2beta1", "notebooks")
SHIPPED = REPOSITORY / "policies" / "kubeflow"


def edit(file: str, *changes: tuple[str, str]) -> Callable[[Path], None]:
    """Return what changes a file of a policy folder."""

    def change(folder: Path) -> None:
        text = (folder / file).read_text()
        for before, after in changes:
            assert before in text, before
            text = text.replace(before, after)
        (folder / file).write_text(text)

    return change


WHEN = "    when: identity.user != 'erin@example.com'\n"
LIST_RUNS = "    match: {methods: [GET], path: /apis/v2beta1/runs}\n"


def shadow(folder: Path) -> None:
    """Put everything in shadow."""
    (folder / "shadow.yaml").write_text("apiVersion: extauthz.dev/v1\nkind: Shadow\neverything: true\n")


def rights(folder: Path) -> None:
    """Ask for other rights, and for a condition."""
    edit("dataplanes.yaml", ("verb: update", "verb: get"))(folder)
    edit("pipelines-v2beta1.yaml", (LIST_RUNS, LIST_RUNS + WHEN), ("resource: pipelines", "resource: jobs"))(folder)


CHANGES: dict[str, Callable[[Path], None]] = {
    "rights": rights,
    "without groups": edit("pipelines-v2beta1.yaml", ("reviewAs: value:pipelines-review-as", "reviewAs: user")),
    "shadow": shadow,
}


def asked(suite: Suite, under: Policy) -> Iterator[tuple[Gateway, Request]]:
    """Yield every request of a file of tests with the gateway of everybody in it."""
    for identity in (None, *suite.model.identities.values()):
        gateway = suite.gateway(identity)
        gateway.policy = under
        yield from ((gateway, request_of(made)) for case in suite.model.tests for _, made, _ in case.matrix())


def decide(gateway: Gateway, request: Request) -> Decision:
    """Decide with everything at hand."""
    decision = gateway.decide(request)
    assert isinstance(decision, Decision)
    return decision


def expected(old: Decision, new: Decision) -> set[Change]:
    """What a comparison may say of two decisions that are known in full."""
    if old.allowed is not new.allowed:
        return {Change.NEWLY_ALLOWED if new.allowed else Change.NEWLY_REFUSED}
    told = [(decision.status, decision.reason, decision.rule and decision.rule.name) for decision in (old, new)]
    return {Change.UNCHANGED} if told[0] == told[1] else {Change.CHANGED}


@cache
def before() -> Policy:
    """Return the shipped policy."""
    return policy.load([SHIPPED], KEYS, LOOKUPS)


@cache
def suites() -> tuple[Suite, ...]:
    """Return the files of tests whose requests are decided again."""
    return tuple(Suite(document.read(TESTS / f"{file}.yaml")[0]) for file in FILES)


def record(gateway: Gateway, request: Request, decision: Decision) -> bytes:
    """Return the line that the audit log has of a decision."""
    rule = before().find(request)
    read = gateway.values_beside_target(rule, request, decision) if isinstance(rule, Rule) and decision.rule else {}
    return encode(build(request, decision, seconds=0.1, values=read, mask=Mask()))


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_found_is_what_the_gateway_decides(tmp_path: Path, change: str) -> None:
    """Each verdict equals a comparison of full decisions; what the record cannot tell is undecidable, not unchanged."""
    folder = tmp_path / "new"
    shutil.copytree(SHIPPED, folder)
    CHANGES[change](folder)
    after = policy.load([folder], KEYS, LOOKUPS)
    seen: dict[bool, Counter[Change]] = {True: Counter(), False: Counter()}
    evaluator = rbac.RbacAuthorizer(rbac.load([MANIFESTS]))
    for suite in suites():
        for gateway, request in asked(suite, before()):
            old = decide(gateway, request)
            line = record(gateway, request, old)
            gateway.policy = after
            new = decide(gateway, request)
            gateway.policy = before()
            for manifests, found in seen.items():
                known = evaluator if manifests else None
                comparison = Comparison(Judge(before(), known), Judge(after, known, recorded_by=before()))
                list(comparison.add([line]))
                (verdict,) = comparison.counts
                assert verdict in expected(old, new) | {Change.UNDECIDABLE}, (request.target, old, new)
                found[verdict] += 1
    assert seen[True][Change.UNDECIDABLE] < seen[True].total() / 2
    assert seen[True].keys() > {Change.UNDECIDABLE, Change.UNCHANGED}
    assert seen[False][Change.UNDECIDABLE] >= seen[True][Change.UNDECIDABLE]
