"""Graph over HTTP: who asks, for which mailbox, what for."""

from __future__ import annotations

import uuid
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from sandbox.directory import Directory, client_of
from sandbox.faults import LAG, FaultMiddleware, Faults
from sandbox.graph import access, applications, query
from sandbox.graph.batch import Batches
from sandbox.graph.call import Answer, Call
from sandbox.graph.delta import Deltas
from sandbox.graph.errors import GraphError, bad_request, refusal, too_long
from sandbox.graph.inflight import InFlight
from sandbox.graph.post import PostOffice
from sandbox.graph.query import Preferences
from sandbox.graph.routes import Routes, segments
from sandbox.graph.uploads import PREFIX, Uploads

VERSION = "/v1.0"
LARGEST = 4 * 1024 * 1024  # bytes of one request: github.com/microsoftgraph/microsoft-graph-docs-contrib/issues/682
JSON = "application/json;odata.metadata=minimal;odata.streaming=true;IEEE754Compatible=false;charset=utf-8"


def create(directory: Directory, faults: Faults) -> Graph:
    return Graph(directory, faults)


class Graph:
    """Serve it over TLS. `office` is what control and tests look into; `deltas` forgets cursors on request."""

    def __init__(self, directory: Directory, faults: Faults) -> None:
        self.directory = directory
        self.office = PostOffice(directory)
        self.deltas = Deltas()
        self.uploads = Uploads()
        self.routes = Routes(self.deltas, self.uploads)
        # a request that a fault holds up is in flight all the same, and so is each request of a batch
        self._one: ASGIApp = InFlight(FaultMiddleware(self._serve, faults, "graph"), self.office.name)
        self._batches = Batches(self._one, self._authorized)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError("Graph is HTTP only")
        batch = scope["path"].rstrip("/").lower() == f"{VERSION}/$batch"
        await (self._batches if batch else self._one)(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = _respond(request, await self._answer(request))
        except GraphError as error:
            response = refusal(request, error)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Answer:
        if request.url.path.strip("/").startswith(PREFIX):
            sent_range = request.headers.get("content-range", "")
            return self.uploads.take(request.method, request.query_params.get("authtoken", ""), sent_range, await request.body())
        claims = access.check(self.directory, request.headers.get("authorization", ""))
        where = segments(request.scope)
        if where[0].lower() != VERSION.strip("/") or len(where) < 2:
            raise bad_request("Invalid version." if len(where) > 1 else "Empty path.")
        if where[1].lower() == "me":
            where = [where[0], "users", access.me(claims), *where[2:]]
        if where[1].lower() == "applications" and [part.lower() for part in where[3:]] == ["addkey"] and request.method == "POST":
            content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            return applications.add_key(self.directory, client_of(claims), where[2], content_type, await request.body())
        if where[1].lower() != "users" or len(where) < 3:
            raise bad_request(f"Resource not found for the segment '{where[1]}'.")
        route, keys = self.routes.find(request.method, where[3:])
        body = await request.body()
        if len(body) > LARGEST:
            raise too_long()
        box = self.office.mailbox(where[2])
        has = access.roles(self.directory, claims, box.address)
        access.need(has, route.needs)
        options = query.options(parse_qsl(request.url.query, keep_blank_values=True))
        return await route.handler(
            Call(
                office=self.office,
                box=box,
                base=f"{request.url.scheme}://{request.url.netloc}{VERSION}",
                user=where[2],
                keys=keys,
                options=options,
                prefer=_preferences(request),
                content_type=request.headers.get("content-type", "").partition(";")[0].strip().lower(),
                body=body,
                roles=has,
                lag=request.scope.get(LAG, 0.0),
            )
        )

    def _authorized(self, request: Request) -> None:
        access.check(self.directory, request.headers.get("authorization", ""))


def _preferences(request: Request) -> Preferences:
    return Preferences.read(", ".join(request.headers.getlist("prefer")))


def _respond(request: Request, answer: Answer) -> Response:
    request_id = str(uuid.uuid4())
    headers = {**answer.headers, "request-id": request_id, "client-request-id": request.headers.get("client-request-id", request_id)}
    applied = _preferences(request).applied()
    headers |= {"preference-applied": applied} if applied else {}
    if isinstance(answer.body, dict):
        return JSONResponse(answer.body, answer.status, headers={**headers, "content-type": JSON, "odata-version": "4.0"})
    return Response(answer.body, answer.status, headers, answer.content_type if answer.body else None)
