"""A sending room whose provider is our Graph client, before the sandbox's Graph in memory, over a wire that can be cut at any request."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx

from mailroom.model.account import Account, Timing
from mailroom.model.message import Address, Attachment, Message
from mailroom.model.places import UPLOADS_CONTAINER
from mailroom.model.token import Token
from mailroom.providers.graph import TRAITS, Graph
from sandbox import graph as sandbox_graph
from sandbox.directory import GRAPH, Directory
from sandbox.faults import Faults
from sandbox.graph.items import Item
from sandbox.town import town
from tests.sending import Clock, Killed, Room

BILLING, ANN = "b@x.example", "ann@x.example"
CALLER = "crm"
SIZE = 4_100_000  # two chunks
GRANTED = frozenset({"Mail.Send", "Mail.ReadWrite"})


class Wire(httpx.AsyncBaseTransport):
    """`script` says what happens to each request from now on: ok, late, or killed or lost, before or after it was answered."""

    def __init__(self, app: Any, clock: Clock, late: float) -> None:
        self.inner = httpx.ASGITransport(app)
        self.clock = clock
        self.late = late
        self.script: list[str] = []
        self.seen: list[str] = []
        self._landing: list[tuple[float, httpx.Request]] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        for due in [one for one in self._landing if one[0] <= self.clock()]:
            self._landing.remove(due)
            await self._answer(due[1])
        what = self.script.pop(0) if self.script else "ok"
        self.seen.append(f"{request.method} {request.url.path.rsplit('/', 1)[-1]}")
        if what == "late":
            self._landing.append((self.clock() + self.late, request))
            raise httpx.ReadError("cut")
        if what.endswith("before"):
            raise _end(what)
        response = await self._answer(request)
        if what.endswith("after"):
            raise _end(what)
        return response

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        response = await self.inner.handle_async_request(request)
        await response.aread()
        return response


def _end(what: str) -> BaseException:
    return Killed() if what.startswith("killed") else httpx.ReadError("cut")


class _Keyring:
    """A new token each time it is asked."""

    def __init__(self, directory: Directory, roles: list[str]) -> None:
        self.directory = directory
        self.roles = roles
        self.barred = 0

    async def token(self, account: Account) -> Token:
        return Token(self.directory.issue(self.directory.app("graph").client_id, GRAPH, self.roles), 2e12)

    async def bar(self, account: Account, token: Token) -> None:
        self.barred += 1


class LargeRoom(Room):
    def __init__(self, timing: Timing | None = None, **account: Any) -> None:
        super().__init__(timing, **{"permissions": GRANTED, "traits": TRAITS, "address": BILLING} | account)
        self.directory = town((BILLING, ANN))
        self.directory.now = self.clock
        self.faults = Faults()
        self.graph = sandbox_graph.create(self.directory, self.faults)
        self.wire = Wire(self.graph, self.clock, 0.8 * self.timing.grace)
        client = httpx.AsyncClient(transport=self.wire)
        self.provider = Graph(client, lambda: self.store, now=self._now, sleep=self._sleep)  # type: ignore[assignment]
        self.keyring = _Keyring(self.directory, sorted(self.account.permissions))  # type: ignore[assignment]
        self.start()

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.clock(), UTC)

    async def _sleep(self, seconds: float) -> None:
        self.clock.time += seconds

    def pass_time(self, seconds: float) -> None:
        self.clock.time += seconds

    async def upload(self, name: str = "u1", size: int = SIZE, caller: str = CALLER) -> bytes:
        """What a caller PUT to its link."""
        body = bytes(range(251)) * (size // 251 + 1)
        await self.fake.put_blob(UPLOADS_CONTAINER, f"{caller}/{name}", body[:size])
        return body[:size]

    def items(self, address: str, folder: str) -> list[Item]:
        return list(self.graph.office.mailbox(address).folder(folder).items.values())

    def copies(self) -> list[int]:
        return [row.copies for row in self.graph.office.sent.values()]


def letter(name: str | None = "m1", *files: str | Attachment, **fields: Any) -> Message:
    """To Ann, with the uploads of those names."""
    attached = tuple(one if isinstance(one, Attachment) else Attachment(f"{one}.pdf", blob=one) for one in files or ("u1",))
    told = {"to": (Address(ANN),), "subject": "Large", "text": "Attached.", "attachments": attached} | fields
    return Message("billing", id=name, **told)


def contents(items: list[Item]) -> Iterator[bytes]:
    return (one.content for item in items for one in item.attachments)
