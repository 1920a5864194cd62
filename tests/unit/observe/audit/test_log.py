"""Which decisions are told: every refusal, a share of the allows, and nothing that harms a decision."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from extauthz.decision import Decision, Outcome, Reason
from extauthz.observe.audit.log import AuditLog
from extauthz.observe.audit.recent import ALLOWS_PER_SECOND, RecentDecisions
from extauthz.observe.audit.writer import AuditWriter
from tests.cases import gateway, request

DENY = Decision(Outcome.DENY, 403, Reason.FORBIDDEN, "")
ALLOW = Decision(Outcome.ALLOW, 200, Reason.ALLOWED, "")
SHADOW = Decision(Outcome.ALLOW, 200, Reason.SHADOW, "")
ASKED = request("GET", "/x")


def written(tmp_path: Path, share: float, *decisions: Decision, ids: list[str] | None = None) -> list[str]:
    """Return the outcomes, or with `ids` the request ids, that a log has in its file."""
    writer = AuditWriter(tmp_path / "audit.jsonl", queue_records=10_000)
    writer.start()
    log = AuditLog(gateway(), writer=writer, allow_share=share)
    for identifier in ids or [""]:
        for decision in decisions:
            log.observe(request("GET", "/x", x_request_id=identifier) if ids else ASKED, decision, 0.0)
    writer.stop()
    file = tmp_path / "audit.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    file.unlink(missing_ok=True)
    return [line.get("requestID", "") if ids else line["reason"] for line in lines]


def test_refusals_are_all_told(tmp_path: Path) -> None:
    """Also what a shadow rule would have refused; allows need a share."""
    error = Decision(Outcome.ERROR, 503, Reason.DEADLINE, "")
    nobody = Decision(Outcome.UNAUTHENTICATED, 401, Reason.NO_CREDENTIAL, "")
    assert written(tmp_path, 0.0, DENY, ALLOW, SHADOW, error, nobody) == [
        "forbidden",
        "shadow",
        "deadline_exceeded",
        "no_credential",
    ]
    assert written(tmp_path, 1.0, ALLOW) == ["allowed"]


def test_the_share_is_drawn_by_request_id(tmp_path: Path) -> None:
    """Replicas choose the same requests, and about as many as the share says."""
    ids = [f"request-{number}" for number in range(2000)]
    first = written(tmp_path, 0.25, ALLOW, ids=ids)
    assert first == written(tmp_path, 0.25, ALLOW, ids=ids)
    assert set(first) >= set(written(tmp_path, 0.1, ALLOW, ids=ids))
    assert 400 < len(first) < 600


def test_an_id_that_is_no_text_is_told(tmp_path: Path) -> None:
    """What cannot be drawn by is strange enough to be written down."""
    assert written(tmp_path, 0.01, ALLOW, ids=["half a character \udcff"]) == [""]


def test_without_a_request_id_chance_decides(tmp_path: Path) -> None:
    """A share of such requests is told, too."""
    writer = AuditWriter(tmp_path / "audit.jsonl", queue_records=1000)
    log = AuditLog(gateway(), writer=writer, allow_share=0.5)
    for _ in range(200):
        log.observe(ASKED, ALLOW, 0.0)
    assert 50 < writer.waiting < 150


def test_nothing_that_goes_wrong_reaches_a_decision(caplog: pytest.LogCaptureFixture) -> None:
    """A record that cannot be built is in the service's log, and the decision stands."""
    broken = Decision("unheard of", 403, Reason.FORBIDDEN, "")  # type: ignore[arg-type]
    AuditLog(gateway(), writer=None, recent=RecentDecisions()).observe(ASKED, broken, 0.0)
    assert "could not be told" in caplog.text


def test_recent_decisions_are_numbered() -> None:
    """A reader asks for what it has not seen; the oldest are forgotten first."""
    recent = RecentDecisions(3)
    log = AuditLog(gateway(), writer=None, recent=recent)
    assert (recent.last, recent.since()) == (0, [])
    for _ in range(5):
        log.observe(ASKED, DENY, 0.0)
    assert [number for number, _ in recent.since()] == [3, 4, 5]
    assert [number for number, _ in recent.since(4)] == [5]
    assert recent.since(5) == recent.since(99) == []


def test_of_allows_only_so_many_a_second_are_recent() -> None:
    """Refusals never give way to them, and the next second has room again."""
    now = 10.0
    recent = RecentDecisions(clock=lambda: now)
    wanted = [recent.wants(ALLOW) for _ in range(ALLOWS_PER_SECOND + 5)]
    assert (sum(wanted), recent.wants(DENY)) == (ALLOWS_PER_SECOND, True)
    now = 11.0
    assert recent.wants(ALLOW)


async def test_whoever_follows_is_woken() -> None:
    """Followers see what there is, then what comes; each at its own pace."""
    recent = RecentDecisions(10)
    log = AuditLog(gateway(), writer=None, recent=recent)
    log.observe(ASKED, DENY, 0.0)
    first, second = recent.follow(), recent.follow(recent.last)
    assert (await anext(first))[0] == 1
    waiting = [asyncio.ensure_future(anext(reader)) for reader in (first, second)]
    await asyncio.sleep(0)
    log.observe(ASKED, DENY, 0.0)
    assert [number for number, _ in await asyncio.gather(*waiting)] == [2, 2]
