"""The keys of one issuer, kept fresh without making any request wait that need not.

A background task fetches at intervals, sooner where the answer's `cache-control` says so;
tokens with unknown key ids can cause a fetch too, but at most one per cool-down, and everybody
who needs it waits for the same one. A fetch that fails leaves the last good keys in place, for
a bounded time. Keys that are published one by one are fetched once a token names them.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable, Coroutine

from extauthz.identity.fetch import Fetch
from extauthz.identity.keys import KeySet, KeySourceError, parse_key_set
from extauthz.settings.identity import JwtIssuer

MAX_WANTED = 16
"""How many unknown key ids one fetch asks for, where keys are published one by one."""

Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[object]]

_log = logging.getLogger(__name__)


class KeyStore:
    """Holds one issuer's key set. Not thread-safe: it belongs to one event loop.

    `latest` is the last good set; the object stays the same while its content does, so
    that `is` tells whether something verified with it still holds.
    """

    def __init__(
        self, issuer: JwtIssuer, fetch: Fetch, *, clock: Clock = time.monotonic, sleep: Sleep = asyncio.sleep
    ) -> None:
        self.latest: KeySet | None = None
        self.fetched = 0
        """How many fetches succeeded since the start."""
        self.failed = 0
        """How many did not."""
        self._issuer = issuer
        self._settings = issuer.keys
        self._fetch = fetch
        self._clock = clock
        self._sleep = sleep
        self._good_until = -math.inf
        self._quiet_until = 0.0
        self._failure = "not fetched yet"
        self._max_age: float | None = None
        self._wanted: set[str] = set()
        self.one_by_one = issuer.keys.pem_url is not None
        self._flight: asyncio.Task[None] | None = None
        self._background: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to fetch in the background, now and at intervals."""
        self._supervise(self._refresh_forever())

    async def stop(self) -> None:
        """End all fetching."""
        self._quiet_until = self._clock() + self._settings.cooldown_seconds  # whoever waits starts no other fetch
        tasks = [task for task in (self._background, self._flight) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def issuer(self) -> str:
        """The issuer's name."""
        return self._issuer.issuer

    @property
    def keys(self) -> KeySet | None:
        """The keys to verify with; None where none were fetched, or the last good ones are too old."""
        return self.latest if self.serves_for > 0 else None

    @property
    def serves_for(self) -> float:
        """For how many more seconds the present keys may serve without another fetch."""
        return self._good_until - self._clock()

    @property
    def problem(self) -> str | None:
        """Why there are no keys, or None where there are."""
        if self.keys is not None or self.one_by_one:
            return None
        return f"issuer {self._issuer.issuer} has no keys: {self._failure or 'too old'}"

    @property
    def quiet_for(self) -> float:
        """For how many seconds no request can cause another fetch; 0 where one can be waited for."""
        return 0.0 if self._flight else max(0.0, self._quiet_until - self._clock())

    async def renew(self, key_id: str | None = None) -> None:
        """Wait for the running fetch, or for a new one; return at once during the cool-down.

        `key_id` is the one that is missing. Success or failure shows in `keys`. Cancelling a
        caller does not touch the fetch.
        """
        if self.one_by_one and key_id is not None and len(self._wanted) < MAX_WANTED:
            self._wanted.add(key_id)
        if self.quiet_for == 0:
            await self._fetched(cooldown=self._settings.cooldown_seconds)

    async def _fetched(self, *, cooldown: float = 0) -> None:
        if self._flight is None:
            self._flight = asyncio.create_task(self._fetch_keys(cooldown))
        await asyncio.wait([self._flight])  # unlike awaiting the task, this shares neither its error nor its end

    async def _fetch_keys(self, cooldown: float) -> None:
        """Fetch once. All state is set before the task ends, so that whoever waits for it finds it done."""
        try:
            if key_ids := self._key_ids():
                page = await self._fetch(key_ids)
                self._accept(parse_key_set(page.body, self._issuer.algorithms))
                self._max_age = page.max_age
                self.fetched += 1
        except KeySourceError as error:
            self.failed += 1
            self._failure = str(error)
            _log.warning("keys of issuer %s not fetched: %s", self._issuer.issuer, error)
        except Exception:  # noqa: BLE001 - a mistake of ours must not end the refresh
            self.failed += 1
            self._failure = "internal error"
            _log.exception("keys of issuer %s not fetched", self._issuer.issuer)
        finally:
            self._flight = None
            self._quiet_until = max(self._quiet_until, self._clock() + cooldown)

    def _key_ids(self) -> list[str]:
        """The key ids to fetch; where all keys come together, any one stands for them."""
        if not self.one_by_one:
            return ["*"]
        known = [key.id for key in self.latest.keys if key.id] if self.latest else []
        wanted, self._wanted = self._wanted, set()
        return list(dict.fromkeys([*known, *wanted]))

    def _accept(self, keys: KeySet) -> None:
        if keys != self.latest:
            _log.info("issuer %s has %d usable keys", self._issuer.issuer, len(keys.keys))
            self.latest = keys
        settings = self._settings
        lifetime = settings.refresh_seconds + settings.timeout_seconds + settings.max_stale_seconds
        self._good_until = self._clock() + lifetime
        self._failure = ""

    def _supervise(self, work: Coroutine[None, None, None]) -> None:
        self._background = asyncio.create_task(work)
        self._background.add_done_callback(self._revive)

    def _revive(self, background: asyncio.Task[None]) -> None:
        if not background.cancelled():
            _log.error("refresh of keys ended; it is started again", exc_info=background.exception())
            self._supervise(self._refresh_after_pause())

    async def _refresh_after_pause(self) -> None:
        await self._sleep(self._settings.cooldown_seconds)
        await self._refresh_forever()

    async def _refresh_forever(self) -> None:
        while True:
            await self._fetched()
            await self._sleep(self._pause())

    def _pause(self) -> float:
        """Seconds until the next fetch, scattered so that replicas do not fetch together."""
        refresh, cooldown = self._settings.refresh_seconds, self._settings.cooldown_seconds
        fresh = 0.0 if self._failure else self._max_age
        longest = refresh if fresh is None else min(refresh, max(fresh, cooldown))
        return longest * random.uniform(0.8, 1.0)  # noqa: S311 - spreads load, guards no secret
