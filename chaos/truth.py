"""What is so at the end: the ledger as it lies in storage, read past every proxy, the sandbox's own count, and what was put aside."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx

from chaos.town import MAILBOXES, VICTIM, Addresses
from mailroom import http as mailroom_http
from mailroom.errors import StorageDown
from mailroom.model.places import LEDGER_TABLE, OUTBOX_POISON, OUTBOX_QUEUE
from mailroom.model.row import Row, Ticket
from mailroom.model.slice import Mail, Slice
from mailroom.settings import environment
from mailroom.storage.ledger_rows import read_slice
from mailroom.storage.outbox import StoredOutbox
from mailroom.storage.rest import RestStore

ACCOUNTS = (*MAILBOXES, VICTIM)
AT_ONCE = 16
PATIENCE = 10  # times that storage may fail whoever only looks

T = TypeVar("T")


class PatientStore(RestStore):
    """Who only looks waits for as long as it takes: the emulator has a lot to do."""

    async def query(self, *place: Any, **options: Any) -> list[Row]:
        return await _patiently(lambda: RestStore.query(self, *place, **options))

    async def queue_length(self, queue: str) -> int:
        return await _patiently(lambda: RestStore.queue_length(self, queue))

    async def receive(self, queue: str, *, top: int = 32, hide: float = 30.0) -> list[Ticket]:
        return await _patiently(lambda: RestStore.receive(self, queue, top=top, hide=hide))


async def _patiently(ask: Callable[[], Awaitable[T]]) -> T:
    for _ in range(PATIENCE):
        try:
            return await ask()
        except StorageDown:
            await asyncio.sleep(1.0)
    return await ask()


@dataclass(slots=True)
class Truth:
    where: Addresses
    http: httpx.AsyncClient
    store: RestStore

    async def open(self) -> int:
        """Slices that are owed as their markers tell, messages on the queue, and those that lie poisoned with nobody told why."""
        poisoned = await self.store.receive(OUTBOX_POISON, hide=1)
        raw = sum("reason" not in json.loads(ticket.body) for ticket in poisoned)
        return await self.owed() + await self.waiting() + raw

    async def waiting(self) -> int:
        return await self.store.queue_length(OUTBOX_QUEUE)

    async def owed(self) -> int:
        """Slices, as their markers tell."""
        return sum([len(await self.store.query(LEDGER_TABLE, account, "o|", "o}")) for account in ACCOUNTS])

    async def slices(self) -> list[Slice]:
        return [read_slice(row) for account in ACCOUNTS for row in await self.store.query(LEDGER_TABLE, account, "s|", "s}")]

    async def copies(self) -> dict[str, dict[str, int]]:
        """By subject and stamp, how often Graph took it."""
        found: dict[str, dict[str, int]] = defaultdict(dict)
        for row in (await self.http.get(f"{self.where.control}/sent", timeout=60)).raise_for_status().json():
            found[row["subject"]][row["stamp"]] = row["copies"]
        return found

    async def with_subjects(self, slices: list[Slice], known: dict[str, str]) -> list[tuple[str, Mail]]:
        """Each mail with its subject: the one that the sandbox saw under its stamp, else what its body says."""
        outbox, room = StoredOutbox(self.store), asyncio.Semaphore(AT_ONCE)

        async def one(slice_: Slice) -> list[tuple[str, Mail]]:
            if all(mail.stamp in known for mail in slice_.mails):
                return [(known[mail.stamp], mail) for mail in slice_.mails]
            async with room:
                bodies = await outbox.get(slice_.ref) or ()
            return [(body.subject, mail) for body, mail in zip(bodies, slice_.mails, strict=True)]

        return [pair for pairs in await asyncio.gather(*map(one, slices)) for pair in pairs]

    async def aside(self) -> dict[str, str]:
        """Subjects of the plain messages that were put aside, with the code of the reason. One that lies there raw is told to nobody."""
        found: dict[str, str] = {}
        while tickets := await self.store.receive(OUTBOX_POISON, hide=60):
            for ticket in tickets:
                told = json.loads(ticket.body)
                if "original" in told:
                    found[json.loads(told["original"])["subject"]] = told["reason"].partition(":")[0]
        return found


@asynccontextmanager
async def truth(where: Addresses, http: httpx.AsyncClient) -> AsyncIterator[Truth]:
    async with mailroom_http.new_client() as client:
        account = environment.read({"AzureWebJobsStorage": where.storage}, []).storage
        assert account is not None
        store = PatientStore(account, client, None, resource="")  # type: ignore[arg-type]  # a key needs no identity
        yield Truth(where, http, store)
