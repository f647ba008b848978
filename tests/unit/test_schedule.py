"""When a batch shall go: times that mean one moment, the rest named; and what is scheduled waits, sorted behind what is owed by now."""

from __future__ import annotations

from typing import Any

import pytest

from mailroom.errors import BadInput
from mailroom.model.slice import Slice
from send_mail import schedule
from send_mail.line import Line
from tests.sending import Room, message

NOW = 1_790_000_000.0  # 2026-09-21T14:13:20Z


@pytest.mark.parametrize(
    ("text", "zone", "utc"),
    [
        ("2026-12-24T09:00:00+01:00", None, "2026-12-24T08:00:00Z"),
        ("2026-12-24T08:00:00Z", None, "2026-12-24T08:00:00Z"),
        ("2026-12-24T09:00", "Europe/Berlin", "2026-12-24T08:00:00Z"),
        ("2027-07-01 09:00:00", "Europe/Berlin", "2027-07-01T07:00:00Z"),
        ("2026-10-25T02:30:00", "Europe/Berlin", "2026-10-25T00:30:00Z"),
        ("2026-12-24T09:00:00", "Asia/Kathmandu", "2026-12-24T03:15:00Z"),
    ],
)
def test_a_time_means_one_moment(text: str, zone: str | None, utc: str) -> None:
    """By its offset, or by the time zone's rules of that day; where the clocks are put back the first of the two."""
    assert schedule.shown(schedule.seconds(text, zone, NOW)) == utc


@pytest.mark.parametrize(
    ("text", "zone", "code", "field"),
    [
        ("tomorrow", None, "send_at_invalid", "send_at"),
        ("2026-12-24", "Europe/Berlin", "send_at_invalid", "send_at"),
        ("2026-12-24T09:00:00", None, "time_zone_missing", "send_at"),
        ("2026-12-24T09:00:00+01:00", "Europe/Berlin", "time_zone_twice", "time_zone"),
        ("2026-12-24T09:00:00", "Europe/Berlyn", "time_zone_unknown", "time_zone"),
        ("2026-12-24T09:00:00", "../etc/passwd", "time_zone_unknown", "time_zone"),
        ("2026-12-24T09:00:00", "", "time_zone_unknown", "time_zone"),
        ("2027-03-28T02:30:00", "Europe/Berlin", "send_at_skipped", "send_at"),
        ("2026-09-19T14:00:00Z", None, "send_at_past", "send_at"),
        ("2027-12-24T09:00:00Z", None, "send_at_too_far", "send_at"),
        ("0001-01-01T00:00:00+14:00", None, "send_at_past", "send_at"),
    ],
)
def test_a_time_that_means_no_moment_is_named(text: str, zone: str | None, code: str, field: str) -> None:
    """No time zone is guessed, and none of a time that its zone leaves out."""
    with pytest.raises(BadInput) as caught:
        schedule.seconds(text, zone, NOW)
    assert (caught.value.code, caught.value.field) == (code, field)


def lines(count: int) -> list[Line]:
    return [Line(number, message()) for number in range(1, count + 1)]


async def mails(room: Room, batch: Any) -> list[Slice]:
    return list(await room.ledger.slices(batch))


async def test_what_is_scheduled_waits_for_its_time() -> None:
    """No ticket, no claim, nothing sent until then; then the sweep gives tickets and it goes, once."""
    room = Room()
    batch = await room.accept.batch(lines(100), [], "crm", "hash", send_at=room.clock() + 86400)
    for _ in range(3):
        await room.sweep.run()
        assert await room.fake.queue_length("mail-outbox") == 0
        room.pass_time(3600 * 7)
    assert not room.provider.copies
    room.pass_time(3600 * 3 - 80)
    await room.sweep.run()
    assert await room.work_off() == 0
    assert await room.fake.queue_length("mail-outbox") == 4
    room.pass_time(80)
    await room.come_to_rest()
    assert sorted(room.provider.copies.values()) == [1] * 100
    assert batch.send_at == batch.accepted + 86400


async def test_what_is_scheduled_is_in_nobodys_way() -> None:
    """A thousand slices for tomorrow hold up no mail of today, neither one before them nor one behind."""
    room = Room()
    await room.accept.batch(lines(400), [], "crm", "one", send_at=room.clock() + 86400)
    room.provider.script = ["not sent"]
    single = await room.accept.single(message("now"), "crm", "hash")
    await room.accept.batch(lines(60), [], "crm", "two")
    for _ in range(20):
        await room.work_off()
        await room.sweep.run()
        room.pass_time(5.0)
    assert sum(room.provider.copies.values()) == 61
    assert room.provider.copies[single.mails[0].stamp] == 1


async def test_giving_up_counts_from_the_time_it_is_scheduled_for() -> None:
    """A mail for the day after tomorrow is not late when it goes, however early it was accepted; a repeat is the same batch."""
    room = Room()
    at = room.clock() + 2 * room.timing.give_up
    first = await room.accept.batch(lines(3), [], "crm", "hash", "key", send_at=at)
    room.pass_time(40_000)
    again = await room.accept.batch(lines(3), [], "crm", "hash", "key", send_at=at)
    assert again == first
    room.pass_time(2 * room.timing.give_up - 40_000)
    await room.come_to_rest()
    assert sorted(room.provider.copies.values()) == [1] * 3


async def test_a_scheduled_batch_that_was_cut_off_goes_on_as_the_same() -> None:
    """Killed before its commit and repeated, also when its time is over: nothing twice."""
    room = Room()
    at = room.clock() + 600
    room.store.dies_in = 6
    await room.alive(lambda: room.accept.batch(lines(50), [], "crm", "hash", "key", send_at=at))
    room.pass_time(900)
    batch = await room.accept.batch(lines(50), [], "crm", "hash", "key", send_at=at)
    assert batch.send_at == at
    await room.come_to_rest()
    assert sorted(room.provider.copies.values()) == [1] * 50


async def test_a_time_that_is_over_sends_at_once() -> None:
    """A request that is repeated late is no mistake."""
    room = Room()
    batch = await room.accept.batch(lines(1), [], "crm", "hash", send_at=room.clock() - 60)
    await room.work_off()
    assert (batch.send_at, sum(room.provider.copies.values())) == (0.0, 1)


async def test_a_days_recipients_are_kept() -> None:
    """Of 240 recipients at 100 a day a hundred go at once, and no 24 hours see more; all go, however long they waited for their turn."""
    room = Room(recipients_a_day=100)
    await room.accept.batch(lines(240), [], "crm", "hash")
    sent = []
    for _ in range(60):
        for _ in range(12):
            await room.work_off()
            room.pass_time(300.0)
        await room.sweep.run()
        sent.append(sum(room.provider.copies.values()))
    assert sent[0] == 100
    assert all(after - before <= 100 for before, after in zip(sent, sent[24:], strict=False))
    assert (sent[26], sent[-1]) == (200, 240)


async def test_what_was_not_sent_uses_up_no_day() -> None:
    """A provider that refuses connections for a while costs no recipients: afterwards the whole day is there."""
    room = Room(recipients_a_day=20)
    room.provider.script = ["not sent"] * 60
    await room.accept.batch(lines(20), [], "crm", "hash")
    await room.come_to_rest()
    assert sorted(room.provider.copies.values()) == [1] * 20


async def test_slices_fit_into_a_day() -> None:
    """Mails to many are cut into slices that a day has room for, and one that is more than a day is refused at the door."""
    room = Room(recipients_a_day=50)
    many = message()
    many = type(many)(account="billing", to=many.to * 20, text="Hi")
    batch = await room.accept.batch([Line(number, many) for number in range(1, 6)], [], "crm", "hash")
    assert [len(slice_.mails) for slice_ in await mails(room, batch)] == [2, 2, 1]
    with pytest.raises(BadInput) as caught:
        room.accept.check(type(many)(account="billing", to=many.to * 3, text="Hi"))
    assert (caught.value.code, caught.value.field) == ("recipients_over_day", "to")
