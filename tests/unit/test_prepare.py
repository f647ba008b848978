"""A claim is kept alive while a mail's uploads go up, and given up the moment somebody else has it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from mailroom.errors import NotSent, ProviderError
from mailroom.model.account import AT_ONCE, Account
from mailroom.model.message import Attachment, Message, Outgoing, Receipt
from mailroom.model.row import Change
from mailroom.model.slice import Mail, Ref, Slice
from mailroom.model.token import Token
from mailroom.storage.ledger import StoredLedger
from send_mail.claim import Claim
from send_mail.prepare import Prepare
from tests.sending import Room

TOKEN = Token("t", 2e9)
MAIL = Outgoing("s1", Message("billing", attachments=(Attachment("a.pdf", blob="crm/u1", size=5, etag="e"),)))


@dataclass
class Slow:
    """A provider whose upload does whatever the test says."""

    upload: Callable[[], Awaitable[Any]]
    ended: bool = False

    def check(self, message: Message) -> None:
        return None

    def admit(self, account: Account, message: Message) -> None:
        return None

    async def rehearse(self, account: Account, token: Token) -> None:
        return None

    async def send(
        self, account: Account, mails: Sequence[Outgoing], token: Token, at_once: int = AT_ONCE
    ) -> list[Receipt | ProviderError]:
        raise AssertionError("nothing here sends")

    async def ask(self, account: Account, mails: Sequence[Outgoing], token: Token, at_once: int = AT_ONCE) -> list[Receipt | None]:
        raise AssertionError("nothing here asks")

    async def prepare(self, account: Account, mail: Outgoing, token: Token) -> Outgoing | Receipt | ProviderError:
        try:
            await self.upload()
        finally:
            self.ended = True
        return msgspec.structs.replace(mail, draft="d1")


async def claimed(room: Room) -> Claim:
    born = Slice(Ref("billing", "m1"), "crm", (Mail("m1", stamp="s1"),), room.clock())
    claim = await room.deliver.take(room.account, born, single=True, born=True)
    assert isinstance(claim, Claim)
    await room.ledger.insert([claim.ours])
    found = await room.ledger.read(born.ref)
    assert found is not None
    return Claim(claim.account, claim.before, found, claim.fence, claim.at_once)


def prepare(room: Room, sender: Slow) -> Prepare:
    return Prepare(room.timing, room.fake, room.ledger, room.lanes, sender, room.clock, every=0.001)


async def test_a_claim_outlives_a_long_upload() -> None:
    """After three claims' time the slice and its permit are still ours, the sweep sees it live, and the fence has moved along."""
    room = Room()
    claim = await claimed(room)

    async def upload() -> None:
        for _ in range(6):
            room.clock.time += room.timing.claim / 2
            async with asyncio.timeout(10):
                while await lives_until() < room.clock() + room.timing.claim:
                    continue

    async def lives_until() -> float:
        found = await room.ledger.read(claim.ours.ref)
        return 0.0 if found is None else found.claim_until

    held, ready, answers = await prepare(room, Slow(upload))(claim, {0: MAIL}, TOKEN)
    assert [mail.draft for mail in ready.values()] == ["d1"]
    assert answers == {}
    assert held.fence >= claim.fence + 2.5 * room.timing.claim
    assert held.fence > room.clock()
    [marker] = await room.ledger.owed("billing", top=1)
    assert marker.due >= room.clock()
    lane = await room.fake.get_row("MailLanes", "billing", "graph")
    assert lane is not None
    assert msgspec.json.decode(str(lane.values["permits"]))[0]["until"] >= room.clock()
    settled = await room.ledger.settle(held.ours, {0: held.ours.mails[0].sent(Receipt("draft"))})
    assert settled.mails[0].status == "sent"


async def test_who_loses_the_claim_stops() -> None:
    """The upload is cut off, and nothing is left that could be sent."""
    room = Room()
    claim = await claimed(room)
    sender = Slow(asyncio.Event().wait)
    work = asyncio.ensure_future(prepare(room, sender)(claim, {0: MAIL}, TOKEN))
    await taken_over(room.ledger, room, claim)
    _, ready, answers = await work
    assert ready == {}
    assert [type(answer) for answer in answers.values()] == [NotSent]
    assert sender.ended


async def taken_over(ledger: StoredLedger, room: Room, claim: Claim) -> None:
    """As after a pause of the whole machine: the claim ran out, and another worker has the slice."""
    while True:
        row = await room.fake.get_row("MailLedger", "billing", "s|m1|00000")
        assert row is not None
        other = msgspec.structs.replace(row, values={**row.values, "claim": "other"}, etag="")
        await room.fake.write("MailLedger", [Change("replace", other)])
        found = await ledger.read(claim.ours.ref)
        if found is not None and found.claim == "other":
            return


async def test_an_upload_has_its_time() -> None:
    """What does not end is cut off, and the mail goes again later."""
    room = Room()
    timing = msgspec.structs.replace(room.timing, upload=0.01)
    claim = await claimed(room)
    slow = Prepare(timing, room.fake, room.ledger, room.lanes, Slow(asyncio.Event().wait), room.clock)
    _, ready, answers = await slow(claim, {0: MAIL}, TOKEN)
    assert ready == {}
    assert [getattr(answer, "code", "") for answer in answers.values()] == ["upload_timeout"]


async def test_mails_without_uploads_are_ready_as_they_are() -> None:
    """They cost no call and no write."""
    room = Room()
    claim = await claimed(room)
    plain = Outgoing("s1", Message("billing"))
    room.fake.calls.clear()
    assert await prepare(room, Slow(asyncio.Event().wait))(claim, {0: plain}, TOKEN) == (claim, {0: plain}, {})
    assert room.fake.calls == []
