"""A lane's tickets are few also where mails are sent while they are asked for, in doubt by the dozen, and asked for again and again."""

from __future__ import annotations

import pytest

from mailroom.model.account import Timing
from mailroom.model.lane import Permit
from mailroom.model.places import OUTBOX_QUEUE
from send_mail.tickets import WINDOW
from tests.sending import Room, message

MAILS = 60


async def alive(room: Room) -> int:
    return await room.fake.queue_length(OUTBOX_QUEUE)


@pytest.mark.parametrize("answer", ["lost before", "lost after", "429", "not sent", "401"])
async def test_dozens_of_single_mails_in_doubt_have_four_tickets(answer: str) -> None:
    """Each was tried in its request, without a ticket: four get one, the others follow as these are settled, and each goes once."""
    room = Room(Timing(), rate=60000.0)
    room.provider.script = [answer] * MAILS
    for number in range(MAILS):
        await room.accept.single(message(f"m{number}"), "crm", "hash")
        room.pass_time(0.1)
        assert await alive(room) <= WINDOW
    room.provider.script.clear()
    for _ in range(200):
        await room.work_off()
        await room.sweep.run()
        assert await alive(room) <= WINDOW
        room.pass_time(5.0)
    assert (len(room.provider.copies), set(room.provider.copies.values())) == (MAILS, {1})
    assert await alive(room) == 0


async def test_asking_again_makes_no_ticket() -> None:
    """A request that is repeated every second while its mailbox rests finds its mail pending, and adds nothing to the queue."""
    room = Room(Timing(), rate=60000.0)
    room.provider.script = ["not sent"]
    await room.accept.single(message("m1"), "crm", "hash")
    room.pass_time(400.0)
    await room.lanes.release(room.account, "", not_before=room.clock() + 3600.0, why="throttled")
    for _ in range(40):
        found = await room.accept.single(message("m1"), "crm", "hash")
        assert found.mails[0].status == "pending"
        room.pass_time(1.0)
    assert await alive(room) == 1
    room.pass_time(3600.0)
    await room.come_to_rest()
    assert list(room.provider.copies.values()) == [1]


async def test_who_has_a_ticket_that_shows_later_gets_no_second_one() -> None:
    """It puts itself off while others send; a request that comes before it shows finds room, and leaves the mail in doubt."""
    room = Room(Timing(), rate=60000.0)
    room.provider.script = ["not sent"]
    await room.accept.single(message("m1"), "crm", "hash")
    for _ in range(5):
        room.pass_time(400.0)
        others = Permit("others", room.account.traits.in_flight, room.clock() + 60.0)
        await room.lanes.join(room.account, others)
        await room.work_off()
        await room.lanes.release(room.account, others.nonce)
        room.provider.script = ["not sent"]
        calls = room.provider.calls
        await room.accept.single(message("m1"), "crm", "hash")
        assert (room.provider.calls, await alive(room)) == (calls + 1, 1)
    await room.come_to_rest()
    assert list(room.provider.copies.values()) == [1]
