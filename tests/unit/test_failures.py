"""What of a batch did not go: as NDJSON and as CSV that no spreadsheet computes; and how fast the rest goes."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

from mailroom.errors import BadInput, NotFound
from mailroom.model.batch import RefusedLine
from mailroom.model.slice import Ref
from send_mail import failures, schedule
from send_mail.line import Line
from tests.sending import Room, message


async def failed(room: Room) -> str:
    """Forty mails of which one was refused by the provider, one is held, and one line was refused at the door."""
    refused = [RefusedLine(7, "address_invalid", "line 7: to[0]: '=cmd' is not one address.", None, "Write one.")]
    batch = await room.accept.batch([Line(number, message()) for number in range(10, 30)], refused, "crm", "hash")
    room.provider.script = ["refused", "lost after"]
    await room.come_to_rest()
    return batch.id


async def test_all_failures_are_listed_in_their_lines_order() -> None:
    """Refused at the door, refused by the provider, held: each with its code and what to do."""
    room = Room(permissions=frozenset({"Mail.Send"}))
    views = await room.status.failures(batch_id := await failed(room), "crm")
    rows = [json.loads(line) for line in failures.written(views, "ndjson").splitlines()]
    assert [(row["line"], row["status"], row["code"], row["account"]) for row in rows] == [
        (7, "refused", "address_invalid", None),
        (10, "refused", "recipient_invalid", "billing"),
        (11, "held", "answer_lost", "billing"),
    ]
    assert rows[1]["id"] == f"{batch_id}.0.0.0"
    table = list(csv.DictReader(io.StringIO(failures.written(views, "csv").decode("utf-8-sig"), newline="")))
    assert (table[0]["line"], table[0]["code"], table[0]["next_step"]) == ("7", "address_invalid", "Write one.")
    assert [row["status"] for row in table] == ["refused", "refused", "held"]
    with pytest.raises(NotFound):
        await room.status.failures(batch_id, "another")


@pytest.mark.parametrize("cell", ["=1+1", "+49 123", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_cell_that_would_be_computed_is_a_text(cell: str) -> None:
    """An id or a detail that begins like a formula gets an apostrophe in front, as spreadsheets mark texts; NDJSON has it as it is."""
    views: list[dict[str, Any]] = failures.of_lines([RefusedLine(1, "x", cell, cell)])
    _, row = csv.reader(io.StringIO(failures.written(views, "csv").decode("utf-8-sig"), newline=""))
    assert (row[1], row[5]) == (f"'{cell}", f"'{cell}")
    assert json.loads(failures.written(views, "ndjson"))["id"] == cell


@pytest.mark.parametrize(
    ("wanted", "accept", "form"),
    [
        (None, None, "ndjson"),
        (None, "*/*", "ndjson"),
        (None, "Text/CSV, */*;q=0.1", "csv"),
        ("csv", "application/json", "csv"),
        ("NDJSON", "text/csv", "ndjson"),
    ],
)
def test_the_format_is_what_was_asked_for(wanted: str | None, accept: str | None, form: str) -> None:
    """The query decides, else the Accept header, else it is NDJSON."""
    assert failures.chosen(wanted, accept) == form


def test_a_format_that_there_is_not_is_named() -> None:
    """With those that there are."""
    with pytest.raises(BadInput) as caught:
        failures.chosen("xlsx", None)
    assert (caught.value.code, caught.value.field) == ("format_unknown", "format")


async def test_a_batch_tells_how_fast_it_goes_and_when_it_ends() -> None:
    """At 30 a minute, 120 mails: after one minute some have gone, and the rest needs two seconds each; done, it says neither."""
    room = Room(rate=30.0)
    batch = await room.accept.batch([Line(number, message()) for number in range(1, 121)], [], "crm", "hash")
    room.status.accounts["billing"] = room.account  # type: ignore[index]  # the room's own dictionary
    for _ in range(12):
        await room.work_off()
        room.pass_time(5.0)
    view = await room.status.batch(batch.id, "crm")
    sent = view["counts"]["sent"]
    assert 0 < sent < 120
    assert view["rate"] == sent
    left = 2 * (119 - sent)
    assert view["eta"] == schedule.shown(room.clock() + left)
    await room.come_to_rest()
    view = await room.status.batch(batch.id, "crm")
    assert (view["counts"]["sent"], "eta" in view, "rate" in view) == (120, False, False)


async def test_what_is_ahead_goes_first() -> None:
    """A batch ends after all that its mailbox owed before, and does not wait for what came later; other mailboxes don't count."""
    room = Room(rate=30.0)
    room.status.accounts["billing"] = room.account  # type: ignore[index]  # the room's own dictionary
    batches = []
    for lines in (range(1, 121), range(1, 41)):
        batches.append(await room.accept.batch([Line(number, message()) for number in lines], [], "crm", f"hash {lines.stop}"))
        room.pass_time(1.0)
    first, second = [(await room.status.batch(batch.id, "crm"))["eta"] for batch in batches]
    assert (first, second) == (schedule.shown(room.clock() + 2 * 119), schedule.shown(room.clock() + 2 * 159))
    assert await room.ledger.ahead(Ref("support", "b"), room.clock()) == 0


async def test_what_is_scheduled_ends_after_its_time() -> None:
    """Its end counts from then, and there is no rate of what has not begun."""
    room = Room(rate=30.0)
    at = room.clock() + 86400
    batch = await room.accept.batch([Line(number, message()) for number in range(1, 32)], [], "crm", "hash", send_at=at)
    room.status.accounts["billing"] = room.account  # type: ignore[index]  # the room's own dictionary
    view = await room.status.batch(batch.id, "crm")
    assert (view["send_at"], view["eta"], "rate" in view) == (schedule.shown(at), schedule.shown(at + 60), False)


async def test_many_refused_mails_are_not_all_in_the_answer() -> None:
    """The first hundred are; the failures have them all."""
    room = Room()
    refused = [RefusedLine(number, "address_invalid", "No.") for number in range(1, 500)]
    batch = await room.accept.batch([Line(500, message())], refused, "crm", "hash")
    view = await room.status.batch(batch.id, "crm")
    assert (view["counts"]["refused"], len(view["refused"])) == (499, 100)
    assert len(await room.status.failures(batch.id, "crm")) == 499
