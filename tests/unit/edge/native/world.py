"""A gateway with everything behind it that can change, on clocks that a test moves."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path

from envoy.service.auth.v3 import external_auth_pb2

from extauthz.access.cache import CachedAuthorizer
from extauthz.access.generations import Generations
from extauthz.edge import check
from extauthz.edge.http_service import Checks
from extauthz.edge.native.grpc import GrpcApplication
from extauthz.edge.native.health import Health
from extauthz.edge.native.http import Http1Application
from extauthz.edge.native.http1 import Response as Http1Response
from extauthz.edge.native.requests import BadRequest, Http1Limits, RequestReader
from extauthz.edge.reply import PLAIN
from extauthz.gateway import Gateway
from extauthz.identity import Authenticators
from extauthz.policy import Policy
from extauthz.request import Request
from extauthz.review import Attributes, ResourceAttributes, Review
from extauthz.settings import ResponseSettings, ReviewCacheSettings
from extauthz.settings.identity import Identity
from extauthz.subject import Subject
from tests.issuer import NOW, Clock, Issuer, SigningKey

LIMIT = 64
PRINCIPAL = "spiffe://cluster.local/ns/team-a/sa/robot"
CACHE = ReviewCacheSettings(
    allow_seconds=60, deny_seconds=10, settling_seconds=1, ttl_without_watch_seconds=5, max_entries=3
)


@dataclass
class Raw:
    """A request as a client sends it; `lines` are its header lines."""

    method: str
    target: str
    lines: list[tuple[str, str]]
    content: bytes = b""
    peer: str = ""

    @property
    def message(self) -> bytes:
        """The check that Envoy makes of it: names in lower case, duplicates joined."""
        asked = external_auth_pb2.CheckRequest()
        http = asked.attributes.request.http
        http.method, http.path, http.host = self.method, self.target, "kubeflow.example"
        http.raw_body = self.content
        asked.attributes.source.principal = self.peer
        for name, value in self.lines:
            key = name.lower()
            http.headers[key] = f"{http.headers[key]},{value}" if key in http.headers else value
        return bytes(asked.SerializeToString())

    @property
    def bytes(self) -> bytes:
        """The same in HTTP/1.1."""
        lines = [f"{self.method} {self.target} HTTP/1.1", "host: kubeflow.example"]
        lines += (f"{name}: {value}" for name, value in self.lines)
        return "\r\n".join([*lines, "", ""]).encode() + self.content


class World:
    """What decisions rest on: clocks, keys, rights, the watch and the policy."""

    def __init__(self, folder: Path, policy: Policy) -> None:
        self.wall, self.monotonic = Clock(NOW), Clock(0)
        self.rights: set[tuple[str, str]] = set()
        self.generations = Generations(self.monotonic)
        self.generations.watched = True
        self.issuer = Issuer()
        self._folder = folder
        self.publish(*self.issuer.keys)
        keys = {"file": "keys.json"}
        jwt = {"issuer": self.issuer.name, "audiences": [self.issuer.audience], "keys": keys}
        identity = Identity.model_validate(
            {"jwt": [jwt], "peer": {"principals": [PRINCIPAL]}, "maxCachedTokens": 2, "maxCacheSeconds": 600}
        )
        self.authenticator = Authenticators(
            identity, resolve=folder.joinpath, clock=self.wall, monotonic=self.monotonic
        )
        self.gateway = Gateway(
            policy=policy,
            authenticator=self.authenticator,
            authorizer=CachedAuthorizer(self, CACHE, self.generations, clock=self.monotonic, wall=self.wall),
            response=ResponseSettings(),
        )
        self.grpc = GrpcApplication(self.gateway, Health(("",)), PLAIN, max_body_bytes=LIMIT)
        self.http1 = Http1Application(self.gateway, PLAIN, Checks("", LIMIT), LIMIT)

    async def review(self, subject: Subject, attributes: Attributes) -> Review:
        """Be the API server."""
        assert isinstance(attributes, ResourceAttributes)
        return Review(attributes, (subject.user, attributes.namespace) in self.rights)

    def publish(self, *keys: SigningKey) -> None:
        """Let the issuer sign with other keys."""
        self.issuer.keys = list(keys)
        (self._folder / "keys.json").write_bytes(self.issuer.jwks())

    def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        self.wall.now += seconds
        self.monotonic.now += seconds

    async def over_grpc(self, raw: Raw) -> None:
        """Ask with the memory, then judge anew: the answers must not differ."""
        asked = check.decoded(raw.message)
        key = self.grpc._checks._keys.of(asked)
        recalled = None if key is None else self.grpc._checks.recall(key, "", never)
        judged = self.grpc._checks.decide(check.decoded(raw.message))
        if recalled is not None:
            assert not inspect.isawaitable(judged), "recalled what was not in memory"
        full = await judged if inspect.isawaitable(judged) else judged
        if recalled is not None:
            assert (recalled.headers, recalled.data) == (full.headers, full.data)

    async def over_http1(self, raw: Raw) -> None:
        """Do the same in HTTP/1.1."""
        recalled = self.http1.recall(raw.bytes)
        judged = await self._judged(raw.bytes, at_once=recalled is not None)
        if recalled is not None:
            assert judged is not None, "recalled what is no request"
            assert recalled.whole == judged.whole

    async def _judged(self, head: bytes, *, at_once: bool) -> Http1Response | None:
        reader = RequestReader(Http1Limits(), LIMIT)
        try:
            reader.feed(head)
        except BadRequest:
            return None
        if len(reader.ready) != 1 or reader.ready[0] is None:
            return None
        answer = self.http1.answer(reader.ready[0])
        assert not (at_once and inspect.isawaitable(answer)), "recalled what was not in memory"
        return await answer if inspect.isawaitable(answer) else answer


def never() -> Request:
    """Be nobody who wants to read the request."""
    raise AssertionError("the request is read")
