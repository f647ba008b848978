"""Takes a submitted mail to the post office: a copy for Sent Items, and each recipient of the envelope gets theirs."""

from __future__ import annotations

from dataclasses import dataclass
from email.utils import make_msgid
from typing import Any

from sandbox.graph import mime
from sandbox.graph.items import address_of, person
from sandbox.graph.mailbox import Mailbox
from sandbox.graph.post import PostOffice, finish


@dataclass(frozen=True, slots=True)
class Mailman:
    office: PostOffice

    def submit(self, mailbox: str, recipients: list[str], raw: bytes, *, keep: bool, lag: float = 0.0) -> str:
        """The mail's Message-ID. `keep` leaves a copy in Sent Items, as client submission does and a relay does not."""
        box = self.office.mailbox(mailbox)
        item = _draft(box, recipients, raw)
        message_id = item.props.setdefault("internetMessageId", make_msgid(domain=mailbox.partition("@")[2]))
        self.office.accept(box, item, keep=keep, lag=lag)
        return str(message_id)

    def sender(self, raw: bytes) -> str:
        """The address in From."""
        return address_of(mime.read(raw).props.get("from"))


def _draft(box: Mailbox, recipients: list[str], raw: bytes) -> Any:
    read = mime.read(raw)
    shown = {address_of(one).lower() for name in ("toRecipients", "ccRecipients") for one in read.props.get(name, [])}
    hidden = [person(address) for address in recipients if address.lower() not in shown]
    props = {**mime.DEFAULTS, "isRead": True, "isDraft": True, "sentDateTime": box.time(), "from": box.owner, "sender": box.owner}
    props |= {**read.props, "bccRecipients": hidden}
    item = box.put("drafts", props, extended=read.extended, headers=read.headers, mime=raw, submitted=True)
    item.attachments = mime.attachments(read, item)
    finish(box, item)
    return item
