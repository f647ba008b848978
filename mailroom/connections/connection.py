"""One connection and the exchange that is under way on it (RFC 9112). The answer's grammar is llhttp's, by httptools."""

from __future__ import annotations

import asyncio
import select
import time
from collections.abc import Mapping
from typing import cast

import httptools
import httpx

AHEAD = 256 * 1024  # bytes of an answer that may wait here until somebody reads them
TOGETHER = 64 * 1024  # a body up to this size goes out with the head
GONE = "Server disconnected without sending a response."


class Connection(asyncio.Protocol):
    """`ask` and then `part` until it is empty; `is_done` once more can be asked."""

    status: int
    headers: list[tuple[bytes, bytes]]
    version: bytes

    def __init__(self) -> None:
        self.is_done = False
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # connection_made comes before anything else
        self._poll = select.poll()
        self._used = time.monotonic()
        self._parser = httptools.HttpResponseParser(self)
        self._news = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._failure: Exception | None = None
        self._parts: list[bytes] = []
        self._begin(headless=False)

    def is_good(self, since: float) -> bool:
        """Used since then, and nothing has come meanwhile: neither its end nor an answer to no question."""
        return self.is_done and self._failure is None and self._used >= since and not self._poll.poll(0)

    def close(self) -> None:
        self._transport.abort()

    async def ask(self, request: httpx.Request, limits: Mapping[str, float | None]) -> None:
        """Until the head of the answer is here. What fails after the first byte was written says nothing of what the server did."""
        self._begin(headless=request.method == "HEAD")
        try:
            head = _head(request)
            await self._write(request, head, limits.get("write"))
            while not self._has_head:
                await self._more(limits.get("read"))
        except BaseException:
            self.close()
            raise

    async def part(self, within: float | None) -> bytes:
        """The next bytes of the answer's body, decoded from their chunks; b"" at its end."""
        try:
            while not self._parts and not self._ended:
                self._transport.resume_reading()
                await self._more(within)
        except BaseException:
            self.close()
            raise
        return self.rest()

    def rest(self) -> bytes:
        """What is here of the body."""
        parts, self._parts, self._waiting = self._parts, [], 0
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _begin(self, *, headless: bool) -> None:
        self.is_done = False
        self.headers = []
        self._headless = headless
        self._has_head = self._ended = self._to_the_end = False
        self._parts = []
        self._waiting = 0

    async def _write(self, request: httpx.Request, head: bytes, within: float | None) -> None:
        chunked = request.headers.get("transfer-encoding", "").lower() == "chunked"
        async for part in cast(httpx.AsyncByteStream, request.stream):
            if not part:
                continue
            data = b"%x\r\n%b\r\n" % (len(part), part) if chunked else part
            if head and len(data) <= TOGETHER:
                data, head = head + data, b""
            for piece in (head, data):
                if piece and not self._has_head:  # a server that has answered already reads no more
                    await self._put(piece, within)
            head = b""
        tail = head + (b"0\r\n\r\n" if chunked else b"")
        if tail and not self._has_head:
            await self._put(tail, within)

    async def _put(self, data: bytes, within: float | None) -> None:
        if self._failure is None:
            self._transport.write(data)
        if self._writable.is_set():
            return
        try:
            async with asyncio.timeout(within):
                await self._writable.wait()
        except TimeoutError as error:
            raise httpx.WriteTimeout("the server took nothing more in time") from error

    async def _more(self, within: float | None) -> None:
        """Until something has come. Raises what ended the connection, once all that came before is read."""
        if self._failure is not None:
            raise self._failure
        self._news.clear()
        try:
            async with asyncio.timeout(within):
                await self._news.wait()
        except TimeoutError as error:
            raise httpx.ReadTimeout("nothing came in time") from error

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(httpx.RemoteProtocolError(f"The server's answer is no HTTP: {error}"))
            self.close()
        if self._waiting > AHEAD:
            self._transport.pause_reading()
        self._news.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._to_the_end and exc is None:
            self._ended = True
        if exc is not None:
            self._fail(httpx.ReadError(str(exc) or type(exc).__name__))
        else:
            self._fail(httpx.RemoteProtocolError("Server disconnected in the middle of its answer." if self._has_head else GONE))
        self._writable.set()
        self._news.set()

    def _fail(self, error: Exception) -> None:
        self._failure = self._failure or error

    # httptools

    def on_message_begin(self) -> None:
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            return  # an interim answer; the real one follows
        self.status, self.version = status, b"HTTP/" + self._parser.get_http_version().encode()
        self._has_head = True
        self._keeps = self._parser.should_keep_alive()
        sized = any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in self.headers)
        self._to_the_end = not sized and not self._keeps
        self._ended = self._headless

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)
        self._waiting += len(body)

    def on_message_complete(self) -> None:
        if self._has_head:
            self._ended = True
            self._used = time.monotonic()
            self.is_done = self._keeps and not self._headless


def _head(request: httpx.Request) -> bytes:
    lines = [b"%b %b HTTP/1.1" % (request.method.encode(), request.url.raw_path)]
    lines += [b"%b: %b" % header for header in request.headers.raw]
    head = b"\r\n".join(lines)
    if head.count(b"\n") != len(lines) - 1 or head.count(b"\r") != len(lines) - 1 or b"\0" in head:
        raise httpx.LocalProtocolError("a line break within a header")
    return head + b"\r\n\r\n"
