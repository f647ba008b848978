"""`mailroom outbox` on a room of fakes: what a person sees, and what becomes of what a person decides."""

from __future__ import annotations

import io
import json
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from cli.outbox.command import SHOWN, Outbox
from cli.outbox.mails import PAGE, Mails
from cli.outbox.poison import Poison
from cli.progress import Progress
from mailroom.errors import Conflict, MailroomError, NotFound
from mailroom.model.account import Timing
from mailroom.model.places import OUTBOX_POISON, OUTBOX_QUEUE
from mailroom.model.slice import Ref
from send_mail.accept import QUEUE
from send_mail.line import Line
from tests.sending import Room, message
from tests.unit.test_decide import another

CLEARED = "\r\x1b[2K"
HOLDS: dict[str, Any] = {"provider": "smtp", "permissions": frozenset({"SMTP.Send"})}  # one whose sent mails nobody can look up


class Desk:
    """A room, and a person at a terminal beside it."""

    def __init__(self, **account: Any) -> None:
        self.room = Room(Timing(claim=20.0, call=5.0, grace=10.0, pause=5.0), **account)
        self.said: list[str] = []
        self.terminal = io.StringIO()

    @property
    def outbox(self) -> Outbox:
        room = self.room
        mails = Mails(room.store, room.ledger, room.timing.grace)
        return Outbox(
            mails, Poison(room.store, self.sleep), room.outbox, room.deliver.accounts, room.timing, self.progress, self.said.append
        )

    @property
    def progress(self) -> Progress:
        return Progress(self.terminal, columns=lambda: 80, quiet=True)

    async def sleep(self, seconds: float) -> None:
        self.room.pass_time(seconds)

    async def told(self, work: Callable[[Outbox], Awaitable[None]]) -> str:
        self.said.clear()
        await work(self.outbox)
        return "\n".join(self.said)

    async def refusal(self, work: Callable[[Outbox], Awaitable[None]]) -> MailroomError:
        before = dict(self.room.fake.tables["MailLedger"])
        with pytest.raises(MailroomError) as caught:
            await work(self.outbox)
        assert self.room.fake.tables["MailLedger"] == before
        return caught.value

    async def post(self, name: str, *script: str) -> None:
        self.room.provider.script = list(script)
        await self.room.accept.single(message(name), "crm", "hash")

    async def status(self, name: str) -> str:
        return str((await self.room.status.message(name, "crm"))["status"])

    async def rest(self) -> None:
        self.room.provider.script.clear()
        await self.room.come_to_rest()

    @property
    def copies(self) -> int:
        return sum(self.room.provider.copies.values())


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_nothing_to_do_is_said(desk: Desk) -> None:
    """Mails that were sent wait for nobody."""
    await desk.post("m1")
    assert await desk.told(lambda outbox: outbox.list_all(None)) == "billing: 1 sent\nNothing waits for a person."


async def test_the_list_tells_what_waits_for_whom_and_why() -> None:
    """Each account with its counts, each held mail with its reason and the next step; pending ones are counted, or listed if wanted."""
    desk = Desk(**HOLDS)
    await desk.post("m1", "lost before")
    await desk.post("m2", "not sent")
    await desk.room.outbox.poison(b"Dear queue", "not_json: The body is not JSON.")
    told = await desk.told(lambda outbox: outbox.list_all(None))
    assert told.splitlines()[0] == "billing: 1 pending, 1 held"
    assert "  held       m1  answer_lost: Lost." in told
    assert "             → Where the provider can be asked" in told
    assert "not_json: The body is not JSON." in told
    assert '"Dear queue"' in told
    assert told.endswith("2 wait for a person.")
    assert "m2" not in told
    assert "m2" in await desk.told(lambda outbox: outbox.list_all("billing", every=True))


async def test_a_mail_of_thousands_is_found_by_its_own_id(desk: Desk) -> None:
    """Over the ledger's pages, also what came by the queue and has no caller to ask."""
    for number in range(PAGE + 1):
        await desk.room.accept.single(message(f"n{number}"), QUEUE, "hash")
    told = await desk.told(lambda outbox: outbox.show(f"n{PAGE}", None))
    assert f"id              n{PAGE}" in told
    assert "caller          queue" in told
    assert "to              ann@example.com" in told
    assert f"{PAGE} pending, 1 sent" in await desk.told(lambda outbox: outbox.list_all(None))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


async def test_a_bar_shows_how_far_it_has_come(desk: Desk) -> None:
    """On a terminal, while many mails are read and several are put back; it is gone when there is something to say. Elsewhere: nothing."""
    for number in range(SHOWN):
        await desk.room.accept.single(message(f"n{number}"), QUEUE, "hash")
    names = [f"n{number}" for number in range(SHOWN - 4, SHOWN)]
    quiet = await desk.told(lambda outbox: outbox.list_all(None))
    assert desk.terminal.getvalue() == ""
    desk.terminal = Terminal()
    assert await desk.told(lambda outbox: outbox.list_all(None)) == quiet
    assert f"billing: {SHOWN} mails read" in desk.terminal.getvalue()
    desk.terminal = Terminal()
    told = await desk.told(lambda outbox: outbox.each(names, lambda name: outbox.drop(name, "billing")))
    assert told.splitlines() == [f"{name}: cancelled" for name in names]
    drawn = desk.terminal.getvalue()
    assert all(f"{part:3}%  {name}" in drawn for part, name in zip((0, 25, 50, 75), names, strict=True))
    assert drawn.endswith(CLEARED)


async def test_a_row_of_a_newer_version_is_told_and_left_alone(desk: Desk) -> None:
    """The list says what it could not read, and no decision writes over it."""
    await desk.post("m1", "not sent")
    table = desk.room.fake.tables["MailLedger"]
    [at] = [key for key in table if key[1].startswith("s|")]
    table[at] = row = msgspec.structs.replace(table[at], values={**table[at].values, "version": 2})
    told = await desk.told(lambda outbox: outbox.list_all(None))
    assert "not read: " in told
    assert (await desk.refusal(lambda outbox: outbox.drop("m1", None))).code == "message_unknown"
    assert table[at] == row


async def test_one_id_of_two_callers_is_told_apart(desk: Desk) -> None:
    """Who names both is told how to name one."""
    refs = [await desk.room.accept.single(message("m1"), caller, "hash") for caller in ("crm", "shop")]
    refusal = await desk.refusal(lambda outbox: outbox.show("m1", None))
    assert refusal.code == "id_ambiguous"
    for slice_, caller in zip(refs, ("crm", "shop"), strict=True):
        assert slice_.mails[0].stamp in refusal.next_step
        assert f"caller          {caller}" in await desk.told(lambda outbox, name=slice_.mails[0].stamp: outbox.show(name, None))


@pytest.mark.parametrize("what", ["show", "requeue", "drop"])
async def test_what_is_not_there_is_not_found(desk: Desk, what: str) -> None:
    """One line with a code, and nothing is changed."""
    await desk.post("m1")
    refusal = await desk.refusal(lambda outbox: getattr(outbox, what)("m2", None))
    assert isinstance(refusal, NotFound)
    assert "mailroom outbox list" in refusal.next_step


async def held_by_the_sweep(desk: Desk) -> None:
    """All tickets of a pending mail die."""
    await desk.post("m1", "not sent")
    for _ in range(13):
        desk.room.fake.queues.clear()
        desk.room.pass_time(31.0)
        await desk.room.sweep.run()
    assert await desk.status("m1") == "held"


async def test_a_held_mail_goes_once_it_is_requeued(desk: Desk) -> None:
    """What was never tried, or surely did not go, is owed again; the next sweep gives it its ticket, and it is sent once."""
    await held_by_the_sweep(desk)
    assert "goes within" in await desk.told(lambda outbox: outbox.requeue("m1", None))
    await desk.rest()
    assert (await desk.status("m1"), desk.copies) == ("sent", 1)


@pytest.mark.parametrize(("script", "asked"), [("killed after", 1), ("killed before", 1)])
async def test_what_may_have_been_sent_is_asked_for_first(desk: Desk, script: str, asked: int) -> None:
    """A mail that was in doubt when it was held goes again only if the provider does not have it."""
    await desk.room.alive(lambda: desk.post("m1", script))
    for _ in range(12):
        desk.room.fake.queues.clear()
        desk.room.pass_time(31.0)
        await desk.room.sweep.run()
    assert await desk.status("m1") == "held"
    assert "asked for first" in await desk.told(lambda outbox: outbox.requeue("m1", None))
    await desk.rest()
    assert (await desk.status("m1"), desk.copies, desk.room.provider.questions) == ("sent", 1, asked)


async def test_where_nobody_can_be_asked_a_person_says_it() -> None:
    """Requeueing what may have been sent is refused with the way out; each decision of a person does what it says."""
    for decision, status, copies in (("sent", "sent", 0), ("resend", "sent", 1), ("refused", "refused", 0)):
        desk = Desk(**HOLDS)
        await desk.post("m1", "lost before")
        refusal = await desk.refusal(lambda outbox: outbox.requeue("m1", None))
        assert refusal.code == "may_have_been_sent"
        assert "mailroom outbox resolve m1 sent" in refusal.next_step
        await desk.told(lambda outbox, decision=decision: outbox.resolve("m1", "billing", decision))
        await desk.rest()
        assert (await desk.status("m1"), desk.copies) == (status, copies)


async def test_a_refused_mail_may_be_tried_again(desk: Desk) -> None:
    """After the address was made, say."""
    await desk.post("m1", "refused")
    await desk.told(lambda outbox: outbox.requeue("m1", None))
    await desk.rest()
    assert (await desk.status("m1"), desk.copies) == ("sent", 1)


async def test_a_refused_mail_that_may_have_gone_is_asked_for(desk: Desk) -> None:
    """Given up after a doubt, and landed late: it is found instead of being sent twice."""
    await desk.post("m1", "lost before")
    desk.room.pass_time(desk.room.timing.give_up + 60)
    await desk.rest()
    assert await desk.status("m1") == "refused"
    found, _ = await desk.room.status.anywhere("m1", ["crm"], [])
    desk.room.provider.copies[found.mails[0].stamp] += 1
    assert "asked for first" in await desk.told(lambda outbox: outbox.requeue("m1", None))
    await desk.rest()
    assert (await desk.status("m1"), desk.copies) == ("sent", 1)


async def test_a_dropped_mail_never_goes(desk: Desk) -> None:
    """It is cancelled, its ticket finds nothing owed, and its neighbour goes."""
    await desk.post("m1", "not sent")
    await desk.post("m2", "not sent")
    assert await desk.told(lambda outbox: outbox.drop("m1", None)) == "m1: cancelled"
    await desk.rest()
    assert (await desk.status("m1"), await desk.status("m2"), desk.copies) == ("cancelled", "sent", 1)


@pytest.mark.parametrize("what", ["requeue", "drop", "resolve"])
async def test_what_was_sent_stays_sent(desk: Desk, what: str) -> None:
    """Nothing that a person says makes a sent mail owed, cancelled or unknown."""
    await desk.post("m1")
    more = ["resend"] if what == "resolve" else []
    refusal = await desk.refusal(lambda outbox: getattr(outbox, what)("m1", None, *more))
    assert refusal.code == ("not_held" if what == "resolve" else "status_wrong")
    assert "m1 is sent" in refusal.detail


async def test_what_is_being_sent_is_left_alone(desk: Desk) -> None:
    """A mail in somebody's hands can't be dropped; once the claim has run out it is in doubt, and may be."""
    await desk.room.alive(lambda: desk.post("m1", "killed before"))
    assert (await desk.refusal(lambda outbox: outbox.drop("m1", None))).next_step == "Wait until it is settled."
    desk.room.pass_time(21.0)
    assert "may have been sent" in await desk.told(lambda outbox: outbox.drop("m1", None))


async def test_who_wakes_too_late_undoes_no_decision(desk: Desk) -> None:
    """A worker that was frozen for longer than its claim: what was dropped meanwhile is not pending again."""
    await desk.post("m1", "not sent")
    desk.room.pass_time(10.0)
    found, _ = await desk.room.status.anywhere("m1", ["crm"], [])
    frozen = another(desk.room)
    claim = await frozen.deliver.take(desk.room.account, found, single=True)
    assert not isinstance(claim, float)
    desk.room.pass_time(21.0)
    await desk.told(lambda outbox: outbox.drop("m1", None))
    await frozen.deliver.attempt(claim)
    assert await desk.status("m1") == "cancelled"
    desk.room.pass_time(3600.0)
    await desk.rest()
    assert (await desk.status("m1"), desk.copies) == ("cancelled", 0)


async def test_what_the_sending_room_would_end_at_once_is_not_requeued(desk: Desk) -> None:
    """A mail whose account is gone, or whose body is, says what to do instead."""
    await held_by_the_sweep(desk)
    accounts = desk.room.deliver.accounts
    billing = accounts.pop("billing")  # type: ignore[attr-defined]
    assert (await desk.refusal(lambda outbox: outbox.requeue("m1", None))).code == "account_unknown"
    accounts["billing"] = billing  # type: ignore[index]
    desk.room.fake.blobs.clear()
    assert (await desk.refusal(lambda outbox: outbox.requeue("m1", None))).code == "body_missing"


async def test_an_old_mail_begins_anew(desk: Desk) -> None:
    """Held for longer than a mail may wait, it goes all the same once somebody wants it to."""
    await held_by_the_sweep(desk)
    desk.room.pass_time(desk.room.timing.give_up)
    await desk.told(lambda outbox: outbox.requeue("m1", None))
    await desk.rest()
    assert (await desk.status("m1"), desk.copies) == ("sent", 1)


async def test_an_old_mail_in_doubt_is_for_a_person(desk: Desk) -> None:
    """Asked for, and not found, it would only expire: who has looked may send it again."""
    desk.room.provider.answers_questions = False
    await desk.post("m1", "lost before")
    for _ in range(60):
        desk.room.pass_time(3600.0)
        await desk.room.work_off()
    assert await desk.status("m1") == "held"
    assert (await desk.refusal(lambda outbox: outbox.requeue("m1", None))).code == "mail_expired"
    desk.room.provider.answers_questions = True
    await desk.told(lambda outbox: outbox.resolve("m1", None, "resend"))
    await desk.rest()
    assert (await desk.status("m1"), desk.copies) == ("sent", 1)


async def test_what_was_never_accepted_is_not_shown(desk: Desk) -> None:
    """A batch that was cut off before its commit has slices in the ledger, and counts for nobody."""
    await desk.post("m1")
    desk.room.store.dies_in, desk.room.store.only = 2, "write"
    await desk.room.alive(lambda: desk.room.accept.batch([Line(1, message("m2"))], [], "crm", "hash"))
    desk.room.store.dies_in = None
    assert sum(key.startswith("s|") for _, key in desk.room.fake.tables["MailLedger"]) == 2
    assert await desk.told(lambda outbox: outbox.list_all(None, every=True)) == "billing: 1 sent\nNothing waits for a person."
    assert isinstance(await desk.refusal(lambda outbox: outbox.show("m2", None)), NotFound)


async def test_a_mail_of_a_cancelled_batch_stays_where_it_is(desk: Desk) -> None:
    """Nobody sends half of what somebody has called off."""
    desk.room.provider.script = ["refused"]
    batch = await desk.room.accept.batch([Line(1, message("m1"))], [], "crm", "hash")
    await desk.room.work_off()
    await desk.room.ledger.mark_batch(batch.id, cancelled=True)
    assert (await desk.refusal(lambda outbox: outbox.requeue("m1", None))).code == "batch_cancelled"


async def test_a_decision_loses_no_race(desk: Desk) -> None:
    """A slice that somebody changed in between is read anew: what was sent meanwhile is not cancelled."""
    await desk.post("m1", "not sent")
    desk.room.pass_time(10.0)
    outbox = desk.outbox

    class Late:
        def __getattr__(self, name: str) -> Any:
            return getattr(desk.room.ledger, name)

        async def amend(self, changes: Any) -> bool:
            desk.room.provider.script.clear()
            await desk.room.deliver.work(changes[0][0].ref)
            return await desk.room.ledger.amend(changes)

    object.__setattr__(outbox.mails, "ledger", Late())
    with pytest.raises(Conflict, match="m1 is sent"):
        await outbox.drop("m1", None)
    assert (await desk.status("m1"), desk.copies) == ("sent", 1)


BODY = json.dumps({"id": "p1", "account": "billing", "to": ["ann@example.com"]}).encode()


async def test_a_poisoned_message_goes_back_as_it_was(desk: Desk) -> None:
    """After the fix, byte for byte, without its reason; it is named by the beginning of its id."""
    await desk.room.outbox.poison(BODY, "account_unknown: There is no sending account 'billing'.")
    await desk.room.outbox.poison(b"{}", "field_missing: account is missing.")
    [letter, _] = desk.room.fake.queues[OUTBOX_POISON]
    letter.id = "3f2a91c0-aaaa"
    told = await desk.told(lambda outbox: outbox.show("3f2a", None))
    assert "account_unknown: There is no sending account" in told
    assert BODY.decode() in told
    assert "on the queue again" in await desk.told(lambda outbox: outbox.requeue("3f2a", None))
    assert [one.body for one in desk.room.fake.queues[OUTBOX_QUEUE]] == [BODY]
    assert [json.loads(one.body)["original"] for one in desk.room.fake.queues[OUTBOX_POISON]] == ["{}"]


async def test_what_would_only_come_back_is_put_back_corrected(desk: Desk) -> None:
    """A letter is no mail: it stays where it is until somebody says what it should have been."""
    await desk.room.ledger.open("billing")
    await desk.room.outbox.poison(b"Dear queue", "not_json: The body is not JSON.")
    desk.room.fake.queues[OUTBOX_POISON][0].id = "77777777-aaaa"
    refusal = await desk.refusal(lambda outbox: outbox.requeue("7777", None))
    assert (refusal.code, "--with FILE" in refusal.next_step) == ("not_json", True)
    assert len(desk.room.fake.queues[OUTBOX_POISON]) == 1
    await desk.told(lambda outbox: outbox.requeue("7777", None, BODY))
    assert [one.body for one in desk.room.fake.queues[OUTBOX_QUEUE]] == [BODY]
    assert desk.room.fake.queues[OUTBOX_POISON] == []


async def test_a_dropped_message_is_gone(desk: Desk) -> None:
    """That one, and no other; two that begin alike must be named in full."""
    await desk.room.ledger.open("billing")
    for _ in range(2):
        await desk.room.outbox.poison(b"Dear queue", "not_json: The body is not JSON.")
    first, second = desk.room.fake.queues[OUTBOX_POISON]
    first.id, second.id = "99999999-a", "99999999-b"
    assert (await desk.refusal(lambda outbox: outbox.drop("9999", None))).code == "id_ambiguous"
    await desk.told(lambda outbox: outbox.drop("99999999-a", None))
    assert desk.room.fake.queues[OUTBOX_POISON] == [second]


async def test_more_messages_than_a_page_are_all_listed(desk: Desk) -> None:
    """The queue gives 32 at a time; a ticket of ours among them is told as such."""
    for number in range(70):
        await desk.room.outbox.poison(f"letter {number}".encode(), "not_json: The body is not JSON.")
    await desk.room.fake.put_ticket(OUTBOX_POISON, msgspec.json.encode({"ticket": Ref("billing", "m1")}))
    told = await desk.told(lambda outbox: outbox.list_all(None))
    assert "poison: 71 messages" in told
    assert all(f'"letter {number}"' in told for number in range(70))
    assert "a ticket of ours, which the next sweep clears away" in told
