"""Which way a mail goes through Microsoft Graph, and why. Pure: from its size, its content and the permissions that its account declares.

What fits one request goes by sendMail, alone or in a `$batch`, in JSON or in MIME, and needs Mail.Send alone. What does not becomes a
draft, whose attachments are uploaded and which is then sent: that takes Mail.ReadWrite. learn.microsoft.com/graph/outlook-large-attachments
"""

from __future__ import annotations

from collections.abc import Set
from datetime import datetime
from typing import Literal

import msgspec

from mailroom.errors import TooLarge
from mailroom.model.account import Size
from mailroom.model.message import Message
from mailroom.providers import _graph_json as json

SESSION_FROM = 3_000_000  # bytes of a file; sessions take from 2 MiB, a POST takes up to 3,145,611 (msgraph-sdk-java pull request 52)
LARGEST = 150 * 1024 * 1024  # bytes of a file, and of all files of a mail: more than a tenant can allow
CHUNK = 12 * 320 * 1024  # bytes of one PUT: below 4 MB, and a multiple of 320 KiB, which OneDrive's sessions want
DRAFTS_NEED = frozenset({"Mail.ReadWrite"})
SIZES = (
    Size("a mail that fits one request", json.REQUEST_LIMIT),
    Size("a mail with uploaded attachments", LARGEST, DRAFTS_NEED),
)
UPLOAD = "Upload the file instead (POST /api/attachments) and name it as `blob`; or send a link to it."
AS_JSON = "Ready MIME goes in one request only: send the mail as JSON, with its attachments uploaded (POST /api/attachments)."

Path = Literal["sendMail", "mime", "draft"]


class Plan(msgspec.Struct, frozen=True):
    """`why` is for the activity log."""

    path: Path
    why: str


def plan(message: Message, now: datetime, permissions: Set[str] | None = None) -> Plan:
    """Raises TooLarge, which names the field, the limit and the way out. Without `permissions` only size and content count."""
    size = json.too_large(message, now)
    if size is None:
        return _in_one_request(message)
    rest = json.too_large(json.without_uploads(message), now)
    if rest is not None:
        way_out = UPLOAD if message.mime is None else AS_JSON
        raise TooLarge("mail_too_large_for_path", _takes(rest), way_out, field="attachments" if message.attachments else "")
    _check_files(message)
    if permissions is not None and not permissions >= DRAFTS_NEED:
        raise TooLarge("mail_needs_readwrite", f"{_takes(size)} More goes as a draft, for which this account lacks Mail.ReadWrite.", GRANT)
    return Plan("draft", f"in one request it would be {size} bytes, of which Graph takes {json.REQUEST_LIMIT}")


GRANT = "Grant the app Mail.ReadWrite for this mailbox and add it to the account's `permissions` in accounts.toml; or send less."


def _in_one_request(message: Message) -> Plan:
    if message.mime is not None:
        return Plan("mime", "it came as MIME")
    if message.in_reply_to is not None:
        return Plan("mime", "JSON has no word for In-Reply-To")
    return Plan("sendMail", "it fits one request")


def _check_files(message: Message) -> None:
    for at, one in enumerate(message.attachments):
        if one.length > LARGEST:
            what = f"{one.name!r} has {one.length} bytes; Graph takes {LARGEST}."
            raise TooLarge("attachment_too_large", what, "Send a link to the file instead.", field=f"attachments[{at}]")
    total = sum(one.length for one in message.attachments)
    if total > LARGEST:
        what = f"The attachments have {total} bytes together; a mail takes {LARGEST}, and most tenants less."
        raise TooLarge("mail_too_large", what, "Send several mails, or links to the files.", field="attachments")


def _takes(size: int) -> str:
    return f"The mail needs a request of {size} bytes; Graph takes {json.REQUEST_LIMIT}."
