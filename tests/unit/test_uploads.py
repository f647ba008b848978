"""Uploads at the door: what is offered, what may be named, and by whom."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from mailroom.errors import BadInput
from mailroom.model.account import Account, Traits
from mailroom.model.message import Address, Attachment
from mailroom.model.places import UPLOADS_CONTAINER
from send_mail import batches, parse
from send_mail.accept import QUEUE
from send_mail.line import Line
from send_mail.uploads import LIFETIME, Uploads, check
from tests.fakes import FakeStore
from tests.sending import PROFILE, Clock

PDF = {"name": "a.pdf", "type": "application/pdf"}


def body(**fields: Any) -> bytes:
    return json.dumps({"account": "billing", "to": ["ann@example.com"]} | fields).encode()


def uploads() -> Uploads:
    numbers = iter(range(100))
    return Uploads(FakeStore(now=Clock()), lambda: f"{next(numbers):04}")


async def test_each_offer_is_a_place_of_the_callers_own() -> None:
    """A new name each time, in the caller's folder, with all that a PUT needs and when it ends."""
    house = uploads()
    first, second = await house.offer("crm-id"), await house.offer("crm-id")
    assert first["blob"] != second["blob"]
    assert first["url"].startswith(f"https://storage.example/{UPLOADS_CONTAINER}/crm-id/{first['blob']}?")
    assert (first["method"], first["headers"]) == ("PUT", {"x-ms-blob-type": "BlockBlob"})
    assert first["expires"] == "2023-11-14T23:13:20Z"
    assert parse.message(body(attachments=[PDF | {"blob": first["blob"]}])).attachments[0].blob == first["blob"]


async def test_an_upload_is_pinned_by_what_it_is() -> None:
    """Size and ETag are those of the blob, from the caller's folder alone; the same name elsewhere is another's."""
    house = uploads()
    await house.store.put_blob(UPLOADS_CONTAINER, "crm/u1", b"12345")
    message = parse.message(body(attachments=[PDF | {"blob": "u1"}, PDF | {"content": "YQ=="}]))
    [pinned, other] = house.attached(message, await house.find([message], "crm"), "crm").attachments
    known = await house.store.find_blob(UPLOADS_CONTAINER, "crm/u1")
    assert known is not None
    assert pinned == Attachment("a.pdf", b"", "application/pdf", None, "crm/u1", 5, known.etag)
    assert (pinned.length, other.length, other.content) == (5, 1, b"a")
    for caller in ("hr", QUEUE):
        with pytest.raises(BadInput) as refused:
            house.attached(message, await house.find([message], caller), caller)
        assert (refused.value.code, refused.value.field) == ("upload_missing", "attachments[0].blob")


async def test_an_upload_has_its_day() -> None:
    """Up to its last second it may be named."""
    clock = Clock()
    house = Uploads(FakeStore(now=clock), str)
    await house.store.put_blob(UPLOADS_CONTAINER, "crm/u1", b"x")
    message = parse.message(body(attachments=[PDF | {"blob": "u1"}]))
    clock.time += LIFETIME
    found = await house.find([message], "crm")
    assert house.attached(message, found, "crm").uploads
    clock.time += 1
    with pytest.raises(BadInput, match="24 hours"):
        house.attached(message, found, "crm")


@pytest.mark.parametrize(
    ("file", "code", "field"),
    [
        (PDF, "field_missing", "attachments[0].content"),
        (PDF | {"content": "YQ==", "blob": "u1"}, "attachment_twice", "attachments[0].blob"),
        *(
            (PDF | {"blob": name}, "upload_invalid", "attachments[0].blob")
            for name in ("", "../hr/u1", "a/b", ".u1", "u1\n", "ü", "x" * 201)
        ),
        (PDF | {"blob": 7}, "field_type", "attachments[0].blob"),
        (PDF | {"blob": "u1", "etag": "e"}, "field_unknown", "attachments[0].etag"),
        (PDF | {"blob": "u1", "name": ""}, "attachment_without_name", "attachments[0].name"),
    ],
)
def test_a_wrong_attachment_is_named(file: dict[str, Any], code: str, field: str) -> None:
    """No name leads out of the caller's folder, and what only we may say of a file can't be said by a caller."""
    with pytest.raises(BadInput) as refused:
        parse.message(body(attachments=[file]))
    assert (refused.value.code, refused.value.field) == (code, field)
    assert refused.value.next_step


def test_from_is_an_address() -> None:
    """One, in either way of writing it; a wrong one is named."""
    assert parse.message(body(**{"from": "Office <office@example.com>"})).sender == Address("office@example.com", "Office")
    assert parse.message(body()).sender is None
    for wrong in ("office", "a@b.example, c@d.example", "", "a@b.example\nBcc: c@d.example"):
        with pytest.raises(BadInput) as refused:
            parse.message(body(**{"from": wrong}))
        assert refused.value.field == "from"


def test_a_provider_that_takes_no_uploads_says_so() -> None:
    """Better than a mail that arrives without its file."""
    message = parse.message(body(attachments=[PDF | {"content": "YQ=="}, PDF | {"blob": "u1"}]))
    account = Account("billing", "smtp", "b@x.example", PROFILE, traits=Traits())
    with pytest.raises(BadInput) as refused:
        check(message, account)
    assert (refused.value.code, refused.value.field) == ("uploads_unsupported", "attachments[1].blob")
    check(message, msgspec.structs.replace(account, traits=Traits(uploads=True)))


def test_a_batchs_uploads_are_its_lines_own() -> None:
    """A line whose upload is wrong is named; with `partial` the others go on, and the refused ones stay in order."""
    lines = [Line(at, parse.message(body(attachments=[PDF | {"blob": f"u{at}"}]))) for at in (1, 2, 4)]

    def attach(message: Any) -> Any:
        if message.attachments[0].blob == "u2":
            raise BadInput("upload_missing", "Missing.", "PUT it.", field="attachments[0].blob")
        return message

    with pytest.raises(BadInput) as refused:
        batches.attached(lines, [], attach, partial=False)
    assert refused.value.field == "line 2: attachments[0].blob"
    early = batches.RefusedLine(3, "field_type", "line 3: No.", None)
    good, all_refused = batches.attached(lines, [early], attach, partial=True)
    assert [line.number for line in good] == [1, 4]
    assert [(line.line, line.code) for line in all_refused] == [(2, "upload_missing"), (3, "field_type")]
