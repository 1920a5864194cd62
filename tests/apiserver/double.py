"""The test API server itself: who calls, whether they may, what goes wrong, and what is answered."""

from __future__ import annotations

import ssl
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from extauthz.review import ResourceAttributes
from extauthz.subject import Subject
from tests.apiserver import pki
from tests.apiserver.api import Objects, StatusError, read_body
from tests.apiserver.cluster import Cluster
from tests.apiserver.evaluation import RbacEvaluator
from tests.apiserver.faults import Fault, Gate, Injected
from tests.apiserver.lagging import Lagging
from tests.apiserver.reviews import answered, question, token_review
from tests.apiserver.store import RBAC, RESOURCES, Object, Store
from tests.apiserver.tokens import ACCOUNTS, Account

_VERBS = {"POST": "create", "PUT": "update", "DELETE": "delete"}
_MASTERS = "system:masters"
_DELEGATOR: Object = {
    "apiVersion": f"{RBAC}/v1",
    "kind": "ClusterRole",
    "metadata": {"name": "system:auth-delegator"},
    "rules": [
        {"verbs": ["create"], "apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"]},
        {"verbs": ["create"], "apiGroups": ["authorization.k8s.io"], "resources": ["subjectaccessreviews"]},
    ],
}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Double(Cluster):
    """A running test API server.

    `calls` counts requests by verb and resource (`create subjectaccessreviews`, `watch roles`).
    `lagging.lag_seconds` and `settle()` govern how late reviews learn of writes.
    """

    def __init__(self, folder: Path, certificates: pki.Pki | None) -> None:
        self.folder = folder
        self.certificates = certificates
        self.accounts: dict[str, Account] = dict(ACCOUNTS)
        self.calls: Counter[str] = Counter()
        self.lagging = Lagging(RbacEvaluator())
        self.objects = Objects(Store(), self.lagging.follow)
        self.answers: Gate | None = None
        self._faults: list[Injected] = []
        self._runner = web.AppRunner(
            self._application(), access_log=None, handler_cancellation=True, shutdown_timeout=0.2
        )
        self.write(_DELEGATOR)

    @classmethod
    @asynccontextmanager
    async def running(cls, folder: Path, *, tls: bool = True, port: int = 0) -> AsyncGenerator[Double]:
        """Serve on 127.0.0.1 until the block ends; a throwaway authority signs for TLS."""
        certificates = pki.create(folder / "pki") if tls else None
        server = cls(folder, certificates)
        await server.serve(certificates.server_context() if certificates else None, port)
        try:
            yield server
        finally:
            await server.close()
            await server.stop()

    async def serve(self, context: ssl.SSLContext | None, port: int) -> None:
        """Start listening; `port` 0 takes a free one."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port, ssl_context=context)
        await site.start()
        address = self._runner.addresses[0]
        scheme = "https" if context else "http"
        super().__init__(
            f"{scheme}://127.0.0.1:{address[1]}", self.certificates.ca if self.certificates else None, self.folder
        )

    async def stop(self) -> None:
        """Stop serving; watches end, whatever hangs is broken off."""
        self.objects.stopped.set()
        await self._runner.cleanup()

    def write(self, manifest: Object) -> Object:
        """Create or replace an object at once, without HTTP."""
        plural, namespace, _ = _key(manifest)
        return self.objects.put(plural, namespace, manifest).object

    def erase(self, manifest: Object) -> bool:
        """Delete an object at once, without HTTP; false where there was none."""
        return self.objects.remove(*_key(manifest)) is not None

    def settle(self) -> int:
        """Let reviews catch up with every write; return how many they had missed."""
        return self.lagging.settle()

    async def settled(self) -> None:
        """Let reviews catch up, as `settle` does."""
        self.settle()

    @contextmanager
    def fault(self, path: str, fault: Fault, *, times: float = float("inf")) -> Iterator[Injected]:
        """Let the next `times` requests whose path and query contain `path` meet a fault, within the block."""
        injected = Injected(path, fault, times)
        self._faults.append(injected)
        try:
            yield injected
        finally:
            self._faults.remove(injected)

    @contextmanager
    def held_answers(self) -> Iterator[Gate]:
        """Within the block, reviews are evaluated at once but answered only when the gate opens."""
        self.answers = gate = Gate()
        try:
            yield gate
        finally:
            self.answers = None
            gate.open()

    def _application(self) -> web.Application:
        application = web.Application(middlewares=[self._guard])
        for prefix in ("/api/v1", f"/apis/{RBAC}/v1"):
            for place in ("{plural}", "namespaces/{namespace}/{plural}"):
                application.router.add_route("*", f"{prefix}/{place}", self.objects.collection)
                application.router.add_route("*", f"{prefix}/{place}/{{name}}", self.objects.item)
        reviews = "/apis/{group}/v1/{plural:subjectaccessreviews|tokenreviews}"
        application.router.add_post(reviews, self._review)
        for path, body in _DISCOVERY.items():
            application.router.add_get(path, _constant(body))
        return application

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        verb, plural = _verb(request), request.match_info.get("plural", "")
        self.calls[f"{verb} {plural}" if plural else f"get {request.path}"] += 1
        try:
            for injected in self._faults:
                if injected.strikes(request.path_qs) and (response := await injected.fault(request)) is not None:
                    return response
            self._authorize(self._authenticate(request), verb, request)
            return await handler(request)
        except StatusError as error:
            return web.json_response(error.body, status=error.code)
        except web.HTTPException as error:
            return web.json_response(StatusError(error.status, "NotFound", error.reason).body, status=error.status)

    def _authenticate(self, request: web.Request) -> Account:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        account = self.accounts.get(token) if scheme.lower() == "bearer" else None
        if account is None:
            raise StatusError(401, "Unauthorized", "Unauthorized")
        return account

    def _authorize(self, account: Account, verb: str, request: web.Request) -> None:
        plural = request.match_info.get("plural", "")
        if _MASTERS in account.groups or not plural:
            return
        group = request.path.split("/")[2] if request.path.startswith("/apis/") else ""
        name, namespace = request.match_info.get("name", ""), request.match_info.get("namespace", "")
        attributes = ResourceAttributes(verb, group, "v1", plural, "", namespace, name)
        if not self.lagging.review(Subject(account.user, account.groups), attributes).allowed:
            raise StatusError(
                403,
                "Forbidden",
                f'{plural}.{group} is forbidden: User "{account.user}" cannot {verb} resource "{plural}"'
                f' in API group "{group}" at the cluster scope',
            )

    async def _review(self, request: web.Request) -> web.Response:
        body = await read_body(request)
        if request.match_info["plural"] == "tokenreviews":
            return web.json_response(token_review(body, self.accounts), status=201)
        asked = question(body)
        answer = answered(body, self.lagging.review(asked.subject, asked.attributes), asked.evaluation_error)
        if self.answers:
            await self.answers.enter()
        return web.json_response(answer, status=201)


def _key(manifest: Object) -> tuple[str, str, str]:
    resource = next(resource for resource in RESOURCES.values() if resource.kind == manifest["kind"])
    metadata = manifest["metadata"]
    return resource.plural, metadata["namespace"] if resource.namespaced else "", metadata["name"]


def _verb(request: web.Request) -> str:
    if request.method != "GET":
        return _VERBS.get(request.method, request.method.lower())
    if "name" in request.match_info:
        return "get"
    return "watch" if request.query.get("watch") in ("1", "true") else "list"


def _constant(body: Any) -> Handler:
    async def handler(_: web.Request) -> web.Response:
        return web.json_response(body)

    return handler


def _group(name: str) -> dict[str, Any]:
    version = {"groupVersion": f"{name}/v1", "version": "v1"}
    return {"name": name, "versions": [version], "preferredVersion": version}


def _resources(group: str) -> dict[str, Any]:
    verbs = ["create", "delete", "get", "list", "update", "watch"]
    resources = [
        {"name": item.plural, "kind": item.kind, "namespaced": item.namespaced, "singularName": "", "verbs": verbs}
        for item in RESOURCES.values()
        if item.group == group
    ]
    version = f"{group}/v1" if group else "v1"
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources}


_DISCOVERY: dict[str, Any] = {
    "/version": {"major": "1", "minor": "36", "gitVersion": "v1.36.2", "platform": "linux/amd64"},
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/api/v1": _resources(""),
    "/apis": {
        "kind": "APIGroupList",
        "apiVersion": "v1",
        "groups": [_group(name) for name in (RBAC, "authorization.k8s.io", "authentication.k8s.io")],
    },
    f"/apis/{RBAC}/v1": _resources(RBAC),
}
