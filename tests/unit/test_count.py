"""What has become of a large batch, counted without having all of it in memory."""

from __future__ import annotations

import tracemalloc

from mailroom.model.batch import Batch, RefusedLine
from mailroom.model.slice import Mail, Ref, Slice
from send_mail.count import SHOWN, Count
from tests.sending import Room


def batch(slices: int, refused: int = 0) -> Batch:
    return Batch("b1", "crm", 0.0, {"billing": slices}, refused)


def test_every_mail_is_counted_and_the_first_refused_are_shown() -> None:
    """By line, from the door and from the provider, a hundred at most; what waits and what is done add up."""
    count = Count(batch(3, refused=150))
    count.add_refused([RefusedLine(2 * at, "field_type", "No.") for at in range(1, 151)])
    mails = [Mail(f"m{at}", "refused" if at % 2 else "pending", line=at) for at in range(1, 61)]
    for number in range(3):
        count.add([Slice(Ref("billing", "b1", number), "crm", tuple(mails[number * 20 : number * 20 + 20]), 0.0)])
    assert (count.by_status["refused"], count.by_status["pending"], count.done) == (180, 30, 30)
    assert [one.line for one in count.refused] == sorted([*range(1, 60, 2), *range(2, 301, 2)])[:SHOWN]


async def test_a_batch_comes_in_pages() -> None:
    """All of its slices, by number, those of no other batch between; never more than a page of them at a time."""
    room = Room()
    for unit in ("b1", "b10", "b2"):
        slices = [Slice(Ref("billing", unit, number), "crm", (Mail(f"{unit}.{number}"),), 0.0, batch=True) for number in range(1040)]
        for at in range(0, 1040, 40):
            await room.ledger.insert(slices[at : at + 40])
    pages = [page async for page in room.ledger.pages(batch(1040))]
    assert [len(page) for page in pages] == [500, 500, 40]
    assert [slice_.mails[0].id for page in pages for slice_ in page] == [f"b1.{number}" for number in range(1040)]


def test_a_count_takes_no_memory_for_what_it_has_counted() -> None:
    """A hundred thousand refused mails leave a hundred."""
    count = Count(batch(5000))
    tracemalloc.start()
    try:
        for number in range(5000):
            mails = tuple(Mail(f"m{number}.{at}", "refused", line=number * 20 + at, code="no") for at in range(20))
            count.add([Slice(Ref("billing", "b1", number), "crm", mails, 0.0)])
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
    assert count.by_status["refused"] == 100_000
