"""What stands behind the ingress gateway: the pipelines UI server and the platform's web apps."""

from __future__ import annotations

import dataclasses

from tests.kubeflow.pipelines import PipelinesApi
from tests.kubeflow.wire import Answer, Call, text


class Platform:
    """Routes by prefix, as the VirtualServices do."""

    def __init__(self, api: PipelinesApi) -> None:
        self._api = api

    def answer(self, call: Call) -> Answer:
        """Answer one call."""
        if call.path.startswith("/pipeline/apis/"):
            return self._api.answer(dataclasses.replace(call, path=call.path.removeprefix("/pipeline")))
        return text("not found", 404)
