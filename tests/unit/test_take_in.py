"""A batch out of a blob: accepted in pieces, whole or not at all, once, whoever is killed where."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from collections.abc import Sequence
from typing import Any

import pytest

from mailroom.errors import BadInput, Conflict, NotFound, StorageConflict, StorageDown
from mailroom.model.batch import Batch
from mailroom.model.intake import Intake
from mailroom.model.places import UPLOADS_CONTAINER
from mailroom.model.row import Change
from mailroom.model.slice import Ref
from send_mail import take_in
from send_mail.intake import view
from send_mail.portions import LINES
from send_mail.take_in import LATE, REISSUES
from tests.fakes import FakeStore
from tests.intake import CALLER, IntakeRoom, mail, ndjson
from tests.sending import Killed

TEMPLATE = {"account": "billing", "to": ["{{ email }}"], "subject": "Dear {{ name }}", "id": "{{ email }}"}


async def accepted(room: IntakeRoom, found: Intake | Batch) -> Batch:
    await room.taken_in()
    batch = await room.ledger.batch(found.id)
    assert batch is not None, await room.intakes.read(found.id)
    return batch


async def refused(room: IntakeRoom, body: bytes | None, **fields: Any) -> tuple[str, str]:
    """Code and field, once nothing of it is left."""
    found = await room.post(body, **fields)
    await room.taken_in()
    intake = await room.intakes.read(found.id)
    assert intake is not None
    assert intake.fault is not None
    assert await room.ledger.batch(found.id) is None
    assert not [row for row in room.fake.tables["MailLedger"].values() if found.id in row.key and row.partition != "~intakes"]
    assert room.provider.calls == 0
    return intake.fault.code, intake.fault.field


async def lines_of(room: IntakeRoom, batch: Batch) -> list[int]:
    return [one.line or 0 for slice_ in await room.ledger.slices(batch) for one in slice_.mails]


async def test_a_batch_is_accepted_piece_by_piece_and_sent_once() -> None:
    """Forty-five lines in portions of four: every line is a mail, in order, and goes once."""
    room = IntakeRoom()
    found = await room.post(ndjson([mail(number) for number in range(45)]))
    assert isinstance(found, Intake)
    assert (found.state, await room.ledger.batch(found.id)) == ("reading", None)
    batch = await accepted(room, found)
    assert await lines_of(room, batch) == list(range(1, 46))
    await room.come_to_rest()
    assert sorted(room.provider.copies.values()) == [1] * 45


async def test_nothing_counts_before_the_last_write() -> None:
    """Half read, nothing of the batch is sent, nor can any of its mails be looked up."""
    room = IntakeRoom()
    found = await room.post(ndjson([mail(number) for number in range(12)]))
    await room.work_off()
    half = await room.intakes.read(found.id)
    assert half is not None
    assert (half.line, half.mails) == (4, 4)
    await room.sweep.run()
    await room.deliver.tickets.refill("billing")
    assert room.provider.calls == 0
    with pytest.raises(NotFound):
        await room.status.message("id-0", CALLER)


@pytest.mark.parametrize("after", [False, True])
async def test_killed_anywhere_it_goes_on_and_doubles_nothing(after: bool) -> None:
    """The process dies at each of its writes and reads in turn, before or behind it; each time all nine mails go once."""
    for dies_in in range(1000):
        room = IntakeRoom()
        body = ndjson([mail(number) for number in range(9)])
        await room.upload(body)
        room.store.dies_in, room.store.after = dies_in, after
        found = await room.alive(lambda room=room: room.post(key="k")) or await room.post(key="k")  # type: ignore[misc]
        await room.taken_in()
        survived, room.store.dies_in = room.store.dies_in is not None, None
        batch = await room.ledger.batch(found.id)
        assert batch is not None, dies_in
        assert sorted(await lines_of(room, batch)) == list(range(1, 10)), dies_in
        await room.come_to_rest()
        assert sorted(room.provider.copies.values()) == [1] * 9, dies_in
        assert (await room.status.message("id-7", CALLER))["status"] == "sent"
        if survived:
            assert dies_in > 40
            return
    raise AssertionError("it never survives")


async def test_killed_again_and_again_it_comes_to_its_end() -> None:
    """Each process lives for nine operations: the batch is accepted all the same, since each ticket brings it further."""
    room = IntakeRoom(lines=2)
    found = await room.post(ndjson([mail(number) for number in range(10)]))
    for _ in range(200):
        room.store.dies_in = 9
        await room.work_off()
        room.store.dies_in = None
        room.pass_time(LATE + 1)
        await room.take_in.revive()
        if await room.ledger.batch(found.id):
            break
    assert await lines_of(room, await accepted(room, found)) == list(range(1, 11))


@pytest.mark.parametrize("error", [StorageDown("storage_down", "Lost.")])
async def test_a_lost_answer_anywhere_is_no_loss(error: StorageDown) -> None:
    """Storage fails once at each operation in turn, before or after it took effect; the host brings the ticket again."""
    for fails_in in range(1000):
        room = IntakeRoom()
        found = await room.post(ndjson([mail(number) for number in range(9)]))
        room.store.dies_in, room.store.after, room.store.error = fails_in, fails_in % 2 == 0, error
        for _ in range(60):
            try:
                await room.taken_in()
            except StorageDown:
                room.pass_time(31.0)
                continue
            break
        survived, room.store.dies_in = room.store.dies_in is not None, None
        assert await lines_of(room, await accepted(room, found)) == list(range(1, 10)), fails_in
        if survived:
            return
    raise AssertionError("it never survives")


async def test_two_at_the_same_batch_make_one() -> None:
    """A ticket that came twice: both read the same portion, one brings the batch further, the other leaves."""
    room = IntakeRoom()
    found = await room.post(ndjson([mail(number) for number in range(9)]))
    for _ in range(8):
        await asyncio.gather(*(room.take_in.work(found.id) for _ in range(2)))
    assert await lines_of(room, await accepted(room, found)) == list(range(1, 10))


async def test_who_was_frozen_writes_over_nothing() -> None:
    """A worker wakes in the middle of a portion when the batch was accepted and sent long ago: nothing goes again."""
    room = IntakeRoom(lines=9, seconds=60.0)
    found = await room.post(ndjson([mail(number) for number in range(9)]))
    frozen = await room.intakes.read(found.id)
    assert frozen is not None
    await accepted(room, found)
    await room.come_to_rest()
    sent = await room.ledger.read(Ref("billing", found.id))
    with pytest.raises(StorageConflict):
        await room.take_in._read(frozen, None)
    assert await room.ledger.read(Ref("billing", found.id)) == sent
    assert sorted(room.provider.copies.values()) == [1] * 9


async def test_one_bad_line_in_the_middle_refuses_all() -> None:
    """It is named with its line and field, nothing is sent, and what was written before it is forgotten."""
    room = IntakeRoom()
    mails = [mail(number) for number in range(30)]
    mails[17] = mail(17, to=["ann"])
    assert await refused(room, ndjson(mails)) == ("address_without_domain", "line 18: to[0]")


async def test_partial_leaves_bad_lines_behind() -> None:
    """The good lines go; the bad ones are there with line and code, in order, whatever portion they were in."""
    room = IntakeRoom()
    mails = [mail(number) for number in range(12)]
    mails[1], mails[7], mails[8] = mail(1, to=[]), mail(7, account="secret"), mail(8, id="id-0")
    found = await room.post(ndjson(mails), partial=True)
    batch = await accepted(room, found)
    assert batch.refused == 3
    view = await room.status.batch(batch.id, CALLER)
    assert [(one["line"], one["code"]) for one in view["refused"]] == [
        (2, "recipients_none"),
        (8, "account_not_allowed"),
        (9, "id_repeated"),
    ]
    assert await lines_of(room, batch) == [1, 3, 4, 5, 6, 7, 10, 11, 12]


@pytest.mark.parametrize("seconds", [0.0, 60.0])
async def test_an_id_stands_once_however_far_apart(seconds: float) -> None:
    """The second mail under an id is found in another portion, also by another process, and named."""
    room = IntakeRoom(seconds=seconds)
    assert await refused(room, ndjson([*(mail(number) for number in range(10)), mail(3)])) == ("id_repeated", "line 11: id")


async def test_an_earlier_batch_keeps_its_ids_when_a_later_one_is_refused() -> None:
    """Ids may come again in another batch; one that is refused takes none of them away."""
    room = IntakeRoom()
    await accepted(room, await room.post(ndjson([mail(1)])))
    await room.come_to_rest()
    room.provider.calls = 0
    assert (await refused(room, ndjson([mail(number) for number in range(8)] + [mail(9, to=[])])))[0] == "recipients_none"
    assert (await room.status.message("id-1", CALLER))["status"] == "sent"


async def test_csv_fills_in_a_template_across_portions() -> None:
    """A cell with line breaks may lie where a portion ends; numbers are those of lines, and each recipient gets one mail."""
    room = IntakeRoom(lines=3)
    rows = [f'"Ann\r\n{number}, the {number}th",ann{number}@example.com' for number in range(10)]
    body = "\ufeff" + "\r\n".join(["name,email", *rows])
    batch = await accepted(room, await room.post(body.encode(), format="csv", template=TEMPLATE | {"subject": "Hi {{ email }}"}))
    assert await lines_of(room, batch) == list(range(2, 22, 2))
    await room.come_to_rest()
    assert sorted(room.provider.copies.values()) == [1] * 10


async def test_a_template_takes_ndjson_and_refuses_alone_who_lacks_a_variable() -> None:
    """As in a request: the others go, also without partial."""
    room = IntakeRoom()
    people = [{"name": "Ann", "email": f"a{number}@example.com"} for number in range(6)]
    del people[2]["name"]
    batch = await accepted(room, await room.post(ndjson(people), template=TEMPLATE))
    assert (await lines_of(room, batch), batch.refused) == ([1, 2, 4, 5, 6], 1)


async def test_a_variable_that_nobody_has_refuses_the_batch() -> None:
    """Then it is the template that is wrong."""
    room = IntakeRoom()
    people = [{"email": f"a{number}@example.com"} for number in range(3)]
    assert await refused(room, ndjson(people), template=TEMPLATE) == ("variable_missing", "line 1")


async def test_what_all_share_is_stored_once() -> None:
    """A template's attachments go with every mail."""
    room = IntakeRoom()
    file = {"name": "terms.txt", "content": "VGVybXM="}
    people = [{"name": "Ann", "email": f"a{number}@example.com"} for number in range(6)]
    found = await room.post(ndjson(people), template=TEMPLATE, attachments=[file])
    await accepted(room, found)
    bodies = await room.outbox.get(Ref("billing", found.id, 1))
    assert bodies is not None
    assert [one.attachments[0].content for one in bodies] == [b"Terms"] * 2


async def test_several_accounts_share_a_batch_by_turns() -> None:
    """Who sends goes on from portion to portion, as it would in one piece."""
    room = IntakeRoom(lines=3)
    room.add_account("support")
    mails = [{"to": [f"a{number}@example.com"], "subject": "Hi"} for number in range(10)]
    found = await room.post(ndjson(mails), accounts=["billing", "support"])
    batch = await accepted(room, found)
    assert {name: sum(len(one.mails) for one in await room.ledger.part(Ref(name, batch.id), 9)) for name in batch.slices} == {
        "billing": 5,
        "support": 5,
    }


async def test_the_same_key_is_the_same_batch() -> None:
    """While it is on its way, once it is accepted, and also when it was refused; another request is a conflict."""
    room = IntakeRoom()
    first = await room.post(ndjson([mail(number) for number in range(9)]), key="k")
    again = await room.post(key="k")
    assert again.id == first.id
    batch = await accepted(room, first)
    assert await room.post(key="k") == batch
    with pytest.raises(Conflict):
        await room.accept.begun(CALLER, "another", "k")


async def test_the_same_key_is_the_same_batch_also_when_its_upload_is_gone() -> None:
    """A request may be repeated for as long as its key is known, an upload is there for a day."""
    room = IntakeRoom()
    first = await room.post(ndjson([mail(number) for number in range(9)]), key="k")
    await room.fake.delete_blob(UPLOADS_CONTAINER, f"{CALLER}/u1")
    assert (await room.post(key="k")).id == first.id
    await room.taken_in()
    again = await room.post(key="k")
    assert isinstance(again, Intake)
    assert (again.state, again.fault and again.fault.code) == ("refused", "upload_missing")


async def test_only_ids_of_their_own_are_entered() -> None:
    """A mail without one is found by the name that its batch gives it, without a row for it."""
    room = IntakeRoom()
    mails = [mail(number) for number in range(9)]
    del mails[3]["id"], mails[8]["id"]
    batch = await accepted(room, await room.post(ndjson(mails)))
    assert len(room.fake.tables["MailKeys"]) == 7
    assert (await room.status.message(f"{batch.id}.0.0.3", CALLER))["line"] == 4


async def test_nothing_goes_before_its_time() -> None:
    """With send_at the mails wait, and go then."""
    room = IntakeRoom()
    at = room.clock() + 3600
    await accepted(room, await room.post(ndjson([mail(1)]), send_at=at))
    await room.sweep.run()
    while await room.work_off():
        pass
    assert room.provider.calls == 0
    room.pass_time(3601)
    await room.come_to_rest()
    assert list(room.provider.copies.values()) == [1]


async def test_an_upload_that_is_changed_meanwhile_refuses_the_batch() -> None:
    """Half of one file and half of another are nobody's batch."""
    room = IntakeRoom()
    found = await room.post(ndjson([mail(number) for number in range(9)]))
    await room.work_off()
    await room.upload(ndjson([mail(number) for number in range(100, 109)]))
    await room.taken_in()
    intake = await room.intakes.read(found.id)
    assert intake is not None
    assert intake.fault is not None
    assert intake.fault.code == "upload_changed"


async def test_limits_that_change_in_the_middle_of_a_killed_portion_refuse_the_batch() -> None:
    """What was written under the old ones can't be told from what would be written now: so nothing is sent, rather than something twice."""
    room = IntakeRoom(lines=8, recipients_a_day=100)
    found = await room.post(ndjson([mail(number) for number in range(8)]))
    room.store.only, room.store.dies_in, room.store.after = "write", 1, True  # the account's row, then the slices
    await room.work_off()
    room.account = type(room.account)(
        **{name: getattr(room.account, name) for name in room.account.__struct_fields__} | {"recipients_a_day": 3}
    )
    room.start()
    await room.taken_in()
    intake = await room.intakes.read(found.id)
    assert intake is not None
    assert intake.fault is not None
    assert (intake.fault.code, await room.ledger.batch(found.id)) == ("intake_changed", None)


async def test_an_intake_that_dies_again_and_again_is_refused() -> None:
    """After ten tickets that died the caller is told, and the rows are forgotten."""
    room = IntakeRoom()
    found = await room.post(ndjson([mail(number) for number in range(9)]))
    await room.work_off()
    for _ in range(REISSUES + 1):
        room.fake.queues["mail-outbox"].clear()  # whoever had it was killed
        room.pass_time(LATE + 1)
        await room.take_in.revive()
    await room.taken_in()
    intake = await room.intakes.read(found.id)
    assert intake is not None
    assert intake.fault is not None
    assert intake.fault.code == "intake_died"
    assert await room.ledger.read(Ref("billing", found.id)) is None


async def test_dying_counts_only_where_nothing_is_brought_further() -> None:
    """Nine tickets die before each portion: that is bad luck, and the batch is accepted."""
    room = IntakeRoom()
    found = await room.post(ndjson([mail(number) for number in range(12)]))
    for _ in range(5):
        for _ in range(REISSUES - 1):
            room.fake.queues["mail-outbox"].clear()
            room.pass_time(LATE + 1)
            await room.take_in.revive()
        await room.work_off()
    assert await lines_of(room, await accepted(room, found)) == list(range(1, 13))


async def test_a_ticket_that_the_platform_poisoned_comes_again_at_once() -> None:
    """Five kills do that to a ticket that never failed: the sweep gives the intake another one, and clears the queue."""
    room = IntakeRoom()
    found = await room.post(ndjson([mail(number) for number in range(9)]))
    [dead] = room.fake.queues.pop("mail-outbox")
    await room.fake.put_ticket("mail-outbox-poison", dead.body)
    await room.sweep.run()
    assert room.fake.queues["mail-outbox-poison"] == []
    assert len(room.fake.queues["mail-outbox"]) == 1
    assert await lines_of(room, await accepted(room, found)) == list(range(1, 10))


async def test_an_intake_that_takes_too_long_is_refused() -> None:
    """Its Idempotency-Key would begin another batch soon."""
    room = IntakeRoom()
    found = await room.post(ndjson([mail(number) for number in range(9)]))
    await room.work_off()
    room.pass_time(take_in.LONGEST + 1)
    await room.taken_in()
    intake = await room.intakes.read(found.id)
    assert intake is not None
    assert intake.fault is not None
    assert intake.fault.code == "intake_too_slow"


async def test_a_marker_without_an_intake_goes_after_an_hour() -> None:
    """Who was killed between the two writes left it."""
    room = IntakeRoom()
    await room.upload(ndjson([mail(1)]))
    room.store.only, room.store.dies_in = "write", 1
    with pytest.raises(Killed):
        await room.post()
    assert len(await room.intakes.waiting()) == 1
    for expected in (1, 0):
        await room.take_in.revive()
        room.pass_time(take_in.LEFT)
        await room.take_in.revive()
        assert len(await room.intakes.waiting()) == expected


async def test_nothing_is_kept_that_nobody_needs() -> None:
    """Once it is accepted, neither marker nor ids nor order are left."""
    room = IntakeRoom()
    await accepted(room, await room.post(ndjson([mail(number) for number in range(9)])))
    assert not [name for _, name in room.fake.blobs if name.startswith("batches/")]


@pytest.mark.parametrize(
    ("fields", "code", "field"),
    [
        ({"blob": "../x"}, "upload_invalid", "blob"),
        ({"blob": "nowhere"}, "upload_missing", "blob"),
        ({"format": "xml"}, "field_type", "format"),
        ({"format": "csv"}, "field_missing", "template"),
        ({"template": TEMPLATE | {"subject": "{{ name"}}, "template_invalid", "template.subject"),
        ({"template": TEMPLATE | {"subjekt": "a"}}, "field_unknown", "template.subjekt"),
        ({"attachments": [{"name": "a", "content": ""}]}, "field_unknown", "attachments"),
        ({"from": "a@b.example"}, "field_unknown", "from"),
        ({"accounts": ["a", "a"]}, "accounts_invalid", "accounts"),
        ({"csv": "x"}, "field_unknown", "csv"),
    ],
)
async def test_a_wrong_order_is_told_at_once(fields: dict[str, Any], code: str, field: str) -> None:
    """Before anything is kept."""
    room = IntakeRoom()
    await room.upload(ndjson([mail(1)]))
    with pytest.raises(BadInput) as caught:
        await room.post(**fields)
    assert (caught.value.code, caught.value.field) == (code, field)
    assert "MailLedger" not in room.fake.tables


@pytest.mark.parametrize(
    ("body", "fields", "code"),
    [
        (b"", {}, "batch_empty"),
        (b"\xef\xbb\xbf", {}, "batch_empty"),
        (b"name,email\n", {"format": "csv", "template": TEMPLATE}, "batch_empty"),
        (b" [{}]", {}, "not_ndjson"),
        (b"name,,x\n", {"format": "csv", "template": TEMPLATE}, "csv_column_unnamed"),
        (b"\n\n", {"format": "csv", "template": TEMPLATE}, "csv_header_missing"),
    ],
)
async def test_an_upload_that_is_wrong_from_the_start_is_told_at_once(body: bytes, fields: dict[str, Any], code: str) -> None:
    """Its first bytes are looked at before the order is taken."""
    with pytest.raises(BadInput) as caught:
        await IntakeRoom().post(body, **fields)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("body", "fields", "code", "field"),
    [
        (b"\n \n\n", {}, "batch_empty", "blob"),
        (ndjson([mail(1)]) + b"{broken\n", {}, "not_json", "line 2"),
        (b"name,email\n\n", {"format": "csv", "template": TEMPLATE}, "batch_empty", "blob"),
        (b'name,email\nAnn,a@b.example\n"Eve,e@b.example\n', {"format": "csv", "template": TEMPLATE}, "csv_invalid", "csv: line 3"),
        (b"name,email\nAnn,a@b.example\n\xff,e@b.example\n", {"format": "csv", "template": TEMPLATE}, "csv_not_utf8", "line 3"),
    ],
)
async def test_what_can_t_be_read_refuses_the_batch(body: bytes, fields: dict[str, Any], code: str, field: str) -> None:
    """With the line where there is one."""
    assert await refused(IntakeRoom(), body, **fields) == (code, field)


async def test_twenty_thousand_lines_and_one_bad_in_the_middle() -> None:
    """Named, nothing is sent, and all that was written is forgotten."""
    room = IntakeRoom(lines=LINES, seconds=60.0)
    body = b"".join(b'{"account":"billing","to":["a@example.com"],"id":"%d"}\n' % number for number in range(20_000))
    lines = body.splitlines(keepends=True)
    lines[10_000] = json.dumps(mail(1, subject="a\nb")).encode() + b"\n"
    assert await refused(room, b"".join(lines)) == ("header_line_break", "line 10001: subject")


class Swallowing(FakeStore):
    """Keeps neither bodies nor slices: so what is left is what the one who accepts them has in memory."""

    async def put_blob(self, container: str, name: str, body: bytes, **options: Any) -> bool:
        if name.startswith("billing/"):
            return True
        return await super().put_blob(container, name, body, **options)

    async def write(self, table: str, changes: Sequence[Change]) -> list[str]:
        if changes[0].row.partition == "billing":
            return [""] * len(changes)
        return await super().write(table, changes)


async def test_memory_does_not_grow_with_the_batch() -> None:
    """Of twenty thousand mails, 50 MB as messages, a portion of two thousand is in memory at a time, and eight megabytes of the upload."""
    room = IntakeRoom(lines=2000, seconds=60.0)
    room.fake = room.store.store = Swallowing(now=room.clock)
    text = b"x" * 900
    found = await room.post(
        b"".join(b'{"account":"billing","to":["a@example.com"],"id":"%d","text":"%s"}\n' % (at, text) for at in range(20_000))
    )
    tracemalloc.start()
    try:
        await room.taken_in()
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert await room.ledger.batch(found.id)
    assert most < 25_000_000


async def test_a_batch_is_cancelled_on_its_way_in() -> None:
    """Nothing of it goes, its rows are forgotten, and its key gives what became of it; another caller can't, nor can anybody later."""
    room = IntakeRoom()
    found = await room.post(ndjson([mail(number) for number in range(9)]), key="k")
    await room.work_off()
    assert await room.take_in.cancel(found.id, "another") is None
    stopped = await room.take_in.cancel(found.id, CALLER)
    assert stopped is not None
    assert view(stopped)["status"] == "cancelled"
    await room.taken_in()
    assert await room.ledger.read(Ref("billing", found.id)) is None
    again = await room.post(key="k")
    assert isinstance(again, Intake)
    assert again.state == "refused"
    other = await accepted(room, await room.post(ndjson([mail(number) for number in range(9)])))
    assert await room.take_in.cancel(other.id, CALLER) is None


async def test_status_tells_how_far_it_has_come() -> None:
    """To its caller alone: lines and bytes while it is on its way, the reason once it is refused, counts once it is accepted."""
    room = IntakeRoom()
    mails = [mail(number) for number in range(9)]
    found = await room.post(ndjson(mails))
    await room.work_off()
    told = await room.status.batch(found.id, CALLER)
    size = len(ndjson(mails))
    assert told == {"id": found.id, "status": "accepting", "lines": 4, "bytes": len(ndjson(mails[:4])), "of_bytes": size}
    with pytest.raises(NotFound):
        await room.status.batch(found.id, "another")
    await room.taken_in()
    assert sum((await room.status.batch(found.id, CALLER))["counts"].values()) == 9
    bad = await room.post(ndjson([mail(1), mail(2, to=["bob"])]))
    await room.taken_in()
    told = await room.status.batch(bad.id, CALLER)
    assert (told["status"], told["code"], told["field"]) == ("refused", "address_without_domain", "line 2: to[0]")
    assert told["next_step"]
