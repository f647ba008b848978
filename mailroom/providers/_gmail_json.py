"""A mail, and questions about mails, as the Gmail API takes them: pure, no network.

developers.google.com/gmail/api/reference/rest/v1/users.messages, support.google.com/mail/answer/7190 (search operators)
"""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlencode

import msgspec

from mailroom.model.message import Message, Outgoing
from mailroom.providers import mime

LIMIT = 36_700_160  # bytes of a mail: "maxSize" of messages.send in the API's discovery document
SIMPLE_LIMIT = 3 * 1024 * 1024  # what is larger goes by upload; base64 makes 4 bytes of 3
SENT_WITHIN = timedelta(days=30)
_PLAIN = re.compile(r"[A-Za-z0-9._+-]+@[A-Za-z0-9.-]+")
CLOCKS_APART = 3600.0  # seconds by which Google's clock, storage's and a resumed upload's may differ


def user(address: str) -> str:
    return f"/gmail/v1/users/{quote(address, safe='@')}"


def message_id(mail: Outgoing, sender: str) -> str:
    """Stable: made of the stamp. Gmail has been seen to give mails another one (github.com/FlowCrypt/flowcrypt-browser/issues/4273)."""
    return f"<{mail.stamp}@{sender.rpartition('@')[2]}>"


def raw(mail: Outgoing, sender: str, now: datetime) -> bytes:
    """The mail as RFC 5322, with our stamp in a header. Bcc stays in: Gmail takes the recipients from here, and strips it."""
    if mail.message.mime is not None:
        return mime.stamped(mail.message.mime, mail.stamp)
    return mime.build(mail.message, stamp=mail.stamp, sender=sender, date=now, message_id=message_id(mail, sender))


def send_body(content: bytes, thread: str | None) -> bytes:
    """The body of messages.send."""
    return msgspec.json.encode({"raw": base64.urlsafe_b64encode(content).decode(), **_threaded(thread)})


def upload_body(thread: str | None) -> bytes:
    """What an upload session begins with."""
    return msgspec.json.encode(_threaded(thread))


def too_large(message: Message, now: datetime) -> int | None:
    """How many bytes the mail has as MIME, where that is more than Gmail takes. What is surely small enough is not written for it."""
    content = sum(attachment.length for attachment in message.attachments) + len(message.mime or b"")
    content += 4 * (len(message.text or "") + len(message.html or ""))
    if 2 * content + 1024 * 1024 < LIMIT:
        return None
    bare = tuple(msgspec.structs.replace(one, blob=None) for one in message.attachments)
    size = len(raw(Outgoing("x" * 64, msgspec.structs.replace(message, attachments=bare)), "x" * 320, now))
    size += sum(_in_base64(one.length) for one in message.uploads)
    return size if size > LIMIT else None


def by_message_id(name: str) -> str:
    """The search for one mail by its Message-ID, wherever it lies."""
    return _list(q=f"rfc822msgid:{name.strip('<>')}", maxResults="1")


def candidates(mail: Outgoing, now: datetime, page: str | None) -> str:
    """Sent mails to one of its recipients since it was accepted: ours is among them, if it was sent.

    An address that a search might read otherwise than it was written is none to search for: then all that was sent is looked at.
    """
    since = mail.accepted - CLOCKS_APART if mail.accepted else (now - SENT_WITHIN).timestamp()
    plain = next((one.address for one in mail.message.recipients if _PLAIN.fullmatch(one.address)), "")
    to = f"{{to:{plain} cc:{plain} bcc:{plain}}} " if plain else ""
    return _list(labelIds="SENT", q=f"{to}after:{int(since)}", maxResults="100", **({"pageToken": page} if page else {}))


def utc(milliseconds: str) -> datetime:
    """An `internalDate`."""
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC)


def _in_base64(length: int) -> int:
    """With a line break after each 76 characters (RFC 2045, 6.8)."""
    return 4 * -(-length // 3) + 2 * -(-length // 57)


def _list(**query: str) -> str:
    return f"/messages?{urlencode(query)}"


def _threaded(thread: str | None) -> dict[str, str]:
    return {"threadId": thread} if thread else {}
