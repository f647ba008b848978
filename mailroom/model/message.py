"""A mail as an application hands it to us, and as it waits in the outbox."""

from __future__ import annotations

from typing import Literal

import msgspec

Importance = Literal["low", "normal", "high"]


class Address(msgspec.Struct, frozen=True):
    address: str
    name: str = ""


class Attachment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`type` is a media type; `content_id` makes it an inline part that html can name as `cid:...`."""

    name: str
    content: bytes
    type: str = "application/octet-stream"
    content_id: str | None = None


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """One checked mail: made by `send_mail.accept`, put in the outbox as MessagePack, read by a provider.

    `mime` is a ready RFC 5322 message; then only `id`, `account` and `mime` are set, and to, cc, bcc tell its recipients.
    """

    account: str
    id: str | None = None
    to: tuple[Address, ...] = ()
    cc: tuple[Address, ...] = ()
    bcc: tuple[Address, ...] = ()
    reply_to: tuple[Address, ...] = ()
    subject: str = ""
    text: str | None = None
    html: str | None = None
    headers: dict[str, str] = {}
    importance: Importance | None = None
    in_reply_to: str | None = None
    attachments: tuple[Attachment, ...] = ()
    mime: bytes | None = None

    @property
    def recipients(self) -> tuple[Address, ...]:
        return self.to + self.cc + self.bcc


class Outgoing(msgspec.Struct, frozen=True):
    """A mail with the stamp its provider can be asked for. `stamp` is ours, ASCII, at most 64 characters, unique to the mail."""

    stamp: str
    message: Message


class Receipt(msgspec.Struct, frozen=True, omit_defaults=True):
    """The provider took the mail. `path` says how it went (sendMail, batch, mime); `note` what the caller should know."""

    path: str
    provider_id: str | None = None
    request_id: str | None = None
    note: str | None = None
