"""Work beside the checks."""

from __future__ import annotations

import pytest

from extauthz.background import keep_running


async def test_background_work_that_fails_is_started_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Until it ends by itself, and every failure is in the log."""
    monkeypatch.setattr("extauthz.background.RESTART_SECONDS", 0)
    failures = [OSError("first"), ValueError("second")]

    async def work() -> None:
        if failures:
            raise failures.pop(0)

    await keep_running("some work", work)
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [OSError, ValueError]
    assert "some work failed; it starts again" in caplog.text
