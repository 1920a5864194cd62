"""The decision of the same gateway that serves, with its grounds, in text or JSON."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import typer

from extauthz.cli import ask, told
from extauthz.cli.options import opened
from extauthz.decision import Decision
from extauthz.explain import Believed, Question, decided, explained
from extauthz.request import Request
from extauthz.service import Service
from extauthz.settings import Settings
from extauthz.steps import Authenticator


class Part(Protocol):
    """What runs beside the gateway."""

    async def start(self) -> None:
        """Begin."""
        ...

    async def stop(self) -> None:
        """End."""
        ...


class Session:
    """A service that does not listen, for all questions of a command."""

    def __init__(self, settings: Settings) -> None:
        """Load everything. Raises ConfigurationError."""
        self.limit = settings.body.max_request_bytes
        self._service = Service(settings)
        self._gateway = self._service.gateway
        self._running = contextlib.AsyncExitStack()
        self._proving = False

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Have at hand whoever knows rights and namespaces."""
        async with self._running:
            await self._start(self._service.authority)
            if self._service.lookup:
                await self._start(self._service.lookup)
            yield

    async def decide(self, question: Question) -> Decision:
        """Decide one question."""
        if isinstance(question.request, Request):
            self._gateway.authenticator = await self._authenticator(question)
        return await decided(self._gateway, question)

    async def _authenticator(self, question: Question) -> Authenticator:
        """Who says who asks. Keys are not fetched before a request has to prove it."""
        if question.user is not None:
            return Believed(question.user, question.groups)
        if not self._proving:
            self._proving = True
            await self._start(self._service.authenticator)
        return self._service.authenticator

    async def _start(self, part: Part) -> None:
        self._running.push_async_callback(part.stop)
        await part.start()

    def explain(self, question: Question, decision: Decision) -> dict[str, Any]:
        """Return the decision's JSON form with its grounds."""
        return explained(self._gateway, question, decision)


async def run_one(session: Session, question: Question, output: str) -> int:
    """Decide and print one question; return the exit code."""
    async with session.open():
        decision = await session.decide(question)
        explained = session.explain(question, decision)
    if output == "json":
        typer.echo(json.dumps(explained))
    else:
        verdict, *grounds = told.text(explained, decision)
        # The colour reaches a terminal only; what is piped stays plain.
        typer.secho(verdict, bold=True, fg="green" if decision.allowed else "red")
        typer.echo("\n".join(grounds))
    return 0 if decision.allowed else 1


async def run_batch(session: Session, file: Path) -> int:
    """Decide one question per line, in order; return the exit code."""
    bad = 0
    async with session.open():
        with opened(file) as lines:
            for number, line in _numbered(lines):
                answer = await _answer(session, line, number)
                if "error" in answer:
                    bad += 1
                    typer.echo(f"line {number}: {answer['error']}", err=True)
                print(json.dumps(answer), flush=True)  # whoever asks over a pipe waits for it
    return 1 if bad else 0


async def _answer(session: Session, line: bytes, number: int) -> dict[str, Any]:
    identifier = None
    try:
        entry = ask.entry(line)
        identifier = entry.get("id")
        question = ask.from_entry(entry, limit=session.limit)
    except ValueError as error:
        return {"id": identifier, "line": number, "error": str(error)}
    return {"id": identifier, **session.explain(question, await session.decide(question))}


def _numbered(lines: BinaryIO) -> Iterator[tuple[int, bytes]]:
    return ((number, line) for number, line in enumerate(lines, 1) if not line.isspace())
