"""A mail as we received it, and its JSON form in storage."""

from __future__ import annotations

from datetime import datetime

import msgspec

from mailroom.model.message import Address


class ReceivedFile(msgspec.Struct, frozen=True):
    """A file in a mail. Its content stays in the `.eml`; `size` and `sha256` (hex) are those of the decoded bytes."""

    name: str
    type: str
    size: int
    sha256: str
    content_id: str | None = None


class Received(msgspec.Struct, frozen=True):
    """What a mail says. Ids are without angle brackets; `date` is what the sender claims, in UTC, None where there is none."""

    sender: tuple[Address, ...] = msgspec.field(name="from", default=())
    to: tuple[Address, ...] = ()
    cc: tuple[Address, ...] = ()
    reply_to: tuple[Address, ...] = ()
    subject: str = ""
    date: datetime | None = None
    message_id: str | None = None
    in_reply_to: str | None = None
    references: tuple[str, ...] = ()
    text: str | None = None
    html: str | None = None
    attachments: tuple[ReceivedFile, ...] = ()


class Envelope(msgspec.Struct, frozen=True):
    """Whom a ready mail is from and for, each as `Ann <ann@example.com>`."""

    sender: list[str]
    to: list[str]
    cc: list[str]
    bcc: list[str]
    subject: str
