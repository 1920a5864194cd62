"""The wire of one resource: lists, streaming lists and watches, read into known objects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

import orjson

from extauthz.access.kubernetes.connection import Connection, Rejected
from extauthz.access.watch.objects import KnownObjects
from extauthz.access.watch.resources import Resource
from extauthz.errors import Unavailable

LIST_SECONDS = 30
OPEN_SECONDS = 15
LIST_LIMIT = 250
LIST_BYTES = 64 * 1024 * 1024
GRACE_SECONDS = 5
"""How much longer than agreed a watch may be silent before its connection counts as dead."""

_INITIAL_EVENTS_END = "k8s.io/initial-events-end"
_STREAMING_LIST = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}


class Expired(Unavailable):
    """The version to resume from is too old for the server."""


class Feed:
    """Reads one resource. `version` is where a watch can resume; empty means to list first."""

    def __init__(self, resource: Resource, connection: Connection, objects: KnownObjects) -> None:
        self.version = ""
        self._resource = resource
        self._connection = connection
        self._objects = objects

    async def list_pages(self) -> None:
        """Learn all objects page by page. Raises Unavailable."""
        self._objects.begin_list()
        token: str | None = None
        while token != "":
            page = await self._page({"limit": str(LIST_LIMIT)} | ({"continue": token} if token else {}))
            with self._readable():
                for manifest in page["items"] or ():
                    self._objects.apply(manifest)
                token, version = page["metadata"].get("continue", ""), page["metadata"]["resourceVersion"]
        self._objects.end_list()
        self.version = version

    @asynccontextmanager
    async def watch(self, seconds: int) -> AsyncGenerator[AsyncIterator[bytes]]:
        """Open a watch that the server ends after `seconds`, with a streaming list where nothing is known yet.

        Entering and iterating raise Unavailable; hand each line to `take`.
        """
        start: Mapping[str, str] = {"resourceVersion": self.version} if self.version else _STREAMING_LIST
        params = {"watch": "1", "allowWatchBookmarks": "true", "timeoutSeconds": str(seconds), **start}
        stream = self._connection.stream(self._resource.path, params=params, idle_timeout=seconds + GRACE_SECONDS)
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(OPEN_SECONDS):
                    lines = await stack.enter_async_context(stream)
            except TimeoutError:
                raise Unavailable("apiserver_timeout", "the API server did not begin to answer a watch") from None
            if not self.version:
                self._objects.begin_list()
            yield lines

    def take(self, line: bytes) -> bool:
        """Take one event; True at the end of a streaming list. Raises Expired, or Unavailable for anything odd."""
        with self._readable():
            event = orjson.loads(line)
            kind, manifest = event["type"], event["object"]
            if kind == "ERROR":
                raise _error(manifest)
            if kind == "BOOKMARK":
                return self._bookmark(manifest["metadata"])
            if kind == "DELETED":
                self._objects.remove(manifest)
            elif kind in ("ADDED", "MODIFIED"):
                self._objects.apply(manifest)
            else:
                raise ValueError(kind)
            if not self._objects.listing:  # versions of a list's items are in no order
                self.version = manifest["metadata"]["resourceVersion"]
        return False

    async def is_ahead(self) -> bool:
        """Tell whether our version is newer than the server's: it was restored from a backup. Raises Unavailable."""
        page = await self._page({"limit": "1"}, seconds=OPEN_SECONDS)
        with self._readable():
            return int(page["metadata"]["resourceVersion"]) < int(self.version)

    def _bookmark(self, metadata: Mapping[str, Any]) -> bool:
        ends_list = self._objects.listing and _INITIAL_EVENTS_END in (metadata.get("annotations") or ())
        if ends_list:
            self._objects.end_list()
        if not self._objects.listing:
            self.version = metadata["resourceVersion"]
        return ends_list

    async def _page(self, params: Mapping[str, str], *, seconds: float = LIST_SECONDS) -> dict[str, Any]:
        answer = await self._connection.request(
            "GET", self._resource.path, params=params, timeout=seconds, max_bytes=LIST_BYTES
        )
        if answer.status != 200:
            raise Rejected(answer)
        with self._readable():
            page = orjson.loads(answer.body)
            if not isinstance(page, dict):
                raise TypeError(page)
        return page

    @contextmanager
    def _readable(self) -> Iterator[None]:
        """Whatever cannot be read leaves us not knowing what changed, so everything is listed anew."""
        try:
            yield
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            self.version = ""
            raise Unavailable("apiserver_bad_answer", f"unreadable list or watch of {self._resource.plural}") from error


def _error(status: Mapping[str, Any]) -> Unavailable:
    kind = Expired if status.get("code") == 410 else Unavailable
    return kind("watch_error", f"the API server ended the watch with code {status.get('code')}")
