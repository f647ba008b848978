"""Runs an ASGI application on a free port of 127.0.0.1, inside the event loop that is already running."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from sandbox.ca import Ca

GRACE = 0.5  # seconds that a request may still take once we stop


async def serve(app: ASGIApp, ca: Ca | None, port: int = 0) -> Served:
    """Answers once it listens. With a `ca` it speaks TLS."""
    listener = socket.create_server(("127.0.0.1", port), backlog=2048)
    # asyncio sets this only where the socket names its protocol, which create_server's does not; without it the first answer on each TLS
    # connection waits 40 ms for a delayed ACK
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    stoppable = _Stoppable(app)
    server = _Server(_config(stoppable, ca))
    running = asyncio.create_task(server.serve([listener]))
    while not server.started:
        if running.done():
            listener.close()
            await running
            raise RuntimeError("the application ended while it was starting")
        await asyncio.sleep(0.001)
    return Served(port=listener.getsockname()[1], tls=ca is not None, _server=server, _running=running, _requests=stoppable)


@dataclass(slots=True)
class Served:
    port: int
    tls: bool
    _server: uvicorn.Server
    _running: asyncio.Task[None]
    _requests: _Stoppable

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}" if self.tls else f"http://127.0.0.1:{self.port}"

    async def stop(self) -> None:
        """Lets requests end for a moment, then drops what still hangs. Stopping twice is fine."""
        self._server.should_exit = True
        if self._requests.running:
            await asyncio.wait(self._requests.running, timeout=GRACE)
        for connection in list(self._server.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()
        await asyncio.sleep(0)  # connections hear that they are lost before their requests are cancelled
        self._requests.cancel()
        await self._running


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Several servers share this process, and signals belong to whoever started them all."""
        yield


@dataclass(slots=True)
class _Stoppable:
    """Knows the requests under way, and ends the hanging ones without a stack trace in the log."""

    app: ASGIApp
    running: set[asyncio.Task[object]] = field(default_factory=set)
    stopping: bool = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        task = asyncio.current_task()
        assert task is not None
        self.running.add(task)
        try:
            await self.app(scope, receive, send)
        except asyncio.CancelledError:
            if not self.stopping:
                raise
        finally:
            self.running.discard(task)

    def cancel(self) -> None:
        self.stopping = True
        for task in self.running:
            task.cancel()


def _config(app: ASGIApp, ca: Ca | None) -> uvicorn.Config:
    certificate, key = ca.cert_for_localhost() if ca else (None, None)
    return uvicorn.Config(
        app,
        log_config=None,  # the process that serves decides where logs go
        log_level="warning",
        access_log=False,
        server_header=False,
        ws="none",
        timeout_keep_alive=75,  # longer than any client keeps an idle connection, so that none is cut under a request
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
