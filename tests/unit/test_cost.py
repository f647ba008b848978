"""What working off a slice of twenty mails costs: calls to storage and to the provider, counted."""

from __future__ import annotations

from collections import Counter

from mailroom.model.places import OUTBOX_QUEUE
from mailroom.model.slice import SLICE_MAILS
from mailroom.storage.outbox import read_ticket
from send_mail.line import Line
from send_mail.tickets import WINDOW
from tests.sending import Room, message

SLICES = 10


async def test_a_slice_costs_four_writes_a_blob_a_ticket_and_a_call() -> None:
    """Lane, claim, settlement with the next slice's ticket, lane again; while others wait it gives one ticket."""
    room = Room()
    await room.accept.batch([Line(number, message()) for number in range(1, SLICES * SLICE_MAILS + 1)], [], "crm", "hash")
    for done in range(1, SLICES + 1):
        [ticket, *_] = await room.fake.receive(OUTBOX_QUEUE, top=1)
        room.fake.calls.clear()
        ref = read_ticket(ticket.body)
        assert ref is not None
        await room.deliver.work(ref)
        counted = Counter(room.fake.calls)
        await room.fake.delete_ticket(OUTBOX_QUEUE, ticket)
        assert counted["write"] == 4
        assert counted["get_blob"] == 1
        assert counted["put_ticket"] == (done <= SLICES - WINDOW)
        assert room.provider.calls == done
        assert counted["get_row"] + counted["query"] == (3 if done == 1 else 2)  # the lane is read once: nobody else changes it
        room.pass_time(1.0)
    assert sum(room.provider.copies.values()) == SLICES * SLICE_MAILS
    assert room.fake.queues[OUTBOX_QUEUE] == []
