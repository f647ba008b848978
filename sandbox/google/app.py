"""Google over HTTP: its token endpoint, STS, IAM Credentials and Gmail, all at one address here."""

from __future__ import annotations

from collections import Counter
from typing import Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from sandbox.faults import FaultMiddleware, Faults
from sandbox.google import sign_in
from sandbox.google.access import bearer
from sandbox.google.errors import ApiError, OAuthError, crowded
from sandbox.google.gmail import Gmail, json_object
from sandbox.google.post import PostOffice
from sandbox.google.uploads import Uploads
from sandbox.google.workspace import Workspace

MOST_AT_ONCE = 10  # requests for one mailbox; Google enforces such a limit and keeps its number to itself


def create(workspace: Workspace, faults: Faults) -> Google:
    return Google(workspace, faults)


class Google:
    """Serve it over TLS, then set `workspace.url`. `office` is what control and tests look into."""

    def __init__(self, workspace: Workspace, faults: Faults) -> None:
        self.workspace = workspace
        self.office = PostOffice(workspace)
        routes = [
            Route("/token", self.token, methods=["POST"]),
            Route("/v1/token", self.exchange, methods=["POST"]),
            Route("/v1/projects/-/serviceAccounts/{email}:signJwt", self.sign_jwt, methods=["POST"]),
            *Gmail(self.office).routes(),
            *Uploads(self.office).routes(),
        ]
        app = Starlette(routes=routes, exception_handlers={OAuthError: _refuse, ApiError: _refuse})
        self._app: ASGIApp = InFlight(FaultMiddleware(app, faults, "google"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    async def token(self, request: Request) -> Response:
        return JSONResponse(sign_in.token(self.workspace, await _form(request)))

    async def exchange(self, request: Request) -> Response:
        return JSONResponse(sign_in.exchange(self.workspace, await _form(request)))

    async def sign_jwt(self, request: Request) -> Response:
        body = json_object(await request.body())
        return JSONResponse(sign_in.sign_jwt(self.workspace, request.path_params["email"], bearer(request), body))


class InFlight:
    """Around all that a request may wait in: a request that a fault holds up is in flight all the same."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.running: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        user = _user(scope) if scope["type"] == "http" else None
        if user is None:
            await self.app(scope, receive, send)
        elif self.running[user] >= MOST_AT_ONCE:
            await JSONResponse(crowded().body, 429)(scope, receive, send)
        else:
            await self._count(user, scope, receive, send)

    async def _count(self, user: str, scope: Scope, receive: Receive, send: Send) -> None:
        self.running[user] += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self.running[user] -= 1


def _user(scope: Scope) -> str | None:
    _, found, rest = str(scope["path"]).partition("/gmail/v1/users/")
    return rest.partition("/")[0].lower() if found else None


async def _form(request: Request) -> dict[str, str]:
    return dict(parse_qsl((await request.body()).decode("utf-8", "replace"), keep_blank_values=True))


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, OAuthError | ApiError)
    body: dict[str, Any] = error.body
    return JSONResponse(body, error.status, headers=getattr(error, "headers", None))
