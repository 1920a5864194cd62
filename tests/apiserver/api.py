"""Lists, watches and writes of the test API server, as Kubernetes' wire has them."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import web

from extauthz.access.rbac import fields
from extauthz.access.rbac.objects import decode
from tests.apiserver.store import RESOURCES, Event, Gone, Object, Resource, Store

INITIAL_EVENTS_END = {"k8s.io/initial-events-end": "true"}


class StatusError(Exception):
    """An HTTP answer with a Kubernetes Status as its body."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        self.code = code
        self.body = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason,
            "code": code,
        }
        super().__init__(message)


class Objects:
    """Serves the collections of a store."""

    def __init__(self, store: Store, written: Callable[[Event], None]) -> None:
        self.store = store
        self.streaming_lists = True
        self.stopped = asyncio.Event()
        self._written = written
        self._pages: dict[str, tuple[int, list[Object]]] = {}
        self._watches: set[asyncio.Transport] = set()
        self._bookmarks = asyncio.Event()

    def put(self, plural: str, namespace: str, manifest: Object) -> Event:
        """Create or replace an object. Raises StatusError 400 or 422 for what kube-apiserver would not store."""
        _check(plural, manifest)
        event = self.store.put(plural, namespace, manifest)
        self._written(event)
        return event

    def remove(self, plural: str, namespace: str, name: str) -> Event | None:
        event = self.store.remove(plural, namespace, name)
        if event:
            self._written(event)
        return event

    def compact(self) -> None:
        """Let every older resourceVersion and every page token expire."""
        self.store.compact()
        self._pages.clear()

    def send_bookmarks(self) -> None:
        """Send a bookmark of the present version to every watch that asked for them."""
        bookmarks, self._bookmarks = self._bookmarks, asyncio.Event()
        bookmarks.set()

    def drop_watches(self) -> int:
        """Break every watch connection; return how many there were."""
        for transport in self._watches:
            transport.abort()
        return len(self._watches)

    @property
    def watches(self) -> int:
        """How many watches are open."""
        return len(self._watches)

    async def collection(self, request: web.Request) -> web.StreamResponse:
        resource = _resource(request)
        if request.method == "POST":
            return self._create(resource, request.match_info.get("namespace", ""), await read_body(request))
        if request.query.get("watch") in ("1", "true"):
            return await self._watch(resource, request)
        return self._list(resource, request)

    async def item(self, request: web.Request) -> web.StreamResponse:
        resource, name = _resource(request), request.match_info["name"]
        namespace = request.match_info.get("namespace", "")
        found = self.store.get(resource.plural, namespace, name)
        if found is None:
            raise StatusError(404, "NotFound", f'{resource.plural} "{name}" not found')
        if request.method == "DELETE":
            self.remove(resource.plural, namespace, name)
            return web.json_response({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})
        if request.method == "PUT":
            found = self.put(resource.plural, namespace, await read_body(request)).object
        return web.json_response(found)

    def _create(self, resource: Resource, namespace: str, manifest: Object) -> web.Response:
        name = manifest["metadata"]["name"]
        if self.store.get(resource.plural, namespace, name):
            raise StatusError(409, "AlreadyExists", f'{resource.plural} "{name}" already exists')
        return web.json_response(self.put(resource.plural, namespace, manifest).object, status=201)

    def _list(self, resource: Resource, request: web.Request) -> web.Response:
        token, limit = request.query.get("continue", ""), int(request.query.get("limit", "0"))
        if token and token not in self._pages:
            raise StatusError(410, "Expired", "The provided continue parameter is too old")
        namespace = request.match_info.get("namespace", "")
        version, items = (
            self._pages.pop(token)
            if token
            else (
                self.store.version,
                self.store.all(resource.plural, namespace),
            )
        )
        metadata: dict[str, Any] = {"resourceVersion": str(version)}
        if limit and len(items) > limit:
            token = metadata["continue"] = secrets.token_hex(8)
            items, self._pages[token] = items[:limit], (version, items[limit:])
            metadata["remainingItemCount"] = len(self._pages[token][1])
        bare = [{key: value for key, value in item.items() if key not in ("kind", "apiVersion")} for item in items]
        body = {"kind": f"{resource.kind}List", "apiVersion": resource.api_version, "metadata": metadata, "items": bare}
        return web.json_response(body)

    async def _watch(self, resource: Resource, request: web.Request) -> web.StreamResponse:
        if request.query.get("sendInitialEvents") == "true" and not (
            self.streaming_lists and request.query.get("resourceVersionMatch") == "NotOlderThan"
        ):
            raise StatusError(422, "Invalid", "sendInitialEvents: Forbidden")
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        transport = request.transport
        assert transport is not None
        self._watches.add(transport)
        try:
            async with asyncio.timeout(float(request.query.get("timeoutSeconds", "1800"))):
                async for event in self._events(resource.plural, request):
                    await response.write(_line(event.type, event.object))
        except Gone:
            status = StatusError(410, "Expired", "too old resource version").body
            await response.write(_line("ERROR", status))
        except TimeoutError:
            pass
        finally:
            self._watches.discard(transport)
        await response.write_eof()
        return response

    async def _events(self, plural: str, request: web.Request) -> AsyncIterator[Event]:
        since = int(request.query.get("resourceVersion") or 0)
        bookmarks = request.query.get("allowWatchBookmarks") == "true"
        streaming = request.query.get("sendInitialEvents") == "true"
        if streaming or since == 0:
            since = self.store.version
            end = self.store.bookmark(annotations=INITIAL_EVENTS_END, plural=plural)
            for item in self.store.all(plural):
                yield Event(since, "ADDED", plural, item)
            if streaming:
                yield end
        async for event in self._merged(plural, since, bookmarks):
            yield event

    async def _merged(self, plural: str, since: int, bookmarks: bool) -> AsyncIterator[Event]:
        """Yield changes, and bookmarks when told to, until the server stops."""
        changes = self.store.changes(plural, since)
        change = asyncio.ensure_future(anext(changes))
        stop = asyncio.ensure_future(self.stopped.wait())
        try:
            while not stop.done():
                mark = asyncio.ensure_future(self._bookmarks.wait())
                await asyncio.wait({change, mark, stop}, return_when=asyncio.FIRST_COMPLETED)
                if change.done():
                    yield change.result()
                    change = asyncio.ensure_future(anext(changes))
                elif mark.done() and bookmarks:
                    yield self.store.bookmark(plural=plural)
                mark.cancel()
        finally:
            change.cancel()
            stop.cancel()


def _check(plural: str, manifest: Object) -> None:
    try:
        if RESOURCES[plural].group:
            decode(manifest)
    except fields.Undecodable as error:
        raise StatusError(400, "BadRequest", str(error)) from None
    except fields.Unacceptable as error:
        raise StatusError(422, "Invalid", str(error)) from None


def _resource(request: web.Request) -> Resource:
    resource = RESOURCES.get(request.match_info["plural"])
    if resource is None:
        raise StatusError(404, "NotFound", "the server could not find the requested resource")
    return resource


async def read_body(request: web.Request) -> Object:
    """Return a body that is a JSON object. Raises StatusError 400."""
    try:
        body = await request.json()
    except ValueError:
        raise StatusError(400, "BadRequest", "the object provided is unrecognized") from None
    if not isinstance(body, dict):
        raise StatusError(400, "BadRequest", "expected an object")
    return body


def _line(kind: str, changed: Object) -> bytes:
    return json.dumps({"type": kind, "object": changed}, separators=(",", ":")).encode() + b"\n"
