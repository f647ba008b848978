"""Which way a mail goes through Graph: from its size, its content and what the account may."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailroom.errors import TooLarge
from mailroom.model.message import Address, Attachment, Message, Outgoing
from mailroom.providers import _graph_json as json
from mailroom.providers import mime
from mailroom.providers._graph_plan import LARGEST, plan

NOW = datetime(2026, 11, 27, tzinfo=UTC)
SEND = frozenset({"Mail.Send", "Mail.Read"})
WRITE = frozenset({"Mail.Send", "Mail.ReadWrite"})
MB = 1024 * 1024


def mail(*files: Attachment, **fields: Any) -> Message:
    return Message("billing", **{"to": (Address("ann@example.com"),), "subject": "Hi", "text": "Hello", "attachments": files} | fields)


def upload(size: int) -> Attachment:
    return Attachment("a.pdf", b"", "application/pdf", None, "crm/u1", size, "e")


def inside(size: int) -> Attachment:
    return Attachment("a.pdf", bytes(size), "application/pdf")


READY = b"From: a@b.example\r\nTo: c@d.example\r\n\r\nHi"
WAYS: list[tuple[Message, frozenset[str], str, str]] = [
    (mail(), SEND, "sendMail", "one request"),
    (mail(inside(3_000_000)), SEND, "sendMail", "one request"),
    (mail(upload(3_000_000)), SEND, "sendMail", "one request"),
    (mail(in_reply_to="<a@b>"), SEND, "mime", "In-Reply-To"),
    (mail(upload(2_000_000), in_reply_to="<a@b>"), SEND, "mime", "In-Reply-To"),
    (mail(mime=READY), SEND, "mime", "came as MIME"),
    (mail(upload(3_200_000)), WRITE, "draft", str(json.REQUEST_LIMIT)),
    (mail(upload(2_000_000), upload(2_000_000)), WRITE, "draft", str(json.REQUEST_LIMIT)),
    (mail(inside(2_000_000), upload(2_000_000)), WRITE, "draft", str(json.REQUEST_LIMIT)),
    (mail(upload(2_400_000), in_reply_to="<a@b>"), WRITE, "draft", str(json.REQUEST_LIMIT)),
    (mail(upload(LARGEST)), WRITE, "draft", str(json.REQUEST_LIMIT)),
]


@pytest.mark.parametrize(("message", "permissions", "path", "why"), WAYS)
def test_the_way_and_its_reason(message: Message, permissions: frozenset[str], path: str, why: str) -> None:
    """What fits one request never becomes a draft, whoever may write drafts; the reason is there to be read."""
    found = plan(message, NOW, permissions)
    assert found.path == path
    assert why in found.why
    assert plan(message, NOW, WRITE).path == path


NO_WAYS: list[tuple[Message, frozenset[str] | None, str, str]] = [
    (mail(inside(3_200_000)), WRITE, "mail_too_large_for_path", "attachments"),
    (mail(text="x" * 5 * MB), WRITE, "mail_too_large_for_path", ""),
    (mail(mime=READY + bytes(4 * MB)), WRITE, "mail_too_large_for_path", ""),
    (mail(inside(3_200_000), upload(5 * MB)), WRITE, "mail_too_large_for_path", "attachments"),
    (mail(upload(3_200_000)), SEND, "mail_needs_readwrite", ""),
    (mail(upload(10), upload(LARGEST + 1)), WRITE, "attachment_too_large", "attachments[1]"),
    (mail(upload(LARGEST), upload(1)), None, "mail_too_large", "attachments"),
]


@pytest.mark.parametrize(("message", "permissions", "code", "field"), NO_WAYS)
def test_no_way_says_what_would_be_one(message: Message, permissions: frozenset[str] | None, code: str, field: str) -> None:
    """The limit, the field, and the way out: the upload, the permission, or less."""
    with pytest.raises(TooLarge) as refused:
        plan(message, NOW, permissions)
    assert (refused.value.code, refused.value.field) == (code, field)
    assert ("as JSON" if message.mime else "") in refused.value.next_step != ""
    assert any(character.isdigit() for character in refused.value.detail)


@settings(max_examples=60, deadline=None)
@given(st.integers(-3000, 3000), st.booleans(), st.text(max_size=20), st.integers(1, 3))
def test_the_estimate_is_the_size(offset: int, reply: bool, name: str, parts: int) -> None:
    """What is planned as one request fits one when its uploads are in it, and what is not does not."""
    about = (2_298_000 if reply else 3_145_000) + offset
    files = [msgspec.structs.replace(upload(about // parts), name=name or "a") for _ in range(parts)]
    message = mail(*files, in_reply_to="<a@b>" if reply else None)
    loaded = msgspec.structs.replace(message, attachments=tuple(inside(one.size) for one in files))
    loaded = msgspec.structs.replace(
        message, attachments=tuple(msgspec.structs.replace(one, name=name or "a") for one in loaded.attachments)
    )
    going = Outgoing("x" * 64, loaded)
    size = len(json.mime_payload(going, "x" * 320, NOW) if reply else json.payload(going))
    found = json.too_large(message, NOW)
    assert found == (size if size > json.REQUEST_LIMIT else None)


def test_from_stands_in_json_and_in_mime() -> None:
    """`from` is the sender where the mail names one, and the account's address else."""
    sender = Address("office@example.com", "Office")
    payload = msgspec.json.decode(json.payload(Outgoing("s", mail(sender=sender))))
    assert payload["message"]["from"] == {"emailAddress": {"address": "office@example.com", "name": "Office"}}
    assert "from" not in msgspec.json.decode(json.payload(Outgoing("s", mail())))["message"]
    for given_sender, line in ((sender, b"From: Office <office@example.com>\r\n"), (None, b"From: billing@example.com\r\n")):
        assert line in mime.build(mail(sender=given_sender), stamp="s", sender="billing@example.com", date=NOW)
