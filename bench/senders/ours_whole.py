"""Ours, the whole path: ticket → blob → ledger → provider → ledger, on Azurite. The batch is accepted before the clock starts.

What the platform does in Azure is not counted: here a loop receives the tickets in its place and deletes them afterwards.
"""

import asyncio
import time

from bench.senders import room
from bench.senders.task import MAILS, SUBJECT, TEXT, TO, WARM_UP, tell
from mailroom import http
from mailroom.model.message import Address, Message
from mailroom.model.places import OUTBOX_QUEUE
from mailroom.storage.keys import StoredKeys
from mailroom.storage.outbox import read_ticket
from mailroom.storage.rest import RestStore
from send_mail.accept import Accept
from send_mail.deliver import Deliver
from send_mail.line import Line


async def main() -> None:
    async with http.new_client() as client:
        store = room.store(client)
        deliver = room.deliver(client, store)
        mail = Message("billing", to=(Address(TO),), subject=SUBJECT, text=TEXT)
        lines = [Line(number, mail) for number in range(1, MAILS + WARM_UP + 1)]
        await Accept(deliver, StoredKeys(store)).batch(lines, [], "bench", "bench")
        await worked(deliver, store, WARM_UP)
        cpu, clock, sent = 0.0, 0.0, 0
        while sent < MAILS:
            spent, took, more = await worked(deliver, store, MAILS - sent)
            cpu, clock, sent = cpu + spent, clock + took, sent + more
        tell(cpu, clock, sent)


async def worked(deliver: Deliver, store: RestStore, most: int) -> tuple[float, float, int]:
    """CPU seconds, seconds and mails of the tickets that are there now."""
    tickets = await store.receive(OUTBOX_QUEUE, top=max(1, min(4, most // 20)))
    cpu, clock, sent = time.process_time(), time.perf_counter(), 0
    for ticket in tickets:
        ref = read_ticket(ticket.body)
        assert ref is not None, ticket.body
        done = await deliver.work(ref)
        sent += sum(one.status == "sent" for one in done.mails) if done else 0
    spent, took = time.process_time() - cpu, time.perf_counter() - clock
    for ticket in tickets:
        await store.delete_ticket(OUTBOX_QUEUE, ticket)
    return spent, took, sent


asyncio.run(main())
