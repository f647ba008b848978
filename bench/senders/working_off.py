"""Ours, the worker: tickets of a batch that was accepted long ago, four at a time, until so many mails are sent."""

import asyncio
import sys

from bench.senders import room
from bench.senders.taking_in import delivered, tell
from bench.senders.task import MAILS
from mailroom import http
from mailroom.model.places import OUTBOX_QUEUE
from mailroom.model.row import Ticket
from mailroom.storage.outbox import read_ticket
from send_mail.deliver import Deliver


async def main() -> None:
    async with http.new_client() as client:
        store = room.store(client)
        deliver, sent = room.deliver(client, store), 0
        while sent < MAILS:
            tickets = await store.receive(OUTBOX_QUEUE, top=4, hide=600.0)
            sent += sum(await asyncio.gather(*(_worked(deliver, ticket) for ticket in tickets)))
            for ticket in tickets:
                await store.delete_ticket(OUTBOX_QUEUE, ticket)
            if sent % 1000 == 0:
                print(f"\r{sent} mails sent", end="", file=sys.stderr, flush=True)
        tell(mails=sent)


async def _worked(deliver: Deliver, ticket: Ticket) -> int:
    """How many mails of its slice were sent."""
    ref = read_ticket(ticket.body)
    if ref is None:  # the intake's last one
        return 0
    done = await delivered(lambda: deliver.work(ref))
    return sum(one.status == "sent" for one in done.mails) if done else 0


asyncio.run(main())
