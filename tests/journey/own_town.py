"""A town in the test's own process: each of its parts can be broken by hand, its functions started, killed and started again."""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import httpx

from sandbox.accounts import Pace, accounts_toml
from sandbox.directory import API, GRAPH
from sandbox.functions import host
from sandbox.host.queues import Message, Queue
from sandbox.host.storage import Storage
from sandbox.services import CUSTOMER, Services, services

EVERY_SECOND = "* * * * * *"
POLL = 0.3
QUICK = Pace(sweep=EVERY_SECOND, sync=EVERY_SECOND)


@dataclass(frozen=True, slots=True)
class Functions:
    """The functions while they run, as a caller with every permission sees them."""

    process: Process
    http: httpx.AsyncClient

    async def send(self, **mail: Any) -> httpx.Response:
        key = mail.pop("key", None)
        return await self.http.post("messages", json=mail, headers={"Idempotency-Key": key} if key else {})

    async def mail(self, name: str) -> dict[str, Any]:
        """What is known of a mail; empty where nothing is."""
        answer = await self.http.get(f"messages/{name}")
        return dict(answer.json()) if answer.is_success else {}

    async def settled(self, name: str, patience: float = 60.0) -> dict[str, Any]:
        """The mail as it ended."""
        async with asyncio.timeout(patience):
            while (found := await self.mail(name)).get("status") in (None, "pending", "sending", "in_doubt"):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.2)
        return found

    async def kill(self) -> None:
        """SIGKILL: it gets no chance to put anything away."""
        self.process.kill()
        await self.process.wait()


@dataclass(frozen=True, slots=True)
class OwnTown:
    """`http` trusts the town's CA and is nobody in particular."""

    services: Services
    folder: Path
    http: httpx.AsyncClient

    @property
    def billing(self) -> str:
        return self.services.mailboxes[0]

    @property
    def support(self) -> str:
        return self.services.mailboxes[1]

    def heal(self) -> None:
        self.services.faults.clear()

    @asynccontextmanager
    async def functions(
        self, pace: Pace = QUICK, *, where: Services | None = None, more: str = "", lease: float | None = None
    ) -> AsyncIterator[Functions]:
        """`where` is another set of services, of which some may lie elsewhere; `more` is added to accounts.toml."""
        told, head = where or self.services, self.bearer("caller", API)
        async with (
            host(told, self.folder, accounts_toml(told, pace) + more, lease=lease, poll=POLL) as (url, process),
            httpx.AsyncClient(base_url=url, headers=head, timeout=60, trust_env=False) as http,
        ):
            yield Functions(process, http)
            self.services.faults.clear()  # what hangs on them would hold the functions up

    def bearer(self, app: str, resource: str) -> dict[str, str]:
        directory = self.services.directory
        return {"Authorization": f"Bearer {directory.issue(directory.app(app).client_id, resource)}"}

    async def graph(self, method: str, path: str, **options: Any) -> Any:
        head = self.bearer("graph", GRAPH) | {"Prefer": 'IdType="ImmutableId"'}
        answer = await self.http.request(method, f"{self.services.graph}{path}", headers=head, **options)
        return answer.raise_for_status().json()

    async def copies(self, subject: str) -> list[int]:
        """How often Graph accepted each mail of that subject."""
        rows = (await self.http.get(f"{self.services.control}/sent")).raise_for_status().json()
        return [row["copies"] for row in rows if row["subject"] == subject]

    async def arrives(self, subject: str, text: str = "Hello", **headers: str) -> None:
        """A mail from outside, in billing's inbox."""
        mail = EmailMessage()
        for name, value in {"From": "Ann <ann@fabrikam.example>", "To": self.billing, "Subject": subject, **headers}.items():
            mail[name] = value
        mail.set_content(text)
        where = f"{self.services.control}/mail"
        (await self.http.post(where, params={"to": self.billing}, content=mail.as_bytes())).raise_for_status()

    async def forget_deltas(self, *, gone: bool) -> None:
        (await self.http.post(f"{self.services.control}/forget-delta", json={"gone": gone})).raise_for_status()

    def struck(self) -> int:
        """How many requests met a fault."""
        return sum(fault.hits for fault in self.services.faults.all)

    async def take(self, queue: str) -> list[str]:
        """Up to 32 messages of a queue, which are gone from it then, as they lay there."""
        there = Queue(Storage(self.services.storage, self.http), queue)
        messages: list[Message] = await there.get(32, 30)
        for message in messages:
            await there.delete(message, message.receipt)
        return [message.text for message in messages]

    async def blob(self, name: str) -> bytes:
        return (await Storage(self.services.storage, self.http).call("blob", "GET", name)).content


@asynccontextmanager
async def own_town(folder: Path, *, certificate: bool = True) -> AsyncIterator[OwnTown]:
    """Without `certificate` the vault is empty. The customer has a mailbox, but no account with us."""
    async with (
        services(folder, customers=[CUSTOMER]) as running,
        httpx.AsyncClient(verify=running.ca.context(), trust_env=False, timeout=30) as http,
    ):
        if certificate:
            running.make_certificate()
        yield OwnTown(running, folder, http)


def new_subject() -> str:
    return f"Mail {uuid.uuid4().hex[:12]}"


def opened(text: str) -> Any:
    """What a message of ours says: JSON in base64."""
    return json.loads(base64.b64decode(text, validate=True))
