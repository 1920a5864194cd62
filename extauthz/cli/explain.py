"""What `extauthz check` shows: the decision of the same gateway that serves, with its grounds."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from extauthz.decision import Decision
from extauthz.errors import ConfigurationError, Problem, Refused
from extauthz.gateway import Authenticator, Gateway, failed
from extauthz.identity import JwtAuthenticator
from extauthz.policy import Missing
from extauthz.request import EMPTY_BODY, Body, Request, read
from extauthz.review import NonResourceAttributes, Review
from extauthz.service import load_authority, load_policy
from extauthz.settings import Settings
from extauthz.subject import Subject

Asked = Request | Refused

_ABSOLUTE = re.compile(r"https?://([^/?#]*)(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Assumed:
    """An identity that the command line names instead of a token; an empty user is nobody."""

    user: str
    groups: tuple[str, ...]

    def authenticate(self, headers: Mapping[str, str]) -> Subject | Awaitable[Subject | None] | None:
        """Return the named subject, whatever the headers say."""
        return Subject.authenticated(self.user, self.groups, authenticator="command line") if self.user else None


class Session:
    """Settings, policy and manifests, loaded once for all requests of a command."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.policy = load_policy(settings)
        self.authority = load_authority(settings)
        self.jwt = JwtAuthenticator(settings.identity, resolve=settings.resolve)
        self.max_body_bytes = settings.body.max_request_bytes

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Have the issuers' keys and the authority at hand."""
        async with contextlib.AsyncExitStack() as stack:
            await self.jwt.start()
            stack.push_async_callback(self.jwt.stop)
            await self.authority.start()
            stack.push_async_callback(self.authority.stop)
            yield

    async def decide(self, asked: Asked, subject: tuple[str, list[str]] | None) -> Decision:
        """Decide one request, for a named subject or for the one that its headers prove."""
        if isinstance(asked, Refused):
            return failed(asked)
        authenticator: Authenticator = Assumed(subject[0], tuple(subject[1])) if subject else self.jwt
        gateway = Gateway(
            policy=self.policy,
            authenticator=authenticator,
            authorizer=self.authority,
            response=self.settings.response,
        )
        decision = gateway.decide(asked)
        return decision if isinstance(decision, Decision) else await decision

    def explain(self, asked: Asked, decision: Decision) -> dict[str, Any]:
        """Return the decision's JSON form with the canonical request and what each source read."""
        if isinstance(asked, Refused):
            return decision.as_json()
        rule = self.policy.find(asked)
        values = [] if isinstance(rule, Missing) else rule.values(asked, decision.subject)
        request = {
            "method": asked.method,
            "path": asked.path,
            "query": dict(asked.parameters),
            "faults": [fault.value for fault, _ in asked.faults],
        }
        return {**decision.as_json(), "request": request, "values": values}


async def run_one(session: Session, asked: Asked, subject: tuple[str, list[str]] | None, output: str) -> int:
    """Decide and print one request; return the exit code."""
    async with session.open():
        decision = await session.decide(asked, subject)
    explained = session.explain(asked, decision)
    typer.echo(json.dumps(explained) if output == "json" else "\n".join(_text(explained, decision)))
    return 0 if decision.allowed else 1


async def run_batch(session: Session, file: Path) -> int:
    """Decide one request per line, in order; return the exit code."""
    bad = 0
    async with session.open():
        with _opened(file) as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                identifier = None
                try:
                    entry = _entry(line)
                    identifier = entry.get("id")
                    asked, subject = _asked(entry)
                except ValueError as error:
                    bad += 1
                    typer.echo(f"{file}:{number}: {error}", err=True)
                    typer.echo(json.dumps({"id": identifier, "line": number, "error": str(error)}))
                    continue
                decision = await session.decide(asked, subject)
                typer.echo(json.dumps({"id": identifier, **session.explain(asked, decision)}))
    return 1 if bad else 0


def from_arguments(method: str, url: str, headers: list[str], body: str | None, token: str | None) -> Request:
    """Read a request as it stands on the command line. Raises BadParameter."""
    found: list[tuple[str, str]] = []
    for text in headers:
        name, colon, value = text.partition(":")
        if not colon or not name.strip():
            raise typer.BadParameter(f"{text!r} is not 'name: value'", param_hint="--header")
        found.append((name.strip(), value.strip()))
    if token is not None:
        found.append(("authorization", f"Bearer {token}"))
    content = None
    if body is not None:
        content = _file(Path(body[1:])) if body.startswith("@") else body.encode()
    return _request(method, url, found, content)


def from_check_request(file: Path, max_body_bytes: int) -> Asked:
    """Read a CheckRequest in protobuf's JSON form. Raises ConfigurationError."""
    from envoy.service.auth.v3 import external_auth_pb2
    from google.protobuf import json_format

    from extauthz.edge import check

    content = _file(file)
    try:
        message = json_format.Parse(content, external_auth_pb2.CheckRequest(), ignore_unknown_fields=True)
    except json_format.ParseError as error:
        raise ConfigurationError(Problem(f"not a CheckRequest in protobuf's JSON form: {error}", file)) from error
    try:
        return check.request_of(message, max_body_bytes=max_body_bytes)
    except Refused as refused:
        return refused


def _request(method: str, url: str, headers: list[tuple[str, str]], body: bytes | None) -> Request:
    joined: dict[str, str] = {}
    for name, value in headers:
        key = name.lower()
        joined[key] = f"{joined[key]},{value}" if key in joined else value
    host = joined.get("host", joined.get(":authority", ""))
    whole = _ABSOLUTE.fullmatch(url)
    if whole:
        host, url = whole[1], whole[2] if whole[2].startswith("/") else f"/{whole[2]}"
    content = EMPTY_BODY if body is None else Body(body)
    return read(method=method, target=url, headers=joined, host=host, body=content)


def _entry(line: str) -> dict[str, Any]:
    entry = json.loads(line)
    if not isinstance(entry, dict):
        raise ValueError("a line must be a JSON object")  # noqa: TRY004  # one kind of error for a bad line
    return entry


def _asked(entry: dict[str, Any]) -> tuple[Request, tuple[str, list[str]] | None]:
    method, url = entry.get("method", "GET"), entry.get("url")
    if not isinstance(method, str) or not isinstance(url, str):
        raise ValueError("method and url must be text")  # noqa: TRY004
    headers = entry.get("headers") or {}
    body = entry.get("body")
    if body is not None and not isinstance(body, str):
        body = json.dumps(body)
    pairs = [(name, str(value)) for name, values in dict(headers).items() for value in _several(values)]
    request = _request(method, url, pairs, None if body is None else body.encode("utf-8", "surrogatepass"))
    if "user" not in entry:
        return request, None
    groups = [str(group) for group in entry.get("groups") or []]
    return request, (entry["user"] or "", groups)


def _several(values: Any) -> list[Any]:
    return values if isinstance(values, list) else [values]


def _opened(file: Path) -> Any:
    if str(file) == "-":
        return contextlib.nullcontext(typer.get_text_stream("stdin"))
    try:
        return file.open(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(Problem(f"cannot be read: {error.strerror}", file)) from error


def _file(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigurationError(Problem(f"cannot be read: {error.strerror}", file)) from error


def _text(explained: dict[str, Any], decision: Decision) -> list[str]:
    lines = [f"{decision.outcome.upper()} {decision.status} {decision.reason}", f"  {decision.message}", ""]
    request = explained.get("request")
    if request:
        query = " ".join(f"{name}={value}" for name, value in request["query"].items())
        lines.append(f"request   {request['method']} {request['path']} {query}".rstrip())
        lines += [f"fault     {fault}" for fault in request["faults"]]
    subject = decision.subject
    if subject:
        lines.append(f"identity  {subject.user} (groups: {', '.join(subject.groups)}; by {subject.authenticator})")
    lines.append(f"rule      {decision.rule or 'none'}")
    for value in explained.get("values", []):
        lines.append(f"value     {value['attribute']} = {value['value']!r} from {value['source']}")
    for review in decision.reviews:
        lines.append(f"review    {_review(review)}")
    lines += [f"header    set {name}: {value}" for name, value in decision.headers]
    lines += [f"header    remove {name}" for name in decision.remove]
    return lines


def _review(review: Review) -> str:
    asked = review.attributes
    if isinstance(asked, NonResourceAttributes):
        what = f"{asked.verb} {asked.path}"
    else:
        resource = "/".join(filter(None, (asked.resource, asked.subresource)))
        kind = ".".join(filter(None, (resource, asked.group)))
        scope = f"in {asked.namespace}" if asked.namespace else "in all namespaces"
        what = " ".join(filter(None, (asked.verb, kind, asked.name and repr(asked.name), scope)))
    answer = "yes" if review.allowed else "no"
    return f"{what}: {answer}" + (f" ({review.reason})" if review.reason else "")
