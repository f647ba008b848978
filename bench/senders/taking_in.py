"""Ours, a batch out of a blob: ticket after ticket until it is accepted, as the platform would bring them, in one process."""

import asyncio
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from bench.senders import room
from bench.senders.task import TASK
from mailroom import http
from mailroom.errors import StorageDown
from mailroom.model.batch import Batch
from mailroom.model.places import OUTBOX_QUEUE
from mailroom.storage.intakes import StoredIntakes
from mailroom.storage.keys import StoredKeys
from mailroom.storage.outbox import read_intake
from send_mail.accept import Accept
from send_mail.intake import Begin, wanted
from send_mail.take_in import TakeIn

T = TypeVar("T")


async def main() -> None:
    async with http.new_client() as client:
        store = room.store(client)
        accept, intakes = Accept(room.deliver(client, store), StoredKeys(store)), StoredIntakes(store)
        take_in = TakeIn(accept, intakes, lambda caller, account: None)
        body = msgspec.json.encode({"blob": TASK["blob"], "format": "ndjson"})
        order = wanted(body)
        assert order is not None
        found = await Begin(accept, intakes, TASK["caller"])(body, order, "bench")
        assert not isinstance(found, Batch)
        tickets = await _taken_in(take_in, store, found.id)
        batch = await accept.deliver.ledger.batch(found.id)
        assert batch is not None, await intakes.read(found.id)
        tell(batch=found.id, slices=sum(batch.slices.values()), tickets=tickets)


async def _taken_in(take_in: TakeIn, store: room.RestStore, batch_id: str) -> int:
    """How many tickets it took."""
    tickets = 0
    while True:
        for ticket in await store.receive(OUTBOX_QUEUE, top=1, hide=600.0):
            if read_intake(ticket.body) is None:  # of the batch's mails: it is accepted
                return tickets
            intake = await delivered(lambda: take_in.work(batch_id))
            await store.delete_ticket(OUTBOX_QUEUE, ticket)
            tickets += 1
            if intake is None or intake.fault:
                raise SystemExit(f"it was not accepted: {intake}")
            print(f"\r{intake.line} lines, {intake.state}", end="", file=sys.stderr, flush=True)
            if intake.state == "accepted":
                return tickets


async def delivered(work: Callable[[], Awaitable[T]]) -> T:
    """As the platform delivers a ticket: five times, where storage is down."""
    for _ in range(4):
        try:
            return await work()
        except StorageDown as error:
            print(f"\n{error}", file=sys.stderr)
            await asyncio.sleep(10)
    return await work()


STARTED = time.perf_counter()


def tell(**facts: object) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    cost = {"seconds": time.perf_counter() - STARTED, "cpu_seconds": used.ru_utime + used.ru_stime, "peak_rss_mb": used.ru_maxrss / 1024}
    sys.stdout.buffer.write(msgspec.json.encode(cost | facts))


if __name__ == "__main__":
    asyncio.run(main())
