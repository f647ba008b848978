"""The sandbox's SMTP server ends when it is told to, wherever its clients are, and forgets those who went."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sandbox import smtp
from sandbox.ca import Ca
from sandbox.faults import Faults
from sandbox.graph import create
from sandbox.smtp import Listening
from sandbox.town import town
from tests.waiting import until

SECONDS = 5.0  # for what takes none


@dataclass
class Client:
    """One that speaks by hand."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def said(self) -> str:
        """The server's whole reply."""
        lines = [await self.reader.readline()]
        while lines[-1][3:4] == b"-":
            lines.append(await self.reader.readline())
        return b"".join(lines).decode()

    async def say(self, line: str) -> str:
        self.writer.write(f"{line}\r\n".encode())
        return await self.said()

    async def offered(self) -> None:
        """As far as the server's word that TLS may begin."""
        await self.said()
        await self.say("EHLO client.example")
        assert (await self.say("STARTTLS")).startswith("220")

    async def dropped(self) -> None:
        """Whatever is still said, then the end."""
        with contextlib.suppress(OSError):  # a reset is one
            await self.reader.read()


@dataclass
class House:
    """`call` connects a client, which is closed with the house."""

    ca: Ca
    faults: Faults
    server: Listening
    clients: list[Client] = field(default_factory=list)

    async def call(self) -> Client:
        self.clients.append(Client(*await asyncio.open_connection("127.0.0.1", self.server.port)))
        return self.clients[-1]

    async def leave(self) -> None:
        for client in self.clients:
            client.writer.close()
            with contextlib.suppress(OSError):
                await client.writer.wait_closed()


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    directory, ca, faults = town(), Ca.create(tmp_path / "ca"), Faults()
    server = await smtp.serve(directory, faults, create(directory, faults).office, ca, signs_in=False)
    here = House(ca, faults, server)
    try:
        yield here
    finally:
        await here.leave()
        faults.clear()
        await server.stop()


async def greeted(house: House) -> None:
    await (await house.call()).said()


async def silent(house: House) -> None:
    """STARTTLS, and then not a word."""
    await (await house.call()).offered()


async def refusing(house: House) -> None:
    """It does not know the authority, and has only just found that out."""
    client = await house.call()
    await client.offered()
    with pytest.raises(ssl.SSLCertVerificationError):
        await client.writer.start_tls(ssl.create_default_context(), server_hostname="localhost")


async def in_tls(house: House) -> Client:
    client = await house.call()
    await client.offered()
    await client.writer.start_tls(house.ca.context(), server_hostname="localhost")
    assert (await client.say("EHLO client.example")).startswith("250")
    return client


async def without_its_greeting(house: House) -> None:
    fault = house.faults.add({"service": "smtp", "path": "connect", "delay": 60})
    await house.call()
    await until(lambda: fault.hits)


async def without_a_reply(house: House) -> None:
    fault = house.faults.add({"service": "smtp", "path": "mail", "answer": "hang"})
    (await in_tls(house)).writer.write(b"MAIL FROM:<anna@mailroom.example>\r\n")
    await until(lambda: fault.hits)


@pytest.mark.parametrize("far", [greeted, silent, refusing, in_tls, without_its_greeting, without_a_reply])
async def test_it_stops_at_once_wherever_a_client_is(house: House, far: Callable[[House], Awaitable[Any]]) -> None:
    """Also in the middle of a handshake, and while a fault holds it up; the client sees its connection end."""
    await far(house)
    async with asyncio.timeout(SECONDS):
        await house.server.stop()
        await house.clients[0].dropped()
    await until(lambda: not house.server.service.sessions)


async def test_who_is_let_in_while_it_stops_is_dropped(house: House) -> None:
    """Accepted already, and made known only afterwards: from Python 3.12 on the server would wait for it."""
    house.server.service.closed = True
    client = await house.call()
    async with asyncio.timeout(SECONDS):
        await client.dropped()
    await until(lambda: not house.server.service.sessions)


async def test_a_client_that_refuses_the_certificate_is_forgotten(house: House) -> None:
    """It counts no more among the connections, and the next one is served."""
    await refusing(house)
    await house.leave()
    await until(lambda: not house.server.service.sessions)
    await in_tls(house)
    assert len(house.server.service.sessions) == 1
