"""The steps of a cached check, and what they are held against: `python -m bench.steps [--json FILE]`.

A decision alone is bytes in, bytes out, with everything in memory; its budget is a ninth of the time that PyJWT
takes to verify the request's token (10 µs where that takes 90).
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jwt
from envoy.service.auth.v3 import external_auth_pb2

from bench.edge_load import REQUEST_ID
from bench.edge_server import cached, with_edge
from bench.subjects import Prepared, prepare
from bench.transport import Source
from extauthz import settings
from extauthz.demo.issuer import AUDIENCE
from extauthz.edge import check
from extauthz.edge.http_service import Checks
from extauthz.edge.native.grpc import GrpcApplication
from extauthz.edge.native.health import Health
from extauthz.edge.native.http import Http1Application
from extauthz.edge.native.requests import Http1Limits, Incoming, RequestReader
from extauthz.edge.reply import PLAIN
from extauthz.service import Service

LIMIT = 65536
UNTOLD = b"%036d" % 1
VERIFY = "PyJWT: verify RS256"
ALONE = {"native-grpc": "grpc: message to answer", "native-http": "http: bytes to answer"}
"""The steps that are a whole decision, by their edges."""

Step = Callable[[], object]


def fastest(step: Step, rounds: int = 100, iterations: int = 100) -> float:
    """Return the CPU seconds of a step in its fastest round."""
    times = []
    for _ in range(rounds):
        began = time.process_time()
        for _ in range(iterations):
            step()
        times.append(time.process_time() - began)
    return min(times) / iterations


def profile() -> dict[str, float]:
    """Return the CPU microseconds of every step."""
    with tempfile.TemporaryDirectory() as name, asyncio.Runner() as runner:
        return {step: 1e6 * fastest(run) for step, run in runner.run(prepared(Path(name))).items()}


async def prepared(folder: Path) -> dict[str, Step]:
    """Return every step, ready to run; each is asked for again and again, with what it needs in memory."""
    made = prepare(folder)
    # This id is not one of those whose decisions are told to the audit log, which takes 0.1 ms each.
    requests = replace(
        made.requests,
        grpc=made.requests.grpc.replace(REQUEST_ID, UNTOLD),
        http=made.requests.http.replace(REQUEST_ID, UNTOLD),
    )
    source = Source()
    loaded = with_edge("native-http", settings.load(folder / "settings.yaml"))
    service = Service(loaded, listening={"http": source})
    await service.start()
    service.gateway.authorizer = cached(service.authority)
    while service.blockers():  # noqa: ASYNC110 -- nobody tells
        await asyncio.sleep(0.01)
    grpc = GrpcApplication(service.gateway, Health(("",)), PLAIN, max_body_bytes=LIMIT)
    http = Http1Application(service.gateway, PLAIN, Checks("", LIMIT), LIMIT)
    reader = RequestReader(Http1Limits(), LIMIT)

    def parsed() -> Incoming:
        reader.feed(requests.http)
        asked = reader.ready.popleft()
        assert asked is not None
        return asked

    for ask in (lambda: grpc._checks.answer(check.decoded(requests.grpc)), lambda: http.answer(parsed())):
        for _ in range(3):
            answer: Any = ask()
            if asyncio.iscoroutine(answer) or asyncio.isfuture(answer):
                await answer
    asked = check.decoded(requests.grpc)
    key = grpc._checks._keys.of(asked)
    assert key is not None
    assert grpc._checks.recall(key, "", lambda: check.judged(asked, max_body_bytes=LIMIT))
    assert http.recall(requests.http)
    heads = itertools.cycle([requests.http.replace(UNTOLD, b"%036d" % number) for number in range(500)])
    wire = source.connect()
    wire.feed(requests.http)
    token, key_ = signed(made)
    return {
        VERIFY: lambda: jwt.decode(token, key_, algorithms=["RS256"], audience=AUDIENCE),
        "protobuf: parse": lambda: external_auth_pb2.CheckRequest.FromString(requests.grpc),
        "grpc: message to Asked": lambda: check.decoded(requests.grpc),
        "grpc: key": lambda: grpc._checks._keys.of(asked),
        "recall: memory, grounds, counts, audit": lambda: grpc._checks.recall(key, "x", _never),
        "grpc: message to answer": lambda: grpc._checks.answer(check.decoded(requests.grpc)),
        "grpc: message to answer, decided anew": lambda: grpc._checks.decide(check.decoded(requests.grpc)),
        "http: key": lambda: http._keys.of_head(next(heads)),
        "http: bytes to answer": lambda: http.recall(next(heads)),
        "http: read to write": lambda: wire.feed(next(heads)),
        "http: parse by httptools": parsed,
        "http: bytes to answer, decided anew": lambda: http.answer(parsed()),
    }


def _never() -> Any:
    raise AssertionError("nobody wants to read the request")


def signed(made: Prepared) -> tuple[str, Any]:
    """Return the token of the requests, and the key that it is verified with."""
    found = re.search(rb"authorization: Bearer (\S+)", made.requests.http)
    assert found
    return found[1].decode(), jwt.PyJWK(made.signer.jwk).key


def main() -> None:
    """Print what each step takes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write it, too")
    arguments = parser.parse_args()
    found = profile()
    print(f"{'':40} {'µs':>6} {'of PyJWT':>9}")
    for name, microseconds in found.items():
        print(f"{name:40} {microseconds:6.2f} {microseconds / found[VERIFY]:9.3f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
