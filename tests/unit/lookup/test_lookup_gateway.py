"""Rules that look things up: what is reviewed, and that no answer tells more than a denial."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from extauthz.decision import Decision, Outcome, Reason
from extauthz.edge.reply import PLAIN
from extauthz.errors import Unavailable
from extauthz.found import Found
from extauthz.gateway import Gateway
from extauthz.review import Attributes, ResourceAttributes, Review
from extauthz.subject import Subject
from tests.cases import ALICE, BOB, Named, policy_of, request
from tests.cases import gateway as build
from tests.unit.lookup.desk import desk

OWN = {
    "alice@example.com": ("team-a",),
    "bob@example.com": ("team-b",),
    "root@example.com": ("team-a", "team-b", "kubeflow"),
}
KNOWN: dict[tuple[str, str], Found] = {
    ("run", "run-a"): Found("team-a", "wf-a"),
    ("run", "run-b"): Found("team-b", "wf-b"),
    ("run", "run-odd"): Found("team-a", "odd * name"),
    ("experiment", "exp-a"): Found("team-a", "exp"),
    ("experiment", "exp-b"): Found("team-b", "exp"),
    ("pipeline", "pipe-a"): Found("team-a", "pipe"),
    ("pipeline", "pipe-b"): Found("team-b", "pipe"),
    ("pipeline", "pipe-shared"): Found("", "common"),
}
RUN = "- name: run\n  match: {path: '/runs/{id}'}\n  access:\n  - {verb: get, resource: runs, "


@dataclass
class Rights:
    """An authorizer that grants each user everything in the own namespaces, and remembers the questions."""

    asked: list[ResourceAttributes] = field(default_factory=list)

    def review(self, subject: Subject, attributes: Attributes) -> Review:
        assert isinstance(attributes, ResourceAttributes)
        self.asked.append(attributes)
        return Review(attributes, attributes.namespace in OWN[subject.user])


@dataclass
class Table:
    """A lookup over a table, at once or when the event is set."""

    open: asyncio.Event | None = None
    asked: list[tuple[str, str]] = field(default_factory=list)
    known: Mapping[tuple[str, str], Found] = field(default_factory=lambda: KNOWN)

    def namespace(self, kind: str, id: str, user: str) -> Found | Awaitable[Found | None] | None:  # noqa: A002
        self.asked.append((kind, id))
        found = self.known.get((kind, id))
        return found if self.open is None else asyncio.ensure_future(self._later(found, self.open))

    async def _later(self, found: Found | None, open_: asyncio.Event) -> Found | None:
        await open_.wait()
        return found


@dataclass
class House:
    """A gateway for each user over the same rules."""

    tmp_path: Path
    rules: str
    lookup: Any = field(default_factory=Table)
    rights: Rights = field(default_factory=Rights)

    def gateway(self, user: str) -> Gateway:
        policy = policy_of(self.tmp_path, self.rules)
        return build(policy=policy, authenticator=Named(user), authorizer=self.rights, lookup=self.lookup)

    async def decide(self, target: str, user: str = ALICE, **rest: Any) -> Decision:
        answer = self.gateway(user).decide(request(rest.pop("method", "GET"), target, **rest))
        return answer if isinstance(answer, Decision) else await answer


def seen(decision: Decision) -> Decision:
    """What a caller could see of a decision: everything but the reviews, which are for the log."""
    return replace(decision, reviews=())


async def test_the_namespace_of_an_id_is_reviewed(tmp_path: Path) -> None:
    """One lookup serves namespace and name."""
    house = House(tmp_path, RUN + "namespace: 'lookup:run:path:id', name: 'lookup:run.name:path:id'}\n")
    assert (await house.decide("/runs/run-a")).allowed
    assert house.rights.asked == [ResourceAttributes("get", resource="runs", namespace="team-a", name="wf-a")]
    assert house.lookup.asked == [("run", "run-a")]


async def test_answers_in_memory_are_decided_without_waiting(tmp_path: Path) -> None:
    """The cached path stays synchronous."""
    house = House(tmp_path, RUN + "namespace: 'lookup:run:path:id'}\n")
    assert isinstance(house.gateway(ALICE).decide(request("GET", "/runs/run-a")), Decision)


async def test_a_name_that_does_not_fit_asks_for_all_names(tmp_path: Path) -> None:
    """Another user chose it: it must neither refuse the request nor reach a review."""
    house = House(tmp_path, RUN + "namespace: 'lookup:run:path:id', name: 'lookup:run.name:path:id'}\n")
    assert (await house.decide("/runs/run-odd")).allowed
    assert house.rights.asked[0].name == ""


async def test_nobody_causes_a_lookup_without_a_name(tmp_path: Path) -> None:
    """An anonymous flood asks KFP nothing."""
    house = House(tmp_path, RUN + "namespace: 'lookup:run:path:id'}\n")
    assert (await house.decide("/runs/run-a", "")).status == 401
    assert house.lookup.asked == []


SHAPES = [
    ("namespace: 'lookup:run:path:id'", ""),
    ("namespace: 'lookup:run:path:id', name: 'lookup:run.name:path:id'", ""),
    ("namespace: ['lookup:run:path:id', 'query:namespace?']", ""),
    ("namespace: ['lookup:run:path:id', 'query:namespace?']", "?namespace=team-a"),
    ("namespace: ['lookup:run:path:id', 'query:namespace?']", "?namespace=team-b"),
    ("namespace: ['query:namespace?', 'lookup:run:path:id']", "?namespace=team-b"),
    ("namespace: ['lookup:run:path:id', 'query:namespace']", ""),
    ("namespace: ['lookup:run:path:id', 'query:namespace']", "?namespace=%25"),
    ("namespace: ['lookup:run:path:id', 'query:namespace']", "?namespace=UP"),
    ("namespace: ['lookup:run:path:id', 'query:a?', 'query:b?']", "?a=team-a&b=team-b"),
    ("namespace: ['lookup:run:path:id', 'query:a?', 'query:b']", "?a=team-a"),
    ("namespace: 'lookup:run:path:id', name: 'query:name'", ""),
    ("namespace: 'lookup:run:path:id', name: 'query:name'", "?name=a*"),
    ("namespace: ['lookup:run:path:id', 'lookup:experiment:query:e']", ""),
    ("namespace: ['lookup:run:path:id', 'lookup:experiment:query:e']", "?e=exp-a"),
    ("namespace: ['lookup:run:path:id', 'lookup:experiment:query:e']", "?e=exp-b"),
    ("namespace: ['lookup:experiment:query:e', 'lookup:run:path:id']", "?e=unknown"),
    ("namespace: 'lookup:run:path:id', ifPresent: 'query:never'}\n  - {verb: get, resource: x", ""),
    ("namespace: 'lookup:run:path:id'}\n  - {verb: get, resource: x, namespace: 'query:namespace'", ""),
    (
        "namespace: 'lookup:run:path:id'}\n  - {verb: get, resource: x, namespace: 'query:namespace'",
        "?namespace=team-a",
    ),
    (
        "namespace: 'query:namespace'}\n  - {verb: get, resource: x, namespace: 'lookup:run:path:id'",
        "?namespace=team-a",
    ),
    (
        "namespace: 'query:namespace'}\n  - {verb: get, resource: x, namespace: 'lookup:run:path:id'",
        "?namespace=team-b",
    ),
    (
        "namespace: 'lookup:experiment:query:e'}\n  - {verb: get, resource: x, namespace: 'lookup:run:path:id'",
        "?e=exp-b",
    ),
    (
        "namespace: 'lookup:experiment:query:e'}\n  - {verb: get, resource: x, namespace: 'lookup:run:path:id'",
        "?e=exp-a",
    ),
]


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize(("check", "query"), SHAPES)
async def test_an_unknown_object_and_another_tenants_look_alike(
    tmp_path: Path, check: str, query: str, later: bool
) -> None:
    """Whatever else the request says, right or wrong: the answers are equal to the byte, in both edges' words."""
    open_ = asyncio.Event() if later else None
    if open_:
        open_.set()
    house = House(tmp_path, RUN + check + "}\n", lookup=Table(open_))
    foreign = await house.decide(f"/runs/run-b{query}")
    unknown = await house.decide(f"/runs/run-0{query}")
    assert seen(foreign) == seen(unknown)
    assert foreign.outcome is Outcome.DENY
    assert "team-b" not in foreign.message or "team-b" in query
    for accept in ("text/html", "application/json"):
        asked = request("GET", "/runs/x", accept=accept)
        assert PLAIN.reply(foreign, asked) == PLAIN.reply(unknown, asked)


async def test_the_one_wording_of_such_a_refusal(tmp_path: Path) -> None:
    """It names user, verb and resource, and leaves the namespace open."""
    house = House(tmp_path, RUN + "group: g, namespace: 'lookup:run:path:id'}\n")
    for run in ("run-b", "none"):
        decision = await house.decide(f"/runs/{run}")
        assert (decision.status, decision.reason) == (403, Reason.FORBIDDEN)
        assert decision.message == (
            'User "alice@example.com" cannot get resource "runs" in API group "g" '
            "in the namespace of this object, or there is no such object"
        )
    assert [review.reason for review in decision.reviews] == ["no such object"]


async def test_a_clients_namespace_never_wins_over_what_the_id_says(tmp_path: Path) -> None:
    """Neither first nor last in the list, neither as own nor as foreign namespace."""
    for sources in itertools.permutations(["lookup:experiment:query:experiment_id?", "query:namespace?"]):
        rules = (
            "- name: list\n  match: {path: /runs}\n  access:\n"
            f"  - {{verb: list, resource: runs, namespace: {list(sources)}}}\n"
        )
        house = House(tmp_path, rules)
        for query, status in {
            "experiment_id=exp-a": 200,
            "experimentId=exp-a": 200,
            "experiment_id=exp-a&namespace=team-a": 200,
            "namespace=team-a": 200,
            "experiment_id=&namespace=team-a": 200,
            "experiment_id=exp-b": 403,
            "experiment_id=exp-b&namespace=team-a": 403,
            "experiment_id=exp-a&namespace=team-b": 403,
            "experiment_id=none&namespace=team-a": 403,
            "namespace=team-b": 403,
            "": 400,
            "experiment_id=": 400,
        }.items():
            assert (await house.decide(f"/runs?{query}")).status == status, query


@pytest.mark.parametrize("words", ["authenticated", "refuse", "all-namespaces"])
async def test_no_request_can_say_the_words_of_the_policy(tmp_path: Path, words: str) -> None:
    """A namespace that is called like a word of the policy is a namespace."""
    rules = (
        "- name: list\n  match: {path: /pipelines}\n  access:\n"
        "  - {verb: list, resource: pipelines, namespace: query:namespace, absentNamespace: authenticated}\n"
    )
    house = House(tmp_path, rules)
    assert (await house.decide(f"/pipelines?namespace={words}")).status == 403
    assert house.rights.asked[0].namespace == words
    absent = await house.decide("/pipelines")
    assert absent.allowed
    assert (absent.reviews[0].allowed, absent.reviews[0].reason) == (True, "open to everybody who is logged in")
    assert (await house.decide("/pipelines", "")).status == 401
    assert len(house.rights.asked) == 1


PIPELINE = "- name: pipe\n  match: {path: '/p/{id}'}\n  access:\n  - {verb: get, resource: pipelines, "


@pytest.mark.parametrize(
    ("word", "statuses"),
    [("", (403, 403)), (", sharedNamespace: authenticated", (200, 200)), (", sharedNamespace: kubeflow", (403, 200))],
)
async def test_what_shared_means_is_the_policys_to_say(tmp_path: Path, word: str, statuses: tuple[int, int]) -> None:
    """Refused by default; open to all who are logged in; or with rights in a named namespace."""
    house = House(tmp_path, PIPELINE + f"namespace: 'lookup:pipeline:path:id'{word}}}\n")
    for user, status in zip((ALICE, "root@example.com"), statuses, strict=True):
        assert (await house.decide("/p/pipe-shared", user)).status == status
    assert (await house.decide("/p/pipe-shared", "")).status == 401
    assert {asked.namespace for asked in house.rights.asked} == ({"kubeflow"} if "kubeflow" in word else set())
    assert (await house.decide("/p/pipe-a", ALICE)).status == 200
    assert (await house.decide("/p/pipe-a", BOB)).status == 403


async def test_shared_and_a_namespace_do_not_agree(tmp_path: Path) -> None:
    """A client that names its own namespace gets no shared pipeline through it."""
    check = "namespace: ['lookup:pipeline:path:id', 'query:namespace?'], sharedNamespace: authenticated"
    house = House(tmp_path, PIPELINE + check + "}\n")
    assert (await house.decide("/p/pipe-shared")).status == 200
    assert (await house.decide("/p/pipe-shared?namespace=team-a")).status == 403


CREATE = """
- name: create
  match: {path: /runs, methods: [POST]}
  forbid: ['body:/run_id', 'body:/recurring_run_id']
  access:
  - {verb: create, resource: runs, namespace: 'lookup:experiment:body:/experiment_id'}
  - verb: get
    resource: pipelines
    namespace: lookup:pipeline:body:/pipeline_version_reference/pipeline_id
    sharedNamespace: authenticated
    ifPresent: body:/pipeline_version_reference/pipeline_id
  - verb: use
    resource: serviceaccounts
    namespace: lookup:experiment:body:/experiment_id
    name: body:/service_account
    ifPresent: body:/service_account
"""


@pytest.mark.parametrize(
    ("body", "status", "reviewed"),
    [
        ('{"experiment_id": "exp-a"}', 200, 1),
        ('{"experimentId": "exp-a"}', 200, 1),
        ('{"experiment_id": "exp-b"}', 403, 1),
        ('{"experiment_id": "none"}', 403, 0),
        ('{"experiment_id": ""}', 400, 0),
        ("{}", 400, 0),
        ('{"experiment_id": "exp-a", "run_id": "x"}', 403, 0),
        ('{"experiment_id": "exp-a", "recurringRunId": "x"}', 403, 0),
        ('{"experiment_id": "exp-a", "pipeline_version_reference": {"pipeline_id": "pipe-a"}}', 200, 2),
        ('{"experiment_id": "exp-a", "pipelineVersionReference": {"pipelineId": "pipe-b"}}', 403, 2),
        ('{"experiment_id": "exp-a", "pipeline_version_reference": {"pipeline_id": "pipe-shared"}}', 200, 1),
        ('{"experiment_id": "exp-a", "pipeline_version_reference": {"pipeline_id": "none"}}', 403, 1),
        ('{"experiment_id": "exp-a", "pipeline_version_reference": {"pipeline_id": ""}}', 200, 1),
        ('{"experiment_id": "exp-a", "pipeline_version_reference": {"pipeline_id": " "}}', 403, 1),
        ('{"experiment_id": "exp-a", "service_account": "default-editor"}', 200, 2),
        ('{"experiment_id": "exp-a", "service_account": 5}', 400, 0),
    ],
)
async def test_a_create_asks_for_each_object_that_it_touches(
    tmp_path: Path, body: str, status: int, reviewed: int
) -> None:
    """Experiment always, pipeline and service account where they are named."""
    house = House(tmp_path, CREATE)
    assert (await house.decide("/runs", method="POST", body=body.encode())).status == status
    assert len(house.rights.asked) == reviewed


async def test_lookups_of_several_checks_are_under_way_together(tmp_path: Path) -> None:
    """Each object is asked for once, and all before the first answer is there."""
    table = Table(asyncio.Event())
    house = House(tmp_path, CREATE, lookup=table)
    body = (
        b'{"experiment_id": "exp-a", "service_account": "s", "pipeline_version_reference": {"pipeline_id": "pipe-a"}}'
    )
    answer = house.gateway(ALICE).decide(request("POST", "/runs", body=body))
    assert not isinstance(answer, Decision)
    assert table.asked == [("experiment", "exp-a"), ("pipeline", "pipe-a")]
    assert table.open is not None
    table.open.set()
    assert (await answer).allowed
    assert len(table.asked) == 2


async def test_a_fault_of_the_request_ends_the_flow_before_its_lookups(tmp_path: Path) -> None:
    """Nobody waits for an answer that cannot help."""
    check = "namespace: 'lookup:run:path:id'}\n  - {verb: get, resource: x, namespace: 'query:namespace'"
    table = AlreadyAsked()
    house = House(tmp_path, RUN + check + "}\n", lookup=table)
    answer = house.gateway(ALICE).decide(request("GET", "/runs/run-a"))
    assert isinstance(answer, Decision)
    assert answer.status == 400


class AlreadyAsked:
    """A lookup whose answer never comes."""

    def namespace(self, kind: str, id: str, user: str) -> Awaitable[Found | None]:  # noqa: A002
        return asyncio.get_running_loop().create_future()


@pytest.mark.parametrize("later", [False, True])
async def test_a_lookup_without_an_answer_is_503_for_everybody(tmp_path: Path, later: bool) -> None:
    """Known, unknown, own or foreign: the back end is down."""

    class Down:
        def namespace(self, kind: str, id: str, user: str) -> Awaitable[Found | None]:  # noqa: A002
            if later:
                return self._fail()
            raise Unavailable("lookup_unavailable", "down", retry_after=3)

        async def _fail(self) -> Found | None:
            raise Unavailable("lookup_unavailable", "down", retry_after=3)

    house = House(tmp_path, RUN + "namespace: 'lookup:run:path:id'}\n", lookup=Down())
    for run in ("run-a", "run-b", "none"):
        decision = await house.decide(f"/runs/{run}")
        assert (decision.outcome, decision.status, decision.retry_after) == (Outcome.ERROR, 503, 3)
    assert house.rights.asked == []


async def test_without_anybody_to_ask_nothing_is_allowed(tmp_path: Path) -> None:
    """A policy that got past the loader still fails closed."""
    house = House(tmp_path, RUN + "namespace: 'lookup:run:path:id'}\n", lookup=None)
    decision = await house.decide("/runs/run-a")
    assert (decision.status, decision.reason) == (503, "lookup_missing")


async def test_a_shadow_rule_lets_an_unknown_object_pass_and_says_so(tmp_path: Path) -> None:
    """Shadow is about rights, and this is one; a back end that is down still refuses."""
    rules = RUN + "namespace: 'lookup:run:path:id'}\n  enforce: shadow\n"
    assert (await House(tmp_path, rules).decide("/runs/none")).reason == Reason.SHADOW
    assert (await House(tmp_path, rules, lookup=None).decide("/runs/run-a")).status == 503


async def test_what_sources_read_is_shown_as_far_as_it_is_in_memory(tmp_path: Path) -> None:
    """`extauthz check` explains without asking anybody."""
    rules = (
        RUN + "namespace: 'lookup:run:path:id', ifPresent: 'query:x'}\n"
        "  - {verb: get, path: /m, ifPresent: 'path:id'}\n  - {verb: get, path: /n}\n"
    )
    house = House(tmp_path, rules)
    asked = request("GET", "/runs/run-a")
    gateway = house.gateway(ALICE)
    (rule,) = gateway.policy.rules
    read = {item["source"]: item["value"] for item in gateway.values(rule, asked, None)}
    assert read["lookup:run:path:id"] == "team-a"
    assert read["query:x"] is None
    gateway.lookup = AlreadyAsked()
    assert {item["source"]: item["value"] for item in gateway.values(rule, asked, None)}["lookup:run:path:id"] is None
    assert {item["value"] for item in rule.values(asked, None) if item["attribute"] == "namespace"} == {None}


async def test_through_the_wire_unknown_and_foreign_are_one(tmp_path: Path) -> None:
    """The same with the real lookup, cold and warm, for every kind of object."""
    async with desk(tmp_path) as at:
        kinds: dict[str, Callable[[str], str]] = {
            "run": at.kfp.run,
            "experiment": at.kfp.experiment,
            "job": at.kfp.recurring_run,
            "pipeline": at.kfp.pipeline,
        }
        for kind, make in kinds.items():
            check = f"namespace: 'lookup:{kind}:path:id', name: 'lookup:{kind}.name:path:id'"
            house = House(tmp_path, RUN + check + "}\n", lookup=at.lookup)
            own, foreign = make("team-a"), make("team-b")
            for _ in range(2):
                assert (await house.decide(f"/runs/{own}")).allowed
                decisions = [await house.decide(f"/runs/{run}") for run in (foreign, "none", foreign.upper(), "a:b")]
                assert all(seen(decision) == seen(decisions[0]) for decision in decisions)
                assert decisions[0].status == 403
