"""A template and its recipients become a batch: drawn, checked, told line by line, stored with what they share once."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest

from mailroom.errors import BadInput, Forbidden, MailroomError
from mailroom.model.account import Traits
from mailroom.model.message import Address, Attachment
from mailroom.model.slice import Ref
from send_mail import estimate, schedule, templates
from send_mail.posted import Posted, Poster, rehearsed
from tests.sending import Room

TEMPLATE: dict[str, Any] = {
    "account": "billing",
    "to": ["{{ email|named(name) }}"],
    "subject": "Invoice {{ number }}",
    "text": "Dear {{ name }}",
}
ANN = {"name": "Ann", "email": "ann@example.com", "number": 1}
BOB = {"name": "Bob", "email": "bob@example.com", "number": 2}


def body(*recipients: Any, template: dict[str, Any] | None = None, **more: Any) -> bytes:
    whole = {"template": TEMPLATE | (template or {}), **more}
    if "csv" not in more:
        whole["recipients"] = recipients
    return json.dumps(whole).encode()


async def posted(room: Room, content: bytes, *, partial: bool = False, accounts: tuple[str, ...] = ()) -> Posted:
    def allow(account: str) -> None:
        if account == "secret":
            raise Forbidden("account_not_allowed", "Not yours.", "Ask.")

    return await Poster(room.accept, "caller", allow, accounts, partial).read(content)


async def refusal(content: bytes) -> MailroomError:
    with pytest.raises(MailroomError) as caught:
        await posted(Room(), content)
    return caught.value


async def test_each_recipient_gets_a_mail_of_its_own() -> None:
    """Every field is a template: names, subject, texts, headers and the answer's reference."""
    fields = {
        "id": "invoice-{{ number }}",
        "cc": ["{% if boss is defined %}{{ boss }}{% endif %}"],
        "html": "<p>{{ name }}</p>",
        "headers": {"x-customer": "{{ number }}"},
        "in_reply_to": "<{{ number }}@example.com>",
        "importance": "{{ 'high' if number == 1 else 'low' }}",
        "from": "invoices@example.com",
    }
    found = await posted(Room(), body(ANN | {"name": "Lee, <Ann>", "boss": "eve@example.com"}, BOB, template=fields))
    ann, bob = (line.message for line in found.lines)
    assert (ann.id, ann.to, ann.cc) == ("invoice-1", (Address("ann@example.com", "Lee, <Ann>"),), (Address("eve@example.com"),))
    assert (ann.subject, ann.text, ann.html) == ("Invoice 1", "Dear Lee, <Ann>", "<p>Lee, &lt;Ann&gt;</p>")
    assert (ann.headers, ann.in_reply_to, ann.importance, ann.sender) == (
        {"x-customer": "1"},
        "<1@example.com>",
        "high",
        Address("invoices@example.com"),
    )
    assert (bob.cc, bob.importance, bob.text) == ((), "low", "Dear Bob")
    assert [(line.number, line.account, line.id, line.recipients) for line in found.lines] == [
        (1, "billing", "invoice-1", 2),
        (2, "billing", "invoice-2", 1),
    ]


async def test_csv_is_as_good_as_json() -> None:
    """Columns are variables, lines are those of the file."""
    text = 'name,email,number\n"Ann\nLee",ann@example.com,1\nBob,bob@example.com,2\n'
    found = await posted(Room(), body(csv=text, template={"to": ["{{ email }}"]}))
    assert [(line.number, line.message.text, line.message.subject) for line in found.lines] == [
        (2, "Dear Ann\nLee", "Invoice 1"),
        (4, "Dear Bob", "Invoice 2"),
    ]


async def test_who_lacks_a_variable_is_refused_alone() -> None:
    """By name and line, also without partial; the others go."""
    found = await posted(Room(), body(ANN, {"email": "eve@example.com", "number": 3}, BOB))
    assert [line.number for line in found.lines] == [1, 3]
    [eve] = found.refused
    assert (eve.line, eve.code) == (2, "variable_missing")
    assert "'name'" in eve.detail
    assert "line 2: template.to[0]" in eve.detail


async def test_a_variable_that_nobody_has_is_the_templates_mistake() -> None:
    """Then nothing is accepted: a batch of nobody is no success."""
    error = await refusal(body(ANN, BOB, template={"text": "{{ nmae }}"}))
    assert isinstance(error, BadInput)
    assert (error.code, error.field) == ("variable_missing", "line 1: template.text")


@pytest.mark.parametrize(
    ("content", "code", "field"),
    [
        (body(ANN, BOB | {"email": "bob"}), "address_without_domain", "line 2: to[0]"),
        (body(ANN, BOB | {"name": "Bob\nBcc: eve@example.com"}), "header_line_break", "line 2: to[0]"),
        (body(ANN, BOB, template={"id": "same"}), "id_repeated", "line 2: id"),
        (body(ANN, 7), "recipient_invalid", "line 2"),
        (body(csv="name,email\nAnn,a@x.example,b,c\n"), "csv_cells_too_many", "line 2"),
        (body(ANN, template={"text": "{{ name"}), "template_invalid", "template.text"),
        (body(ANN, template={"subject": "{% include 'x' %}"}), "template_forbidden", "template.subject"),
        (
            body(ANN, template={"text": "{% for a in range(49999) %}{% for b in range(49999) %}{% endfor %}{% endfor %}"}),
            "template_unbounded",
            "line 1: template.text",
        ),
        (body(ANN, template={"text": "x" * 300_000}), "template_too_large", "template"),
        (body(ANN, template={"subjekt": "x"}), "field_unknown", "template.subjekt"),
        (body(ANN, template={"to": "ann@example.com"}), "field_type", "template.to"),
        (body(ANN, attachment=[]), "field_unknown", "attachment"),
        (body(ANN, csv="a\n1", recipients=[{}]), "recipients_twice", "recipients"),
        (b'{"template": {}}', "recipients_missing", "recipients"),
        (b'{"template": {"to": ["a@x.example"]}, "recipients": [{}]}', "field_missing", "line 1: account"),
        (body(ANN, template={"from": "a@x.example"}, **{"from": "b@x.example"}), "from_twice", "from"),
        (b'{"template": {}, "recipients": [', "not_json", ""),
        (b'{\n"template": {},\n"recipients": [\n}', "not_json", ""),
        (body(), "batch_empty", ""),
        (body(csv="a,b\n"), "batch_empty", ""),
        (body(ANN, template={"account": "secret"}), "account_not_allowed", None),
        (body(ANN, template={"account": ["billing", "billing"]}), "accounts_invalid", "accounts"),
        (body(ANN, attachments=[{"name": "a.pdf", "blob": "u1"}]), "upload_missing", "attachments[0].blob"),
    ],
)
async def test_what_is_wrong_is_told_by_field_and_line(content: bytes, code: str, field: str | None) -> None:
    """The mistake of one recipient refuses the batch as a bad line does; the template's own has no line."""
    error = await refusal(content)
    assert error.code == code
    if field is not None:
        assert isinstance(error, BadInput)
        assert error.field == field


async def test_partial_keeps_the_good_recipients() -> None:
    """Whatever is wrong with the others."""
    found = await posted(Room(), body(ANN, 7, BOB | {"email": "bob"}, BOB), partial=True)
    assert [line.number for line in found.lines] == [1, 4]
    assert [(line.line, line.code) for line in found.refused] == [(2, "recipient_invalid"), (3, "address_without_domain")]


@pytest.mark.parametrize(
    "content",
    [
        b'{"account": "billing", "to": ["a@x.example"]}',
        b'{"account": "billing"}\n{"template": {}}',
        b"[]",
        b"",
        b'{"text": "\\"template\\""}\n{}',
        b"{broken",
    ],
)
def test_what_is_no_template_is_left_to_the_lines(content: bytes) -> None:
    """A batch of one line is an object, too, and a line may speak of templates."""
    assert templates.asked(content) is None


async def test_shared_attachments_are_stored_once() -> None:
    """Forty mails with a file of 100 kB put it into storage once, and each goes with it."""
    room, file = Room(), b"%PDF" * 25_000
    shared = [{"name": "terms.pdf", "content": base64.b64encode(file).decode(), "type": "application/pdf"}]
    found = await posted(room, body(*(ANN | {"number": n} for n in range(40)), attachments=shared))
    batch = await room.accept.batch(found.lines, found.refused, "caller", "hash", shared=found.shared)
    blobs = {name: len(blob.body) for (_, name), blob in room.fake.blobs.items()}
    assert 100_000 < blobs.pop(f"batches/{batch.id}/shared") < 101_000
    assert len(blobs) == 2
    assert max(blobs.values()) < 10_000
    for slice_ in await room.ledger.slices(batch):
        messages = await room.outbox.get(slice_.ref)
        assert messages is not None
        assert {message.attachments for message in messages} == {(Attachment("terms.pdf", file, "application/pdf"),)}
    assert await room.outbox.get(Ref("billing", batch.id)) is not None
    await room.come_to_rest()
    assert len(room.provider.copies) == 40


async def test_what_is_shared_counts_in_every_request() -> None:
    """A slice is one request, in which each mail carries the file: of one megabyte two fit into three."""
    room, shared = Room(), [{"name": "a.bin", "content": base64.b64encode(b"x" * 1_000_000).decode()}]
    found = await posted(room, body(*[ANN] * 5, attachments=shared))
    batch = await room.accept.batch(found.lines, [], "caller", "hash", shared=found.shared)
    assert [len(slice_.mails) for slice_ in await room.ledger.slices(batch)] == [2, 2, 1]


async def test_mails_whose_shared_file_is_gone_are_not_sent_without_it() -> None:
    """They are refused, as if their body was gone."""
    room = Room()
    found = await posted(room, body(ANN, attachments=[{"name": "a.txt", "content": "YQ=="}]))
    batch = await room.accept.batch(found.lines, [], "caller", "hash", shared=found.shared)
    await room.fake.delete_blob("mail-outbox", f"batches/{batch.id}/shared")
    await room.come_to_rest()
    [slice_] = await room.ledger.slices(batch)
    assert (slice_.mails[0].code, room.provider.copies) == ("body_missing", {})


async def test_several_accounts_share_by_their_rates() -> None:
    """A mailbox of twice the rate gets twice the mails, in turns."""
    room = Room()
    slow = type(room.account)(
        **{name: getattr(room.account, name) for name in room.account.__struct_fields__} | {"name": "billing2", "rate": 30000.0}
    )
    room.deliver.accounts["billing2"] = slow  # type: ignore[index]  # the room's own dictionary
    found = await posted(room, body(*[ANN] * 9, template={"account": ["billing", "billing2"]}))
    assert [line.account for line in found.lines].count("billing") == 6
    assert {line.account for line in found.lines[:3]} == {"billing", "billing2"}
    lines = b"\n".join([b'{"to": ["ann@example.com"]}'] * 8 + [b'{"account": "billing2", "to": ["ann@example.com"]}'])
    found = await posted(room, lines, accounts=("billing", "billing2"))
    assert [line.account for line in found.lines].count("billing") == 6
    assert found.lines[8].account == "billing2"
    assert [line.message.account for line in found.lines] == [line.account for line in found.lines]


async def test_a_dry_run_shows_three_and_keeps_nothing() -> None:
    """What would go, what would not, how long it would take; storage is not touched."""
    room = Room(rate=30.0)
    content = body(*(ANN | {"number": n} for n in range(61)), BOB | {"email": "bob"}, attachments=[{"name": "a.txt", "content": "YQ=="}])
    found = await posted(room, content, partial=True)
    view: Any = rehearsed(found, estimate.seconds(found.lines, room.deliver.accounts))
    assert (view["count"], view["estimated_seconds"], len(view["rendered"])) == (61, 120, 3)
    assert [(one["line"], one["code"]) for one in view["refused"]] == [(62, "address_without_domain")]
    assert view["rendered"][2] == {
        "account": "billing",
        "to": ['"Ann" <ann@example.com>'],
        "subject": "Invoice 2",
        "text": "Dear Ann",
        "attachments": [{"name": "a.txt", "type": "application/octet-stream", "size": 1}],
    }
    assert room.fake.calls == []


def test_days_are_counted_where_a_mailbox_has_a_daily_limit() -> None:
    """25,000 recipients at 10,000 a day take two days and what the rest needs at the rate."""
    account = Room(rate=30.0, recipients_a_day=10_000).account
    assert estimate.lane(account, 25_000, 25_000) == 2 * 86400 + (5_000 - 1) * 2
    assert (estimate.lane(account, 10_000, 10_000), estimate.lane(account, 0, 0)) == (9_999 * 2, 0.0)


def test_a_template_that_is_slow_for_all_is_stopped() -> None:
    """Each mail within its bounds, and all of them more than a request's time: the batch is refused, by its own code."""
    ticks = iter(range(0, 10_000, 30))
    with pytest.raises(BadInput) as caught:
        list(templates.in_time(((number, {}) for number in range(9)), lambda: float(next(ticks))))
    assert (caught.value.code, caught.value.field) == ("template_too_slow", "template")
    assert "line 3" in caught.value.detail


async def test_what_is_uploaded_is_not_kept_for_ever() -> None:
    """A batch that names an upload must go while that is there; one that brings its files may wait longer."""
    room = Room()
    await room.fake.put_blob("mail-uploads", "caller/u1", b"x")
    room.deliver.accounts["billing"] = msgspec.structs.replace(room.account, traits=Traits(uploads=True))  # type: ignore[index]  # the room's own
    later = schedule.shown(room.clock() + 31 * 86400)
    named = await posted(room, body(ANN, attachments=[{"name": "a.pdf", "blob": "u1"}]))
    with pytest.raises(BadInput) as caught:
        named.send_at(later, None, room.clock(), keep=30 * 86400)
    assert (caught.value.code, caught.value.field) == ("send_at_too_far", "send_at")
    brought = await posted(room, body(ANN, attachments=[{"name": "a.pdf", "content": "YQ=="}], send_at=later))
    assert brought.send_at(None, None, room.clock(), keep=30 * 86400) == room.clock() + 31 * 86400
