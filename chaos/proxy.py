"""A proxy between one worker and its storage: cuts connections, loses answers, is busy or slow, and springs traps on what it sees.

It reads no more of HTTP than where a request begins: clients here wait for an answer before they send the next request.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

SERVICES = ("blob", "queue", "table")
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nx-ms-error-code: ServerBusy\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
SLOW = 2.0
LATE = 12.0  # longer than a claim: what was written under it arrives when others have the mail

Action = Literal["cut", "lose", "busy", "slow", "late", "kill before", "kill after"]
KILLS: tuple[Action, ...] = ("kill before", "kill after")
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


def anything(service: str, head: bytes) -> bool:
    return True


@dataclass(slots=True)
class Trap:
    """Springs `times` times, at requests whose first bytes fit, once `after` of them have passed."""

    action: Action
    after: int = 0
    times: int = 1
    fits: Callable[[str, bytes], bool] = anything

    def springs(self, service: str, head: bytes) -> bool:
        if not self.times or not self.fits(service, head):
            return False
        if self.after:
            self.after -= 1
            return False
        self.times -= 1
        return True


@dataclass(slots=True)
class Proxy:
    """`kill` ends the worker behind it. `down` refuses whatever comes."""

    storage: str  # the connection string of the real one
    kill: Callable[[str], None]
    hits: Counter[str]
    down: bool = False
    traps: list[Trap] = field(default_factory=list)
    connection_string: str = ""
    _servers: list[asyncio.Server] = field(default_factory=list)
    _open: set[asyncio.StreamWriter] = field(default_factory=set)
    _handling: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self) -> None:
        parts = dict(part.partition("=")[::2] for part in self.storage.split(";") if part)
        for service in SERVICES:
            name = f"{service.capitalize()}Endpoint"
            url = urlsplit(parts[name])
            host, port = str(url.hostname), int(url.port or 0)
            server = await asyncio.start_server(self._handler(service, host, port), "127.0.0.1", 0)
            self._servers.append(server)
            parts[name] = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{url.path}"
        self.connection_string = "".join(f"{name}={value};" for name, value in parts.items())

    async def stop(self) -> None:
        for server in self._servers:
            server.close()
        for task in self._handling:
            task.cancel()
        await asyncio.gather(*self._handling, return_exceptions=True)

    @property
    def is_deadly(self) -> bool:
        """Whether a trap waits that ends the worker, wherever it is at work."""
        return any(trap.action in KILLS and trap.fits is anything for trap in self.traps)

    def heal(self) -> None:
        self.down = False
        self.traps.clear()

    def sever(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    def _handler(
        self, service: str, host: str, port: int
    ) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(self._handle(service, host, port, reader, writer))
            self._handling.add(task)
            task.add_done_callback(self._handling.discard)

        return handle

    async def _handle(self, service: str, host: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.down:
            self.hits["storage down"] += 1
            writer.transport.abort()
            return
        upstream_reader, upstream = await asyncio.open_connection(host, port)
        self._open |= {writer, upstream}
        try:
            await _Link(self, service, reader, writer, upstream_reader, upstream).run()
        finally:
            self._open -= {writer, upstream}
            for one in (writer, upstream):
                one.transport.abort()

    def trap(self, service: str, head: bytes) -> Action | None:
        """What becomes of the request that begins so."""
        if self.down:
            self.hits["storage down"] += 1
            return "cut"
        sprung = next((trap for trap in self.traps if trap.springs(service, head)), None)
        self.traps = [trap for trap in self.traps if trap.times]
        if sprung is None:
            return None
        if sprung.action not in KILLS:
            self.hits[f"storage {sprung.action}"] += 1
        return sprung.action


@dataclass(slots=True)
class _Link:
    """One connection of the worker's, and ours to storage behind it."""

    proxy: Proxy
    service: str
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    upstream_reader: asyncio.StreamReader
    upstream: asyncio.StreamWriter
    waiting: bool = False  # for the answer to a request
    action: Action | None = None

    async def run(self) -> None:
        ways = [asyncio.create_task(self._requests()), asyncio.create_task(self._answers())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _requests(self) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await self.reader.read(2**16):
                if not self.waiting:
                    self.waiting = True
                    self.action = self.proxy.trap(self.service, data)
                    if not await self._goes():
                        return
                self.upstream.write(data)
                await self.upstream.drain()

    async def _goes(self) -> bool:
        """Whether the request reaches storage."""
        match self.action:
            case "cut":
                return False
            case "kill before":
                self.proxy.kill("at a storage call")
                return False
            case "busy":
                self.writer.write(BUSY)
                await self.writer.drain()
                self.writer.close()
                await self.writer.wait_closed()
                return False
            case "slow" | "late":
                await asyncio.sleep(SLOW if self.action == "slow" else LATE)
        return True

    async def _answers(self) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await self.upstream_reader.read(2**16):
                if self.action == "kill after":
                    self.proxy.kill("behind a storage call")
                if self.action in ("lose", "kill after"):
                    return
                self.waiting = False
                self.writer.write(data)
                await self.writer.drain()
