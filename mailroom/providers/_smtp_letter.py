"""A mail as it goes by SMTP: envelope and content. Pure.

The content is RFC 5322 with CRLF throughout and without Bcc. The Message-ID is made of the stamp: a mail that goes again has the same one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from email.utils import format_datetime

import msgspec

from mailroom.model.account import Account
from mailroom.model.message import Outgoing
from mailroom.providers import mime

_LINE_END = re.compile(rb"\r\n|\r|\n")
_DOT = re.compile(rb"^\.", re.MULTILINE)
_END_OF_HEADERS = re.compile(rb"(?:\A|\r\n)\r\n")
_BCC = re.compile(rb"^bcc[ \t]*:[^\n]*\n(?:[ \t][^\n]*\n)*", re.IGNORECASE | re.MULTILINE)
_ID = re.compile(rb"^message-id[ \t]*:[ \t\r\n]*(<[^<>\s]+>)", re.IGNORECASE | re.MULTILINE)
_DATE = re.compile(rb"^date[ \t]*:", re.IGNORECASE | re.MULTILINE)


class Letter(msgspec.Struct, frozen=True):
    """`recipients` are in order and each but once; `own_sender` is False where the mail says itself whom it is from."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes
    message_id: str
    own_sender: bool = True

    @property
    def utf8(self) -> bool:
        """Whether its addresses need SMTPUTF8 (RFC 6531)."""
        return not all(address.isascii() for address in (self.sender, *self.recipients))

    @property
    def eight_bit(self) -> bool:
        """Whether its content needs 8BITMIME (RFC 6152)."""
        return not self.content.isascii()

    def on_the_wire(self) -> bytes:
        """After the 354: dots at the beginning of lines doubled, and the lone dot that ends it (RFC 5321, 4.5.2)."""
        return _DOT.sub(b"..", self.content) + b".\r\n"


def sender_of(account: Account) -> str:
    """Who the mails are from: the account option `from`, else the mailbox itself."""
    return dict(account.options).get("from", account.address)


def written(account: Account, mail: Outgoing, now: datetime) -> Letter:
    own, message = sender_of(account), mail.message
    sender = message.sender.address if message.sender else own
    recipients = _once(mime.addr_spec(one.address) for one in message.recipients)
    message_id = f"<{mail.stamp}@{mime.addr_spec(own).rpartition('@')[2]}>"
    if message.mime is not None:
        content, own_id = _ready(message.mime, mail.stamp, message_id, now)
        return Letter(mime.addr_spec(sender), recipients, content, own_id, own_sender=_is_from(message.mime, sender))
    hidden = msgspec.structs.replace(message, bcc=())
    content = mime.build(hidden, stamp=mail.stamp, sender=sender, date=now, message_id=message_id)
    return Letter(mime.addr_spec(sender), recipients, _lines(content), message_id, own_sender=sender.lower() == own.lower())


def _ready(raw: bytes, stamp: str, message_id: str, now: datetime) -> tuple[bytes, str]:
    """With our stamp, without Bcc, and with Message-ID and Date, as a mail must be (RFC 5322, 3.6); the rest stays, it may be signed."""
    content = _lines(mime.stamped(raw, stamp))
    end = _END_OF_HEADERS.search(content)
    at = len(content) if end is None else min(end.start() + 2, len(content))
    head, rest = _BCC.sub(b"", content[:at]), content[at:]
    own = _ID.search(head)
    if own is None:
        head = f"Message-ID: {message_id}\r\n".encode() + head
    if not _DATE.search(head):
        head = f"Date: {format_datetime(now)}\r\n".encode() + head
    return head + rest, own[1].decode("ascii", "replace") if own else message_id


def _lines(content: bytes) -> bytes:
    """CRLF everywhere, also at the end: a lone CR or LF could be taken for the end of the mail by one server and not by the next."""
    content = _LINE_END.sub(b"\r\n", content)
    return content if content.endswith(b"\r\n") else content + b"\r\n"


def _is_from(raw: bytes, sender: str) -> bool:
    found = mime.envelope(raw).sender
    return not found or all(sender.lower() in one.lower() for one in found)


def _once(addresses: Iterable[str]) -> tuple[str, ...]:
    return tuple({address.lower(): address for address in addresses}.values())
