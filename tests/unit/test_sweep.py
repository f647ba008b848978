"""What is owed and has no ticket alive gets a new one, a bounded number of times; what was poisoned unasked is cleared away."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest

from mailroom.errors import AuthorityDown, LedgerNewer, NotFound, StorageDown
from mailroom.model.account import Timing
from mailroom.model.batch import Batch
from mailroom.model.places import LEDGER_TABLE, OUTBOX_POISON, OUTBOX_QUEUE
from mailroom.model.row import Row
from mailroom.model.slice import Mail, Ref, Slice
from mailroom.storage.ledger_rows import Marker
from mailroom.storage.outbox import Plain, read_ticket
from send_mail.line import Line
from send_mail.sweep import ABANDONED, COMEBACKS, ORPHANED, PAGE, PAGES, REISSUES
from send_mail.tickets import WINDOW
from tests.sending import Room, message

DOWN = AuthorityDown("authority_down", "No answer.")
OVERDUE = 30.0 + 1.0  # the room's claim and grace, and a moment


@pytest.fixture
def room() -> Room:
    return Room()


async def pending(room: Room, name: str = "m1") -> Ref:
    """A mail that was accepted and could not be sent yet; its ticket shows now."""
    room.keyring.fault = DOWN
    slice_ = await room.accept.single(message(name), "crm", "hash")
    assert slice_.mails[0].status == "pending"
    room.pass_time(slice_.due - room.clock())
    return slice_.ref


async def batch(room: Room, count: int, key: str | None = None) -> Batch:
    return await room.accept.batch([Line(number, message()) for number in range(1, count + 1)], [], "crm", "hash", key)


def lose_tickets(room: Room, queue: str = OUTBOX_QUEUE) -> int:
    """Every ticket dies; how many there were."""
    tickets = room.fake.queues.pop(queue, [])
    return len(tickets)


def tickets(room: Room, queue: str = OUTBOX_QUEUE) -> list[tuple[Ref | None, float]]:
    """What the queue holds: the slice each points to and in how many seconds it shows."""
    return [(read_ticket(one.body), one.visible_at - room.clock()) for one in room.fake.queues.get(queue, [])]


async def marker(room: Room) -> Marker:
    [found] = await room.ledger.owed("billing", top=2)
    return found


async def let_all_die(room: Room, times: int) -> int:
    """Time passes and the sweep runs, and every ticket it issues dies; how many these were."""
    died = 0
    for _ in range(times):
        room.pass_time(OVERDUE)
        await room.sweep.run()
        died += lose_tickets(room)
    return died


async def test_what_is_overdue_gets_a_ticket(room: Room) -> None:
    """A slice whose ticket should have shown a claim and a grace ago gets a new one that shows at once, and it is counted."""
    ref = await pending(room)
    lose_tickets(room)
    room.pass_time(30.0)
    await room.sweep.run()
    assert tickets(room) == []
    room.pass_time(1.0)
    await room.sweep.run()
    assert tickets(room) == [(ref, 0.0)]
    assert ((await marker(room)).due, (await marker(room)).reissued) == (room.clock(), 1)


async def test_a_ticket_that_was_issued_has_its_time(room: Room) -> None:
    """The next sweeps wait for the new ticket as they waited for the old one."""
    await pending(room)
    lose_tickets(room)
    assert await let_all_die(room, 1) == 1
    for _ in range(3):
        room.pass_time(10.0)
        await room.sweep.run()
        assert tickets(room) == []
    room.pass_time(1.0)
    await room.sweep.run()
    assert len(tickets(room)) == 1


async def test_tickets_are_issued_a_bounded_number_of_times_then_the_mail_is_held(room: Room) -> None:
    """A mail whose tickets all die is held with the reason, is owed no longer and gets no further ticket."""
    await pending(room)
    lose_tickets(room)
    assert await let_all_die(room, REISSUES) == REISSUES
    assert (await room.status.message("m1", "crm"))["status"] == "pending"
    assert await let_all_die(room, 3) == 0
    view = await room.status.message("m1", "crm")
    assert (view["status"], view["code"]) == ("held", "tickets_died")
    assert str(REISSUES) in view["detail"]
    assert await room.ledger.owed("billing", top=1) == []
    assert room.provider.calls == 0


async def test_a_ticket_that_lives_ends_the_count(room: Room) -> None:
    """Only tickets that die one after the other count: one that was worked off begins it anew."""
    await pending(room)
    lose_tickets(room)
    await let_all_die(room, REISSUES - 1)
    room.pass_time(OVERDUE)
    await room.sweep.run()
    assert (await marker(room)).reissued == REISSUES
    await room.work_off()
    assert (await marker(room)).reissued == 0
    lose_tickets(room)
    room.pass_time((await marker(room)).due - room.clock())
    assert await let_all_die(room, REISSUES) == REISSUES
    assert (await room.status.message("m1", "crm"))["status"] == "pending"


async def test_only_what_is_owed_is_held(room: Room) -> None:
    """Of a slice whose tickets died, mails that were sent or refused stay so."""
    room.provider.script = ["ok", "refused", "not sent", "lost before"]
    made = await batch(room, 4)
    await room.work_off()
    lose_tickets(room)
    room.pass_time(10.0)
    await let_all_die(room, REISSUES + 1)
    views = [await room.status.message(f"{made.id}.0.0.{at}", "crm") for at in range(4)]
    assert [view["status"] for view in views] == ["sent", "refused", "held", "held"]
    assert [view["code"] for view in views[1:]] == ["recipient_invalid", "tickets_died", "tickets_died"]


async def test_nothing_is_held_while_somebody_is_at_work_on_it(room: Room) -> None:
    """The last ticket may have come after all: only when its claim has run out a person is asked to decide."""
    ref = await pending(room)
    lose_tickets(room)
    await let_all_die(room, REISSUES)
    room.pass_time(OVERDUE)
    found = await room.ledger.read(ref)
    assert found is not None
    claimed = await room.ledger.claim(found, "someone", room.clock() + 20.0)
    assert claimed is not None
    await room.sweep.run()
    assert await room.ledger.read(ref) == claimed
    room.pass_time(19.0)
    await room.sweep.run()
    assert (await room.mail(ref.unit)).status == "sending"
    room.pass_time(1.0)
    until = room.clock()
    await room.sweep.run()
    held = await room.mail(ref.unit)
    assert (held.status, held.doubt_since) == ("held", until)  # who sends it again must ask first


async def test_a_claim_just_before_the_hold_wins(room: Room) -> None:
    """Who takes the slice while the sweep is about to hold it keeps it."""
    ref = await pending(room)
    lose_tickets(room)
    await let_all_die(room, REISSUES)
    room.pass_time(OVERDUE)
    room.keyring.fault = None
    await asyncio.gather(room.deliver.work(ref), room.sweep.run())
    assert (await room.mail(ref.unit)).status in ("sent", "held")
    assert ((await room.mail(ref.unit)).status == "sent") == (room.provider.calls == 1)


async def test_two_sweeps_at_once_issue_one_ticket(room: Room) -> None:
    """Who marks the slice first issues the ticket, the other one sees that it came too late."""
    ref = await pending(room)
    lose_tickets(room)
    room.pass_time(100.0)
    await asyncio.gather(*(room.sweep.run() for _ in range(3)))
    assert tickets(room) == [(ref, 0.0)]
    assert (await marker(room)).reissued == 1


async def test_a_marker_without_its_slice_is_forgotten(room: Room) -> None:
    """Where a slice's row is gone there is nothing to hold, and its marker goes too."""
    ref = await pending(room)
    lose_tickets(room)
    del room.fake.tables[LEDGER_TABLE]["billing", f"s|{ref.unit}|00000"]
    await let_all_die(room, REISSUES)
    assert len(await room.ledger.owed("billing", top=1)) == 1
    await let_all_die(room, 1)
    assert await room.ledger.owed("billing", top=1) == []


async def test_a_lane_has_at_most_its_window_of_tickets(room: Room) -> None:
    """A sweep gives slices without any ticket theirs in order of acceptance, so that a few of them are alive and no more."""
    for made in [await batch(room, 1) for _ in range(WINDOW + 2)]:
        [slice_] = await room.ledger.slices(made)
        await room.ledger.put_off(slice_, 0.0)  # as if its ticket had never been issued
    lose_tickets(room)
    await room.sweep.run()
    owed = await room.ledger.owed("billing", top=10)
    assert [found for found, _ in tickets(room)] == [one.ref for one in owed[:WINDOW]]
    await room.sweep.run()
    assert len(tickets(room)) == WINDOW


async def test_an_account_that_does_not_send_is_not_swept() -> None:
    """Nothing is asked of the ledger for a mailbox that only receives, but which accounts ever owed something."""
    room = Room(send=False)
    await room.sweep.run()
    assert room.fake.calls == ["query", "receive"]


async def test_a_batch_that_was_never_committed_gets_no_ticket_and_is_forgotten_after_a_day(room: Room) -> None:
    """What nobody was told to be accepted is not sent, however often the sweep passes, and leaves the ledger in the end."""
    cut = 0
    while not await room.ledger.owed("billing", top=1):
        room.store.dies_in = cut
        assert await room.alive(lambda: batch(room, 21, key="k")) is None
        room.store.dies_in, cut = None, cut + 1
    slices = len(await room.ledger.owed("billing", top=9))
    assert slices == 2
    room.pass_time(ABANDONED)
    await room.sweep.run()
    assert (tickets(room), len(await room.ledger.owed("billing", top=9))) == ([], slices)
    room.pass_time(1.0)
    await room.sweep.run()
    assert await room.ledger.owed("billing", top=9) == []
    assert not [key for _, key in room.fake.tables[LEDGER_TABLE] if key.startswith("s|")]
    assert tickets(room) == []


@pytest.mark.parametrize("cut", range(3, 12))
async def test_a_request_repeated_after_a_day_is_not_swept_from_under_the_callers_hands(room: Room, cut: int) -> None:
    """A batch that was cut off is begun anew when it is old enough to be forgotten: the sweep takes nothing that comes to count."""
    room.store.dies_in = cut
    assert await room.alive(lambda: batch(room, 100, key="k")) is None
    room.store.dies_in = None
    room.pass_time(ABANDONED + 1.0)
    accepting = asyncio.ensure_future(batch(room, 100, key="k"))
    while not accepting.done():
        await room.sweep.run()
    made = accepting.result()
    await room.sweep.run()
    assert (await room.status.batch(made.id, "crm"))["counts"]["pending"] == 100
    assert await batch(room, 100, key="k") == made


async def test_a_request_repeated_soon_goes_on_where_it_was_cut_off(room: Room) -> None:
    """Within hours the same key and request makes the same batch, whose slices are there once."""
    room.store.dies_in = 10
    assert await room.alive(lambda: batch(room, 100, key="k")) is None
    room.store.dies_in = None
    begun = {one.ref.unit for one in await room.ledger.owed("billing", top=99)}
    assert begun
    room.pass_time(6 * 3600.0)
    made = await batch(room, 100, key="k")
    assert {made.id} == begun == {one.ref.unit for one in await room.ledger.owed("billing", top=99)}
    assert (await room.status.batch(made.id, "crm"))["counts"]["pending"] == 100


async def test_a_committed_batch_is_not_forgotten(room: Room) -> None:
    """Age alone is no reason: what was accepted and is a day old still gets its ticket."""
    made = await batch(room, 1)
    lose_tickets(room)
    room.pass_time(ABANDONED + 1.0)
    await room.sweep.run()
    assert [found for found, _ in tickets(room)] == [Ref("billing", made.id)]


async def poison(room: Room, ref: Ref) -> None:
    """What the host does with a ticket whose worker was killed five times: its very bytes, in another queue."""
    await room.fake.put_ticket(OUTBOX_POISON, msgspec.json.encode({"ticket": ref}))


async def test_a_poisoned_ticket_of_a_settled_slice_is_cleared(room: Room) -> None:
    """Its mail was sent, so there is nothing to do for anybody."""
    slice_ = await room.accept.single(message("m1"), "crm", "hash")
    await poison(room, slice_.ref)
    await room.sweep.run()
    assert (tickets(room, OUTBOX_POISON), tickets(room)) == ([], [])


async def test_a_poisoned_ticket_of_an_owed_slice_is_issued_anew(room: Room) -> None:
    """Five kills poison a ticket that never failed: a new one shows when the slice is due, and the poisoned one goes."""
    room.provider.script = ["lost before"]
    ref = (await room.accept.single(message("m1"), "crm", "hash")).ref
    lose_tickets(room)
    await poison(room, ref)
    await room.sweep.run()
    assert (tickets(room, OUTBOX_POISON), tickets(room)) == ([], [(ref, 10.0)])


async def test_a_poisoned_ticket_stays_until_the_new_one_is_there(room: Room) -> None:
    """Where the new ticket could not be put, the poisoned one is found again by a later sweep."""
    ref = await pending(room)
    lose_tickets(room)
    await poison(room, ref)
    room.fake.fail_next("put_ticket")
    with pytest.raises(StorageDown):
        await room.sweep.run()
    assert len(tickets(room, OUTBOX_POISON)) == 1
    room.pass_time(61.0)
    await room.sweep.run()
    assert tickets(room, OUTBOX_POISON) == []
    assert ref in [found for found, _ in tickets(room)]


async def test_a_poisoned_ticket_of_a_slice_that_is_gone_is_cleared(room: Room) -> None:
    """A ticket that points nowhere can't be worked off, and nobody need look at it."""
    await poison(room, Ref("billing", "gone"))
    await room.sweep.run()
    assert (tickets(room, OUTBOX_POISON), tickets(room)) == ([], [])


async def test_what_nobody_can_read_stays_for_a_person(room: Room) -> None:
    """A queue message that is no mail lies in the poison queue once, as reason and original, however often the sweep passes."""
    original = "Dear queue, 80 % of \xff".encode("latin-1")
    await room.outbox.poison(original, "not_json: The body is not JSON.")
    for _ in range(3):
        room.pass_time(61.0)
        await room.sweep.run()
    [kept] = room.fake.queues[OUTBOX_POISON]
    assert json.loads(kept.body) == {"reason": "not_json: The body is not JSON.", "original": "Dear queue, 80 % of \ufffd"}
    assert tickets(room) == []


async def night(room: Room, hours: float, step: float = 300.0) -> None:
    """Time passes as in a cloud: tickets are worked off as they show, and the sweep runs."""
    until = room.clock() + hours * 3600
    while room.clock() < until:
        room.pass_time(step)
        while await room.work_off():
            pass
        await room.sweep.run()


async def test_mails_wait_for_an_authority_that_is_down_and_give_up_after_48_hours() -> None:
    """Tickets that put themselves off while the lane rests are no dead tickets: all mails stay pending, then expire, none is held."""
    room = Room(Timing())
    names = [f"m{number}" for number in range(WINDOW + 2)]
    for name in names:
        await pending(room, name)
    await night(room, 47.5)
    assert {(await room.status.message(name, "crm"))["status"] for name in names} == {"pending"}
    assert len(tickets(room)) <= len(names)
    await night(room, 1.0)
    views = [await room.status.message(name, "crm") for name in names]
    assert {(view["status"], view["code"]) for view in views} == {("refused", "expired")}
    assert room.provider.calls == 0


async def test_a_mail_that_kills_its_worker_each_time_is_held() -> None:
    """Its tickets revive themselves, its claimants die: after a bounded number of these a person decides."""
    room = Room(Timing())
    room.provider.script = ["killed before"] * 1000
    assert await room.alive(lambda: room.accept.single(message("m1"), "crm", "hash")) is None
    await night(room, 4.0, step=60.0)
    view = await room.status.message("m1", "crm")
    assert (view["status"], view["code"]) == ("held", "tickets_died")
    assert REISSUES <= room.provider.calls <= 2 * REISSUES


@pytest.mark.parametrize(
    ("account", "status", "calls"),
    [
        ({}, "refused", 1),
        ({"permissions": frozenset({"Mail.Send"}), "in_doubt": "resend"}, "held", 1),
    ],
)
async def test_what_was_in_doubt_for_48_hours_does_not_go_again(account: dict[str, Any], status: str, calls: int) -> None:
    """What the provider does not have expires; of what it can't be asked about nobody says that it was not sent."""
    room = Room(**account)
    room.provider.script = ["killed before"]
    await room.alive(lambda: room.accept.single(message("m1"), "crm", "hash"))
    room.pass_time(room.timing.give_up)
    await room.come_to_rest()
    view = await room.status.message("m1", "crm")
    assert (view["status"], view["code"], room.provider.calls) == (status, "expired", calls)


async def test_what_was_sent_before_48_hours_is_not_expired(room: Room) -> None:
    """A mail in doubt that the provider has is sent, also when it is asked long after the time allowed."""
    room.provider.script = ["lost after"]
    await room.accept.single(message("m1"), "crm", "hash")
    room.pass_time(10 * room.timing.give_up)
    await room.come_to_rest()
    assert (await room.status.message("m1", "crm"))["status"] == "sent"


async def test_a_lane_that_is_quiet_costs_one_question_and_no_writes(room: Room) -> None:
    """Where nothing is owed the sweep looks and goes."""
    await room.sweep.run()
    assert sorted(set(room.fake.calls)) == ["query", "receive"]
    with pytest.raises(NotFound):
        await room.status.message("m1", "crm")


async def test_a_batch_that_was_cut_off_holds_up_nobody(room: Room) -> None:
    """Mails accepted after a large batch that died before its commit go at once, not after the day that it takes to forget it."""
    cut = 0
    while len(await room.ledger.owed("billing", top=4 * WINDOW)) < 4 * WINDOW:
        room.store.dies_in = cut
        assert await room.alive(lambda: batch(room, 20 * 4 * WINDOW, key="k")) is None
        room.store.dies_in, cut = None, cut + 1
    room.pass_time(1.0)
    made = await batch(room, 1)
    while await room.work_off():
        pass
    assert (await room.status.batch(made.id, "crm"))["counts"]["sent"] == 1


async def test_batches_that_were_cut_off_are_asked_for_once_each(room: Room) -> None:
    """However many slices a batch left behind, a look past it costs one question and one page more."""
    for _ in range(3):
        room.store.dies_in = 42  # the account, forty bodies, the rows; then the commit
        assert await room.alive(lambda: batch(room, 20 * 40)) is None
    room.store.dies_in = None
    assert len(await room.ledger.owed("billing", top=999)) == 3 * 40
    made = await batch(room, 1)
    room.fake.calls.clear()
    await room.deliver.tickets.refill("billing")
    assert (room.fake.calls.count("query"), room.fake.calls.count("get_row")) == (4, 3)
    assert [found for found, _ in tickets(room)] == [Ref("billing", made.id)]


def plain(name: str | None = "p1", text: str = "Hello") -> bytes:
    """A mail as another application puts it on the queue."""
    mail = {"account": "billing", "to": ["ann@example.com"], "subject": "Hi", "text": text}
    return json.dumps(mail | ({"id": name} if name else {})).encode()


async def test_a_mail_whose_tries_all_failed_comes_back_then_a_person_is_told(room: Room) -> None:
    """What storage's failure poisoned is tried again a bounded number of times, byte by byte the same, then put aside with its reason."""
    body = plain()
    await room.fake.put_ticket(OUTBOX_POISON, body)
    for times in range(1, COMEBACKS + 1):
        await room.sweep.run()
        [back] = room.fake.queues.pop(OUTBOX_QUEUE)
        assert Plain.read(back.body) == Plain(body, times)
        assert room.fake.queues[OUTBOX_POISON] == []
        await room.fake.put_ticket(OUTBOX_POISON, back.body)
    for _ in range(2):
        await room.sweep.run()
        room.pass_time(61.0)
        assert room.fake.queues.get(OUTBOX_QUEUE, []) == []
    [kept] = room.fake.queues[OUTBOX_POISON]
    told = json.loads(kept.body)
    assert told["reason"].startswith("tries_ended: It was tried 20 times")
    assert told["original"].encode() == body


async def test_a_mail_that_cannot_be_known_again_is_not_tried_again(room: Room) -> None:
    """Without an id of its own a second try might be a second mail: it is put aside with a reason that says so."""
    await room.fake.put_ticket(OUTBOX_POISON, plain(None))
    await room.sweep.run()
    [kept] = room.fake.queues[OUTBOX_POISON]
    told = json.loads(kept.body)
    assert told["reason"].startswith("id_missing")
    assert told["original"].encode() == plain(None)
    assert room.fake.queues.get(OUTBOX_QUEUE, []) == []


async def test_a_mail_too_large_to_say_more_beside_it_stays_as_it_is(room: Room) -> None:
    """Nothing of a mail that may never have been sent is cut off for the sake of a reason."""
    bodies = [plain(text="x" * (48 * 1024 - 100)), plain(None, text="x" * (48 * 1024 - 110))]
    for body in bodies:
        await room.fake.put_ticket(OUTBOX_POISON, body)
    await room.sweep.run()
    assert [one.body for one in room.fake.queues[OUTBOX_POISON]] == bodies


async def test_what_was_told_hides_nothing_behind_it(room: Room) -> None:
    """A poison queue full of what people have not looked at yet does not keep the sweep from what came later."""
    for number in range(100):
        await room.outbox.poison(f"letter {number}".encode(), "not_json: The body is not JSON.")
    await room.fake.put_ticket(OUTBOX_POISON, plain())
    await room.sweep.run()
    [back] = room.fake.queues[OUTBOX_QUEUE]
    assert Plain.read(back.body).body == plain()
    assert len(room.fake.queues[OUTBOX_POISON]) == 100


async def test_more_than_a_run_looks_at_hides_nothing_for_ever(room: Room) -> None:
    """Unread letters by the hundreds in front of a ticket hold it up for a run or two, and none of them is lost or there twice."""
    letters = [f"letter {number}" for number in range(PAGE * PAGES * 2)]
    for letter in letters:
        await room.outbox.poison(letter.encode(), "not_json: The body is not JSON.")
    ref = await pending(room)
    lose_tickets(room)
    await poison(room, ref)
    for _ in range(2):
        await room.sweep.run()
        room.pass_time(2.0)
        assert tickets(room) == []
    await room.sweep.run()
    assert [found for found, _ in tickets(room)] == [ref]
    assert sorted(json.loads(one.body)["original"] for one in room.fake.queues[OUTBOX_POISON]) == sorted(letters)


async def bare(room: Room, text: bytes) -> None:
    """What the host does with a message that is no base64: it puts it aside as it is, and no function sees it."""
    await room.fake.put_ticket(OUTBOX_POISON, text)
    room.fake.queues[OUTBOX_POISON][-1].bare = True


async def test_a_bare_mail_is_read_after_all(room: Room) -> None:
    """Its sender forgot the base64. Nobody has seen it before, so it goes, also without an id."""
    await bare(room, plain(None))
    await room.sweep.run()
    [back] = room.fake.queues[OUTBOX_QUEUE]
    assert Plain.read(back.body) == Plain(plain(None), 1)
    assert room.fake.queues[OUTBOX_POISON] == []


async def test_what_the_host_put_aside_gets_its_reason(room: Room) -> None:
    """A bare text, which the host poisons without a word, says after the next run why nobody could read it; once."""
    await bare(room, b"Dear queue")
    for _ in range(2):
        await room.sweep.run()
        room.pass_time(61.0)
    [kept] = room.fake.queues[OUTBOX_POISON]
    told = json.loads(kept.body)
    assert told["reason"].startswith("not_base64")
    assert "The body is not JSON" in told["reason"]
    assert told["original"] == "Dear queue"


async def test_mails_of_an_account_that_was_removed_are_held(room: Room) -> None:
    """What an account owed when it went from accounts.toml ends, with the reason, once no instance can know the account any more."""
    refs = [await pending(room, f"m{number}") for number in range(20)]
    del room.deliver.accounts["billing"]  # type: ignore[attr-defined]
    lose_tickets(room)
    room.pass_time(ORPHANED - 200.0)
    await room.sweep.run()
    assert {(await room.mail(ref.unit)).status for ref in refs} == {"pending"}
    room.pass_time(201.0)
    for _ in range(2):
        await room.sweep.run()
    views = [await room.status.message(f"m{number}", "crm") for number in range(20)]
    assert {(view["status"], view["code"]) for view in views} == {("held", "account_removed")}
    assert await room.ledger.owed("billing", top=1) == []


async def test_mails_of_an_account_that_sends_no_longer_are_held() -> None:
    """`send = false` is as good as gone; another account's mails are none of its business."""
    room = Room(send=False)
    room.deliver.accounts["support"] = msgspec.structs.replace(room.account, name="support", send=True)  # type: ignore[index]
    slice_ = Slice(Ref("billing", "u1"), "crm", (Mail("m1", stamp="u1.0.0"),), room.clock())
    await room.ledger.open("billing")
    await room.ledger.insert([slice_])
    room.pass_time(ORPHANED + 1.0)
    await room.sweep.run()
    assert (await room.mail("u1")).status == "held"


def from_the_future(room: Room, ref: Ref, **columns: Any) -> Row:
    """The slice's row as a later version of ours might write it."""
    table = room.fake.tables[LEDGER_TABLE]
    at = ref.account, f"s|{ref.unit}|00000"
    mails = json.loads(str(table[at].values["mails"]))
    values = {**table[at].values, "mails": json.dumps([mail | columns.pop("mail", {}) for mail in mails]), **columns}
    table[at] = msgspec.structs.replace(table[at], values=values)
    return table[at]


@pytest.mark.parametrize("new", [{"mail": {"priority": 3}}, {"mail": {"status": "scheduled"}}, {"version": 2}])
async def test_a_row_of_a_newer_version_is_left_alone(room: Room, caplog: pytest.LogCaptureFixture, new: dict[str, Any]) -> None:
    """Ticket, sweep, poison and status touch no row that says more than they know; each tells, and others' mails go on."""
    ref = await pending(room)
    row = from_the_future(room, ref, **new)
    room.keyring.fault = None
    assert await room.deliver.work(ref) is None
    await poison(room, ref)
    lose_tickets(room)
    await let_all_die(room, REISSUES + 2)
    assert room.fake.tables[LEDGER_TABLE][row.partition, row.key] == row
    with pytest.raises(LedgerNewer) as caught:
        await room.status.message("m1", "crm")
    assert (caught.value.status, caught.value.code) == (503, "ledger_newer")
    assert caplog.text.count("ledger.newer") >= 3
    assert (await room.accept.single(message("m2"), "crm", "hash")).mails[0].status == "sent"
    assert room.provider.calls == 1
