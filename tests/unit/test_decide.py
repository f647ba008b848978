"""What a person decides: a batch cancelled, refused mails tried once more, held mails resolved; whoever is at work meanwhile."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from mailroom.errors import BadInput, Conflict, NotFound, StorageDown
from mailroom.model.batch import Batch
from mailroom.model.slice import Ref
from send_mail.decide import Decide, decided
from send_mail.line import Line
from tests.sending import Killed, Room, message


def lines(count: int) -> list[Line]:
    return [Line(number, message()) for number in range(1, count + 1)]


async def begun(room: Room, count: int) -> Batch:
    return await room.accept.batch(lines(count), [], "crm", "hash")


async def statuses(room: Room, batch: Batch) -> Counter[str]:
    return Counter(mail.status for slice_ in await room.ledger.slices(batch) for mail in slice_.mails)


def decide(room: Room) -> Decide:
    return Decide(room.deliver)


def another(room: Room) -> Room:
    """Another process on the same storage."""
    other = Room.__new__(Room)
    other.__dict__.update(room.__dict__)
    other.start("other")
    return other


async def test_what_is_pending_is_cancelled() -> None:
    """Of two hundred mails some had gone; no other goes, and nothing is owed any more."""
    room = Room()
    batch = await begun(room, 200)
    for _ in range(3):
        await room.work_off()
        room.pass_time(1.0)
    gone = sum(room.provider.copies.values())
    assert 0 < gone < 200
    await decide(room).cancel(batch)
    assert await statuses(room, batch) == {"sent": gone, "cancelled": 200 - gone}
    await room.come_to_rest()
    assert sum(room.provider.copies.values()) == gone
    view = await room.status.batch(batch.id, "crm")
    assert (view["status"], view["counts"]["cancelled"]) == ("cancelled", 200 - gone)
    assert "eta" not in view


async def test_two_thousand_mails_cost_a_few_writes() -> None:
    """Fifty slices go in one transaction."""
    room = Room()
    batch = await begun(room, 2000)
    room.fake.calls.clear()
    await decide(room).cancel(batch)
    assert await statuses(room, batch) == {"cancelled": 2000}
    assert room.fake.calls.count("write") <= 4


async def test_what_is_sending_goes_on_and_is_not_sent_again() -> None:
    """Claimed when the batch is cancelled: who is sent is sent; whose answer sends it back is cancelled instead of tried again."""
    room = Room()
    batch = await begun(room, 20)
    [found] = await room.ledger.slices(batch)
    other = another(room)
    assert await other.deliver.tickets.goes(batch.id)  # it knows, and will believe so for a while
    claim = await other.deliver.take(room.account, found, single=False)
    assert not isinstance(claim, float)
    await decide(room).cancel(batch)
    assert await statuses(room, batch) == {"sending": 20}
    room.provider.script = ["ok"] * 17 + ["not sent", "lost before", "lost after"]
    await other.deliver.attempt(claim)
    await other.come_to_rest()
    assert await statuses(room, batch) == {"sent": 18, "cancelled": 2}
    assert sum(room.provider.copies.values()) == 18


async def test_who_claimed_and_knows_of_it_sends_nothing_more() -> None:
    """In the process that cancelled, what was claimed and has not gone by then is cancelled, too."""
    room = Room()
    batch = await begun(room, 20)
    [found] = await room.ledger.slices(batch)
    claim = await room.deliver.take(room.account, found, single=False)
    assert not isinstance(claim, float)
    await decide(room).cancel(batch)
    await room.deliver.attempt(claim)
    assert await statuses(room, batch) == {"cancelled": 20}


async def test_who_died_while_the_batch_was_cancelled_sends_nothing_more() -> None:
    """A slice of a dead claimant is asked for: what was found was sent, the rest is cancelled."""
    room = Room()
    batch = await begun(room, 20)
    room.provider.script = ["ok"] * 7 + ["killed before"]
    await room.work_off()
    await decide(room).cancel(batch)
    assert await statuses(room, batch) == {"sending": 20}
    await room.come_to_rest()
    assert await statuses(room, batch) == {"sent": 7, "cancelled": 13}
    assert sum(room.provider.copies.values()) == 7


async def test_what_may_have_gone_is_held_where_nobody_can_be_asked() -> None:
    """A cancelled batch does not say of a mail in doubt that it was not sent, not even where such mails would be sent again."""
    room = Room(permissions=frozenset({"Mail.Send"}), in_doubt="resend")
    batch = await begun(room, 1)
    room.provider.script = ["lost after"]
    await room.work_off()
    await decide(room).cancel(batch)
    room.pass_time(3600.0)
    await room.come_to_rest()
    assert await statuses(room, batch) in ({"held": 1}, {"cancelled": 1})
    assert sum(room.provider.copies.values()) == 1


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("dies_in", range(8))
async def test_a_cancel_that_was_cut_off_is_finished_by_the_sweep(dies_in: int, after: bool) -> None:
    """Killed at any step, by then or later all of it is cancelled, or none of it ever was."""
    room = Room()
    batch = await begun(room, 1100)
    room.store.dies_in, room.store.after = dies_in, after
    await room.alive(lambda: decide(room).cancel(batch))
    room.store.dies_in = None
    header = await room.ledger.batch(batch.id)
    assert header is not None
    if header.cancelled:
        for _ in range(3):
            await room.sweep.run()
            room.pass_time(30.0)
            await room.work_off()
        await room.come_to_rest()
        found = await statuses(room, batch)
        assert found["cancelled"] >= 1000
        assert set(found) <= {"sent", "cancelled"}
        assert sum(room.provider.copies.values()) == found["sent"]
    else:
        await decide(room).cancel(batch)
        assert await statuses(room, batch) == {"cancelled": 1100}


async def test_a_cancelled_batch_is_in_nobodys_way() -> None:
    """Its tickets are for nothing, so those of the lane's other batches are given at once; twice is once."""
    room = Room()
    first, second = await begun(room, 200), await room.accept.batch(lines(60), [], "crm", "two")
    await decide(room).cancel(first)
    await decide(room).cancel(first)
    for _ in range(6):
        await room.work_off()
        room.pass_time(1.0)
    assert await statuses(room, first) == {"cancelled": 200}
    assert await statuses(room, second) == {"sent": 60}


async def test_what_is_scheduled_can_be_cancelled() -> None:
    """Also long before its time."""
    room = Room()
    batch = await room.accept.batch(lines(50), [], "crm", "hash", send_at=room.clock() + 86400)
    await decide(room).cancel(batch)
    room.pass_time(86400 + 60)
    await room.come_to_rest()
    assert await statuses(room, batch) == {"cancelled": 50}
    assert not room.provider.copies


async def test_another_instance_gives_no_tickets_for_long() -> None:
    """It knows of a batch for a while without reading its header each time, and not for longer."""
    room = Room()
    batch = await begun(room, 300)
    other = another(room)
    [marker] = await room.ledger.owed("billing", 1)
    assert await other.deliver.tickets.committed(marker)
    await decide(room).cancel(batch)
    room.fake.calls.clear()
    assert await other.deliver.tickets.committed(marker)
    assert room.fake.calls == []
    room.pass_time(21.0)
    assert not await other.deliver.tickets.committed(marker)


async def test_refused_mails_are_tried_once_more() -> None:
    """Each once: what is refused again stays refused. Sent mails and those of other fates are left alone."""
    room = Room()
    room.provider.script = ["refused"] * 5 + ["ok"] * 15
    batch = await begun(room, 20)
    await room.come_to_rest()
    assert await statuses(room, batch) == {"refused": 5, "sent": 15}
    room.provider.script = ["refused"] * 2
    room.pass_time(10 * 86400)
    assert await decide(room).retry(batch) == 5
    assert await decide(room).retry(batch) == 0
    await room.come_to_rest()
    assert await statuses(room, batch) == {"refused": 2, "sent": 18}
    assert await decide(room).retry(batch) == 0
    assert sorted(room.provider.copies.values()) == [1] * 18


async def test_a_retry_beside_one_who_works_on_the_slice() -> None:
    """Its mails go back while others of the slice are being sent: nobody's outcome is lost."""
    room = Room()
    room.provider.script = ["refused"] * 3 + ["not sent"] * 17
    batch = await begun(room, 20)
    await room.work_off()
    room.pass_time(4.0)
    [found] = await room.ledger.slices(batch)
    claim = await room.deliver.take(room.account, found, single=False)
    assert not isinstance(claim, float)
    assert await decide(room).retry(batch) == 3
    await room.deliver.attempt(claim)
    await room.come_to_rest()
    assert await statuses(room, batch) == {"sent": 20}
    assert sorted(room.provider.copies.values()) == [1] * 20


async def test_what_may_have_gone_is_asked_for_before_it_is_tried_again() -> None:
    """A mail that was given up after a doubt, and landed late: the retry finds it instead of sending it twice."""
    room = Room()
    batch = await begun(room, 1)
    room.provider.script = ["lost before"]
    await room.work_off()
    room.pass_time(room.timing.give_up + 60)
    await room.come_to_rest()
    assert await statuses(room, batch) == {"refused": 1}
    [found] = await room.ledger.slices(batch)
    room.provider.copies[found.mails[0].stamp] += 1
    assert await decide(room).retry(batch) == 1
    [again] = await room.ledger.slices(batch)
    assert again.created == found.created  # since when the provider is asked
    await room.come_to_rest()
    assert await statuses(room, batch) == {"sent": 1}
    assert sum(room.provider.copies.values()) == 1


async def test_a_cancelled_batch_is_not_retried() -> None:
    """Whoever wants some of it sends a new one."""
    room = Room()
    room.provider.script = ["refused"]
    batch = await begun(room, 1)
    await room.come_to_rest()
    await decide(room).cancel(batch)
    cancelled = await room.ledger.batch(batch.id)
    assert cancelled is not None
    with pytest.raises(Conflict) as caught:
        await decide(room).retry(cancelled)
    assert caught.value.code == "batch_cancelled"


@pytest.mark.parametrize("gone", [0, 1])
async def test_what_was_to_be_asked_for_is_asked_for_though_its_batch_was_cancelled(gone: int) -> None:
    """A retry that was cut off before its ticket, then a cancel: the sweep gives the ticket, and it is found, or expired as before."""
    room = Room()
    batch = await begun(room, 1)
    room.provider.script = ["lost before"]
    await room.work_off()
    room.pass_time(room.timing.give_up + 60)
    await room.come_to_rest()
    [found] = await room.ledger.slices(batch)
    room.provider.copies[found.mails[0].stamp] += gone
    room.store.dies_in, room.store.after, room.store.only = 1, True, "write"  # behind the header's, that of the slice
    await room.alive(lambda: decide(room).retry(batch))
    room.store.dies_in = None
    await decide(room).cancel(batch)
    assert await statuses(room, batch) == {"in_doubt": 1}
    await room.come_to_rest()
    assert await statuses(room, batch) == {"sent" if gone else "refused": 1}
    assert sum(room.provider.copies.values()) == gone


async def held(room: Room) -> Ref:
    """A mail that may have been sent, of an account that can't be asked."""
    room.provider.script = ["lost after"]
    slice_ = await room.accept.single(message("a"), "crm", "hash")
    assert slice_.mails[0].status == "held"
    return slice_.ref


def unaskable() -> Room:
    return Room(permissions=frozenset({"Mail.Send"}))


@pytest.mark.parametrize(("decision", "status", "copies"), [("sent", "sent", 1), ("refused", "refused", 1), ("resend", "sent", 2)])
async def test_a_person_decides_a_held_mail(decision: Any, status: str, copies: int) -> None:
    """As sent, as refused, or to be sent again; and that is told, with who decided."""
    room = unaskable()
    ref = await held(room)
    room.pass_time(10 * 86400)
    await decide(room).resolve(ref, 0, decision, "ops")
    await room.come_to_rest()
    mail = await room.mail(ref.unit)
    assert (mail.status, sum(room.provider.copies.values())) == (status, copies)
    if decision != "resend":
        assert "ops" in (mail.note or mail.detail)
    with pytest.raises(Conflict) as caught:
        await decide(room).resolve(ref, 0, decision, "ops")
    assert caught.value.code == "not_held"


async def test_a_mail_in_doubt_is_decided_once_it_must_have_shown() -> None:
    """While nobody can be asked whether it was sent: who has looked may say so, but cannot have looked before it would show."""
    room = Room()
    room.provider.answers_questions = False
    room.provider.script = ["lost before"]
    slice_ = await room.accept.single(message("a"), "crm", "hash")
    with pytest.raises(Conflict) as caught:
        await decide(room).resolve(slice_.ref, 0, "resend", "ops")
    assert (caught.value.code, "within 10 seconds" in caught.value.detail) == ("may_have_been_sent", True)
    room.pass_time(10.0)
    await decide(room).resolve(slice_.ref, 0, "resend", "ops")
    await room.come_to_rest()
    assert ((await room.mail(slice_.ref.unit)).status, sum(room.provider.copies.values()), room.provider.questions) == ("sent", 1, 0)


async def test_who_died_while_sending_leaves_a_mail_in_doubt() -> None:
    """Nobody has written that yet when a person finds the mail in Sent Items; the dead claimant's slice is decided all the same."""
    room = Room()
    room.provider.script = ["killed after"]
    await room.alive(lambda: room.accept.single(message("a"), "crm", "hash"))
    found, _ = await room.status.anywhere("a", ["crm"], [])
    with pytest.raises(Conflict) as caught:
        await decide(room).resolve(found.ref, 0, "sent", "ops")
    assert caught.value.code == "not_held"
    room.pass_time(21.0)
    await decide(room).resolve(found.ref, 0, "sent", "ops")
    await room.come_to_rest()
    assert ((await room.mail(found.ref.unit)).status, room.provider.calls, room.provider.questions) == ("sent", 1, 0)


async def test_only_a_held_mail_is_decided() -> None:
    """A pending one goes its way."""
    room = Room()
    room.provider.script = ["not sent"]
    slice_ = await room.accept.single(message("a"), "crm", "hash")
    with pytest.raises(Conflict) as caught:
        await decide(room).resolve(slice_.ref, 0, "resend", "ops")
    assert "pending" in caught.value.detail


async def test_a_mail_without_its_body_can_only_be_closed() -> None:
    """What is no longer in storage cannot be sent again."""
    room = unaskable()
    ref = await held(room)
    await room.fake.delete_blob("mail-outbox", f"billing/{ref.unit}/00000")
    with pytest.raises(Conflict) as caught:
        await decide(room).resolve(ref, 0, "resend", "ops")
    assert caught.value.code == "body_missing"
    await decide(room).resolve(ref, 0, "sent", "ops")
    assert (await room.mail(ref.unit)).status == "sent"


async def test_a_held_mail_of_a_batch_is_decided_beside_the_others() -> None:
    """Twenty mails in one slice: two held ones get two fates, and the retry leaves a person's decision alone."""
    room = unaskable()
    room.provider.script = ["lost before", "lost after"]
    batch = await begun(room, 20)
    await room.come_to_rest()
    assert await statuses(room, batch) == {"held": 2, "sent": 18}
    await decide(room).resolve(Ref("billing", batch.id), 0, "refused", "ops")
    await decide(room).resolve(Ref("billing", batch.id), 1, "resend", "ops")
    await room.come_to_rest()
    assert await statuses(room, batch) == {"refused": 1, "sent": 19}
    assert await decide(room).retry(batch) == 0


async def test_a_decision_that_always_loses_the_race_is_no_decision() -> None:
    """It is told instead of being thought written."""
    room = unaskable()
    ref = await held(room)
    room.fake.fail_next("write", times=99)
    with pytest.raises(StorageDown):
        await decide(room).resolve(ref, 0, "sent", "ops")


@pytest.mark.parametrize("body", [b"", b"{}", b'{"as": "maybe"}', b'{"as": "sent", "why": "x"}', b"\xff", b"[]"])
def test_what_is_no_decision_is_refused(body: bytes) -> None:
    """With the three that there are."""
    with pytest.raises(BadInput) as caught:
        decided(body)
    assert (caught.value.code, caught.value.field) == ("decision_invalid", "as")
    assert decided(b'{"as": "resend"}') == "resend"


async def test_whoever_may_decide_finds_the_mail() -> None:
    """By its own caller's id, by that of another caller whom they name, by the batch's place, by the name that we gave it."""
    room = unaskable()
    ref = await held(room)
    batch = await begun(room, 1)
    status = room.status
    assert (await status.anywhere("a", ["ops", "crm"], []))[0].ref == ref
    assert (await status.anywhere(ref.unit, ["ops"], ["other", "billing"]))[0].ref == ref
    assert (await status.anywhere(f"{batch.id}.0.0.0", ["ops"], []))[0].ref == Ref("billing", batch.id)
    for name in ("a", "b", ref.unit, f"{batch.id}.0.0.7", "a/b"):
        with pytest.raises(NotFound):
            await status.anywhere(name, ["ops"], [])


async def test_a_kill_between_two_decisions_leaves_one() -> None:
    """Killed while it is written, a decision is there or not; repeated it is the same or told as settled."""
    for after in (False, True):
        room = unaskable()
        ref = await held(room)
        room.store.dies_in, room.store.after = 1, after
        with pytest.raises(Killed):
            await decide(room).resolve(ref, 0, "sent", "ops")
        room.store.dies_in = None
        assert (await room.mail(ref.unit)).status == ("sent" if after else "held")
