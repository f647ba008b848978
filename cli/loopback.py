"""A page on this machine that a browser comes back to after a sign-in (RFC 8252, 7.3): http://localhost:PORT, for one answer.

The answer comes by form post, so that no code stands in the browser's history; what brings another state than ours is turned away.
"""

from __future__ import annotations

import asyncio
import hmac
from contextlib import suppress
from html import escape
from types import TracebackType
from urllib.parse import parse_qsl

LARGEST = 64 * 1024  # bytes of a request
SECONDS = 10.0
NO_HTTP = (TimeoutError, OSError, ValueError, EOFError, asyncio.LimitOverrunError)  # of whoever is not the browser that we wait for
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


class Loopback:
    def __init__(self) -> None:
        self._answer: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()
        self._state = ""
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Loopback:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=LARGEST)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._server is not None:
            self._server.close()
            for writer in list(self._open):  # a browser opens connections ahead, and leaves them idle
                writer.close()
            await self._server.wait_closed()

    @property
    def address(self) -> str:
        """As the app registration has it, http://localhost, with the port that is free today."""
        port = self._server.sockets[0].getsockname()[1] if self._server else 0
        return f"http://localhost:{port}"

    async def answer(self, state: str) -> dict[str, str]:
        """The fields of the one answer that brings this state."""
        self._state = state
        return await self._answer

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            with suppress(*NO_HTTP):
                async with asyncio.timeout(SECONDS):
                    status, title, text = self._taken(*await _request(reader))
                    writer.write(_page(status, title, text))
                    await writer.drain()
        finally:
            writer.close()
            self._open.discard(writer)

    def _taken(self, method: str, body: bytes) -> tuple[str, str, str]:
        fields = dict(parse_qsl(body.decode("utf-8", "replace")))
        if method != "POST":
            return "405 Method Not Allowed", "Not here", "This page waits for the answer of a sign-in."
        if not self._state or not hmac.compare_digest(fields.get("state", "").encode(), self._state.encode()):
            return "400 Bad Request", "Not ours", "This answer belongs to another sign-in."
        if not ("code" in fields or "error" in fields):
            return "400 Bad Request", "No answer", "There is neither a code nor an error in it."
        if not self._answer.done():
            self._answer.set_result(fields)
        if "error" in fields:
            return "200 OK", "Not signed in", fields.get("error_description") or fields["error"]
        return "200 OK", "Signed in", "You can close this page and go back to the terminal."


async def _request(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = int(headers.get("content-length", "0"))
    if not 0 <= length <= LARGEST:
        raise ValueError("too long")
    return first.partition(" ")[0], await reader.readexactly(length)


def _page(status: str, title: str, text: str) -> bytes:
    body = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><h1>{escape(title)}</h1><p>{escape(text)}</p>'
    )
    content = body.encode()
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {len(content)}\r\n"
        f"Content-Security-Policy: {POLICY}\r\nCache-Control: no-store\r\nReferrer-Policy: no-referrer\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + content
