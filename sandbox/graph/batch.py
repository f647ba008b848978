"""`$batch`: learn.microsoft.com/graph/json-batching. Each request of it is served as if it had come alone, four at a time."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, unquote

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sandbox.faults import cut
from sandbox.graph.call import parse
from sandbox.graph.errors import GraphError, bad_request, refusal, too_long

MOST = 20
AT_ONCE = 4
LARGEST = 4 * 1024 * 1024


class Batches:
    """`authorized` raises GraphError for a request without a good token."""

    def __init__(self, app: ASGIApp, authorized: Callable[[Request], None]) -> None:
        self.app = app
        self.authorized = authorized

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            requests = await self._read(request)
        except GraphError as error:
            await refusal(request, error)(scope, receive, send)
            return
        try:
            responses = await _Run(self.app, request, requests).all()
        except ConnectionAbortedError:
            await cut(receive)
        else:
            await JSONResponse({"responses": responses})(scope, receive, send)

    async def _read(self, request: Request) -> dict[str, dict[str, Any]]:
        self.authorized(request)
        if request.method != "POST":
            raise GraphError(405, "ErrorInvalidRequest", "The OData request is not supported.")
        body = await request.body()
        if len(body) > LARGEST:
            raise too_long()
        asked = parse(request.headers.get("content-type", "").partition(";")[0].strip().lower(), body)
        return _checked(asked.get("requests") if isinstance(asked, dict) else None)


class _Run:
    """One batch. Unordered requests start four at a time; one that depends on another waits for it."""

    def __init__(self, app: ASGIApp, outer: Request, requests: dict[str, dict[str, Any]]) -> None:
        self.app = app
        self.outer = outer
        self.requests = requests
        self.free = asyncio.Semaphore(AT_ONCE)
        self.ended: dict[str, asyncio.Future[int]] = {name: asyncio.get_running_loop().create_future() for name in requests}

    async def all(self) -> list[dict[str, Any]]:
        """In any order. Raises ConnectionAbortedError where one of them cut the connection, once the others are done."""
        answers: list[dict[str, Any]] = []
        for done in await asyncio.gather(*map(self._one, self.requests), return_exceptions=True):
            if isinstance(done, BaseException):
                raise done
            answers.append(done)
        return answers

    async def _one(self, name: str) -> dict[str, Any]:
        before = [await self.ended[other] for other in self.requests[name].get("dependsOn") or ()]
        try:
            answer = _failed_dependency(name) if any(status >= 400 for status in before) else await self._ask(name)
        except BaseException:
            self.ended[name].set_result(503)
            raise
        self.ended[name].set_result(answer["status"])
        return answer

    async def _ask(self, name: str) -> dict[str, Any]:
        asked, answer = self.requests[name], _Answer()
        body = _body(asked)
        async with self.free:
            await self.app(self._scope(asked, body), self._receiver(body), answer)
        return answer.shown(name)

    def _scope(self, asked: dict[str, Any], body: bytes) -> Scope:
        path, _, query = asked["url"].partition("?")
        given = {name.lower(): str(value) for name, value in (asked.get("headers") or {}).items()}
        kept = {name: self.outer.headers[name] for name in ("authorization", "host") if name in self.outer.headers}
        headers = {**given, **kept, "content-length": str(len(body))}
        whole = "/v1.0/" + path.strip("/")
        return {
            **self.outer.scope,
            "method": asked["method"].upper(),
            "path": unquote(whole),
            "raw_path": quote(whole, safe="/%'()$@:;,=+!*~").encode(),
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }

    def _receiver(self, body: bytes) -> Receive:
        whole = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> Message:
            """The body, and then the end of the connection that the batch came by."""
            return next(whole, None) or await self.outer.receive()

        return receive


class _Answer:
    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode().title(): value.decode() for name, value in message["headers"]}
        else:
            self.body += message.get("body", b"")

    def shown(self, name: str) -> dict[str, Any]:
        self.headers.pop("Content-Length", None)
        shown: dict[str, Any] = {"id": name, "status": self.status, "headers": self.headers}
        return shown | {"body": self._body()} if self.body else shown

    def _body(self) -> Any:
        """JSON as such; anything else as a base64 text."""
        try:
            return json.loads(self.body)
        except ValueError:
            return base64.b64encode(self.body).decode()


def _checked(requests: object) -> dict[str, dict[str, Any]]:
    if not isinstance(requests, list) or not requests:
        raise bad_request("Invalid batch payload format.")
    if len(requests) > MOST:
        raise bad_request(f"Number of batch request steps exceeds the maximum value of {MOST}.", "MaximumValueExceeded")
    found: dict[str, dict[str, Any]] = {}
    for one in requests:
        name = _step(one)
        if name in found:
            raise bad_request("Request id has to be unique in a batch.")
        if not _names(one.get("dependsOn")) <= found.keys():
            raise bad_request("A request can only depend on requests that come before it in the batch.")
        found[name] = one
    return found


def _names(given: object) -> set[str]:
    if given is None or (isinstance(given, list) and all(isinstance(name, str) for name in given)):
        return set(given or ())
    raise bad_request("dependsOn must be a list of request ids.")


def _step(one: object) -> str:
    if not isinstance(one, dict) or not all(isinstance(one.get(name), str) and one[name] for name in ("id", "method", "url")):
        raise bad_request("Each request of a batch needs an id, a method and a url.")
    if "://" in one["url"].partition("?")[0]:
        raise bad_request("The url of a request in a batch must be relative.")
    headers = one.get("headers") or {}
    if not isinstance(headers, dict):
        raise bad_request("The headers of a request in a batch must be an object.")
    typed = any(name.lower() == "content-type" for name in headers)
    if one.get("body") is not None and not typed:
        raise bad_request(f"Write request id : {one['id']} does not contain Content-Type header or body.")
    return str(one["id"])


def _body(asked: dict[str, Any]) -> bytes:
    body = asked.get("body")
    if body is None:
        return b""
    if not isinstance(body, str):
        return json.dumps(body).encode()
    try:
        return base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
    except ValueError:  # not base64, or not ASCII
        return body.encode()


def _failed_dependency(name: str) -> dict[str, Any]:
    error = {"code": "FailedDependency", "message": "A request that this one depends on failed."}
    return {"id": name, "status": 424, "headers": {"Content-Type": "application/json"}, "body": {"error": error}}
