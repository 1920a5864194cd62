"""Requests of every kind, of which it is known who may make them."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import ClientError, ClientSession
from yarl import URL

from extauthz.demo.scenario import tokens
from tests.chaos.mesh import ChaosMesh
from tests.integration.cluster import runs
from tests.integration.load import OpenLoop
from tests.issuer import rsa_key
from tests.oauth2proxy import COOKIE

USERS = ("alice", "bob", "mallory")
TEAMS = ("a", "b")
NEVER = frozenset({"forged", "unknown key", "unknown id"})
"""Kinds of requests that nobody may make."""
TOLD = frozenset({200, 400, 401, 403, 429, 503})
"""Statuses that a client may see; 0 is a connection that Envoy did not take."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request and what became of it. `sent` is on the monotonic clock, in seconds."""

    number: int
    kind: str
    who: str
    team: str
    sent: float
    status: int

    @property
    def passed(self) -> bool:
        return self.status == 200


class Mixed(OpenLoop):
    """Lists that are remembered, rights never asked before, ids, fresh tokens, sessions and forgeries.

    `entitled` tells whether a user has the rights of a team's owner; the load calls it
    before a request is sent, and again when it is answered.
    """

    per_second = 100  # most of them are the expensive kind: nothing of them is remembered

    def __init__(self, mesh: ChaosMesh, session: ClientSession, entitled: Callable[[str, str], bool]) -> None:
        super().__init__()
        self.asked: list[Asked] = []
        self.wrong: list[Asked] = []
        """What passed though its user had not the right, neither when it was sent nor when it was answered."""
        self._mesh = mesh
        self._session = session
        self._entitled = entitled
        self._tokens = tokens(mesh.signer)
        self._forger = rsa_key("chaos-forger")

    def since(self, number: int) -> list[Asked]:
        """Return what became of the requests from `number` on."""
        return [asked for asked in self.asked if asked.number >= number]

    async def ask(self, number: int) -> None:
        """Send request number `number`."""
        kinds = list(self._KINDS)
        kind = kinds[number % len(kinds)]
        # Counted by rounds of kinds, so that every kind meets every user and team.
        who, team = USERS[number // len(kinds) % 3], TEAMS[number // len(kinds) // 3 % 2]
        path, headers = self._KINDS[kind](self, number, who, team)
        before, sent = self._entitled(who, team), time.monotonic()
        status = await self._status(path, headers, mode="grpc" if number % 2 else "http")
        self.note(Asked(number, kind, who, team, sent, status), may=before or self._entitled(who, team))

    def note(self, asked: Asked, *, may: bool) -> None:
        """Keep what became of a request of a user who may pass, with a good credential, or may not."""
        self.asked.append(asked)
        if asked.passed and not (may and asked.kind not in NEVER):
            self.wrong.append(asked)

    async def _status(self, path: str, headers: dict[str, str], *, mode: str) -> int:
        url = self._mesh.envoy.grpc_url if mode == "grpc" else self._mesh.envoy.http_url
        try:
            async with self._session.get(URL(url + path, encoded=True), headers=headers) as response:
                await response.read()
                return response.status
        except (ClientError, OSError, TimeoutError, asyncio.IncompleteReadError):
            return 0

    def _bearer(self, token: str) -> dict[str, str]:
        return {"authorization": f"Bearer {token}"}

    def _list(self, number: int, who: str, team: str) -> tuple[str, dict[str, str]]:
        return runs(team), self._bearer(self._tokens[who])

    def _new(self, number: int, who: str, team: str) -> tuple[str, dict[str, str]]:
        return f"/notebook/team-{team}/nb-{number}/", self._bearer(self._tokens[who])

    def _id(self, number: int, who: str, team: str) -> tuple[str, dict[str, str]]:
        return f"/pipeline/apis/v2beta1/runs/first-{team}", self._bearer(self._tokens[who])

    def _unknown_id(self, number: int, who: str, team: str) -> tuple[str, dict[str, str]]:
        return f"/pipeline/apis/v2beta1/runs/none-{number}", self._bearer(self._tokens[who])

    def _fresh(self, number: int, who: str, team: str) -> tuple[str, dict[str, str]]:
        token = self._mesh.signer.sign(f"{who}@example.com", [f"of-{number}"])
        return runs(team), self._bearer(token)

    def _session_of(self, number: int, who: str, team: str) -> tuple[str, dict[str, str]]:
        self._mesh.sessions.sessions[f"s{number}"] = self._tokens[who]
        self._mesh.sessions.sessions.pop(f"s{number - 10_000}", None)
        return runs(team), {"cookie": f"{COOKIE}=s{number}"}

    def _forged(self, number: int, who: str, team: str) -> tuple[str, dict[str, str]]:
        return runs(team), self._bearer(self._signed_by_forger(number, who, self._mesh.signer.jwk["kid"]))

    def _unknown_key(self, number: int, who: str, team: str) -> tuple[str, dict[str, str]]:
        return runs(team), self._bearer(self._signed_by_forger(number, who, f"k{number}"))

    def _signed_by_forger(self, number: int, who: str, key_id: str) -> str:
        _, payload, _ = self._tokens[who].split(".")
        header = json.dumps({"alg": "RS256", "kid": key_id, "typ": "JWT"}).encode()
        text = base64.urlsafe_b64encode(header).rstrip(b"=") + b"." + payload.encode()
        signature = base64.urlsafe_b64encode(self._forger.sign(text)).rstrip(b"=")
        return (text + b"." + signature).decode()

    _KINDS = {
        "list": _list,
        "new right": _new,
        "id": _id,
        "unknown id": _unknown_id,
        "fresh token": _fresh,
        "session": _session_of,
        "forged": _forged,
        "unknown key": _unknown_key,
    }
