"""The part of the KFP API that lookups ask, over real HTTP.

Each tenant's objects have ids. Like the real API it knows v2 objects with a namespace of
their own, v1 runs whose namespace is a reference, pipelines that are shared because they
have no namespace, versions that are found whatever pipeline the path names, databases that
fold the case of ids, and objects that it reports as an `error` with status 200.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

TOKEN = "sa-token-1"
_GRPC_NOT_FOUND = 5
_GRPC_DENIED = 7


@dataclass
class Faults:
    """What goes wrong with every answer while it is set."""

    held: asyncio.Event | None = None
    """Answers wait for this event."""
    status: int = 200
    body: bytes | None = None
    location: str = ""
    broken: bool = False
    """The connection is cut instead of answered."""


@dataclass
class KfpServer:
    """Objects by kind and id, and what was asked. `token` is the one that is accepted."""

    token: str = TOKEN
    faults: Faults = field(default_factory=Faults)
    calls: list[str] = field(default_factory=list)
    credentials: list[str] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""
    _objects: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls) -> AsyncIterator[KfpServer]:
        """Serve on a free port of 127.0.0.1."""
        server = cls()
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", server._answer)
        runner = web.AppRunner(app, shutdown_timeout=0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield server
        finally:
            if server.faults.held:
                server.faults.held.set()
            await runner.cleanup()

    def token_file(self, folder: Path) -> Path:
        """Write the accepted token to a file as kubelet does."""
        file = folder / "token"
        file.write_text(self.token + "\n")
        return file

    def experiment(self, namespace: str, name: str = "exp") -> str:
        """Create an experiment; return its id."""
        made = str(uuid.uuid4())
        return self.put("experiments", made, experiment_id=made, display_name=name, namespace=namespace)

    def recurring_run(self, namespace: str, name: str = "nightly", **fields: Any) -> str:
        """Create a recurring run (job)."""
        made = str(uuid.uuid4())
        return self.put("recurringruns", made, recurring_run_id=made, display_name=name, namespace=namespace, **fields)

    def pipeline(self, namespace: str | None, name: str = "pipe") -> str:
        """Create a pipeline; without a namespace it is shared."""
        made = str(uuid.uuid4())
        own = {"namespace": namespace} if namespace is not None else {}
        return self.put("pipelines", made, pipeline_id=made, name=name, display_name=name.title(), **own)

    def artifact(self, namespace: str, name: str = "model") -> str:
        """Create an artifact."""
        made = str(uuid.uuid4())
        return self.put("artifacts", made, artifact_id=made, name=name, namespace=namespace)

    def version(self, pipeline: str) -> str:
        """Create a version of a pipeline."""
        made = str(uuid.uuid4())
        return self.put("versions", made, pipeline_id=pipeline, pipeline_version_id=made, name="v1")

    def run(self, namespace: str, workflow: str = "pipe-x7k2p", **fields: Any) -> str:
        """Create a run; its namespace is a reference, its name is in its workflow."""
        made = str(uuid.uuid4())
        references = [_reference("EXPERIMENT", "e1"), _reference("NAMESPACE", namespace)]
        run = {"id": made, "name": "my run", "resource_references": references, **fields}
        runtime = {"workflow_manifest": json.dumps({"metadata": {"name": workflow, "namespace": namespace}})}
        return self.put("runs", made, run=run, pipeline_runtime=runtime)

    def put(self, collection: str, made: str, **answer: Any) -> str:
        """Store an answer under an id."""
        self._objects[collection, made.lower()] = answer
        return made

    def delete(self, collection: str, made: str) -> None:
        """Forget an object."""
        del self._objects[collection, made.lower()]

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.calls.append(request.raw_path)
        self.credentials.append(request.headers.get("Authorization", ""))
        self.asked.set()
        if self.faults.held:
            await self.faults.held.wait()
        if self.faults.broken:
            assert request.transport is not None
            request.transport.close()
        if self.faults.location:
            return web.Response(status=302, headers={"Location": self.faults.location})
        if self.faults.status != 200 or self.faults.body is not None:
            return web.Response(status=self.faults.status, body=self.faults.body or b"")
        if self.credentials[-1] != f"Bearer {self.token}":
            return _error(401, 16, "no identity")
        return self._find(request.raw_path)

    def _find(self, path: str) -> web.Response:
        """Find an object as KFP routes it; runs are asked of v1beta1, all else of v2beta1."""
        _, apis, version, collection, *rest = path.split("/")
        assert apis == "apis"
        if len(rest) == 3 and rest[1] == "versions":  # the pipeline in the path is not looked at
            collection, rest = "versions", rest[2:]
        expected = "v1beta1" if collection == "runs" else "v2beta1"
        # MySQL's usual collation folds case.
        found = self._objects.get((collection, rest[0].lower())) if len(rest) == 1 and version == expected else None
        return web.json_response(found) if found else _error(404, _GRPC_NOT_FOUND, f"{path} not found.")


def denied() -> bytes:
    """Return the body that goes with KFP's 403."""
    return json.dumps({"error": "PermissionDenied", "code": _GRPC_DENIED, "details": []}).encode()


def _reference(kind: str | int, made: str) -> dict[str, Any]:
    return {"key": {"type": kind, "id": made}, "relationship": "OWNER"}


def _error(status: int, code: int, message: str) -> web.Response:
    return web.json_response({"error": message, "code": code, "message": message, "details": []}, status=status)
