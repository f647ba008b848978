"""The connections to each origin that are idle, newest first: a request takes one or opens one, and gives it back."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

import httpx

from mailroom.connections.connection import Connection

MOST = 100  # connections to one origin
KEEP = 5.0  # seconds an idle one is kept: a server that closes it just as we send leaves us in doubt
PORTS = {"http": 80, "https": 443}


class Connections(httpx.AsyncBaseTransport):
    """HTTP/1.1, no proxies. Failures are httpx's own errors: what comes before a byte was written is a ConnectError or a timeout of it."""

    def __init__(self, tls: ssl.SSLContext, *, most: int = MOST, keep: float = KEEP) -> None:
        self._tls = tls
        self._keep = keep
        self._origins: defaultdict[tuple[str, str, int], _Origin] = defaultdict(lambda: _Origin(most))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        if url.scheme not in PORTS:
            raise httpx.UnsupportedProtocol(f"{url.scheme!r} is not spoken here", request=request)
        where = url.scheme, url.host, url.port or PORTS[url.scheme]
        origin, limits = self._origins[where], request.extensions.get("timeout", {})
        await origin.enter(limits.get("pool"))
        try:
            connection = origin.take(self._keep) or await self._open(where, limits.get("connect"))
            await connection.ask(request, limits)
        except BaseException:
            origin.free.release()
            raise
        return _response(connection, origin, limits)

    async def aclose(self) -> None:
        for origin in self._origins.values():
            origin.closed = True
            while origin.idle:
                origin.idle.pop().close()
        await asyncio.sleep(0)  # in which they are closed

    async def _open(self, where: tuple[str, str, int], within: float | None) -> Connection:
        scheme, host, port = where
        tls = self._tls if scheme == "https" else None
        try:
            async with asyncio.timeout(within):
                _, connection = await asyncio.get_running_loop().create_connection(Connection, host, port, ssl=tls)
        except TimeoutError as error:
            raise httpx.ConnectTimeout("no connection in time") from error
        except OSError as error:  # ssl.SSLError is one
            raise httpx.ConnectError(str(error)) from error
        return connection


class _Origin:
    def __init__(self, most: int) -> None:
        self.idle: list[Connection] = []
        self.free = asyncio.Semaphore(most)
        self.closed = False

    async def enter(self, within: float | None) -> None:
        if not self.free.locked():
            await self.free.acquire()
            return
        try:
            async with asyncio.timeout(within):
                await self.free.acquire()
        except TimeoutError as error:
            raise httpx.PoolTimeout("no connection became free in time") from error

    def take(self, keep: float) -> Connection | None:
        """The newest one that is still good. Those below a bad one are older, so they are looked at in their turn."""
        while self.idle:
            connection = self.idle.pop()
            if connection.is_good(time.monotonic() - keep):
                return connection
            connection.close()
        return None

    def give(self, connection: Connection) -> None:
        if connection.is_done and not self.closed:
            self.idle.append(connection)
        else:
            connection.close()
        self.free.release()


def _response(connection: Connection, origin: _Origin, limits: dict[str, Any]) -> httpx.Response:
    """A small answer is there as a whole by now, and its connection free again; a larger one is read by whoever wants it."""
    status, headers, http_version = connection.status, connection.headers, connection.version
    stream: httpx.AsyncByteStream
    if connection.is_done:
        stream = httpx.ByteStream(connection.rest())
        origin.give(connection)
    else:
        stream = _Body(connection, origin, limits.get("read"))
    return httpx.Response(status, headers=headers, stream=stream, extensions={"http_version": http_version})


class _Body(httpx.AsyncByteStream):
    """What follows the head; closing it gives the connection back, if it came to its end."""

    def __init__(self, connection: Connection, origin: _Origin, within: float | None) -> None:
        self._connection: Connection | None = connection
        self._origin = origin
        self._within = within

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self._connection is not None:
            part = await self._connection.part(self._within)
            if not part:
                return
            yield part

    async def aclose(self) -> None:
        if self._connection is not None:
            self._origin.give(self._connection)
            self._connection = None
