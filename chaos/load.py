"""The mails: planned by the seed, handed over by callers who repeat themselves until they are answered, as callers should."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx

from chaos.proxy import KILLS, Action, Trap
from chaos.town import MAILBOXES, VICTIM, Addresses
from chaos.workers import Worker
from sandbox.host.queues import Queue

PATIENCE = 15.0  # seconds that a caller waits for an answer
PAUSE = 0.3  # seconds until a caller asks again
SINGLE_CALLERS = 6
BATCH_CALLERS = 2
LARGEST_BATCH = 150
CROWD = 40  # messages on the queue
VICTIMS = 3
IMPATIENT = 0.05  # part of the requests that are made twice at the same time
CUT_SHORT = 0.4  # part of the batches whose accept is killed half-way

How = Literal["single", "batch", "plain"]
SENDERS: dict[How, tuple[str, ...]] = {"single": MAILBOXES[:2], "plain": MAILBOXES[:2], "batch": (MAILBOXES[1], *5 * MAILBOXES[2:])}


@dataclass(frozen=True, slots=True)
class Job:
    """One request, or one queue message: `mails` by subject, each of which is its own."""

    how: How
    name: str
    mails: tuple[dict[str, Any], ...]

    @property
    def subjects(self) -> list[str]:
        return [mail["subject"] for mail in self.mails]


def plan(seed: int, mails: int) -> list[Job]:
    """Most of the mails in batches, the others single over HTTP and plain on the queue; the first is a batch of the victim's."""
    chance = random.Random(f"mails {seed}")
    victim = Job("batch", "victim", tuple(_mail("batch", VICTIM, number) for number in range(VICTIMS)))
    jobs: list[Job] = []
    made, left = VICTIMS, mails - VICTIMS
    few = min(left // 4, 60 + left // 25)  # each takes as long as a slice of 20 mails does
    shares: dict[How, int] = {"batch": left - 2 * few, "single": few}
    for how, count in [*shares.items(), ("plain", left - sum(shares.values()))]:
        while count > 0:
            size = min(count, chance.randint(1, LARGEST_BATCH) if how == "batch" else 1)
            numbers = range(made, made + size)
            jobs.append(Job(how, f"{how}-{made}", tuple(_mail(how, chance.choice(SENDERS[how]), number) for number in numbers)))
            made, count = made + size, count - size
    chance.shuffle(jobs)
    return [victim, *jobs]


def _mail(how: How, account: str, number: int) -> dict[str, Any]:
    """Some go as MIME; some of those that need no id of their own have none."""
    mail = {
        "account": account,
        "to": [f"Customer {number} <customer-{number}@fabrikam.example>"],
        "subject": f"Mail {number:06}",
        "text": f"This is mail {number}.",
    }
    if how == "single" or (how == "plain" and number % 10) or number % 3 == 0:
        mail["id"] = f"mail-{number}"
    if number % 25 == 0:
        mail["in_reply_to"] = "<question@fabrikam.example>"
    return mail


@dataclass(slots=True)
class Load:
    """`accepted` counts mails, `unexpected` the answers that no caller should get, `repeats` requests that were made again."""

    where: Addresses
    workers: list[Worker]
    http: httpx.AsyncClient  # trusts the town
    queue: Queue
    waiting: Callable[[], Awaitable[int]]  # how many messages are on it
    chance: random.Random
    accepted: int = 0
    unexpected: Counter[str] = field(default_factory=Counter)
    repeats: int = 0
    cut_short: int = 0
    _token: str = ""
    _until: float = 0.0

    async def hand_over(self, jobs: Sequence[Job]) -> None:
        """Over HTTP, several callers at once."""
        await asyncio.gather(
            self._shared([job for job in jobs if job.how == "single"], SINGLE_CALLERS),
            self._shared([job for job in jobs if job.how == "batch"], BATCH_CALLERS),
        )

    async def plain(self, jobs: Sequence[Job]) -> None:
        """Another application's, whose own way to the queue is fine. So many at once that the tickets still have their turn."""
        for job in jobs:
            while await self.waiting() > CROWD:  # noqa: ASYNC110 - the queue's length is no event of ours
                await asyncio.sleep(1.0)
            await self.queue.put(base64.b64encode(json.dumps(job.mails[0]).encode()).decode())
            self.count(job)
            await asyncio.sleep(0.1)

    async def _shared(self, jobs: list[Job], callers: int) -> None:
        waiting = iter(jobs)

        async def caller() -> None:
            for job in waiting:
                twice = self.chance.random() < IMPATIENT
                await asyncio.gather(*(self.answered(job) for _ in range(1 + twice)))
                self.count(job)

        await asyncio.gather(*(caller() for _ in range(callers)))

    def count(self, job: Job) -> None:
        self.accepted += len(job.mails)

    async def answered(self, job: Job) -> dict[str, Any]:
        """The same request, with the same key, until there is an answer."""
        for tries in range(10_000):
            answer = await self._asked(job, tries)
            if answer is not None and answer.status_code == 202:
                return dict(answer.json())
            if answer is not None and answer.status_code < 500 and answer.status_code != 401:
                self.unexpected[f"{job.how} {answer.status_code} {answer.text[:200]}"] += 1
                return {}
            self.repeats += 1
            await asyncio.sleep(PAUSE)
        raise RuntimeError(f"{job.name} was never answered")

    async def _asked(self, job: Job, tries: int) -> httpx.Response | None:
        """None where there was no answer."""
        worker = self.chance.choice([worker for worker in self.workers if worker.up.is_set()] or self.workers)
        if job.how == "batch" and tries == 0 and self.chance.random() < CUT_SHORT:
            self._cut_short(worker, len(job.mails))
        path, body = ("batches", list(job.mails)) if job.how == "batch" else ("messages", job.mails[0])
        try:
            head = {"Authorization": f"Bearer {await self._bearer()}", "Idempotency-Key": job.name}
            return await self.http.post(f"{worker.url}/{path}", json=body, headers=head, timeout=PATIENCE)
        except httpx.HTTPError:
            return None

    def _cut_short(self, worker: Worker, mails: int) -> None:
        """Kills it in the middle of the writes that accept the batch."""
        action: Action = self.chance.choice(KILLS)
        worker.proxy.traps.insert(0, Trap(action, self.chance.randrange(mails // 20 + 8), fits=_accepts))
        self.cut_short += 1

    async def _bearer(self) -> str:
        if time.monotonic() > self._until:
            form = {"grant_type": "client_credentials", "client_id": self.where.client_id, "client_secret": self.where.secret}
            answer = await self.http.post(self.where.token_url, data=form | {"scope": self.where.scope})
            answer.raise_for_status()
            self._token, self._until = answer.json()["access_token"], time.monotonic() + 30
        return self._token


def _accepts(service: str, head: bytes) -> bool:
    """What only an accept writes: bodies, transactions, names."""
    return head.startswith((b"PUT ", b"POST ")) and service in ("blob", "table")
