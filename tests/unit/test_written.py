"""What a portion makes is written once, whoever writes it again, and whatever they would write."""

from __future__ import annotations

import msgspec
import pytest

from mailroom.errors import StorageConflict
from mailroom.model.intake import Intake, Share
from mailroom.model.slice import Ref
from send_mail.line import Line
from send_mail.reader import Read
from send_mail.slicing import Slices, sliced
from send_mail.written import Otherwise, next_part, shares, write
from tests.sending import Room, message

INTAKE = Intake("b1", "crm", "hash", "crm/u1", 100, "etag", 1.0)
READ = Read([], [], INTAKE, b"")


def made(room: Room, count: int, text: str = "Hello", first: int = 1) -> Slices:
    lines = [Line(number, message(f"id-{number}", text)) for number in range(first, first + count)]
    return sliced("b1", "crm", 1.0, lines, room.deliver.accounts)


async def write_(room: Room, slices: Slices) -> None:
    await write(room.deliver, INTAKE, READ, slices, sharing=False)


async def test_writing_it_again_changes_nothing() -> None:
    """Also where a part of it is missing, which is written then."""
    room = Room()
    await write_(room, made(room, 30))
    await write_(room, made(room, 30))
    rows = room.fake.tables["MailLedger"]
    for key in [key for key in rows if key[1].endswith("b1|00001")]:
        del rows[key]
    await write_(room, made(room, 30))
    assert [len(one.mails) for one in await room.ledger.part(Ref("billing", "b1"), 9)] == [20, 10]
    assert len(await room.ledger.owed("billing", 9)) == 2


async def test_another_row_is_not_written_over() -> None:
    """The same bodies under other lines are other mails."""
    room = Room()
    await write_(room, made(room, 30))
    before = await room.ledger.part(Ref("billing", "b1"), 9)
    other = [
        (msgspec.structs.replace(slice_, mails=tuple(msgspec.structs.replace(one, line=99) for one in slice_.mails)), lines)
        for slice_, lines in made(room, 30)["billing"]
    ]
    with pytest.raises(Otherwise):
        await write_(room, {"billing": other})
    assert await room.ledger.part(Ref("billing", "b1"), 9) == before


async def test_another_body_is_not_written_over() -> None:
    """Who wakes up with other mails in hand, long after the batch was accepted, leaves what is there."""
    room = Room()
    await write_(room, made(room, 30))
    with pytest.raises(Otherwise):
        await write_(room, made(room, 30, text="Other"))
    found = await room.outbox.get(Ref("billing", "b1", 1))
    assert found is not None
    assert [one.text for one in found] == ["Hello"] * 10
    with pytest.raises(StorageConflict):
        await room.outbox.put_once(Ref("billing", "b1", 1), [message("x")])


def test_shares_add_up() -> None:
    """In the order in which accounts appear, which names their mails."""
    room = Room()
    before = (Share("support", 1, 20, 20), Share("billing", 2, 25, 25))
    assert shares(before, made(room, 30)) == (Share("support", 1, 20, 20), Share("billing", 4, 55, 55))
    assert shares((), made(room, 5)) == (Share("billing", 1, 5, 5),)


def test_numbers_and_names_go_on_where_the_last_portion_ended() -> None:
    """A mail's stamp tells account, slice and place: no two mails of a batch share it, whatever portion they came in."""
    room = Room()
    lines = [Line(number, message()) for number in range(1, 26)]
    slices = sliced("b1", "crm", 1.0, lines, room.deliver.accounts, shares=(Share("support", 1), Share("billing", 3)))
    stamps = [mail.stamp for slice_, _ in slices["billing"] for mail in slice_.mails]
    assert (stamps[0], stamps[-1], len({*stamps})) == ("b1.1.3.0", "b1.1.4.4", 25)


def test_ids_are_entered_account_by_account() -> None:
    """So many slices at a time, until none is left."""
    intake = msgspec.structs.replace(INTAKE, shares=(Share("a", slices=3), Share("b", slices=1)))
    told = []
    while found := next_part(intake, 2):
        first, intake = found
        told.append((first.account, first.slice))
    assert told == [("a", 0), ("a", 2), ("b", 0)]
