"""At most four requests of one app are in flight for one mailbox: learn.microsoft.com/graph/throttling-limits, Outlook."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Callable

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from sandbox.graph.errors import refusal, throttled
from sandbox.graph.routes import segments
from sandbox.graph.uploads import PREFIX

MOST = 4


class InFlight:
    """Around all that a request may wait in. `named` gives a mailbox the same name whichever of its own it is asked by."""

    def __init__(self, app: ASGIApp, named: Callable[[str], str]) -> None:
        self.app = app
        self.named = named
        self.running: Counter[tuple[str, str]] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        key = self._key(request)
        if key is None:
            await self.app(scope, receive, send)
        elif self.running[key] >= MOST:
            await refusal(request, throttled())(scope, receive, send)
        else:
            await self._count(key, scope, receive, send)

    async def _count(self, key: tuple[str, str], scope: Scope, receive: Receive, send: Send) -> None:
        self.running[key] += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self.running[key] -= 1

    def _key(self, request: Request) -> tuple[str, str] | None:
        """Who asks, for which mailbox; None where the request is for none, or is so wrong that it will be refused."""
        where = segments(request.scope)
        if len(where) < 4:
            return None
        if request.url.path.strip("/").startswith(PREFIX):
            return "", self.named(where[3])
        return _client(request.headers.get("authorization", "")), self.named(where[2])


def _client(authorization: str) -> str:
    """By what the token says; whether it is a good one is seen later."""
    try:
        payload = authorization.split(".")[1]
        return str(json.loads(base64.urlsafe_b64decode(payload + "=="))["appid"])
    except (IndexError, ValueError, KeyError):
        return authorization
