"""A mail as Microsoft Graph takes it: pure, no network.

learn.microsoft.com/graph/api: user-sendmail, resources/message; graph/json-batching. MIME goes where JSON has no words for a mail:
it knows one body, no In-Reply-To, and no header without `x-`.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any
from urllib.parse import quote

import msgspec

from mailroom.model.message import Address, Attachment, Message, Outgoing
from mailroom.providers import mime

REQUEST_LIMIT = 4 * 1024 * 1024  # "maximum request length supported is 4MB", JSON and MIME alike
BATCH_MAILS = 20
STAMP_PROPERTY = "String {8d1f6f0c-6f0a-4c39-9e57-6d6b1a3c52e1} Name MailroomStamp"
STAMP_HEADER_PROPERTY = f"String {{00020386-0000-0000-C000-000000000046}} Name {mime.STAMP_HEADER}"

_OVERHEAD = 512  # what a request of a batch has around its mail


def payload(mail: Outgoing) -> bytes:
    """The body of `sendMail` in JSON."""
    return msgspec.json.encode({"message": _message(mail), "saveToSentItems": True})


def draft_payload(mail: Outgoing) -> bytes:
    """The body of `POST messages` in JSON, without what is uploaded to the draft."""
    return msgspec.json.encode(_message(msgspec.structs.replace(mail, message=without_uploads(mail.message))))


def attachment_payload(attachment: Attachment) -> bytes:
    """The body of `POST messages/ID/attachments`."""
    return msgspec.json.encode(_attachment(attachment))


def session_payload(attachment: Attachment) -> bytes:
    """The body of `POST messages/ID/attachments/createUploadSession` (resources/attachmentitem)."""
    inline = {"isInline": True, "contentId": attachment.content_id} if attachment.content_id else {}
    item = {"attachmentType": "file", "name": attachment.name, "size": attachment.length, "contentType": attachment.type, **inline}
    return msgspec.json.encode({"AttachmentItem": item})


def without_uploads(message: Message) -> Message:
    return msgspec.structs.replace(message, attachments=tuple(one for one in message.attachments if one.blob is None))


def mime_payload(mail: Outgoing, sender: str, now: datetime) -> bytes:
    """The body of `sendMail` in MIME: base64 as text/plain."""
    return base64.b64encode(_mime(mail, sender, now))


def _mime(mail: Outgoing, sender: str, now: datetime) -> bytes:
    if mail.message.mime is not None:
        return mime.stamped(mail.message.mime, mail.stamp)
    return mime.build(mail.message, stamp=mail.stamp, sender=sender, date=now)


def too_large(message: Message, now: datetime) -> int | None:
    """How many bytes the mail's request has, where that is more than Graph takes. What is surely small enough is not encoded for it.

    Uploads count as if they were in it: base64 makes 4 bytes of 3, and MIME is base64 of lines of base64.
    """
    if 2 * _raw_size(message) + 65536 < REQUEST_LIMIT:
        return None
    mail, sizes = Outgoing("x" * 64, message), [one.length for one in message.uploads]
    if message.needs_mime:
        size = _base64(len(_mime(mail, "x" * 320, now)) + sum(_base64(size) + 2 * -(-size // 57) for size in sizes))
    else:
        size = len(payload(mail)) + sum(map(_base64, sizes))
    return size if size > REQUEST_LIMIT else None


def slices(bodies: Mapping[int, bytes]) -> list[dict[int, bytes]]:
    """What goes in one request: at most 20, and together below the limit of one, for a batch may count as one."""
    parts: list[dict[int, bytes]] = []
    size = 0
    for at, body in bodies.items():
        if not parts or len(parts[-1]) == BATCH_MAILS or size + len(body) + _OVERHEAD > REQUEST_LIMIT:
            parts.append({})
            size = 0
        parts[-1][at] = body
        size += len(body) + _OVERHEAD
    return parts


def batch_of_mails(path: str, bodies: Sequence[bytes], *, chained: bool = False) -> bytes:
    """A `$batch` whose ids are the positions; `chained`, each request waits for the one before, and is not tried where that one failed."""
    headers = {"Content-Type": "application/json"}
    return _batch([{"method": "POST", "url": path, "headers": headers, "body": msgspec.Raw(body)} for body in bodies], chained)


def batch_of_questions(paths: Sequence[str], headers: Mapping[str, str], *, chained: bool = False) -> bytes:
    return _batch([{"method": "GET", "url": path, "headers": headers} for path in paths], chained)


def _batch(requests: Sequence[dict[str, Any]], chained: bool) -> bytes:
    """learn.microsoft.com/graph/json-batching, "Sequencing requests with the dependsOn property"."""
    numbered = [{"id": str(at), **one} for at, one in enumerate(requests)]
    for before, one in pairwise(numbered if chained else []):
        one["dependsOn"] = [before["id"]]
    return msgspec.json.encode({"requests": numbered})


def user(address: str) -> str:
    return f"/users/{quote(address, safe='@')}"


def stamp_query(mail: Outgoing, since: datetime) -> str:
    """Finds the mail by its stamp. Bounded by date, since Exchange builds a search folder for a filter that is new to it."""
    name = STAMP_HEADER_PROPERTY if mail.in_header or mail.message.needs_mime else STAMP_PROPERTY
    stamp = mail.stamp.replace("'", "''")
    date = since.strftime("%Y-%m-%dT00:00:00Z")
    wanted = f"receivedDateTime ge {date} and singleValueExtendedProperties/Any(ep: ep/id eq '{name}' and ep/value eq '{stamp}')"
    return f"$filter={quote(wanted, safe='')}&$select=id,isDraft&$top=5"


def _message(mail: Outgoing) -> dict[str, Any]:
    """No array is empty: Graph refuses an empty internetMessageHeaders, so none is sent at all."""
    message = mail.message
    html = message.html is not None
    fields: dict[str, Any] = {
        "subject": message.subject,
        "body": {"contentType": "html" if html else "text", "content": message.html if html else message.text or ""},
        "from": _recipients((message.sender,))[0] if message.sender else None,
        "toRecipients": _recipients(message.to),
        "ccRecipients": _recipients(message.cc),
        "bccRecipients": _recipients(message.bcc),
        "replyTo": _recipients(message.reply_to),
        "importance": message.importance,
        "internetMessageHeaders": [{"name": name, "value": value} for name, value in message.headers.items()],
        "attachments": [_attachment(attachment) for attachment in message.attachments],
        "singleValueExtendedProperties": [{"id": STAMP_PROPERTY, "value": mail.stamp}],
    }
    return {name: value for name, value in fields.items() if value not in (None, [])}


def _recipients(addresses: Sequence[Address]) -> list[dict[str, Any]]:
    return [{"emailAddress": {"address": one.address, **({"name": one.name} if one.name else {})}} for one in addresses]


def _attachment(attachment: Attachment) -> dict[str, Any]:
    """msgspec writes bytes as base64, six times faster than base64 and json do."""
    inline = {"isInline": True, "contentId": attachment.content_id} if attachment.content_id else {}
    return {
        "@odata.type": "#microsoft.graph.fileAttachment",
        "name": attachment.name,
        "contentType": attachment.type,
        "contentBytes": attachment.content,
        **inline,
    }


def _base64(size: int) -> int:
    return 4 * -(-size // 3)


def _raw_size(message: Message) -> int:
    """At least the bytes of its UTF-8, before any escape or base64."""
    people = message.recipients + message.reply_to
    texts = [message.text, message.html, message.subject, *message.headers.values()]
    texts += [one.name + one.address for one in people] + [attachment.name for attachment in message.attachments]
    files = sum(attachment.length for attachment in message.attachments) + len(message.mime or b"")
    return files + sum(4 * len(text or "") + 64 for text in texts)
