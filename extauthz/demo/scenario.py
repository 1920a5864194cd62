"""What the demo shows: requests, what each must be answered, and what the upstream may see of it.

The same table is printed as curl lines and, with `--verify`, sent through Envoy in both modes.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import ClientSession
from yarl import URL

if TYPE_CHECKING:
    from extauthz.demo.issuer import Signer
    from extauthz.demo.mesh import DemoMesh

TOKEN_SECONDS = 12 * 3600
_EXPIRED = "expired"
_DOMAIN = "example.com"
_GROUPS = {"frank": ("data-auditors",)}
_USERS = ("alice", "bob", "carol", "dave", "erin", "frank", "admin", "mallory")

_RUNS = "/pipeline/apis/v2beta1/runs"
_EXPERIMENTS = "/pipeline/apis/v2beta1/experiments"
_NOTEBOOK = "/notebook/team-a/nb/"


@dataclass(frozen=True, slots=True)
class Case:
    """One request and its answer.

    `who` is the short name of a user, `expired` for alice with a token of yesterday, or
    None for a request without a token. `upstream` names headers and the one value that
    the upstream must see of each; None means that it must not see the header at all.
    """

    name: str
    who: str | None
    method: str
    path: str
    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: Mapping[str, Any] | None = None
    upstream: Mapping[str, str | None] = field(default_factory=dict)


def _runs(team: str) -> str:
    return f"{_RUNS}?namespace=team-{team}"


def _artifact(prefix: str, namespace: str) -> str:
    key = f"private-artifacts/{prefix}/run-1/model.bin"
    return f"/pipeline/artifacts/get?source=minio&bucket=mlpipeline&key={key}&namespace={namespace}"


def _experiment(team: str) -> dict[str, str]:
    return {"display_name": "first", "namespace": f"team-{team}"}


def _user(name: str) -> str:
    return f"{name}@{_DOMAIN}"


CASES = (
    Case("alice lists the runs of her own team", "alice", "GET", _runs("a"), 200),
    Case("bob may not list team-a's runs", "bob", "GET", _runs("a"), 403),
    Case("bob lists the runs of his own team", "bob", "GET", _runs("b"), 200),
    Case("nobody is refused without a token", None, "GET", _runs("a"), 401),
    Case("an expired token is refused", _EXPIRED, "GET", _runs("a"), 401),
    Case("mallory is logged in, but has no rights", "mallory", "GET", _runs("a"), 403),
    Case(
        "bob claims to be alice; the upstream still sees bob",
        "bob",
        "GET",
        _runs("b"),
        200,
        headers=(("kubeflow-userid", _user("alice")), ("kubeflow-userid", _user("admin"))),
        upstream={"kubeflow-userid": _user("bob")},
    ),
    Case(
        "claiming to be alice does not replace a token",
        None,
        "GET",
        _runs("a"),
        401,
        headers=(("kubeflow-userid", _user("alice")),),
    ),
    Case("erin, a viewer, lists team-a's runs", "erin", "GET", _runs("a"), 200),
    Case("erin may not create an experiment", "erin", "POST", _EXPERIMENTS, 403, body=_experiment("a")),
    Case("alice creates an experiment", "alice", "POST", _EXPERIMENTS, 200, body=_experiment("a")),
    Case("dave, an editor, creates one in team-a, too", "dave", "POST", _EXPERIMENTS, 200, body=_experiment("a")),
    Case("alice may not create one in team-b", "alice", "POST", _EXPERIMENTS, 403, body=_experiment("b")),
    Case("alice opens her notebook", "alice", "GET", _NOTEBOOK, 200, upstream={"kubeflow-userid": _user("alice")}),
    Case("erin may not: a notebook is a shell", "erin", "GET", _NOTEBOOK, 403),
    Case("alice reads an artifact of her team", "alice", "GET", _artifact("team-a", "team-a"), 200),
    Case("bob may not read it", "bob", "GET", _artifact("team-a", "team-a"), 403),
    Case("alice may not pass off team-b's artifact as hers", "alice", "GET", _artifact("team-b", "team-a"), 403),
    *(Case(f"frank audits team-{team}", "frank", "GET", _runs(team), 200) for team in "abc"),
    *(Case(f"the administrator sees team-{team}", "admin", "GET", _runs(team), 200) for team in "abc"),
    Case("a route that no rule names", "admin", "GET", "/pipeline/apis/v9/runs?namespace=team-a", 403),
    Case("a double slash", "alice", "GET", "/pipeline//apis/v2beta1/runs?namespace=team-a", 400),
    Case("an encoded slash", "alice", "GET", "/pipeline/apis%2fv2beta1/runs?namespace=team-a", 400),
    Case("two namespaces", "alice", "GET", f"{_runs('a')}&namespace=team-b", 400),
    Case(
        "a method in disguise",
        "alice",
        "GET",
        _runs("a"),
        400,
        headers=(("x-http-method-override", "DELETE"),),
    ),
)


@dataclass(frozen=True, slots=True)
class Result:
    """How one case went in one mode (`grpc` or `http`)."""

    case: Case
    mode: str
    status: int
    problems: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether everything was as the case says."""
        return not self.problems


def tokens(signer: Signer) -> dict[str, str]:
    """Return a token for every `who` of the cases."""
    valid = {name: signer.sign(_user(name), _GROUPS.get(name, ()), lifetime=TOKEN_SECONDS) for name in _USERS}
    return {**valid, _EXPIRED: signer.sign(_user("alice"), lifetime=-TOKEN_SECONDS)}


def curl(case: Case, url: str) -> str:
    """Return the case as a shell command; tokens are variables named after their users, in capitals."""
    words = ["curl", "-i"]
    if case.method != "GET":
        words += ["-X", case.method]
    for name, value in case.headers:
        words += ["-H", shlex.quote(f"{name}: {value}")]
    if case.who:
        words += ["-H", f'"Authorization: Bearer ${case.who.upper()}"']
    if case.body is not None:
        words += ["-H", "'content-type: application/json'", "-d", shlex.quote(json.dumps(case.body))]
    return " ".join([*words, shlex.quote(url + case.path)])


async def verify(client: ClientSession, mesh: DemoMesh) -> list[Result]:
    """Send every case in both modes, one after the other, and say how it went."""
    credentials = tokens(mesh.signer)
    return [await _send(client, mesh, case, mode, credentials) for case in CASES for mode in mesh.urls]


async def _send(client: ClientSession, mesh: DemoMesh, case: Case, mode: str, credentials: Mapping[str, str]) -> Result:
    headers = list(case.headers)
    if case.who:
        headers.append(("authorization", f"Bearer {credentials[case.who]}"))
    before = mesh.upstream.received
    url = URL(mesh.urls[mode] + case.path, encoded=True)  # exactly as written
    async with client.request(case.method, url, headers=headers, json=case.body, allow_redirects=False) as response:
        echo = await response.json() if response.status == 200 else {}
        reached = mesh.upstream.received - before
        return Result(case, mode, response.status, tuple(problems(case, response.status, reached, echo)))


def problems(case: Case, status: int, reached: int, echo: Mapping[str, Any]) -> list[str]:
    """Say what is wrong with an answer: its status, how often the upstream was `reached`, what it echoed."""
    found = [] if status == case.status else [f"answered {status}, not {case.status}"]
    if reached != (case.status == 200):
        found.append(f"reached the upstream {reached} times")
    for name, expected in case.upstream.items():
        seen = [value for header, value in echo.get("headers", ()) if header == name]
        if seen != ([] if expected is None else [expected]):
            found.append(f"the upstream saw {name}: {seen}")
    return found
