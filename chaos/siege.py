"""Drives what goes wrong: the schedule's events, and the set pieces that every run has."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

import httpx

from chaos.load import Job, Load
from chaos.proxy import KILLS, Trap
from chaos.schedule import Event
from chaos.town import VICTIM, Addresses
from chaos.workers import Worker
from mailroom.model.places import OUTBOX_QUEUE
from sandbox.host.storage import Storage

MOST_WAITING = 5  # faults that nobody has met yet; more of them would only pile up
TICKETS_WITHIN = 300.0  # seconds until some lie on the queue that can be purged
DELIVERIES_WITHIN = 600.0  # seconds for a ticket to be killed at each of its five deliveries
_POISONED = re.compile(rb"(\S+), dequeued (\d+) times, goes to mail-outbox-poison")


@dataclass(slots=True)
class Siege:
    where: Addresses
    workers: list[Worker]
    http: httpx.AsyncClient
    hits: Counter[str]
    revoked: int = 0
    purged: int = 0
    poisoned_unasked: int = 0
    _names: list[str] = field(default_factory=list)  # of the faults, in the order in which the sandbox has them
    _outages: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self, events: Iterator[Event]) -> None:
        """Until it is cancelled."""
        for event in events:
            await asyncio.sleep(event.pause)
            await self._strike(event, self.workers[event.worker])

    async def _strike(self, event: Event, worker: Worker) -> None:
        match event.kind:
            case "kill":
                worker.kill("at a random moment")
            case "trap" if event.name not in KILLS or not worker.proxy.is_deadly:
                worker.proxy.traps.append(Trap(event.name, event.after, event.times))  # type: ignore[arg-type]
            case "outage":
                self._begin_outage(event.after / 10)
            case "revoke":
                self.revoked += (await self._told("revoke", {"app": "graph"})).json()["revoked"] > 0
            case "fault" if event.fault and await self._met() < MOST_WAITING:
                await self._told("faults", event.fault)
                self._names.append(event.name)

    async def _told(self, what: str, body: dict[str, Any]) -> httpx.Response:
        return (await self.http.post(f"{self.where.control}/{what}", json=body)).raise_for_status()

    async def _met(self) -> int:
        """How many faults still wait for somebody to meet them."""
        return sum(fault["hits"] < (fault["times"] or 1) for fault in await self._faults())

    async def _faults(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.http.get(f"{self.where.control}/faults")).raise_for_status().json()
        return found

    def _begin_outage(self, seconds: float) -> None:
        """Storage is away from all of them."""

        async def outage() -> None:
            for worker in self.workers:
                worker.proxy.down = True
                worker.proxy.sever()
            await asyncio.sleep(seconds)
            for worker in self.workers:
                worker.proxy.down = False

        task = asyncio.create_task(outage())
        self._outages.add(task)
        task.add_done_callback(self._outages.discard)

    async def heal(self) -> None:
        """Nothing goes wrong from here on. The faults that were met are counted first."""
        await asyncio.gather(*self._outages)
        for worker in self.workers:
            worker.proxy.heal()
        for name, fault in zip(self._names, await self._faults(), strict=True):
            self.hits[name] += fault["hits"]
        (await self.http.delete(f"{self.where.control}/faults")).raise_for_status()

    async def purge(self, waiting: Callable[[], Awaitable[int]]) -> None:
        """Every ticket is gone, hidden ones too, as when somebody clears the queue by hand. Raises TimeoutError where there never is one.

        learn.microsoft.com/rest/api/storageservices/clear-messages
        """
        async with asyncio.timeout(TICKETS_WITHIN):
            while not (count := await waiting()):  # noqa: ASYNC110 - the queue's length is no event of ours
                await asyncio.sleep(0.2)
        await Storage(self.where.storage, self.http).call("queue", "DELETE", f"{OUTBOX_QUEUE}/messages")
        self.purged += count

    async def kill_at_each_delivery(self, load: Load, job: Job) -> None:
        """A ticket's workers die whenever they look at its slice, until the host has poisoned it unasked. Raises TimeoutError."""
        batch = await load.answered(job)
        load.count(job)
        ticket = json.dumps({"ticket": {"account": VICTIM, "unit": batch["id"]}}).encode()
        sign = quote(f"s|{batch['id']}|", safe="").encode()
        trap = Trap("kill before", times=10_000, fits=lambda service, head: _reads(service, head, sign))
        for worker in self.workers:
            worker.proxy.traps.insert(0, trap)
        name = await self._put(ticket)
        async with asyncio.timeout(DELIVERIES_WITHIN):
            while (name, 6) not in self._poisoned():  # noqa: ASYNC110 - what another process logs is no event of ours
                await asyncio.sleep(0.3)
        self.poisoned_unasked += 1
        trap.times = 0

    async def _put(self, body: bytes) -> str:
        """On the queue as any other message; the id that it got."""
        text = base64.b64encode(body).decode()
        message = f"<QueueMessage><MessageText>{text}</MessageText></QueueMessage>".encode()
        answer = await Storage(self.where.storage, self.http).call(
            "queue", "POST", f"{OUTBOX_QUEUE}/messages", {"messagettl": -1}, body=message
        )
        return ElementTree.fromstring(answer.content).findtext("QueueMessage/MessageId", "")

    def _poisoned(self) -> set[tuple[str, int]]:
        found = (match for worker in self.workers for match in _POISONED.finditer(worker.log.read_bytes()))
        return {(match[1].decode().split()[-1], int(match[2])) for match in found}


def _reads(service: str, head: bytes, sign: bytes) -> bool:
    return service == "table" and head.startswith(b"GET ") and sign in head.partition(b"\r\n")[0]
