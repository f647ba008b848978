"""Two workers at one slice, step by step: one that freezes at each of its steps, and two that begin at each distance from one another."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from mailroom.errors import MailroomError
from mailroom.model.slice import OWED, Ref, Slice
from send_mail.line import Line
from tests.freezing import ROOMY, another, frosty
from tests.sending import Killed, Room, message

STEPS = 14  # more than sending a slice has
CLAIM, GRACE = 20.0, 10.0  # seconds, as the room has them

Work = Callable[[], Awaitable[object]]


async def batch(room: Room) -> Ref:
    """Two mails of one slice, which nobody has claimed yet."""
    made = await room.accept.batch([Line(1, message()), Line(2, message())], [], "crm", "hash")
    return Ref("billing", made.id)


async def as_the_host(work: Work) -> None:
    """A kill or an error is the host's affair."""
    try:
        await work()
    except (Killed, MailroomError):
        return


async def ended(room: Room, ref: Ref) -> Slice:
    """Once all has come to rest: nothing is owed, and whoever is called sent was sent once, whoever is not was not."""
    room.provider.script.clear()
    await room.come_to_rest()
    found = await room.ledger.read(ref)
    assert found is not None
    for mail in found.mails:
        copies = room.provider.copies[mail.stamp]
        assert mail.status not in OWED
        assert (mail.status == "sent") == (copies == 1), (mail, copies)
        assert copies <= 1
    return found


@pytest.mark.parametrize("other", ["ok", "killed after", "killed before", "lost after", "429 after", "not sent"])
@pytest.mark.parametrize("seconds", [CLAIM + 1, CLAIM + GRACE + 1, 70.0])
async def test_who_freezes_at_any_step_sends_nothing_twice(other: str, seconds: float) -> None:
    """Its claim runs out, somebody else takes the slice and is answered, lost or killed; then it wakes and goes on."""
    woken = 0
    for step in range(STEPS):
        room = Room(traits=ROOMY)
        ref = await batch(room)

        async def meanwhile(room: Room = room, ref: Ref = ref) -> None:
            nonlocal woken
            woken += 1
            room.pass_time(seconds)
            room.provider.script = [other]
            await as_the_host(lambda: another(room).deliver.work(ref))

        store = frosty(room, meanwhile)
        store.freezes_in = step
        await as_the_host(lambda room=room, ref=ref: room.deliver.work(ref))  # type: ignore[misc]
        store.freezes_in = None
        await ended(room, ref)
    assert woken >= 8  # so many steps there were to freeze at


@pytest.mark.parametrize("answers", [["ok"], ["lost after"], ["killed after"], ["not sent"], ["429 after"]])
@pytest.mark.parametrize("behind", range(STEPS))
async def test_one_ticket_delivered_twice_is_one_claim(answers: list[str], behind: int) -> None:
    """The queue delivers at least once; the second worker begins so many steps behind the first, and only one of them sends."""
    room = Room(traits=ROOMY)
    ref = await batch(room)
    room.provider.script = list(answers)

    async def later() -> None:
        for _ in range(2 * behind):  # a step is two turns: the network's, and the other worker's
            await asyncio.sleep(0)
        await another(room).deliver.work(ref)

    await asyncio.gather(as_the_host(lambda: room.deliver.work(ref)), as_the_host(later))
    assert room.provider.calls == 1
    await ended(room, ref)


@pytest.mark.parametrize("seconds", [1.0, CLAIM + 1, CLAIM + 0.5 * GRACE, CLAIM + GRACE + 1])
async def test_nobody_asks_before_the_last_request_must_have_landed(seconds: float) -> None:
    """A killed worker's request arrives late; whoever gets a ticket before the grace is over neither asks nor sends."""
    room = Room(traits=ROOMY)
    ref = await batch(room)
    room.provider.script = ["killed, late"]
    await as_the_host(lambda: room.deliver.work(ref))
    room.pass_time(seconds)
    await another(room).deliver.work(ref)
    assert (room.provider.calls, room.provider.questions) == ((2, 1) if seconds > CLAIM + GRACE else (1, 0))
    await ended(room, ref)
