"""Connections for httpx's client, kept in the simplest way: those that are idle, newest first.

httpx's own pool looks through all requests and connections with every request, so that 16 at a time cost more than twice the CPU of 16 in
turn (docs/performance.md). Here a request takes an idle connection or opens one, and gives it back. The protocol stays httpcore's.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpcore
import httpx

MOST = 100  # connections to one origin
KEEP = 5.0  # seconds an idle one is kept: a server that closes it just as we send leaves us in doubt


class Connections(httpx.AsyncBaseTransport):
    """HTTP/1.1, no proxies."""

    def __init__(self, tls: ssl.SSLContext, *, most: int = MOST, keep: float = KEEP) -> None:
        self._tls = tls
        self._keep = keep
        self._origins: defaultdict[tuple[str, str, int | None], _Origin] = defaultdict(lambda: _Origin(most))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        where = request.url
        if where.scheme not in ("http", "https"):
            raise httpx.UnsupportedProtocol(f"{where.scheme!r} is not spoken here", request=request)
        origin = self._origins[where.scheme, where.host, where.port]
        url = httpcore.URL(scheme=where.raw_scheme, host=where.raw_host, port=where.port, target=where.raw_path)
        asked = httpcore.Request(request.method, url, headers=request.headers.raw, content=request.stream, extensions=request.extensions)
        await origin.enter(request)
        try:
            connection = await origin.take() or self._open(url.origin)
            response = await _translated(connection, asked)
        except BaseException:
            origin.free.release()
            raise
        body = _Body(response, connection, origin)
        return httpx.Response(response.status, headers=response.headers, stream=body, extensions=response.extensions)

    async def aclose(self) -> None:
        for origin in self._origins.values():
            while origin.idle:
                await origin.idle.pop().aclose()

    def _open(self, origin: httpcore.Origin) -> httpcore.AsyncHTTPConnection:
        return httpcore.AsyncHTTPConnection(origin, ssl_context=self._tls, keepalive_expiry=self._keep)


class _Origin:
    def __init__(self, most: int) -> None:
        self.idle: list[httpcore.AsyncHTTPConnection] = []
        self.free = asyncio.Semaphore(most)

    async def enter(self, request: httpx.Request) -> None:
        try:
            async with asyncio.timeout(request.extensions.get("timeout", {}).get("pool")):
                await self.free.acquire()
        except TimeoutError as error:
            raise httpx.PoolTimeout("no connection became free in time", request=request) from error

    async def take(self) -> httpcore.AsyncHTTPConnection | None:
        """The newest one that is still good. Older ones are the first to expire, so those below a bad one are bad as well."""
        while self.idle:
            connection = self.idle.pop()
            if not connection.has_expired():
                return connection
            await connection.aclose()
        return None


@dataclass(slots=True)
class _Body(httpx.AsyncByteStream):
    """What follows the head; closing it gives the connection back, if it came to its end."""

    response: httpcore.Response
    connection: httpcore.AsyncHTTPConnection
    origin: _Origin
    closed: bool = field(default=False)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self.response.aiter_stream():
                yield part
        except _FAILURES as error:
            raise _own(error) from error

    async def aclose(self) -> None:
        if self.closed:
            return
        self.closed = True
        try:
            await self.response.aclose()
        finally:
            if self.connection.is_idle():
                self.origin.idle.append(self.connection)
            self.origin.free.release()


_FAILURES = (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError)


async def _translated(connection: httpcore.AsyncHTTPConnection, asked: httpcore.Request) -> httpcore.Response:
    try:
        return await connection.handle_async_request(asked)
    except _FAILURES as error:
        raise _own(error) from error


def _own(error: Exception) -> httpx.TransportError:
    """httpcore's error as httpx's of the same name."""
    found: type[httpx.TransportError] = getattr(httpx, type(error).__name__, httpx.TransportError)
    return found(str(error))
