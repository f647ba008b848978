"""The HTTP trigger: requests on loopback become `func.HttpRequest`, what the function returns becomes the answer.

Keys (`x-functions-key`, `?code=`) are accepted as they come: on this host every function is anonymous.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import azure.functions as func
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from sandbox.host.functions import Function
from sandbox.host.routes import Route

BODY_LIMIT = 104_857_600  # FUNCTIONS_REQUEST_BODY_SIZE_LIMIT


class TooLarge(Exception):
    pass


@dataclass(slots=True)
class HttpFront:
    """An ASGI application. Once it drains, requests under way go on and new ones get 503."""

    routes: Sequence[tuple[Route, Function]]
    timeout: float | None = None
    running: set[asyncio.Task[Any]] = field(default_factory=set)
    _draining: bool = False

    @classmethod
    def of(cls, functions: Sequence[Function], prefix: str, timeout: float | None = None) -> HttpFront:
        """A route without parameters comes before one with them."""
        found = [(Route.of(function.trigger, prefix), function) for function in functions if function.kind == "httpTrigger"]
        return cls(sorted(found, key=lambda pair: len(pair[0].pattern.groupindex)), timeout)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.running.add(task)
        try:
            answer = await self._answer(Request(scope, receive))
            await answer(scope, receive, send)
        finally:
            self.running.discard(task)

    async def drain(self, seconds: float) -> None:
        self._draining = True
        if self.running:
            await asyncio.wait(self.running, timeout=seconds)

    async def _answer(self, request: Request) -> ASGIApp:
        """No such method on a route is 404 as well: a method is a constraint of the route there."""
        if self._draining:
            return Response(status_code=503)
        for route, function in self.routes:
            parameters = route.match(request.method, request.scope["raw_path"].decode("latin-1"))
            if parameters is not None:
                return await self._called(function, request, parameters)
        return Response(status_code=404)

    async def _called(self, function: Function, request: Request, parameters: dict[str, str]) -> ASGIApp:
        try:
            argument = func.HttpRequest(
                request.method,
                _url(request),
                headers=_joined(request.headers.items()),
                params=_joined(request.query_params.multi_items()),
                route_params=parameters,
                body=await _body(request),
            )
            return _response(await function.invoke(argument, self.timeout))
        except TooLarge:
            return Response(status_code=413)
        except Exception:  # noqa: BLE001 - whatever a function raises is a 500; `invoke` has logged it
            return Response(status_code=500)


def _url(request: Request) -> str:
    """As it came, with its escapes."""
    query = request.scope["query_string"].decode("latin-1")
    path = request.scope["raw_path"].decode("latin-1")
    return f"{request.url.scheme}://{request.url.netloc}{path}" + (f"?{query}" if query else "")


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_LIMIT:
            raise TooLarge
    return bytes(body)


def _joined(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """What comes several times is one value, joined by commas."""
    joined: dict[str, str] = {}
    for name, value in pairs:
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    return joined


def _response(result: object) -> Response:
    """As `azure.functions` itself encodes it: HttpResponse or text; nothing at all is 204."""
    if result is None:
        return Response(status_code=204)
    if isinstance(result, str):
        return Response(result, media_type="text/plain")
    if not isinstance(result, func.HttpResponse):
        raise TypeError(f"an HTTP function returned {type(result).__name__}; it must be an HttpResponse or str")
    response = Response(result.get_body(), status_code=result.status_code)
    for name, value in result.headers.items():
        response.headers.append(name, value)
    if "content-type" not in response.headers:
        charset = f"; charset={result.charset}" if result.mimetype.startswith("text/") else ""
        response.headers["content-type"] = result.mimetype + charset
    return response
