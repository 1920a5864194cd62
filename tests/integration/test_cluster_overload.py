"""Who floods a slow API server harms himself alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from extauthz.access.kubernetes.breaker import State
from extauthz.access.kubernetes.connection import Connection
from extauthz.access.kubernetes.reviews import KubernetesAuthorizer
from extauthz.errors import Unavailable
from extauthz.review import ResourceAttributes
from extauthz.settings import KubernetesAuthorizer as Limits
from extauthz.subject import Subject
from tests.apiserver import Double, Gate
from tests.apiserver.manifests import delegate

SECONDS = 2.0
FLOOD = 8
REVIEWS = "subjectaccessreviews"


@pytest.fixture
async def double(tmp_path: Path) -> AsyncIterator[Double]:
    async with Double.running(tmp_path, tls=False) as server:
        for manifest in delegate():
            server.write(manifest)
        yield server


async def test_who_waited_too_long_for_a_slot_does_not_open_the_breaker(double: Double) -> None:
    """Reviews that run out of time because they had to queue prove nothing about the API server: others are served."""
    limits = Limits(timeout_seconds=SECONDS, max_concurrent_reviews=FLOOD + 1, max_reviews_per_user=FLOOD)
    async with await Connection.open(kubeconfig=double.kubeconfig()) as connection:
        authorizer, gate, never = KubernetesAuthorizer(connection, limits), Gate(), Gate()

        async def ask(user: str, number: int) -> str:
            try:
                attributes = ResourceAttributes("get", resource="pods", name=str(number))
                await authorizer.review(Subject.authenticated(user), attributes)
            except Unavailable as error:
                return error.reason
            return "answered"

        async def slow_then_hanging(_: web.Request) -> None:
            await (gate if gate.arrived < FLOOD else never).enter()

        with double.fault(REVIEWS, slow_then_hanging):
            flood = [asyncio.ensure_future(ask("mallory", number)) for number in range(2 * FLOOD)]
            await gate.reached(FLOOD)
            await asyncio.sleep(SECONDS * 0.6)  # the server takes more than half of the deadline
            gate.open()
            outcomes = await asyncio.gather(*flood)
        assert outcomes == ["answered"] * FLOOD + ["authorizer_timeout"] * FLOOD
        assert authorizer.breaker.state is State.CLOSED
        assert await ask("alice", 0) == "answered"
