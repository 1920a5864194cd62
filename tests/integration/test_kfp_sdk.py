"""The real `kfp` SDK, first straight against the stub KFP, then through a real Envoy."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from extauthz.demo import HOST
from tests.clients import kfp_sdk
from tests.kubeflow.server import Kubeflow

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def kubeflow() -> AsyncIterator[Kubeflow]:
    """A stub Kubeflow without objects."""
    async with Kubeflow() as running:
        yield running


async def test_recorded_requests_are_what_the_sdk_sends(kubeflow: Kubeflow) -> None:
    """The requests that the policy was written against are those of the SDK that is installed."""
    outcome = await kfp_sdk.work(f"http://{HOST}:{kubeflow.port}/pipeline", token="none")
    assert outcome.refused == {}
    assert kfp_sdk.recorded(kubeflow.calls, outcome.ids) == json.loads(kfp_sdk.RECORDED.read_text())
