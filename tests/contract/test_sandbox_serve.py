"""How the sandbox serves: TLS that clients verify, and a stop that waits for nobody who hangs."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from sandbox.ca import Ca
from sandbox.serve import serve


async def hello(request: Request) -> Response:
    return PlainTextResponse("hello")


async def hang(request: Request) -> Response:
    await asyncio.Event().wait()
    return PlainTextResponse("never")


APP = Starlette(routes=[Route("/", hello), Route("/hang", hang)])


async def test_tls_by_name_and_by_address(tmp_path: Path) -> None:
    """A client that trusts the bundle verifies the service as localhost and as 127.0.0.1; one that does not refuses it."""
    ca = Ca.create(tmp_path)
    served = await serve(APP, ca)
    async with httpx.AsyncClient(verify=ca.context()) as trusting, httpx.AsyncClient() as stranger:
        for host in ("localhost", "127.0.0.1"):
            assert (await trusting.get(f"https://{host}:{served.port}")).text == "hello"
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await stranger.get(served.url)
    await served.stop()


def test_the_bundle_trusts_the_world_too(tmp_path: Path) -> None:
    """The bundle holds the public roots besides our own, so that it can replace the default one everywhere."""
    context = Ca.create(tmp_path).context()
    subjects = [str(authority["subject"]) for authority in context.get_ca_certs()]
    assert any("Mailroom sandbox CA" in subject for subject in subjects)
    assert len(subjects) > 50


async def test_stopping_drops_what_hangs(caplog: pytest.LogCaptureFixture) -> None:
    """A hanging request does not keep the server alive, nothing is logged about it, and stopping twice is fine."""
    served = await serve(APP, None)
    async with httpx.AsyncClient() as client:
        hanging = asyncio.create_task(client.get(f"{served.url}/hang"))
        assert (await client.get(served.url)).text == "hello"
        await served.stop()
        await served.stop()
        with pytest.raises(httpx.RemoteProtocolError):
            await hanging
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_servers_come_and_go_in_one_loop() -> None:
    """Several servers run at once on ports of their own, and a port is free again once its server stopped."""
    first, second = await serve(APP, None), await serve(APP, None)
    assert first.port != second.port
    await asyncio.gather(first.stop(), second.stop())
    again = await serve(APP, None, first.port)
    assert again.url == first.url
    await again.stop()


async def test_a_taken_port_is_an_error() -> None:
    """A port that somebody else listens on is an OSError at once."""
    served = await serve(APP, None)
    with pytest.raises(OSError, match="in use"):
        await serve(APP, None, served.port)
    await served.stop()
