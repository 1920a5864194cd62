"""The law of the memory: it never gives an answer that deciding anew would not give at that moment.

Requests of every kind are asked at random between random changes of all that decisions rest on:
time, rights with and without their event, the watch, the policy and the issuer's keys.
"""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from extauthz import policy
from extauthz.request.spelling import header_spellings
from tests.issuer import NOW, Issuer, rsa_key
from tests.unit.edge.native.world import PRINCIPAL, Raw, World

RULES = """apiVersion: extauthz.dev/v1
kind: Policy
rules:
- name: runs
  match: {methods: [GET, POST], path: /runs}
  access: [{verb: list, group: g, resource: runs, namespace: query:namespace}]
- name: by-header
  match: {methods: [GET], path: /by-header}
  access: [{verb: get, group: g, resource: things, namespace: header:x-team}]
- name: public
  match: {methods: [GET], path: /public}
  allow: public
- name: authenticated
  match: {methods: [GET, POST], path: /me}
  allow: authenticated
  removeCookies: [session]
- name: forbidding
  match: {methods: [GET], path: /strict}
  forbid: ["header:x-other"]
  access: [{verb: get, group: g, resource: things, namespace: team-a}]
"""
OTHER_RULES = RULES.replace("namespace: query:namespace", "namespace: header:x-space").replace("[GET, POST]", "[GET]")

KEYS = [rsa_key("key-1"), rsa_key("key-2")]
ISSUER = Issuer()
TOKENS = [
    *(Issuer(keys=[key]).token(sub=user) for key in KEYS for user in ("alice", "bob")),
    ISSUER.token(sub="alice", exp=NOW + 20),
    ISSUER.token(aud="other"),
    "garbage",
]
CREDENTIALS = [*(f"Bearer {token}" for token in TOKENS), f"Bearer {TOKENS[0]},Bearer {TOKENS[1]}", "Basic YTpi"]
USERS = ["alice", "bob", "system:serviceaccount:team-a:robot"]
TEAMS = ["team-a", "team-b"]
NAMES = [
    *header_spellings("x-http-method-override"),
    *("x-team", "x_team", "X-Team", "x-space", "content-type", "content-length", "transfer-encoding", "connection"),
    *("x-envoy-auth-partial-body", "kubeflow-userid", "kubeflow_userid", "cookie", "x-request-id", "x-other", "expect"),
    *(":path", ":method", "host", "upgrade", "authorization"),
]
VALUES = [
    *TEAMS,
    *("0", "4", "close", "chunked", "false", "DELETE", "application/x-www-form-urlencoded", "a,b", "", "x\r\n folded"),
    *("session=1; theme=2", "/runs", "GET", "websocket", "100-continue", "\u00e9", "x\nbare: 1", *CREDENTIALS[:2]),
]
LINES = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)), max_size=3)
TARGETS = [
    *(f"/runs?namespace={team}" for team in TEAMS),
    *(
        "/runs",
        "/runs?namespace=team-a&namespace=team-b",
        "/by-header",
        "/public",
        "/me",
        "/strict",
        "/ME",
        "/nowhere",
        "//me",
    ),
]
CONTENTS = [b"{}", b"\r\n\r\n", b"0\r\n\r\n", b"GET /public HTTP/1.1\r\nhost: x\r\n\r\n"]


SOUND = [
    *(Raw("GET", target, [("authorization", credential)]) for target in TARGETS[:2] for credential in CREDENTIALS[:5]),
    Raw("GET", "/by-header", [("authorization", CREDENTIALS[0]), ("x-team", "team-a")]),
    Raw("GET", "/strict", [("authorization", CREDENTIALS[0])]),
    Raw("GET", "/runs?namespace=team-a", [], peer=PRINCIPAL),
    Raw("GET", "/public", []),
    Raw("GET", "/me", [("authorization", CREDENTIALS[1]), ("cookie", "session=1; theme=2")]),
    Raw("POST", "/me", [("authorization", CREDENTIALS[1]), ("content-length", "0")]),
]
"""Requests that are allowed until something changes."""


@st.composite
def requests(draw: st.DrawFn) -> Raw:
    """A sound request, or one that differs from it in one way."""
    raw = draw(st.sampled_from(SOUND))
    changes: dict[str, Any] = {
        "lines": st.sampled_from([0, len(raw.lines)]).flatmap(
            lambda at: LINES.map(lambda lines: [*raw.lines[:at], *lines, *raw.lines[at:]])
        ),
        "method": st.sampled_from(["GET", "POST", "HEAD", "get", "TRACE"]),
        "target": st.sampled_from(TARGETS),
        "content": st.sampled_from(CONTENTS),
        "peer": st.sampled_from(["", PRINCIPAL]),
    }
    name = draw(st.sampled_from(["", "", "lines", "lines", "lines", "method", "target", "content", "peer"]))
    return replace(raw, **{name: draw(changes[name])}) if name else raw


class Memories(RuleBasedStateMachine):
    """Both edges, each held against itself without its memory."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.policies = [self._policy("first", RULES), self._policy("second", OTHER_RULES)]
        self.runner = asyncio.Runner()
        self.world = self.runner.run(self._world())
        self.asked: list[Raw] = []

    def _policy(self, name: str, text: str) -> policy.Policy:
        file = Path(self.folder.name) / f"{name}.yaml"
        file.write_text(text)
        return policy.load([file], {})

    async def _world(self) -> World:
        world = World(Path(self.folder.name), self.policies[0])
        world.rights |= {(user, team) for user in USERS for team in TEAMS}
        return world

    @rule(raw=requests())
    def ask(self, raw: Raw) -> None:
        """Ask something until it may be remembered."""
        self.asked = [*self.asked[-8:], raw]
        for _ in range(3):
            self._ask(raw)

    @rule(seconds=st.sampled_from([0.5, 1, 3, 9, 25, 100, 700, 4000]))
    def pass_time(self, seconds: float) -> None:
        """Answers, tokens and keys grow old."""
        self.world.pass_time(seconds)

    @rule(user=st.sampled_from(USERS), team=st.sampled_from(TEAMS), told=st.booleans())
    def change_rights(self, user: str, team: str, told: bool) -> None:
        """A right comes or goes; another authorizer's change comes with no event."""
        self.world.rights ^= {(user, team)}
        if told:
            self.world.generations.raise_for([("Namespace", team)])

    @rule(scope=st.sampled_from([("User", "alice"), ("Group", "system:authenticated"), ("Namespace", "elsewhere")]))
    def see_an_event(self, scope: tuple[str, str]) -> None:
        """Something changes that may or may not matter."""
        self.world.generations.raise_for([scope])

    @rule(watched=st.booleans(), answering=st.booleans())
    def change_the_watch(self, watched: bool, answering: bool) -> None:
        """The watch breaks or comes back, and so does the API server."""
        self.world.generations.watched = watched
        self.world.generations.tell_answering(answering)

    @rule(which=st.integers(0, 1))
    def change_the_policy(self, which: int) -> None:
        """The policy is loaded anew."""
        self.world.gateway.policy = self.policies[which]

    @rule(keys=st.sampled_from([KEYS[:1], KEYS[1:], KEYS]))
    def rotate_keys(self, keys: list[Any]) -> None:
        """The issuer's keys are others, and are fetched."""
        self.world.publish(*keys)
        self.world.pass_time(400)
        self.runner.run(self.world.authenticator.tokens._stores[0].renew())

    @invariant()
    def all_that_was_asked_is_answered_alike(self) -> None:
        """What was asked lately is asked again after each change."""
        for raw in self.asked[-5:]:
            self._ask(raw)

    def teardown(self) -> None:
        self.runner.close()
        self.folder.cleanup()

    def _ask(self, raw: Raw) -> None:
        self.runner.run(self.world.over_grpc(raw))
        if raw.content == b"" or raw.content.endswith(b"\r\n\r\n"):
            self.runner.run(self.world.over_http1(raw))


Memories.TestCase.settings = settings(max_examples=12, stateful_step_count=20, deadline=None)
test_memories = Memories.TestCase
