"""Connections over the real wire: kept, given back, dropped, and their failures told as httpx tells them."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
import pytest

from mailroom import http
from mailroom.connections import Connections

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bool]]


@dataclass
class Server:
    """Answers each request by `answer`, which says whether the connection goes on."""

    answer: Answer
    connections: int = 0
    alive: int = 0
    requests: int = 0
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.alive += 1
        self.writers.append(writer)
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.requests += 1
                if not await self.answer(reader, writer):
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has closed it
        finally:
            self.alive -= 1
            writer.close()


@asynccontextmanager
async def running(answer: Answer, **limits: float) -> AsyncIterator[tuple[Server, httpx.AsyncClient]]:
    server = Server(answer)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    transport = Connections(ssl.create_default_context(), **limits)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url=f"http://127.0.0.1:{port}", timeout=5.0) as client:
        yield server, client
    listener.close()
    for writer in server.writers:
        writer.close()
    await listener.wait_closed()


async def fine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    writer.write(OK)
    return True


async def test_one_after_the_other_share_a_connection() -> None:
    """Ten requests in turn need one connection."""
    async with running(fine) as (server, client):
        for _ in range(10):
            assert (await client.get("/")).text == "ok"
        assert (server.requests, server.connections) == (10, 1)


async def test_at_the_same_time_each_has_its_own() -> None:
    """Requests that overlap never share a connection; the next round takes those that are there."""
    gate = asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        await gate.wait()
        return await fine(reader, writer)

    async with running(wait) as (server, client):
        for _ in range(2):
            asked = [asyncio.create_task(client.get("/")) for _ in range(5)]
            await asyncio.sleep(0.05)
            gate.set()
            await asyncio.gather(*asked)
            gate.clear()
        assert (server.requests, server.connections) == (10, 5)


async def test_no_more_than_the_limit() -> None:
    """Who finds no free connection waits for one, and not for ever."""

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        await asyncio.sleep(0.02)
        return await fine(reader, writer)

    async with running(slow, most=2) as (server, client):
        await asyncio.gather(*(client.get("/") for _ in range(6)))
        assert (server.requests, server.connections) == (6, 2)
        asked = [asyncio.create_task(client.get("/")) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(httpx.PoolTimeout):
            await client.get("/", timeout=httpx.Timeout(5.0, pool=0.001))
        await asyncio.gather(*asked)


async def test_an_answer_that_is_not_read_to_its_end_frees_its_place() -> None:
    """A stream that is left, and a request that is cancelled, close their connection and let the next one in."""

    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(OK[:-1])
        await asyncio.sleep(5)
        return False

    async with running(half, most=1) as (server, client):
        async with client.stream("GET", "/") as response:
            assert response.status_code == 200
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.get("/")
        with pytest.raises(httpx.ReadTimeout):
            await client.get("/", timeout=0.05)
        assert server.connections == 3


async def test_a_connection_that_the_server_closed_is_not_used() -> None:
    """Between two requests the server may close; the second then goes by a new connection."""

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        await fine(reader, writer)
        return False

    async with running(once) as (server, client):
        for _ in range(3):
            assert (await client.get("/")).text == "ok"
            await asyncio.sleep(0.02)
        assert server.connections == 3


async def test_an_idle_connection_expires() -> None:
    """After its time a connection is closed instead of used."""
    async with running(fine, keep=0.02) as (server, client):
        await client.get("/")
        await asyncio.sleep(0.05)
        await client.get("/")
        assert server.connections == 2


@pytest.mark.parametrize(
    ("sent", "failure"),
    [(b"", httpx.RemoteProtocolError), (OK[:-1], httpx.RemoteProtocolError), (b"SMTP ready\r\n\r\n", httpx.RemoteProtocolError)],
)
async def test_what_is_no_answer(sent: bytes, failure: type[Exception]) -> None:
    """A server that goes away before or within its answer, or speaks another language: an error of httpx, so that doubt is doubt."""

    async def bad(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(sent)
        return False

    async with running(bad, most=1) as (_, client):
        for _ in range(2):  # the first one has freed its place
            with pytest.raises(failure):
                await client.get("/")


async def test_nobody_there() -> None:
    """A refused connection is a ConnectError: surely nothing was sent."""
    async with httpx.AsyncClient(transport=Connections(ssl.create_default_context())) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get("http://127.0.0.1:9/")
        with pytest.raises(httpx.UnsupportedProtocol):
            await client.get("gopher://127.0.0.1/")


async def test_closing_closes_them_all() -> None:
    """A client that is closed leaves no connection behind."""
    async with running(fine) as (server, client):
        await asyncio.gather(*(client.get("/") for _ in range(3)))
        await client.aclose()
        await asyncio.sleep(0.02)
        assert server.alive == 0


async def test_a_long_answer_is_read_as_it_is_wanted() -> None:
    """Chunks are joined to what was sent; what nobody reads yet waits at the server, not in memory."""
    block, sent = b"x" * 65536, 0

    async def long(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(400):
            writer.write(b"10000\r\n" + block + b"\r\n")
            await writer.drain()
            sent += len(block)
        writer.write(b"0\r\n\r\n")
        return True

    async with running(long) as (server, client):
        async with client.stream("GET", "/") as response:
            await asyncio.sleep(0.1)
            assert sent < 200 * len(block)
            assert sum([len(part) async for part in response.aiter_bytes()]) == 400 * len(block)
        await client.get("/")
        assert server.connections == 1


async def test_long_bodies_go_out_in_parts() -> None:
    """A body with a length and one in chunks both arrive as they are."""
    got: list[bytes] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        body = b""
        if not got:
            body = await reader.readexactly(300_000)
        else:
            while size := int(await reader.readline(), 16):
                body += await reader.readexactly(size)
                await reader.readline()
            await reader.readline()
        got.append(body)
        return await fine(reader, writer)

    async def parts() -> AsyncIterator[bytes]:
        for part in (b"a" * 100_000, b"", b"b" * 10):
            yield part

    async with running(take) as (server, client):
        await client.post("/", content=b"z" * 300_000)
        await client.post("/", content=parts())
        assert got == [b"z" * 300_000, b"a" * 100_000 + b"b" * 10]
        assert server.connections == 1


async def test_a_server_that_answers_before_it_has_read_all() -> None:
    """A refusal in the middle of an upload is the answer, and the connection is not used again."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.2)
        return False

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(1000):
            yield b"x" * 65536
            await asyncio.sleep(0)

    async with running(refuse) as (server, client):
        assert (await client.post("/", content=endless())).status_code == 413
        await client.post("/", content=b"")
        assert server.connections == 2


async def test_interim_answers_and_answers_without_body() -> None:
    """100 and 103 are no answers; 204 and HEAD have no body, whatever their headers say."""
    answers = [
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK,
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
    ]

    async def turn(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(answers.pop(0))
        return True

    async with running(turn) as (_, client):
        first = await client.get("/")
        assert (first.text, "link" in first.headers) == ("ok", False)
        assert (await client.get("/")).status_code == 204
        assert (await client.head("/")).headers["content-length"] == "2"


async def test_an_answer_without_length_ends_with_its_connection() -> None:
    """HTTP/1.0's way: what came before the end is the body; a cut one with a length is a failure."""

    async def old(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nall of")
        await writer.drain()
        await asyncio.sleep(0.02)
        writer.write(b" it")
        return False

    async with running(old) as (_, client):
        assert (await client.get("/")).text == "all of it"


@pytest.mark.parametrize("headers", [{"X-A": "b\r\nX-C: d"}, {"X-A\n": "b"}, {"X-A": "b\0"}])
async def test_no_header_smuggles_another(headers: dict[str, str]) -> None:
    """A line break in a header is refused before anything is written."""
    async with running(fine) as (server, client):
        with pytest.raises(httpx.LocalProtocolError):
            await client.get("/", headers=headers)
        assert server.requests == 0


async def test_what_comes_back_after_closing_is_closed() -> None:
    """An answer that is read to its end when its client is closed already leaves no connection either."""

    async def long(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 600000\r\n\r\n" + b"x" * 600_000)
        return True

    async with running(long) as (server, client):
        transport = client._transport
        response = await transport.handle_async_request(client.build_request("GET", "/"))
        await transport.aclose()
        assert len(await response.aread()) == 600_000
        await response.aclose()
        await asyncio.sleep(0.02)
        assert server.alive == 0


async def test_behind_a_proxy_httpx_finds_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the environment names a proxy, requests go through it."""
    asked: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(OK)
        writer.close()

    listener = await asyncio.start_server(proxy, "127.0.0.1", 0)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}")
    async with http.new_client() as client:
        assert (await client.get("http://elsewhere.example/")).text == "ok"
    assert asked[0].startswith(b"GET http://elsewhere.example/")
    listener.close()
    await listener.wait_closed()
