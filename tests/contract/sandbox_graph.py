"""The sandbox's Graph, served for one module of tests; each test has an office of its own in it: two mailboxes that nobody else uses."""

from __future__ import annotations

import base64
import email
import email.policy
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
from starlette.types import ASGIApp

from sandbox import control, entra
from sandbox import graph as sandbox_graph
from sandbox.ca import Ca
from sandbox.directory import GRAPH, Directory
from sandbox.faults import Faults
from sandbox.graph import Graph
from sandbox.serve import serve
from sandbox.town import town

IMMUTABLE = {"Prefer": 'IdType="ImmutableId"'}
STAMP = "String {6a4f6d1c-2a2c-4b6e-9d3a-51a5cdb2a3f1} Name TestStamp"

TEXT = {"Content-Type": "text/plain"}
FILE = {"@odata.type": "#microsoft.graph.fileAttachment", "name": "a.pdf", "contentType": "application/pdf"}
PDF = FILE | {"contentBytes": base64.b64encode(b"%PDF").decode()}
SIGNED = b"From: Ann <ann@far.example>\r\nTo: anna@mailroom.example\r\nSubject: From afar\r\nMessage-ID: <1@far.example>\r\n"
MIXED = (
    "To: {ben}\r\nSubject: Mixed\r\nSender: a@b.example\r\nReferences: <1@x.example>\r\n <2@x.example>\r\nMIME-Version: 1.0\r\n"
    'Content-Type: multipart/mixed; boundary="b"\r\n\r\n'
    "--b\r\nContent-Type: text/html\r\n\r\n<p>Hello</p>\r\n"
    "--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: Inner\r\n\r\nInside\r\n"
    '--b\r\nContent-Type: text/plain; name="n.txt"\r\nContent-Disposition: attachment\r\n\r\nnote\r\n--b--\r\n'
)


@dataclass
class Clock:
    """The sandbox's time; a test puts it on instead of waiting."""

    ahead: float = 0.0

    def now(self) -> float:
        return time.time() + self.ahead


@dataclass(frozen=True)
class City:
    """`url` ends in /v1.0; `control` is where the control is served."""

    directory: Directory
    ca: Ca
    faults: Faults
    graph: Graph
    clock: Clock
    http: httpx.AsyncClient
    url: str
    control: str

    def office(self) -> Office:
        name = uuid.uuid4().hex[:8]
        made = Office(self, f"anna-{name}@mailroom.example", f"ben-{name}@mailroom.example")
        self.directory.mailboxes |= {made.anna, made.ben}
        return made


@dataclass(frozen=True)
class Office:
    """What Anna sends to Ben is in his inbox at once. A relative URL is one below her user; "/…" is one below /v1.0."""

    city: City
    anna: str
    ben: str
    _tokens: dict[tuple[str, ...] | None, str] = field(default_factory=dict)

    def token(self, *roles: str) -> str:
        """With these roles; none named, with all that the app was granted."""
        if roles not in self._tokens:
            client_id = self.city.directory.app("graph").client_id
            self._tokens[roles] = self.city.directory.issue(client_id, GRAPH, list(roles) or None)
        return self._tokens[roles]

    def url(self, path: str, user: str = "") -> str:
        if path.startswith("https://"):
            return path
        return self.city.url + path if path.startswith("/") else f"{self.city.url}/users/{user or self.anna}/{path}"

    async def ask(
        self, method: str, path: str, *, user: str = "", token: str | None = None, headers: dict[str, str] | None = None, **more: Any
    ) -> httpx.Response:
        token = self.token() if token is None else token
        signed = {"Authorization": f"Bearer {token}"} if token else {}
        return await self.city.http.request(method, self.url(path, user), headers={**signed, **(headers or {})}, **more)

    async def get(self, path: str, **more: Any) -> dict[str, Any]:
        """The JSON of an answer that is fine."""
        return fine(await self.ask("GET", path, **more), 200)

    async def values(self, path: str, **more: Any) -> list[dict[str, Any]]:
        return list((await self.get(path, **more))["value"])

    async def draft(self, **message: Any) -> dict[str, Any]:
        return fine(await self.ask("POST", "messages", json=message), 201)

    async def send(self, subject: str = "Hello", **message: Any) -> httpx.Response:
        body = {"message": {"subject": subject, "toRecipients": [person(self.ben)], **message}}
        return await self.ask("POST", "sendMail", json=body)

    async def send_mime(self, raw: bytes) -> httpx.Response:
        return await self.ask("POST", "sendMail", content=encode(raw), headers={"Content-Type": "text/plain"})

    async def arrive(self, subject: str = "Hello", **message: Any) -> dict[str, Any]:
        """Sends it, and shows what Ben got."""
        assert (await self.send(subject, **message)).status_code == 202
        return (await self.values("mailFolders/inbox/messages", user=self.ben))[0]

    async def receive(self, raw: bytes) -> dict[str, Any]:
        """A mail from outside, in Anna's inbox."""
        self.city.graph.office.receive(self.anna, raw)
        return (await self.values("mailFolders/inbox/messages"))[0]

    async def inbox(self, user: str = "") -> list[str]:
        found = await self.values("mailFolders/inbox/messages?$top=100", user=user or self.ben)
        return [one["subject"] for one in found]

    async def batch(self, *requests: dict[str, Any], status: int = 200) -> Any:
        answer = await self.ask("POST", "/$batch", json={"requests": list(requests)})
        assert answer.status_code == status, answer.text
        return {one["id"]: one for one in answer.json()["responses"]} if status == 200 else answer.json()["error"]


@asynccontextmanager
async def city(folder: Path) -> AsyncIterator[City]:
    clock = Clock()
    directory, ca, faults = town(), Ca.create(folder), Faults()
    directory.now = clock.now
    graph = sandbox_graph.create(directory, faults)
    async with AsyncExitStack() as running:

        async def start(app: ASGIApp, tls: Ca | None) -> str:
            served = await serve(app, tls)
            running.push_async_callback(served.stop)
            return served.url

        directory.authority = await start(entra.create(directory, faults), ca)
        url, controlled = await start(graph, ca), await start(control.create(faults, graph, directory), None)
        directory.alias(GRAPH, url)
        http = await running.enter_async_context(httpx.AsyncClient(verify=ca.context(), timeout=5.0))
        running.callback(faults.clear)
        yield City(directory, ca, faults, graph, clock, http, f"{url}/v1.0", controlled)


async def source(office: Office, mail: dict[str, Any], user: str = "") -> EmailMessage:
    """What $value gives, parsed."""
    answer = await office.ask("GET", f"messages/{mail['id']}/$value", user=user)
    assert answer.status_code == 200, answer.text
    return email.message_from_bytes(answer.content, EmailMessage, policy=email.policy.default)


def person(address: str, name: str | None = None) -> dict[str, Any]:
    return {"emailAddress": {"address": address, **({"name": name} if name else {})}}


def encode(raw: bytes) -> bytes:
    return base64.b64encode(raw)


def fine(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    return dict(answer.json()) if answer.content else {}


def refused(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of a refusal, which has Graph's shape."""
    error = answer.json()["error"]
    assert error["message"]
    assert {"date", "request-id", "client-request-id"} <= error["innerError"].keys()
    return answer.status_code, error["code"]


def with_stamp(value: str) -> dict[str, Any]:
    return {"singleValueExtendedProperties": [{"id": STAMP, "value": value}]}


def stamped(value: str, name: str = STAMP) -> str:
    """The filter that finds it, encoded for a URL."""
    return "$filter=" + quote(f"singleValueExtendedProperties/Any(ep: ep/id eq '{name}' and ep/value eq '{value}')")


def link(page: dict[str, Any]) -> str:
    return str(page.get("@odata.nextLink") or page["@odata.deltaLink"])
