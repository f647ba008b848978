"""However much waits on a lane: few tickets are alive, the pace is kept, and nobody waits for somebody else's mailbox."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from mailroom.errors import ProviderError
from mailroom.model.account import AT_ONCE, Account, Timing
from mailroom.model.batch import Batch
from mailroom.model.message import Message, Outgoing, Receipt
from mailroom.model.places import LEDGER_TABLE, OUTBOX_QUEUE
from mailroom.model.slice import SLICE_MAILS, Mail, Ref, Slice
from mailroom.model.token import Token
from mailroom.storage.ledger_rows import marker_row, slice_row
from mailroom.storage.outbox import read_ticket
from send_mail.tickets import WINDOW
from tests.sending import FakeProvider, Room, message

WAITING = 100_000
SLOTS = 16  # queue messages that one instance of the host works on at once, its default


async def waits(room: Room, account: str, mails: int, unit: str) -> None:
    """A committed batch of so many mails; its rows are put into the table at once, which accepting them by the thousands would not be."""
    slices = [
        Slice(
            ref=Ref(account, unit, number),
            caller="crm",
            mails=tuple(Mail(f"{unit}.{number}.{at}", stamp=f"{unit}.0.{number}.{at}") for at in range(SLICE_MAILS)),
            created=room.clock(),
            batch=True,
        )
        for number in range(mails // SLICE_MAILS)
    ]
    rows = [row for slice_ in slices for row in (slice_row(slice_), marker_row(slice_, 0.0))]
    table = room.fake.tables.setdefault(LEDGER_TABLE, {})
    table |= {(row.partition, row.key): msgspec.structs.replace(row, etag=f'"{row.key}"') for row in rows}
    await room.ledger.open(account)
    await room.ledger.put_batch(Batch(unit, "crm", room.clock(), {account: len(slices)}), commit=True)


class Bodies:
    """An outbox whose slices all hold the same twenty mails; its tickets are real."""

    def __init__(self, room: Room) -> None:
        self._outbox = room.outbox

    def __getattr__(self, name: str) -> Any:
        return getattr(self._outbox, name)

    async def get(self, ref: Ref) -> tuple[Message, ...]:
        return (message(),) * SLICE_MAILS


def with_bodies(room: Room) -> None:
    object.__setattr__(room.deliver, "outbox", Bodies(room))


def also(room: Room, name: str) -> None:
    account = msgspec.structs.replace(room.account, name=name, address=f"{name}@x.example")
    room.deliver.accounts.update({name: account})  # type: ignore[attr-defined]


OK = ["ok"] * 30


@pytest.mark.parametrize(
    ("script", "killed"),
    [([], 0), (["429", *OK, "not sent", *OK, "lost before"], 0), ([*OK, "killed after", *OK, "killed before"], 2)],
    ids=["well", "ill", "killed"],
)
async def test_of_a_hundred_thousand_mails_four_tickets_are_alive(script: list[str], killed: int) -> None:
    """After every ticket and every sweep the queue counts at most four, while the lane keeps its 30 a minute: mails are rows.

    The sweep cannot know that a killed worker's ticket lives on, so that one may be there twice for a while.
    """
    room = Room(Timing(), rate=30.0)
    with_bodies(room)
    await waits(room, "billing", WAITING, "b1")
    room.provider.script = list(script)
    await room.deliver.tickets.refill("billing")
    began, most = room.clock(), 0
    while room.clock() < began + 900:
        await room.work_off()
        with_bodies(room)  # a process that was killed has started anew
        await room.sweep.run()
        most = max(most, await room.fake.queue_length(OUTBOX_QUEUE))
        assert most <= WINDOW + killed
        room.pass_time(5.0)
    assert await room.fake.queue_length(OUTBOX_QUEUE) == WINDOW
    copies = room.provider.copies
    assert set(copies.values()) == {1}
    assert (240 if script else 430) <= len(copies) <= 900 * 30 / 60 + SLICE_MAILS
    assert len(room.fake.tables[LEDGER_TABLE]) > 2 * (WAITING - len(copies)) / SLICE_MAILS


class Slow(FakeProvider):
    """One mailbox answers nothing until it is let go; the others answer at once."""

    def hang(self) -> None:
        self.free = asyncio.Event()
        self.hanging: Counter[str] = Counter()

    async def send(
        self, account: Account, mails: Sequence[Outgoing], token: Token, at_once: int = AT_ONCE
    ) -> list[Receipt | ProviderError]:
        if account.name == "slow":
            self.hanging[account.name] += 1
            await self.free.wait()
        return await super().send(account, mails, token, at_once)


async def host(room: Room, until: asyncio.Event) -> int:
    """What the Functions host does: so many queue messages at once, the next one when one is done. The most that it ever worked on."""
    working: set[asyncio.Task[None]] = set()
    most = 0

    async def one(ticket: Any) -> None:
        ref = read_ticket(ticket.body)
        assert ref is not None
        await room.deliver.work(ref)
        await room.fake.delete_ticket(OUTBOX_QUEUE, ticket)

    while not until.is_set():
        free = SLOTS - len(working)
        tickets = await room.fake.receive(OUTBOX_QUEUE, top=free, hide=600.0) if free else []
        working |= {asyncio.create_task(one(ticket)) for ticket in tickets}
        most = max(most, len(working))
        await asyncio.sleep(0)
        working = {task for task in working if not task.done()}
        room.pass_time(0.02)
    await asyncio.gather(*working)
    return most


async def test_a_slow_mailbox_holds_up_no_other() -> None:
    """A mailbox that answers nothing, with 100,000 mails waiting, takes no more of an instance than its few tickets: others go on."""
    room = Room(rate=60000.0)
    room.provider = Slow(room.real, room.timing)
    room.provider.hang()
    with_bodies(room)
    for name in ("slow", "quick"):
        also(room, name)
    await waits(room, "slow", WAITING, "b1")
    await waits(room, "quick", 1000, "b2")
    for name in ("slow", "quick"):
        await room.deliver.tickets.refill(name)
    over = asyncio.Event()
    hosting = asyncio.create_task(host(room, over))
    for _ in range(20_000):
        if len(room.provider.copies) == 1000:
            break
        await asyncio.sleep(0)
    assert {stamp.partition(".")[0] for stamp in room.provider.copies} == {"b2"}
    assert len(room.provider.copies) == 1000
    assert 1 <= room.provider.hanging["slow"] <= WINDOW
    over.set()
    room.provider.free.set()
    assert await hosting < SLOTS
