"""The sandbox's control: faults, what was sent, mail from outside; for tests in any language. And a page to look into each mailbox."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from sandbox import pages
from sandbox.directory import Directory
from sandbox.faults import BadFault, Faults
from sandbox.google import Google
from sandbox.graph import Graph, mime
from sandbox.graph.errors import GraphError


def create(faults: Faults, graph: Graph, directory: Directory, google: Google | None = None) -> ASGIApp:
    control = Control(faults, graph, directory, google)
    routes = [
        Route("/faults", control.add_fault, methods=["POST"]),
        Route("/faults", control.clear_faults, methods=["DELETE"]),
        Route("/faults", control.show_faults),
        Route("/sent", control.sent),
        Route("/mail", control.receive, methods=["POST"]),
        Route("/revoke", control.revoke, methods=["POST"]),
        Route("/forget-delta", control.forget_delta, methods=["POST"]),
        Route("/", control.mailboxes),
        Route("/mailboxes/{mailbox}", control.mailbox),
        Route("/mailboxes/{mailbox}/{number:int}", control.mail),
        Route("/mailboxes/{mailbox}/{number:int}/source", control.source),
    ]
    return Starlette(routes=routes, exception_handlers={BadFault: _bad_fault, GraphError: _unknown_mailbox})


class Control:
    def __init__(self, faults: Faults, graph: Graph, directory: Directory, google: Google | None = None) -> None:
        self.faults = faults
        self.graph = graph
        self.directory = directory
        self.google = google

    async def add_fault(self, request: Request) -> Response:
        fault = self.faults.add(await _json(request))
        return JSONResponse(asdict(fault), 201)

    async def clear_faults(self, request: Request) -> Response:
        self.faults.clear()
        return Response(status_code=204)

    async def show_faults(self, request: Request) -> Response:
        return JSONResponse([asdict(fault) for fault in self.faults.all])

    async def sent(self, request: Request) -> Response:
        """`copies` is how often Graph or Gmail accepted a mail with that stamp from that mailbox."""
        rows = [*self.graph.office.sent.values(), *(self.google.office.sent.values() if self.google else ())]
        return JSONResponse([asdict(row) for row in rows])

    async def receive(self, request: Request) -> Response:
        """`POST /mail?to=ADDRESS` with the mail's source: it is in that inbox at once."""
        to, source = request.query_params.get("to", ""), await request.body()
        if self.google and self.google.workspace.mailbox(to):
            return JSONResponse({"internetMessageId": self.google.office.receive(to, source).message_id}, 201)
        item = self.graph.office.receive(to, source)
        return JSONResponse({"internetMessageId": item.props["internetMessageId"]}, 201)

    async def revoke(self, request: Request) -> Response:
        """`{"app": NAME}`: every access token that this app has is refused from now on."""
        name = (await _json(request)).get("app")
        app = next((app for app in self.directory.apps.values() if app.name == name), None)
        if app is None:
            known = ", ".join(app.name for app in self.directory.apps.values())
            raise HTTPException(400, f"app: found {name!r}; wanted one of {known}")
        return JSONResponse({"revoked": self.directory.revoke_all(app.client_id)})

    async def forget_delta(self, request: Request) -> Response:
        """Every delta token is unknown from now on: 410, or with `{"gone": false}` 404 syncStateNotFound."""
        body = await _json(request) if await request.body() else {}
        self.graph.deltas.forget(gone=body.get("gone", True) is not False)
        return Response(status_code=204)

    async def mailboxes(self, request: Request) -> Response:
        return _page(pages.mailboxes(self.graph.office.all()))

    async def mailbox(self, request: Request) -> Response:
        return _page(pages.mailbox(self.graph.office.mailbox(request.path_params["mailbox"])))

    async def mail(self, request: Request) -> Response:
        box = self.graph.office.mailbox(request.path_params["mailbox"])
        return _page(pages.mail(box, pages.find(box, request.path_params["number"])))

    async def source(self, request: Request) -> Response:
        box = self.graph.office.mailbox(request.path_params["mailbox"])
        source = mime.source(pages.find(box, request.path_params["number"]))
        return PlainTextResponse(source, headers={"x-content-type-options": "nosniff"})


def _page(html: str) -> Response:
    """The second lock: nothing of a mail could run even where it got through as HTML."""
    return HTMLResponse(html, headers={"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"})


async def _json(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise HTTPException(400, "the body must be a JSON object")
    return body


async def _bad_fault(request: Request, error: Exception) -> Response:
    assert isinstance(error, BadFault)
    return JSONResponse({"field": error.field, "detail": str(error)}, 400)


async def _unknown_mailbox(request: Request, error: Exception) -> Response:
    assert isinstance(error, GraphError)
    return JSONResponse({"detail": error.message}, error.status)
