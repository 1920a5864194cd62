"""One process, no network: bytes in, bytes out, through a whole edge and all that stands behind it.

    python -m bench.in_process edge grpc|http
    python -m bench.in_process policy RULES
    python -m bench.in_process cache REVIEWS

Prints one line of JSON: CPU microseconds per check, and resident memory in MB. With `edge` one request comes again and
again, with another id. With `policy` so many rules are there, and requests are drawn at random for all of them; with
`cache` requests are drawn from all whose reviews are kept, of up to 10,000 users. No two that are drawn are the same,
and they are more than any memory of requests holds, so that no answer and no rule is remembered.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import cast

import uvloop

from bench.edge_load import HELLO, SEEN, call, with_ids
from bench.edge_server import cached, with_edge
from bench.subjects import Running, headers, http_of, paths, prepare
from bench.transport import Source, Wire
from extauthz import settings
from extauthz.access.authority import Authority
from extauthz.access.cache import CachedAuthorizer
from extauthz.access.kept import Question
from extauthz.access.review_key import review_key
from extauthz.edge.native.memory import MAX_KEPT
from extauthz.policy.known import MAX_KNOWN
from extauthz.review import Attributes, ResourceAttributes, Review
from extauthz.service import Service
from extauthz.subject import Subject

USERS = 1_000
"""However many reviews are kept, so that they are all that grows."""
ROUNDS = 7
CHECKS = 3_000
"""Per round."""
DRAWN = max(MAX_KEPT, MAX_KNOWN) + 1_000
"""How many different requests are drawn, whatever the size: more than the memories of answers and of rules hold."""


class Everybody:
    """Allows everything, and remembers who asked for what last."""

    asked: tuple[Subject, Attributes]

    async def review(self, subject: Subject, attributes: Attributes) -> Review:
        """Allow."""
        self.asked = subject, attributes
        return Review(attributes, allowed=True)


async def edge(protocol: str, folder: Path) -> dict[str, float]:
    """Measure one request that is asked again and again."""
    requests = prepare(folder).requests
    async with _serving(f"native-{protocol}", folder) as (service, wire):
        service.gateway.authorizer = cached(service.authority)
        if protocol == "http":
            asked = list(islice(cycle(with_ids(requests.http)), CHECKS))
            return await _measured(wire, asked, [asked] * ROUNDS)
        wire.feed(HELLO + SEEN)
        streams, messages = iter(range(1, 2**31, 2)), cycle(with_ids(requests.grpc))
        rounds = [[call(next(messages), next(streams)) for _ in range(CHECKS)] for _ in range(ROUNDS + 1)]
        return await _measured(wire, rounds[0], rounds[1:])


async def policy(rules: int, folder: Path) -> dict[str, float]:
    """Measure with so many rules."""
    prepared = prepare(folder, rules=rules)
    async with _serving("native-http", folder) as (service, wire):
        service.gateway.authorizer = cached(service.authority)
        draw = random.Random(1)  # the same requests in every run
        targets = [f"{draw.choice(paths(rules))}?namespace=team-a&page_size={page}" for page in range(DRAWN)]
        drawn = [_request(prepared.token, target, number) for number, target in enumerate(targets)]
        return await _measured(wire, drawn, [drawn] * ROUNDS)


async def cache(reviews: int, folder: Path) -> dict[str, float]:
    """Measure with so many reviews kept."""
    signer = prepare(folder).signer
    each = reviews // USERS
    async with _serving("native-http", folder) as (service, wire):
        everybody = Everybody()
        authorizer = cached(cast("Authority", everybody), max_entries=reviews + 1)
        service.gateway.authorizer = authorizer
        tokens = [signer.sign(f"user-{number}@example.com", ["data-science", "platform"]) for number in range(USERS)]
        for token in tokens:
            await _answered(wire, _request(token, _runs(0)))
            _keep(authorizer, *everybody.asked, each)
        resident = Running(os.getpid(), 0).resident_mb()
        draw = random.Random(1)  # the same requests in every run
        drawn = [_request(draw.choice(tokens), _runs(draw.randrange(each), number), number) for number in range(DRAWN)]
        found = await _measured(wire, drawn, [drawn] * ROUNDS)
        return {**found, "rss_mb": resident, "reviews": len(authorizer.kept), "tokens": USERS}


def _keep(authorizer: CachedAuthorizer, subject: Subject, attributes: Attributes, count: int) -> None:
    """Let a user's further reviews be kept as if they had been asked."""
    epoch = authorizer._generations.epoch
    for number in range(1, count):
        asked = replace(cast("ResourceAttributes", attributes), namespace=f"team-{number}")
        question = Question(review_key(subject, asked), subject, asked, time.monotonic(), epoch)
        authorizer.kept.keep(question, Review(asked, allowed=True))


def _runs(namespace: int, page: int = 0) -> str:
    return f"/pipeline/apis/v2beta1/runs?namespace=team-{namespace}&page_size={page}"


def _request(token: str, target: str, number: int = 0) -> bytes:
    """Return a request whose id is a number: by it is drawn whether the audit log tells of it."""
    return http_of({**headers(token), "x-request-id": f"{number:036}"}, target)


@asynccontextmanager
async def _serving(name: str, folder: Path) -> AsyncIterator[tuple[Service, Wire]]:
    source = Source()
    loaded = with_edge(name, settings.load(folder / "settings.yaml"))
    service = Service(loaded, listening={"grpc": source, "http": source})
    await service.start()
    while service.blockers():  # noqa: ASYNC110 -- nobody tells
        await asyncio.sleep(0.01)
    wire = source.connect()
    try:
        yield service, wire
    finally:
        wire.close()
        await service.stop(0)


async def _measured(wire: Wire, first: list[bytes], rounds: list[list[bytes]]) -> dict[str, float]:
    """Return the median of the rounds. What comes first is waited for; everything else must be answered at once."""
    for asked in first:
        await _answered(wire, asked)
    times = []
    for asked_in_turn in rounds:
        writes, began = wire.writes, time.process_time()
        for asked in asked_in_turn:
            wire.feed(asked)
        times.append((time.process_time() - began) / len(asked_in_turn) * 1e6)
        if wire.writes - writes < len(asked_in_turn) or b"kubeflow-userid" not in wire.last:
            raise SystemExit(f"not every request was allowed at once: {wire.last[:300]!r}")
    return {"cpu_us": statistics.median(times), "rss_mb": Running(os.getpid(), 0).resident_mb()}


async def _answered(wire: Wire, asked: bytes) -> None:
    writes = wire.writes
    wire.feed(asked)
    while wire.writes == writes or b"kubeflow-userid" not in wire.last:  # noqa: ASYNC110 -- the edge does not tell
        await asyncio.sleep(0.001)


def main() -> None:
    """Measure what the command line says."""
    scenario, value = sys.argv[1:3]
    with tempfile.TemporaryDirectory() as name:
        if scenario == "cache":
            found = uvloop.run(cache(int(value), Path(name)))
        elif scenario == "policy":
            found = uvloop.run(policy(int(value), Path(name)))
        else:
            found = uvloop.run(edge(value, Path(name)))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
