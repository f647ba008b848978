"""The storage account over its REST API: one implementation of `ports.Store` for Azure and for Azurite.

The storage SDKs do the same at four times the CPU and half a second of imports; docs/dependencies.md has the figures.
learn.microsoft.com/rest/api/storageservices
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import httpx

from mailroom.identity import Identity
from mailroom.model.account import Storage
from mailroom.storage.blobs import Blobs
from mailroom.storage.clock import StorageClock
from mailroom.storage.links import Links
from mailroom.storage.queues import Queues
from mailroom.storage.signing import Authorize, Bearer, SharedKey
from mailroom.storage.tables import Tables
from mailroom.storage.wire import Wire


class RestStore(Tables, Blobs, Queues):
    """Built of where the account is, one shared client, and whoever vouches for us: the account's key, else the identity."""

    def __init__(
        self,
        where: Storage,
        client: httpx.AsyncClient,
        identity: Identity,
        *,
        resource: str,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        authorize: Authorize = SharedKey(where.account, where.key) if where.key else Bearer(identity, resource)
        self._clock = StorageClock(monotonic, wall)
        bases = {"blob": where.blob, "queue": where.queue, "table": where.table}
        self._wire = Wire(bases, client, authorize, self._clock, sleep=sleep, monotonic=monotonic)
        self._links = Links(where, self._wire, self.now)

    def now(self) -> float:
        return self._clock.now()
