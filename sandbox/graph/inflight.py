"""At most four requests of one app are in flight for one mailbox: learn.microsoft.com/graph/throttling-limits, Outlook."""

from __future__ import annotations

import base64
import json
from collections import Counter

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from sandbox.graph.errors import refusal, throttled
from sandbox.graph.routes import segments
from sandbox.graph.uploads import PREFIX

MOST = 4


class InFlight:
    """Around all that a request may wait in."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.running: Counter[tuple[str, str]] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        key = _key(request)
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


def _key(request: Request) -> tuple[str, str] | None:
    """Who asks, for which mailbox; None where the request is for none, or is so wrong that it will be refused."""
    where = segments(request.scope)
    if request.url.path.strip("/").startswith(PREFIX):
        return "", where[3].lower() if len(where) > 3 else ""
    return (_client(request.headers.get("authorization", "")), where[2].lower()) if len(where) > 3 else None


def _client(authorization: str) -> str:
    """By what the token says; whether it is a good one is seen later."""
    try:
        payload = authorization.split(".")[1]
        return str(json.loads(base64.urlsafe_b64decode(payload + "=="))["appid"])
    except (IndexError, ValueError, KeyError):
        return authorization
