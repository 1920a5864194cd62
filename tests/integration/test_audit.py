"""The audit log of a running service: what real checks leave in it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import yaml
from aiohttp import ClientSession

from extauthz import settings as settings_module
from extauthz.access.authority import Cluster
from extauthz.cli.schema import Kind, render
from extauthz.decision import Decision
from extauthz.observe.audit.log import AuditLog
from extauthz.observe.audit.recent import RecentDecisions
from extauthz.service import Service
from tests.apiserver import Double
from tests.apiserver.fixtures import double
from tests.cases import gateway, request
from tests.integration.test_serve import ask_grpc, ask_http, serving, token, write_settings

__all__ = ["double"]

LIST_RUNS = request("GET", "/pipeline/apis/v2beta1/runs?namespace=team-a")
NOBODY = "http://127.0.0.1:1/jwks"


def with_audit(settings: Path, **audit: Any) -> Path:
    """Switch the audit log on in a settings file."""
    content = yaml.safe_load(settings.read_text())
    settings.write_text(yaml.safe_dump({**content, "audit": audit}))
    return settings


def records(text: str) -> list[dict[str, Any]]:
    """Read lines, each of which must fit the published schema."""
    validator = jsonschema.Draft202012Validator(json.loads(render(Kind.AUDIT)))
    found = [json.loads(line) for line in text.splitlines()]
    for record in found:
        validator.validate(record)
    return found


async def test_standard_output_is_the_audit_log_alone(tmp_path: Path) -> None:
    """Both edges' refusals are there when the process has ended, the service's own log is not."""
    file = with_audit(write_settings(tmp_path, NOBODY), output="stdout")
    async with serving(file) as service:
        assert await ask_grpc(service.ports["grpc"], {"x-request-id": "r-1"}) == 16
        assert await ask_http(service.ports["http"], {"x-request-id": "r-2"}) == 401
        assert await ask_http(service.ports["http"], token()) == 503
        service.process.terminate()
        out, _ = await service.process.communicate()
    found = records(out.decode())
    assert [(record["decision"], record.get("requestID")) for record in found] == [
        ("unauthenticated", "r-1"),
        ("unauthenticated", "r-2"),
        ("error", None),
    ]
    assert token()["authorization"].removeprefix("Bearer ") not in out.decode()


async def test_answers_from_memory_are_told_apart(double: Double) -> None:
    """The first request to ask for a right waits for its review, the second one finds it in the cache."""
    cluster = Cluster(settings_module.KubernetesAuthorizer(), kubeconfig=double.kubeconfig())
    await cluster.start()
    await cluster.watch.wait_until(lambda: not cluster.watch.problems())
    recent = RecentDecisions()
    asker = gateway(authorizer=cluster)
    for _ in range(2):
        decision = asker.decide(LIST_RUNS)
        decision = decision if isinstance(decision, Decision) else await decision
        AuditLog(asker, writer=None, recent=recent).observe(LIST_RUNS, decision, 0.0)
    await cluster.stop()
    assert [record["reviews"][0]["cached"] for _, record in recent.since()] == [False, True]


async def test_an_output_that_fails_is_a_warning(tmp_path: Path) -> None:
    """Checks are answered, and `/readyz` says that the log is not written."""
    file = with_audit(write_settings(tmp_path, NOBODY), output="file", file="missing/audit.jsonl")
    service = Service(settings_module.load(file))
    await service.start()
    try:
        async with ClientSession() as client:
            warnings: list[str] = []
            while not warnings:
                assert await ask_http(service.http_port or 0, {}) == 401
                async with client.get(f"http://127.0.0.1:{service.admin_port}/readyz") as answer:
                    warnings = (await answer.json())["warnings"]
                await asyncio.sleep(0)
            async with client.get(f"http://127.0.0.1:{service.admin_port}/metrics") as answer:
                assert 'extauthz_audit_records_total{result="lost"}' in await answer.text()
    finally:
        await service.stop()
    assert "missing/audit.jsonl" in warnings[0]
