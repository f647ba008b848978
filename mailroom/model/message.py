"""A mail as an application hands it to us, and as it waits in the outbox."""

from __future__ import annotations

from typing import Literal

import msgspec

Importance = Literal["low", "normal", "high"]


class Address(msgspec.Struct, frozen=True):
    address: str
    name: str = ""


class Attachment(msgspec.Struct, frozen=True, omit_defaults=True):
    """`type` is a media type; `content_id` makes it an inline part that html can name as `cid:...`.

    Its bytes are in `content`, or in the blob of that name in the container of uploads: then `size` and `etag` say of which bytes.
    """

    name: str
    content: bytes = b""
    type: str = "application/octet-stream"
    content_id: str | None = None
    blob: str | None = None
    size: int = 0
    etag: str = ""

    @property
    def length(self) -> int:
        """In bytes."""
        return len(self.content) if self.blob is None else self.size


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """One checked mail: made by `send_mail.accept`, put in the outbox as MessagePack, read by a provider.

    `sender` is what From shall say where that is not the account's own address (send as, send on behalf).
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
    sender: Address | None = None

    @property
    def uploads(self) -> tuple[Attachment, ...]:
        """The attachments whose bytes lie in blobs."""
        return tuple(one for one in self.attachments if one.blob is not None)

    @property
    def recipients(self) -> tuple[Address, ...]:
        return self.to + self.cc + self.bcc

    @property
    def needs_mime(self) -> bool:
        """Ready as it is, or an answer, for which Graph's JSON has no words."""
        return self.mime is not None or self.in_reply_to is not None


class Outgoing(msgspec.Struct, frozen=True):
    """A mail with the stamp its provider can be asked for. `stamp` is ours, ASCII, at most 64 characters, unique to the mail.

    `draft` is the provider's id of the mail where it lies there already, complete, and only has to be sent. `accepted` is when we took it,
    in seconds since the epoch, 0 where that is not known: it was not sent before. `in_header` says that its stamp stands in a header,
    whatever the message: who sends it is not who is asked.
    """

    stamp: str
    message: Message
    draft: str | None = None
    accepted: float = 0.0
    in_header: bool = False


class Receipt(msgspec.Struct, frozen=True, omit_defaults=True):
    """The provider took the mail. `path` says how it went (sendMail, batch, mime, draft), `why` what that was chosen for; `note` what the
    caller should know. `request_id` is the provider's name for the request, `client_request_id` the one that we gave it.
    """

    path: str
    provider_id: str | None = None
    request_id: str | None = None
    client_request_id: str | None = None
    note: str | None = None
    why: str | None = None
