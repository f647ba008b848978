"""Runs SMTP on a free port of 127.0.0.1, inside the event loop that is already running."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from typing import Any

from sandbox.ca import Ca
from sandbox.directory import Directory
from sandbox.faults import Faults
from sandbox.graph.post import PostOffice
from sandbox.smtp.mailman import Mailman
from sandbox.smtp.session import ExchangeSession, Service


@dataclass(frozen=True, slots=True)
class Listening:
    """`service` is what control and tests look into."""

    port: int
    service: Service
    _server: asyncio.Server

    @property
    def url(self) -> str:
        return f"smtp://localhost:{self.port}"

    async def stop(self) -> None:
        """Drops whoever is there, and who is about to be."""
        self._server.close()
        self.service.closed = True
        sessions = list(self.service.sessions)
        for session in sessions:
            session.abort()
        await asyncio.gather(*(session.task for session in sessions if session.task), return_exceptions=True)
        await self._server.wait_closed()


async def serve(directory: Directory, faults: Faults, office: PostOffice, ca: Ca, *, clients: str | None = None, **how: Any) -> Listening:
    """`clients` is the authority in PEM whose certificates clients must show; `how` are fields of Service."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*ca.cert_for_localhost())
    if clients is not None:
        context.load_verify_locations(cadata=clients)
        context.verify_mode = ssl.CERT_OPTIONAL
    service = Service(directory, faults, Mailman(office), context, by_certificate=clients is not None, **how)
    server = await asyncio.get_running_loop().create_server(lambda: ExchangeSession(service), "127.0.0.1", 0)
    return Listening(server.sockets[0].getsockname()[1], service, server)
